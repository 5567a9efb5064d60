//! `corelane tune`: the machine judged and measured.

mod check;
mod disk;
mod findings;
mod net;
mod progress;
mod running;
mod stop;
mod write;

use super::Outcome;
use super::error::CommandError;
use crate::args::tune::TuneCommand;

pub fn run(command: &TuneCommand) -> Result<Outcome, CommandError> {
    match command {
        TuneCommand::Disk(args) => disk::run(args),
        TuneCommand::Net(args) => net::run(args),
        TuneCommand::Write(args) => write::run(args),
        TuneCommand::Check(args) => {
            let outcome = match &args.running {
                None => check::run(args),
                Some(broker) => running::run(broker, args.output.output),
            };
            outcome.map_err(|error| match error {
                // A reader that has seen enough is no failure to look.
                CommandError::Output(_) => error,
                error => CommandError::Unseen(Box::new(error)),
            })
        }
    }
}
