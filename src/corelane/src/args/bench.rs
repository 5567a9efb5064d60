//! `corelane bench`.

use std::path::PathBuf;
use std::time::Duration;

use bench::{Objective, Sizes};
use clap::{Args, Subcommand, ValueEnum};
use model::{AckLevel, limits};

use super::{OutputArg, bench_value, value};

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Publish at a rate, or as fast as answers come
    Produce(Box<BenchRun>),
    /// Consume what was published before: from memory, from the disk, or a backlog once
    Consume(Box<BenchRun>),
    /// Publish and consume at once; latency from publish to receipt
    E2e(Box<BenchRun>),
    /// Find the highest rate that keeps a latency
    Sweep(Box<BenchSweep>),
    /// Put reports side by side and say what has changed beyond noise
    Compare(BenchCompare),
    /// What the disk, the loopback and a bare append loop can do here, without the broker
    Raw {
        #[command(flatten)]
        load: Box<BenchLoad>,
        /// Folder whose disk is measured; nothing stays in it
        #[arg(long, value_name = "DIR", default_value = ".")]
        data_dir: PathBuf,
        /// Measure only these parts; give it once for each [default: all]
        #[arg(long, value_name = "PART", value_enum)]
        only: Vec<RawPart>,
        #[command(flatten)]
        files: BenchFiles,
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
    /// consume: read what was published once, to its end, as consumers work off a backlog
    #[arg(long, conflicts_with = "cold")]
    pub backlog: bool,
    /// e2e: consuming connections [default: as many as publish, at most one for each partition]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub consumers: Option<u32>,
    /// Give messages one of N keys, which choose the partition
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(bench::workload::KEYS_MAX))
    )]
    pub keys: Option<u32>,
    /// Skew of the keys: 0 is none, 1 that of the words of a text
    #[arg(long, value_name = "S", requires = "keys", default_value_t = 1.0)]
    pub zipf: f64,
    /// produce: what publishes: the load generator itself, or the client of applications, message
    /// by message, on the generator's CPU
    #[arg(long, value_name = "CLIENT", value_enum, default_value = "lean")]
    pub client: ClientKind,
    /// How long a batch of the tokio client waits for more messages
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = value::wait)]
    pub linger: Duration,
    /// Say what share of the predictions in this file was reached; `corelane tune write` makes it
    #[arg(long, value_name = "FILE")]
    pub ceilings: Option<PathBuf>,
    #[command(flatten)]
    pub files: BenchFiles,
    #[command(flatten)]
    pub output: OutputArg,
}

#[derive(Debug, Args)]
pub struct BenchSweep {
    /// What is to be kept: a percentile and the most it may be, such as p99=1ms; give it once for
    /// each
    #[arg(long, value_name = "PERCENTILE=TIME", required = true, value_parser = bench_value::objective)]
    pub slo: Vec<Objective>,
    /// What is done at each rate
    #[arg(long, value_enum, default_value = "produce")]
    pub work: SweepWork,
    /// Lowest rate, messages a second
    #[arg(
        long,
        value_name = "MSGS_PER_S",
        default_value_t = 1_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000)
    )]
    pub from: u64,
    /// Highest rate, messages a second
    #[arg(
        long,
        value_name = "MSGS_PER_S",
        default_value_t = 1_000_000_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000)
    )]
    pub to: u64,
    /// How near the answer is to be, percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    pub tolerance: f64,
    /// How long each rate is tried; the best one is then run for --duration
    #[arg(long, value_name = "S", default_value = "3", value_parser = value::seconds)]
    pub probe: Duration,
    #[command(flatten)]
    pub run: BenchRun,
}

/// What a sweep does at each rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SweepWork {
    Produce,
    E2e,
}

#[derive(Debug, Args)]
pub struct BenchCompare {
    /// Reports written by --json; NAME=FILE names one, and those of one name are runs of the same
    /// thing [default: told by their settings]
    #[arg(value_name = "[NAME=]FILE", required = true)]
    pub reports: Vec<String>,
    /// Write the comparison as a page to this file too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Files that a report goes to, besides standard output.
#[derive(Clone, Debug, Args)]
pub struct BenchFiles {
    /// Write the report as a page to look at to this file too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the report as JSON to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Which core a connection speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Route {
    Any,
    Owner,
    Other,
}

/// What publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientKind {
    Lean,
    Tokio,
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
    /// Bytes of a message's payload: one size, a spread such as 100..4KiB, or sizes with weights
    /// such as 100:80,1KiB:15,64KiB:5
    #[arg(long, value_name = "BYTES", default_value = "1KiB", value_parser = bench_value::sizes)]
    pub size: Sizes,
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
    /// Batches that each connection has unanswered at once, at most. Without a rate the next batch
    /// then goes as soon as one is answered, which flatters a server that stalls
    /// [default: with a rate, more than needed]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=65_536)
    )]
    pub in_flight: Option<u32>,
    /// One batch after the other on each connection: --in-flight 1 without a rate
    #[arg(long, conflicts_with_all = ["in_flight", "rate", "ramp", "steps"])]
    pub lockstep: bool,
    /// Messages a second, all connections together, each at its time whatever became of the ones
    /// before; latency counts from there [default: 10000, unless --in-flight or --lockstep]
    #[arg(
        long,
        value_name = "MSGS_PER_S",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000)
    )]
    pub rate: Option<u64>,
    /// Messages a second that go evenly from one value to the other, such as 1000..50000
    #[arg(long, value_name = "FROM..TO", value_parser = bench_value::ramp, conflicts_with = "rate")]
    pub ramp: Option<(u64, u64)>,
    /// Messages a second one after the other, such as 1000,5000,20000
    #[arg(
        long,
        value_name = "R1,R2,...",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000),
        conflicts_with_all = ["rate", "ramp"]
    )]
    pub steps: Vec<u64>,
    /// Bursts on top of --rate: messages a second in a burst, how long it lasts and how often it
    /// comes, such as 100000:100ms:1s
    #[arg(
        long,
        value_name = "RATE:LENGTH:EVERY",
        value_parser = bench_value::bursts,
        requires = "rate"
    )]
    pub bursts: Option<Bursts>,
    /// How messages are spread at a rate: evenly, or as the requests of many strangers are
    #[arg(long, value_name = "KIND", value_enum, default_value = "constant")]
    pub arrivals: Arrivals,
    /// Seed of everything random in the run
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// A run at a rate is invalid when the load itself is later than this at p99
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = value::wait)]
    pub lag_max: Duration,
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

/// How messages are spread at a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    Constant,
    Poisson,
}

/// What comes on top of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    pub rate: u64,
    pub length: Duration,
    pub every: Duration,
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
    /// What is wrong with the values together.
    pub(super) fn conflict(&self) -> Option<String> {
        match self {
            Self::Produce(run) | Self::Consume(run) | Self::E2e(run) => run.conflict(),
            Self::Sweep(sweep) => sweep.conflict().or_else(|| sweep.run.conflict()),
            Self::Raw { load, .. } => load.conflict(),
            Self::Compare(_) => None,
        }
    }
}

impl BenchRun {
    fn conflict(&self) -> Option<String> {
        let lingers = !self.linger.is_zero() && self.client == ClientKind::Lean;
        lingers
            .then(|| "--linger is of the tokio client: give --client tokio as well".to_owned())
            .or_else(|| self.load.conflict())
    }
}

impl BenchSweep {
    fn conflict(&self) -> Option<String> {
        let load = &self.run.load;
        let has_rate = load.rate.is_some() || load.ramp.is_some() || !load.steps.is_empty();
        (has_rate || load.lockstep)
            .then(|| "a sweep chooses its rates: give --from and --to instead".to_owned())
    }
}

impl BenchLoad {
    /// What is wrong with the values together.
    pub(super) fn conflict(&self) -> Option<String> {
        let size = self.size.max() as u64;
        let batch_bytes = size.saturating_mul(u64::from(self.batch));
        let batch_bytes_max = u64::from(limits::BATCH_BYTES_MAX);
        let partitions = u64::from(self.topics) * u64::from(self.partitions);
        if (self.size.min() as u64) < SIZE_BYTES_MIN {
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
