//! The commands. Each parses nothing and decides nothing: it calls the crate that does the work,
//! prints what came of it, and says in one sentence what went wrong.

mod backup;
mod bar;
mod bench;
mod config;
mod connect;
mod consume;
mod drain;
mod error;
mod export;
mod log_filter;
mod output;
mod produce;
mod repair;
mod reshard;
mod serve;
mod status;
mod topic;
mod tune;
mod upgrade;
mod verify;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use crate::args::Command;
use error::CommandError;

/// What a command that ran to its end found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// It did its work, and the answer is bad: damage, not ready, a dirty run. It has said so.
    Bad,
    /// It could not look at all it was to judge, and has said so.
    Unseen,
}

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
/// Of `tune check` alone.
const UNSEEN: u8 = 2;

/// Runs one command. Exit codes: 0 done, 1 failed, 2 wrong usage (most of which ended the process
/// before).
pub fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Serve(args) => serve::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::LogFilter(args) => log_filter::run(&args),
        Command::Topic { command } => topic::run(command),
        Command::Produce(args) => produce::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Bench { command } => bench::run(&command),
        Command::Tune { command } => tune::run(&command),
        Command::Verify(args) => verify::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Reshard(args) => reshard::run(&args),
        Command::Backup { command } => backup::run(command),
        Command::Config { command } => config::run(&command),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(FAILED),
        Ok(Outcome::Unseen) => ExitCode::from(UNSEEN),
        // The reader has seen enough (`| head`): nothing is wrong.
        Err(CommandError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Where stderr is closed there is no one to tell.
            let _ = writeln!(std::io::stderr(), "corelane: {error}");
            ExitCode::from(match &error {
                CommandError::Unseen(_) => UNSEEN,
                error if error.is_wrong_usage() => WRONG_USAGE,
                _ => FAILED,
            })
        }
    }
}
