//! `corelane tune`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Measure the disk: durable writes by size and depth, reads, recycled and fresh space
    #[command(
        after_help = "Nothing stays in the folder, also after Ctrl-C, which prints what was measured \
                      so far (exit code 1)."
    )]
    Disk(DiskArgs),
    /// Measure the loopback, or the network to another machine
    Net(NetArgs),
    /// Write a configuration for this machine, and the ceilings it predicts
    #[command(
        after_help = "Measures the disk and the loopback first. Takes the flags of `serve`; what they, \
                      the file of --config and CORELANE_* variables set is kept."
    )]
    Write(WriteArgs),
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

#[derive(Debug, Args)]
pub struct DiskArgs {
    /// Folder whose disk is measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    #[command(flatten)]
    pub bounds: MeasureArgs,
    #[command(flatten)]
    pub output: OutputArg,
}

/// How much a measurement of the disk may take.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// Disk space that is used and given back: half written over, half fresh
    #[arg(long, value_name = "SIZE", value_parser = value::bytes, default_value = "2GiB")]
    pub size: u64,
    /// Time of the disk's measurement, about
    #[arg(long, value_name = "TIME", value_parser = value::measuring, default_value = "25s")]
    pub time: Duration,
}

#[derive(Debug, Args)]
pub struct NetArgs {
    /// Measure against another machine, where `corelane tune net --listen` runs
    #[arg(long, value_name = "ADDR", value_parser = value::peer_address)]
    pub peer: Option<String>,
    /// Be the other machine until Ctrl-C; nothing is asked of those who connect
    #[arg(
        long,
        value_name = "ADDR",
        value_parser = value::listen_address,
        conflicts_with_all = ["peer", "time"]
    )]
    pub listen: Option<SocketAddr>,
    /// Time of the measurement, about
    #[arg(long, value_name = "TIME", value_parser = value::measuring, default_value = "8s")]
    pub time: Duration,
    #[command(flatten)]
    pub output: OutputArg,
}

#[derive(Debug, Args)]
pub struct WriteArgs {
    #[command(flatten)]
    pub serve: ServeArgs,
    #[command(flatten)]
    pub bounds: MeasureArgs,
    /// File to write; the ceilings go beside it, as FILE with .ceilings.json [default: standard
    /// output, without the ceilings]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write over files that are there
    #[arg(long, requires = "out")]
    pub force: bool,
}

/// A broker on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    /// host:port
    At(String),
    Process(u32),
}
