//! The command that changes the number of shards.

use std::path::PathBuf;

use clap::Args;
use model::limits::SHARDS_MAX;

use super::OutputArg;

#[derive(Debug, Args)]
pub struct ReshardArgs {
    /// The data directory, whose server is stopped; it is not changed
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// Shards of the new directory
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(SHARDS_MAX))
    )]
    pub shards: u16,
    /// The new data directory; must not exist or be empty
    #[arg(long, value_name = "NEWDIR")]
    pub to: PathBuf,
    #[command(flatten)]
    pub output: OutputArg,
}
