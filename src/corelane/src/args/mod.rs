//! The command line. It turns words into checked values and does nothing else.
//!
//! Wrong usage ends the process with exit code 2 and one message on standard error.

pub mod backup;
pub mod bench;
mod bench_value;
pub mod client;
pub mod format;
pub mod offline;
pub mod reshard;
pub mod serve;
pub mod tune;
mod value;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use backup::BackupCommand;
use bench::BenchCommand;
use client::{ConsumeArgs, DrainArgs, LogFilterArgs, ProduceArgs, StatusArgs, TopicCommand};
use offline::{ExportArgs, RepairArgs, UpgradeArgs};
use reshard::ReshardArgs;
use serve::ServeArgs;
use tune::TuneCommand;

/// A durable message broker: one lane per CPU core.
#[derive(Debug, Parser)]
#[command(name = "corelane", version, max_term_width = 100)]
#[command(
    after_help = "Start a broker with `corelane serve`, then try `corelane topic create hello` and \
                  `corelane produce hello`.\nExit codes: 0 done, 1 failed, 2 wrong usage."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker in the foreground until SIGTERM or Ctrl-C
    Serve(ServeArgs),
    /// Show cores, shards, topics and rates; exit code 0 when the server is ready, else 1
    Status(StatusArgs),
    /// Move clients off a core or the whole server; its shards go on
    Drain(DrainArgs),
    /// Change what a running server logs
    LogFilter(LogFilterArgs),
    /// Create, change, list, describe and delete topics
    Topic {
        #[command(subcommand)]
        command: TopicCommand,
    },
    /// Publish lines of a file or of standard input, a message each
    Produce(ProduceArgs),
    /// Print the messages of a topic
    Consume(ConsumeArgs),
    /// Measure throughput and latency
    Bench {
        #[command(subcommand)]
        command: Box<BenchCommand>,
    },
    /// Understand the machine: judge it, measure its disk and network, write a configuration for it
    Tune {
        #[command(subcommand)]
        command: TuneCommand,
    },
    /// Audit a data directory while its server is stopped; exit code 1 on damage
    Verify(VerifyArgs),
    /// Say what a damaged data directory has lost; write what is left to a new one
    Repair(RepairArgs),
    /// Print the records that are good in a data directory while its server is stopped
    Export(ExportArgs),
    /// Say whether a data directory opens with this version and what would change
    Upgrade(UpgradeArgs),
    /// Write a stopped server's data to a new directory with another number of shards
    Reshard(ReshardArgs),
    /// Copy a running server's data, and make a data directory from a copy
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// Print, check and explain the server's configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// How results are printed on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}

#[derive(Clone, Debug, Args)]
pub struct OutputArg {
    /// How to print the result
    #[arg(long, value_name = "FORM", value_enum, default_value = "text")]
    pub output: Output,
}

#[derive(Clone, Debug, Args)]
pub struct ServerArg {
    /// Address of the server, host:port
    #[arg(
        long,
        value_name = "ADDR",
        default_value = value::DEFAULT_SERVER,
        value_parser = value::server_address
    )]
    pub server: String,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub output: OutputArg,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration file with every option, its default and what it does
    Sample,
    /// Check a configuration file
    Check {
        /// The TOML file
        file: PathBuf,
    },
    /// Print the values in effect and where each comes from; takes the flags of `serve`
    Show(ServeArgs),
}

/// Reads the command line of this process. On wrong usage, or to print help, it does not return.
pub fn parse() -> Cli {
    try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Reads a command line, the program's name first.
pub fn try_parse_from<I, T>(words: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    let cli = Cli::try_parse_from(words)?;
    let conflict = match &cli.command {
        Command::Bench { command } => command.conflict(),
        Command::Topic { command: TopicCommand::Alter { settings, .. } } => settings.conflict(),
        _ => None,
    };
    match conflict {
        Some(problem) => Err(Cli::command().error(ErrorKind::ValueValidation, problem)),
        None => Ok(cli),
    }
}
