//! Reading a set through: every file it needs, every block, footer and checkpoint, by the very
//! audit that `corelane verify` makes of a data directory.

use std::path::Path;

use wal::device::DeviceError;
use wal::verify::{Finding, LogReport, verify_log};

use super::BackupError;
use super::disk::SetDisk;
use super::set::BackupSet;
use super::store::Store;

/// What the audit of a set has found.
#[derive(Debug)]
pub struct SetReport {
    pub set: BackupSet,
    /// In order of the shards. An error means that a file could not be read at all.
    pub shards: Vec<Result<LogReport, DeviceError>>,
}

impl SetReport {
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.shards.iter().all(|shard| shard.as_ref().is_ok_and(LogReport::is_good))
    }

    /// What is wrong, in order; the files are those of the backup.
    pub fn damage(&self) -> impl Iterator<Item = String> + '_ {
        (0..).zip(&self.shards).flat_map(|(number, shard)| match shard {
            Ok(report) => report.damage.iter().map(Finding::to_string).collect(),
            Err(error) => vec![format!("shard {number} cannot be read: {error}")],
        })
    }
}

/// Reads a set through. Damage is in the report.
///
/// # Errors
/// `Damaged` for a superblock that is not good, `Io`.
pub fn check_set(store: &Store, set: BackupSet) -> Result<SetReport, BackupError> {
    let secret = store.superblock(&set)?.secret;
    let shards = set.shards.iter().map(|shard| {
        let mut disk = SetDisk::new(store, &set, shard, &secret);
        let mut report = verify_log(&mut disk, &secret)?;
        for finding in report.notes.iter_mut().chain(&mut report.damage) {
            if let Some(path) = disk.path_of(&finding.file) {
                finding.file = relative(path, store.path());
            }
        }
        if report.is_good() && report.last_lsn != shard.durable_lsn {
            report.damage.push(Finding {
                file: format!("shard {}", shard.shard),
                offset: 0,
                what: format!(
                    "its log ends with entry {} and should with {}",
                    report.last_lsn, shard.durable_lsn
                ),
            });
        }
        Ok(report)
    });
    let shards = shards.collect();
    Ok(SetReport { set, shards })
}

fn relative(path: &Path, base: &Path) -> String {
    path.strip_prefix(base).unwrap_or(path).display().to_string()
}
