//! The commands that talk to a running server: status, topic, produce, consume.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use model::{AckLevel, ConsumerName, StartPosition, TopicChange, TopicConfig, TopicName, limits};

use super::format::RecordFormat;
use super::{OutputArg, ServerArg, value};
use crate::config::units;

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Also where the time of publishes and deliveries has gone since the start, stage by stage
    #[arg(long)]
    pub stages: bool,
    #[command(flatten)]
    pub server: ServerArg,
    #[command(flatten)]
    pub output: OutputArg,
}

#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Only this core [default: the whole server]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..i64::from(u16::MAX)))]
    pub core: Option<u16>,
    /// Let clients come again
    #[arg(long, conflicts_with_all = ["wait", "grace"])]
    pub undo: bool,
    /// Wait so long until no client is left, such as 30s; exit code 1 when some are
    #[arg(long, value_name = "DURATION", value_parser = value::wait)]
    pub wait: Option<Duration>,
    /// How long clients may take to leave by themselves before they are disconnected
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = value::grace)]
    pub grace: Duration,
    #[command(flatten)]
    pub server: ServerArg,
    #[command(flatten)]
    pub output: OutputArg,
}

#[derive(Debug, Args)]
pub struct LogFilterArgs {
    /// A level (error, warn, info, debug, trace), or levels by part: info,corelane_wal=debug
    pub filter: String,
    #[command(flatten)]
    pub server: ServerArg,
}

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    Create {
        /// Name: 1 to 249 of A-Z a-z 0-9 . _ -
        #[arg(value_parser = value::topic_name)]
        name: TopicName,
        /// Partitions, each an ordered log of its own; fixed for the topic's life
        #[arg(
            long,
            value_name = "N",
            default_value_t = 1,
            value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::PARTITIONS_MAX))
        )]
        partitions: u32,
        #[command(flatten)]
        settings: TopicSettings,
        #[command(flatten)]
        server: ServerArg,
        #[command(flatten)]
        output: OutputArg,
    },
    /// Change a topic's settings; what is not named stays
    Alter {
        /// The topic
        #[arg(value_parser = value::topic_name)]
        name: TopicName,
        #[command(flatten)]
        settings: TopicSettings,
        #[command(flatten)]
        server: ServerArg,
        #[command(flatten)]
        output: OutputArg,
    },
    /// List all topics
    List {
        #[command(flatten)]
        server: ServerArg,
        #[command(flatten)]
        output: OutputArg,
    },
    /// Show a topic's settings and its partitions' offsets, bytes and consumers
    Describe {
        /// The topic
        #[arg(value_parser = value::topic_name)]
        name: TopicName,
        #[command(flatten)]
        server: ServerArg,
        #[command(flatten)]
        output: OutputArg,
    },
    /// Delete a topic with all its messages; there is no way back
    Delete {
        /// The topic
        #[arg(value_parser = value::topic_name)]
        name: TopicName,
        #[command(flatten)]
        server: ServerArg,
        #[command(flatten)]
        output: OutputArg,
    },
}

/// The settings that `create` gives and `alter` changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct TopicSettings {
    /// How long messages are kept, such as 7d or 12h; `unlimited` keeps them
    /// [default of a new topic: unlimited]
    #[arg(long, value_name = "DURATION")]
    pub retention: Option<Retention>,
    /// Bytes kept in each partition, such as 10GiB; `unlimited` keeps all
    /// [default of a new topic: unlimited]
    #[arg(long, value_name = "BYTES")]
    pub retention_bytes: Option<RetentionBytes>,
    /// When a publish that does not say is acknowledged: `durable` once on disk, `memory` once
    /// received [default of a new topic: durable]
    #[arg(long, value_name = "durable|memory", value_parser = value::topic_ack_level)]
    pub ack: Option<AckLevel>,
}

/// Milliseconds; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention(pub Option<u64>);

/// Bytes; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionBytes(pub Option<u64>);

const UNLIMITED: &str = "unlimited";

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == UNLIMITED {
            return Ok(Self(None));
        }
        let duration = units::parse_duration(text)?;
        match u64::try_from(duration.as_millis()) {
            Ok(ms) if ms > 0 => Ok(Self(Some(ms))),
            _ => Err(format!("write at least 1ms, or {UNLIMITED}")),
        }
    }
}

impl FromStr for RetentionBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == UNLIMITED {
            return Ok(Self(None));
        }
        match units::parse_bytes(text)? {
            0 => Err(format!("write at least 1 byte, or {UNLIMITED}")),
            bytes => Ok(Self(Some(bytes))),
        }
    }
}

impl TopicSettings {
    /// The settings of a new topic.
    pub fn config(&self) -> TopicConfig {
        self.change().applied_to(&TopicConfig::default())
    }

    pub fn change(&self) -> TopicChange {
        TopicChange {
            retention_ms: self.retention.map(|retention| retention.0),
            retention_bytes: self.retention_bytes.map(|retention| retention.0),
            ack: self.ack,
        }
    }

    /// `alter` with nothing to change is a slip.
    pub(super) fn conflict(&self) -> Option<String> {
        let nothing = *self == Self::default();
        nothing
            .then(|| "nothing to change; give --retention, --retention-bytes or --ack".to_owned())
    }
}

#[derive(Debug, Args)]
pub struct ProduceArgs {
    /// The topic
    #[arg(value_parser = value::topic_name)]
    pub topic: TopicName,
    /// File to read [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What parts the key from the value in a line; lines without it have no key
    #[arg(long, value_name = "C", value_parser = value::separator)]
    pub key_separator: Option<String>,
    /// When messages are acknowledged [default: as the topic says]
    #[arg(long, value_name = "durable|memory|none", value_parser = value::ack_level)]
    pub ack: Option<AckLevel>,
    /// Compression of the batches
    #[arg(long, value_name = "CODEC", value_enum, default_value = "none")]
    pub compression: CompressionArg,
    #[command(flatten)]
    pub server: ServerArg,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CompressionArg {
    #[default]
    None,
    Lz4,
    Zstd,
}

#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// The topic
    #[arg(value_parser = value::topic_name)]
    pub topic: TopicName,
    /// Only this partition [default: all]
    #[arg(long, value_name = "P")]
    pub partition: Option<u32>,
    /// Where to start: first, last, next, offset:N, or time:RFC3339
    /// [default: first; with --consumer, where it left off]
    #[arg(long, value_name = "WHERE", value_parser = value::start_position)]
    pub from: Option<StartPosition>,
    /// Stop after so many messages
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Wait for new messages at the end of the topic
    #[arg(long)]
    pub follow: bool,
    /// Commit what was printed under this name, and go on from there the next time
    #[arg(long, value_name = "NAME", value_parser = value::consumer_name)]
    pub consumer: Option<ConsumerName>,
    /// What to print for a message: %t topic, %p partition, %o offset, %T time (Unix
    /// milliseconds), %k key, %v value, %% percent sign, \t tab, \n newline
    #[arg(long, value_name = "FORMAT", default_value = "%v")]
    pub format: RecordFormat,
    #[command(flatten)]
    pub server: ServerArg,
}

impl ConsumeArgs {
    /// Where reading starts in each partition.
    pub fn start(&self) -> StartPosition {
        match (&self.from, &self.consumer) {
            (Some(from), _) => from.clone(),
            (None, Some(consumer)) => StartPosition::Committed(consumer.clone()),
            (None, None) => StartPosition::First,
        }
    }
}
