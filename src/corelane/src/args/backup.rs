//! The commands over backups.

use std::path::PathBuf;

use clap::Subcommand;

use super::{OutputArg, ServerArg};

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Copy a running server's data; run it on the server's host. What an earlier backup in the
    /// same directory has is not copied again
    Create {
        /// Directory of the backups, outside the data directory; made when it does not exist
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// What to call the backup; default: the time in UTC
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        server: ServerArg,
        #[command(flatten)]
        output: OutputArg,
    },
    /// Make a data directory from a backup, everything checked on the way
    Restore {
        /// Directory of the backups
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Which backup; default: the newest
        #[arg(long, value_name = "NAME")]
        at: Option<String>,
        /// The new data directory; must not exist or be empty
        #[arg(long, value_name = "NEWDIR")]
        to: PathBuf,
        #[command(flatten)]
        output: OutputArg,
    },
    /// List the backups of a directory, the oldest first
    List {
        /// Directory of the backups
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        #[command(flatten)]
        output: OutputArg,
    },
    /// Read backups through and check every checksum; exit code 1 on damage
    Check {
        /// Directory of the backups
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Which backup; default: all
        #[arg(long, value_name = "NAME")]
        at: Option<String>,
        #[command(flatten)]
        output: OutputArg,
    },
    /// Remove a backup, and the files that no other backup needs
    Remove {
        /// Directory of the backups
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Which backup
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        output: OutputArg,
    },
}
