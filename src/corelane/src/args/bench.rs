//! `corelane bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use model::{AckLevel, limits};

use super::{OutputArg, value};

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Publish as fast as possible, or at a rate
    Produce(BenchRun),
    /// Consume what was published before
    Consume(BenchRun),
    /// Publish and consume at once; latency from publish to receipt
    E2e(BenchRun),
    /// What the disk, the loopback and a bare append loop can do here, without the broker
    Raw {
        #[command(flatten)]
        load: BenchLoad,
        /// Folder whose disk is measured; nothing stays in it
        #[arg(long, value_name = "DIR", default_value = ".")]
        data_dir: PathBuf,
        /// Measure only these parts; give it once for each [default: all]
        #[arg(long, value_name = "PART", value_enum)]
        only: Vec<RawPart>,
        #[command(flatten)]
        output: OutputArg,
    },
}

#[derive(Debug, Args)]
pub struct BenchRun {
    #[command(flatten)]
    pub target: BenchTarget,
    #[command(flatten)]
    pub load: BenchLoad,
    /// Core that connections go to: any, the partitions' owner, or another, so that every request
    /// crosses between cores
    #[arg(long, value_name = "CORE", value_enum, default_value = "owner")]
    pub route: Route,
    /// consume: messages published first [default: by their size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// consume: restart the embedded server before reading, so that its memory is empty
    #[arg(long, requires = "embedded")]
    pub cold: bool,
    #[command(flatten)]
    pub output: OutputArg,
}

/// Which core a connection speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Route {
    Any,
    Owner,
    Other,
}

/// A part of `bench raw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RawPart {
    Disk,
    Loopback,
    Append,
}

/// Which server is measured.
#[derive(Debug, Args)]
pub struct BenchTarget {
    /// Address of a running server, host:port
    #[arg(
        long,
        value_name = "ADDR",
        default_value = value::DEFAULT_SERVER,
        value_parser = value::server_address,
        conflicts_with = "embedded"
    )]
    pub server: String,
    /// Start a server for the run
    #[arg(long)]
    pub embedded: bool,
    /// Data directory of the embedded server [default: a temporary one in the working directory]
    #[arg(long, value_name = "DIR", requires = "embedded")]
    pub data_dir: Option<PathBuf>,
    /// Cores of the embedded server; the load has the CPU after these
    /// [default: 1 where there are two CPUs]
    #[arg(
        long,
        value_name = "N",
        requires = "embedded",
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    pub server_cores: Option<u16>,
}

/// What is sent, how fast and for how long.
#[derive(Clone, Debug, Args)]
pub struct BenchLoad {
    /// Log space that is written: used before, or new
    #[arg(long, value_name = "KIND", value_enum, default_value = "recycled")]
    pub space: Space,
    /// Bytes of a message's payload
    #[arg(long, value_name = "BYTES", default_value = "1KiB", value_parser = value::bytes)]
    pub size: u64,
    /// Messages in a batch
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub batch: u32,
    /// Connections
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub connections: u32,
    /// Batches that each connection has unanswered at once
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=65_536)
    )]
    pub in_flight: u32,
    /// Messages a second, all connections together, on a fixed schedule; latency then counts from
    /// the intended send time [default: as fast as answers come]
    #[arg(
        long,
        value_name = "MSGS_PER_S",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000)
    )]
    pub rate: Option<u64>,
    /// Time measured, in seconds or with a unit
    #[arg(long, value_name = "S", default_value = "10", value_parser = value::seconds)]
    pub duration: Duration,
    /// Time before measuring, in seconds or with a unit
    #[arg(long, value_name = "S", default_value = "2", value_parser = value::seconds)]
    pub warmup: Duration,
    /// When messages are acknowledged
    #[arg(
        long,
        value_name = "durable|memory|none",
        default_value = "durable",
        value_parser = value::ack_level
    )]
    pub ack: AckLevel,
    /// Topics, taken in turn
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::PARTITIONS_MAX))
    )]
    pub topics: u32,
    /// Partitions of each topic
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::PARTITIONS_MAX))
    )]
    pub partitions: u32,
    /// CPU of the load generator [default: the last one]
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<u32>,
}

/// Whether log space was written before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Space {
    Recycled,
    Fresh,
    /// Reserved and never written (raw only)
    Fallocated,
}

/// The payload's sequence number and checksum have to fit.
const SIZE_BYTES_MIN: u64 = 24;

impl BenchCommand {
    pub fn load(&self) -> &BenchLoad {
        match self {
            Self::Produce(run) | Self::Consume(run) | Self::E2e(run) => &run.load,
            Self::Raw { load, .. } => load,
        }
    }
}

impl BenchLoad {
    /// What is wrong with the values together.
    pub(super) fn conflict(&self) -> Option<String> {
        let batch_bytes = self.size.saturating_mul(u64::from(self.batch));
        let batch_bytes_max = u64::from(limits::BATCH_BYTES_MAX);
        let partitions = u64::from(self.topics) * u64::from(self.partitions);
        if self.size < SIZE_BYTES_MIN {
            Some(format!("--size must be at least {SIZE_BYTES_MIN} bytes"))
        } else if batch_bytes > batch_bytes_max {
            Some(format!(
                "--size times --batch is {batch_bytes} bytes; a batch has at most {batch_bytes_max}"
            ))
        } else if partitions > u64::from(limits::PARTITIONS_MAX) {
            Some(format!(
                "--topics times --partitions is {partitions}; a data directory has at most {}",
                limits::PARTITIONS_MAX
            ))
        } else if self.duration.is_zero() {
            Some("--duration must be more than 0".to_owned())
        } else {
            None
        }
    }
}
