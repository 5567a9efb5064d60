//! The commands that work on a data directory without its server.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use model::TopicName;

use super::OutputArg;

#[derive(Debug, Args)]
#[command(
    after_help = "Without --accept-loss nothing is written. Exit codes: 0 nothing is lost (or \
                        the new directory is written), 1 something would be lost, or failed."
)]
pub struct RepairArgs {
    /// The damaged data directory; it is read and never changed
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Write what is left to a new directory, without what is lost
    #[arg(long, requires = "to")]
    pub accept_loss: bool,
    /// The new data directory; it must not exist or be empty
    #[arg(long, value_name = "NEWDIR", requires = "accept_loss")]
    pub to: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArg,
}

/// What `export` writes of each record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One JSON object a line
    #[default]
    Jsonl,
    /// The stored record batches (Kafka RecordBatch v2), one after another, byte for byte
    Raw,
}

/// How `export` shows keys, values and headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExportBytes {
    /// base64
    #[default]
    Base64,
    /// UTF-8 text; bytes that are none become the replacement character
    Utf8,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Damage is named on standard error. Exit codes: 0 all was good, 1 something \
                        is missing or damaged."
)]
pub struct ExportArgs {
    /// The data directory; it is read and never changed
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Only this topic
    #[arg(long, value_name = "NAME", value_parser = super::value::topic_name)]
    pub topic: Option<TopicName>,
    /// Only this partition of the topic
    #[arg(long, value_name = "N", requires = "topic")]
    pub partition: Option<u32>,
    /// Only records with this offset or a later one
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    pub from_offset: u64,
    /// What to write
    #[arg(long, value_name = "FORM", value_enum, default_value = "jsonl")]
    pub format: ExportFormat,
    /// How to show keys, values and headers
    #[arg(long, value_name = "FORM", value_enum, default_value = "base64")]
    pub bytes: ExportBytes,
    /// Write a file for each partition into this new directory instead of standard output
    #[arg(long, value_name = "OUTDIR")]
    pub to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Only say what would change
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: OutputArg,
}
