//! What a run is asked to do, and the bounds of every number in it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use model::{AckLevel, limits};
use tuning::ceilings::Predicted;

use crate::error::BenchError;
use crate::pace::Pace;
use crate::payload;
use crate::validity;
use crate::workload::{KEYS_MAX, Keys, Sizes};

/// Which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Publishing; latency from the intended send to the acknowledgement.
    Produce,
    /// Reading what was published before; latency is the gap between two deliveries.
    Consume,
    /// Publishing and reading at once; latency from the intended send to the receipt.
    E2e,
    /// What the machine can do with no broker in the way.
    Raw,
}

impl Work {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::E2e => "e2e",
            Self::Raw => "raw",
        }
    }
}

/// What a consume run reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The same messages again and again, from the server's memory.
    Hot,
    /// All once, after the started server was started again: its memory is empty.
    Cold,
    /// All once, as it lies there: a backlog that consumers work off.
    Backlog,
}

/// What the log's writes land on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Extents written before: what a broker sees once its log goes round.
    Recycled,
    /// Extents zeroed just ahead of the writer: a new data directory.
    Fresh,
    /// Extents reserved and never written (`raw` only).
    Fallocated,
}

impl Space {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recycled => "recycled",
            Self::Fresh => "fresh",
            Self::Fallocated => "fallocated",
        }
    }
}

impl FromStr for Space {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "recycled" => Ok(Self::Recycled),
            "fresh" => Ok(Self::Fresh),
            "fallocated" => Ok(Self::Fallocated),
            other => Err(format!("{other:?} is not a kind of space: recycled, fresh, fallocated")),
        }
    }
}

/// Which core a connection speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Whatever core the kernel picks at the listen address.
    Any,
    /// The core that owns the partitions, at its direct port.
    Owner,
    /// A core that does not own the partitions: every request crosses the mesh.
    Other,
}

impl Route {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Owner => "owner",
            Self::Other => "other",
        }
    }
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "any" => Ok(Self::Any),
            "owner" => Ok(Self::Owner),
            "other" => Ok(Self::Other),
            other => Err(format!("{other:?} is not a route: any, owner, other")),
        }
    }
}

/// Publishing through the client crate on tokio, as an application does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLoad {
    /// How long a batch that is not full waits for more messages.
    pub linger: Duration,
}

impl std::fmt::Display for ClientLoad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the tokio client, linger {:?}", self.linger)
    }
}

/// A part of `bench raw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawPart {
    Disk,
    Loopback,
    Append,
}

impl FromStr for RawPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disk" => Ok(Self::Disk),
            "loopback" => Ok(Self::Loopback),
            "append" => Ok(Self::Append),
            other => Err(format!("{other:?} is not a part of raw: disk, loopback, append")),
        }
    }
}

/// Everything a run can be told. [`Options::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    pub work: Work,
    /// A running server; `None` starts one for the run.
    pub server: Option<SocketAddr>,
    /// The program that knows `serve`; `None` is the one that runs now.
    pub server_program: Option<PathBuf>,
    /// Cores of the server started for the run, on CPUs 0 to n-1; `None`: 1 when the machine has
    /// two CPUs or fewer, else all but the last.
    pub server_cores: Option<u16>,
    /// Extra `CORELANE_*` variables for the server started for the run.
    pub server_env: Vec<(String, String)>,
    /// Where the started server (or `raw`) writes; `None` is a directory made and removed here.
    pub data_dir: Option<PathBuf>,
    pub space: Space,
    pub route: Route,
    /// Payload bytes of the messages.
    pub sizes: Sizes,
    /// Messages in one request, as one record batch.
    pub batch: usize,
    /// Publishing connections (`consume`: reading ones).
    pub connections: usize,
    /// `e2e`: reading connections; `None` is as many as publish, and no more than partitions.
    pub consumers: Option<usize>,
    /// Requests under way on one connection at most.
    pub in_flight: usize,
    pub pace: Pace,
    /// `produce`: not the generator itself publishes, but a client.
    pub client: Option<ClientLoad>,
    /// Messages have keys, which choose the partition.
    pub keys: Option<Keys>,
    /// Of everything random in the run.
    pub seed: u64,
    /// The generator's own lateness at p99 beyond which an open loop is invalid.
    pub lag_max: Duration,
    pub duration: Duration,
    pub warmup: Duration,
    pub ack: AckLevel,
    pub topics: usize,
    /// Partitions of each topic.
    pub partitions: usize,
    /// `consume`: how many messages are published first; `None` picks by size.
    pub messages: Option<u64>,
    /// `consume`: what is read.
    pub source: Source,
    /// `produce`: read back what is kept and check it.
    pub verify: bool,
    /// `raw`: only these parts; empty is all.
    pub only: Vec<RawPart>,
    /// The CPU of the load generator; `None` is the last one.
    pub cpu: Option<usize>,
    /// No progress.
    pub quiet: bool,
    /// The commit the binary was built from, if the caller knows it.
    pub commit: Option<String>,
    /// What was predicted for this machine, to be held against what is measured.
    pub predicted: Option<Predicted>,
}

/// Most connections of one run.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Most requests under way on one connection.
pub const IN_FLIGHT_MAX: usize = 65_536;
/// Longest run or warm-up.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most requests under way in a run: bounds the generator's memory.
pub const REQUESTS_MAX: usize = 4 * 1024 * 1024;

/// Messages per second of an open loop, unless told otherwise.
pub const RATE_DEFAULT: f64 = 10_000.0;
/// Most mills' frame heads: bounds the generator's memory.
const HEADS_MAX: usize = 1_000_000;

/// Requests under way on each of `connections` in an open loop, unless told otherwise: enough not
/// to be in the way, and bounded over all of them.
pub fn in_flight_open(connections: usize) -> usize {
    (65_536 / connections.max(1)).clamp(16, 1_024)
}

impl Options {
    /// Produce and e2e are open loops, the others as fast as answers come.
    pub fn new(work: Work) -> Self {
        let open = matches!(work, Work::Produce | Work::E2e);
        Self {
            work,
            server: None,
            server_program: None,
            server_cores: None,
            server_env: Vec::new(),
            data_dir: None,
            space: Space::Recycled,
            route: Route::Owner,
            sizes: Sizes::Fixed(1024),
            batch: 1,
            connections: 1,
            consumers: None,
            in_flight: if open { in_flight_open(1) } else { 1 },
            pace: if open { Pace::constant(RATE_DEFAULT) } else { Pace::Closed },
            client: None,
            keys: None,
            seed: 0,
            lag_max: validity::LAG_MAX,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(2),
            ack: AckLevel::Durable,
            topics: 1,
            partitions: 1,
            messages: None,
            source: Source::Hot,
            verify: true,
            only: Vec::new(),
            cpu: None,
            quiet: false,
            commit: None,
            predicted: None,
        }
    }

    /// Whether `part` of `raw` is asked for.
    pub fn wants(&self, part: RawPart) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Partitions of all topics.
    pub fn partitions_total(&self) -> usize {
        self.topics.saturating_mul(self.partitions)
    }

    /// Refuses what cannot be run, in one sentence.
    pub fn check(&self) -> Result<(), BenchError> {
        let batch_max = limits::BATCH_BYTES_MAX as usize;
        between("--size", self.sizes.min(), payload::BYTES_MIN, batch_max)?;
        between("--size", self.sizes.max(), payload::BYTES_MIN, batch_max)?;
        between("--batch", self.batch, 1, 1_000_000)?;
        between("--connections", self.connections, 1, CONNECTIONS_MAX)?;
        between("--in-flight", self.in_flight, 1, IN_FLIGHT_MAX)?;
        between("--topics", self.topics, 1, limits::PARTITIONS_MAX as usize)?;
        between("--partitions", self.partitions, 1, limits::PARTITIONS_MAX as usize)?;
        between(
            "topics x partitions",
            self.partitions_total(),
            1,
            limits::PARTITIONS_MAX as usize,
        )?;
        between(
            "connections x in-flight",
            self.connections.saturating_mul(self.in_flight),
            1,
            REQUESTS_MAX,
        )?;
        let size = self.sizes.max();
        let batch_bytes = self.batch.saturating_mul(size + 32) + 128;
        if batch_bytes > batch_max {
            return refuse(format!(
                "--batch {} of --size {size} is {batch_bytes} bytes a request; at most {batch_max} fit",
                self.batch
            ));
        }
        if self.duration.is_zero() || self.duration > DURATION_MAX || self.warmup > DURATION_MAX {
            return refuse(
                "--duration must be above 0, and both it and --warmup under 24 h".into(),
            );
        }
        self.pace
            .pattern(self.warmup, self.duration)
            .map_err(|error| BenchError::Options(error.to_string()))?;
        if let Some(Keys { count, zipf }) = self.keys {
            between("--keys", count as usize, 1, KEYS_MAX as usize)?;
            if !(0.0..=10.0).contains(&zipf) {
                return refuse(format!("--zipf {zipf} must be between 0 and 10"));
            }
        }
        between(
            "sizes x partitions",
            self.sizes.classes().len().saturating_mul(self.partitions_total()),
            1,
            HEADS_MAX,
        )?;
        self.check_combinations()
    }

    fn check_combinations(&self) -> Result<(), BenchError> {
        if self.ack == AckLevel::None {
            return refuse("--ack none gives nothing to measure; use memory or durable".into());
        }
        if self.space == Space::Fallocated && self.work != Work::Raw {
            return refuse("--space fallocated is for `bench raw` only".into());
        }
        if self.source != Source::Hot && self.work != Work::Consume {
            return refuse("--cold and --backlog are for `bench consume` only".into());
        }
        if self.source == Source::Cold && self.server.is_some() {
            return refuse(
                "--cold restarts the server, so it needs one started by the bench: leave --server out"
                    .into(),
            );
        }
        if self.pace != Pace::Closed && self.work == Work::Consume {
            return refuse("--rate is for produce, e2e and raw; consume takes what comes".into());
        }
        if let Some(consumers) = self.consumers {
            if self.work != Work::E2e {
                return refuse("--consumers is for `bench e2e`; consume has --connections".into());
            }
            // Two readers of one partition would each get every message.
            between("--consumers", consumers, 1, self.partitions_total())?;
        }
        if self.keys.is_some() && self.work == Work::Raw {
            return refuse("--keys choose a partition, and `bench raw` has none".into());
        }
        if self.client.is_some() {
            self.check_client()?;
        }
        if self.server_cores == Some(0) {
            return refuse("--server-cores must be at least 1".into());
        }
        Ok(())
    }
}

impl Options {
    fn check_client(&self) -> Result<(), BenchError> {
        if self.work != Work::Produce {
            return refuse("--client is for `bench produce`".into());
        }
        if self.batch != 1 {
            return refuse(
                "--client tokio gathers batches by itself, by --linger: leave --batch out".into(),
            );
        }
        if self.route == Route::Other {
            return refuse(
                "--client tokio goes to the owner or any core: not --route other".into(),
            );
        }
        Ok(())
    }
}

fn between(what: &str, value: usize, min: usize, max: usize) -> Result<(), BenchError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    refuse(format!("{what} is {value}; it must be between {min} and {max}"))
}

fn refuse(sentence: String) -> Result<(), BenchError> {
    Err(BenchError::Options(sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed() {
        for work in [Work::Produce, Work::Consume, Work::E2e, Work::Raw] {
            Options::new(work).check().unwrap();
        }
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_flag() {
        let refused = |change: fn(&mut Options)| {
            let mut options = Options::new(Work::Produce);
            change(&mut options);
            options.check().unwrap_err().to_string()
        };
        assert!(refused(|o| o.sizes = Sizes::Fixed(8)).contains("--size"));
        assert!(refused(|o| (o.sizes, o.batch) = (Sizes::Fixed(1 << 20), 100)).contains("--batch"));
        assert!(refused(|o| o.connections = 0).contains("--connections"));
        assert!(refused(|o| o.pace = Pace::constant(0.0)).contains("rate of 0"));
        assert!(refused(|o| o.duration = Duration::ZERO).contains("--duration"));
        assert!(refused(|o| o.ack = AckLevel::None).contains("--ack"));
        assert!(refused(|o| o.source = Source::Cold).contains("--cold"));
        assert!(refused(|o| o.consumers = Some(1)).contains("--consumers"));
        assert!(refused(|o| (o.work, o.consumers) = (Work::E2e, Some(2))).contains("--consumers"));
        assert!(refused(|o| o.keys = Some(Keys { count: 0, zipf: 1.0 })).contains("--keys"));
        assert!(refused(|o| o.keys = Some(Keys { count: 9, zipf: -1.0 })).contains("--zipf"));
        fn client() -> Option<ClientLoad> {
            Some(ClientLoad { linger: Duration::ZERO })
        }
        assert!(refused(|o| (o.client, o.batch) = (client(), 2)).contains("--batch"));
        assert!(refused(|o| (o.client, o.route) = (client(), Route::Other)).contains("--route"));
        assert!(refused(|o| (o.client, o.work) = (client(), Work::E2e)).contains("--client"));
        assert!(refused(|o| (o.topics, o.partitions) = (1000, 1000)).contains("partitions"));
    }
}
