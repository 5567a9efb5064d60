//! The offline audit of a log: every checksum, chain, sequence and offset, block by block.
//!
//! It shares the definitions of the format with the log and nothing else: what recovery takes on
//! trust (sealed segments) is read here, and what recovery would cut or refuse is told apart by
//! the same rule. Nothing is written. Streams' entries mean nothing here beyond their heads.

mod block;
mod ends;
pub mod salvage;
mod segment;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::device::{DeviceError, FileDevice, LogDevice};
use crate::directory::{self, DataDirectory, DirectoryError};
use crate::format::manifest::{Manifest, SegmentRecord, SegmentState};
use crate::format::names;
use block::Walk;
use source::Source;

/// Something found at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    /// Bytes from the start of the file.
    pub offset: u64,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.what)
    }
}

/// What the audit of one shard's log has read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    pub segments: u64,
    pub blocks: u64,
    /// Blocks without entries.
    pub witnesses: u64,
    pub entries: u64,
    /// Entries that readers are given.
    pub batches: u64,
    pub records: u64,
    pub payload_bytes: u64,
    pub footers: u64,
    pub checkpoints: u64,
    pub streams: u64,
    pub bytes_read: u64,
    /// 0 when there is no entry.
    pub first_lsn: u64,
    pub last_lsn: u64,
    /// The furthest LSN that anything in the log calls durable.
    pub promised_lsn: u64,
    pub incarnation: u32,
    /// What is unusual and lawful: a torn tail, a manifest slot torn by a crash.
    pub notes: Vec<Finding>,
    /// Acknowledged bytes that are changed or gone.
    pub damage: Vec<Finding>,
}

impl LogReport {
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.damage.is_empty()
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "{} segments, {} blocks, {} entries ({} to {}), {} batches with {} records in {} \
             streams, {} footers, {} checkpoints, {} bytes read",
            self.segments,
            self.blocks,
            self.entries,
            self.first_lsn,
            self.last_lsn,
            self.batches,
            self.records,
            self.streams,
            self.footers,
            self.checkpoints,
            self.bytes_read
        )
    }
}

/// The audit of a whole data directory.
#[derive(Debug)]
pub struct DirectoryReport {
    pub directory: DataDirectory,
    /// In order of the shards. An error means that the shard could not be read at all.
    pub shards: Vec<Result<LogReport, DeviceError>>,
}

impl DirectoryReport {
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.shards.iter().all(|shard| shard.as_ref().is_ok_and(LogReport::is_good))
    }
}

/// Audits every log of a data directory that no server uses. File names in the findings are
/// relative to the data directory.
///
/// # Errors
/// When the directory cannot be opened; see [`directory::open_read_only`].
pub fn verify_directory(path: &Path) -> Result<DirectoryReport, DirectoryError> {
    let directory = directory::open_read_only(path)?;
    let shards = (0..directory.shards())
        .map(|shard| {
            let device = FileDevice::open(&directory.shard_path(shard))?;
            let mut device = device.with_block_bytes(directory.block_bytes());
            let mut report = verify_log(&mut device, &directory.secret())?;
            if !directory.is_finished() && report.segments == 0 {
                // Its logs are still to be made; nothing was ever acknowledged.
                report.notes.append(&mut report.damage);
            }
            let folder = directory::shard_name(shard);
            for finding in report.notes.iter_mut().chain(&mut report.damage) {
                finding.file = format!("{folder}/{}", finding.file);
            }
            Ok(report)
        })
        .collect();
    Ok(DirectoryReport { directory, shards })
}

/// Audits one shard's log.
///
/// # Errors
/// When the disk does not let itself be read. Damage is in the report.
pub fn verify_log<D: LogDevice>(
    device: &mut D,
    secret: &[u8; 16],
) -> Result<LogReport, DeviceError> {
    let mut audit = Audit {
        source: Source::new(device),
        secret: *secret,
        unit: 0,
        report: LogReport::default(),
        streams: BTreeMap::new(),
    };
    if let Some(manifest) = audit.manifest()? {
        audit.unit = manifest.unit as usize;
        audit.strangers(&manifest)?;
        audit.segments(&manifest)?;
        audit.checkpoints(&manifest)?;
    }
    audit.report.bytes_read = audit.source.bytes_read;
    audit.report.streams = audit.streams.len() as u64;
    Ok(audit.report)
}

struct Audit<'a, D> {
    source: Source<'a, D>,
    secret: [u8; 16],
    /// The block size that the manifest records, bytes.
    unit: usize,
    report: LogReport,
    /// The offset that each stream's next batch must have.
    streams: BTreeMap<u32, u64>,
}

impl<D: LogDevice> Audit<'_, D> {
    fn damage(&mut self, file: &str, offset: u64, what: impl Into<String>) {
        let what = what.into();
        self.report.damage.push(Finding { file: file.to_owned(), offset, what });
    }

    fn note(&mut self, file: &str, offset: u64, what: impl Into<String>) {
        let what = what.into();
        self.report.notes.push(Finding { file: file.to_owned(), offset, what });
    }

    /// Segments that the manifest does not name must hold nothing.
    fn strangers(&mut self, manifest: &Manifest) -> Result<(), DeviceError> {
        for (name, _) in self.source.list()? {
            let Some(number) = names::parse_segment(&name) else { continue };
            if manifest.segments.iter().any(|record| record.number == number) {
                continue;
            }
            match self.first_block_anywhere(&name, number, manifest.unit as usize)? {
                Some(offset) => {
                    self.damage(
                        &name,
                        offset,
                        "it holds blocks, but the manifest does not name it",
                    );
                }
                None => self.note(&name, 0, "the manifest does not name it; it holds nothing"),
            }
        }
        Ok(())
    }

    /// Walks all segments in order: the sealed ones to their known ends, the others to where the
    /// log ends.
    fn segments(&mut self, manifest: &Manifest) -> Result<(), DeviceError> {
        let mut walk = Walk::new(manifest);
        let live: Vec<&SegmentRecord> = manifest
            .segments
            .iter()
            .filter(|record| record.state != SegmentState::Dropped)
            .collect();
        let listed = self.source.list()?;
        for record in &live {
            let name = names::segment(record.number);
            if !listed.iter().any(|(listed, _)| *listed == name) {
                self.damage(&name, 0, "the manifest names this segment, but it is missing");
            }
        }
        for (index, record) in live.iter().enumerate() {
            if walk.ended {
                self.after_the_end(record, &mut walk)?;
            } else if record.state == SegmentState::Sealed {
                self.sealed(record, &mut walk)?;
            } else {
                self.open_segment(record, live.get(index + 1).copied(), &mut walk)?;
            }
        }
        self.report.last_lsn = walk.last_lsn;
        self.report.promised_lsn = walk.promised;
        if self.report.is_good() && walk.promised > self.report.last_lsn {
            let (file, offset) = walk.end.clone();
            let last = self.report.last_lsn;
            let what = format!(
                "the log ends here after entry {last}, but entries up to {} were durable",
                walk.promised
            );
            self.damage(&file, offset, what);
        }
        Ok(())
    }
}
