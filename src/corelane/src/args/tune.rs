//! `corelane tune`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::serve::ServeArgs;
use super::{OutputArg, value};

#[derive(Debug, Subcommand)]
pub enum TuneCommand {
    /// Judge the machine: what is, what is wanted, what it costs, the command that mends it
    #[command(
        after_help = "Changes nothing. Takes the flags of `serve`, to judge for such a server.\nExit \
                      codes: 0 all is good, 1 something costs performance or keeps the broker from \
                      starting, 2 something could not be looked at."
    )]
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Judge a copy of another machine's /sys and /proc below this folder
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Look at a live broker instead: which thread is on which CPU, whose memory on which node
    #[arg(
        long,
        value_name = "ADDRESS|PID",
        num_args = 0..=1,
        default_missing_value = value::DEFAULT_SERVER,
        conflicts_with = "root",
        value_parser = value::broker
    )]
    pub running: Option<Broker>,
    #[command(flatten)]
    pub output: OutputArg,
}

/// A broker on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    /// host:port
    At(String),
    Process(u32),
}
