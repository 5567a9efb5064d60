//! A shard of a data directory that no server uses, folded as a server would fold it, unchanged.
//!
//! Unlike a tolerant reading this accepts no damage: what a server would refuse is refused.

use std::fs::File;
use std::path::PathBuf;

use model::{EntryHead, Lsn, ShardId};
use shards::{Engine, EngineConfig};
use wal::device::DeviceError;
use wal::directory::{DataDirectory, shard_name};
use wal::format::names;
use wal::{FileDevice, LogPoint, OpenError, PointSegment, Wal, WalConfig};

use crate::backup::{BackupError, Place, Sink, Wanted, copy_segment, failed};
use crate::log_writer::EngineFold;
use crate::overlay::Overlay;

/// Memory of a log while it is opened, bytes.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// Why a shard could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("{} cannot be read: {error}", path.display())]
    Directory { path: PathBuf, error: DeviceError },
    #[error("{} cannot be opened: {error}; `corelane repair` keeps what is good", path.display())]
    Open { path: PathBuf, error: OpenError },
    #[error(transparent)]
    Read(#[from] BackupError),
    #[error(
        "{} ends with entry {found} when it is read through, and with entry {expected} when it is \
         opened; run `corelane verify`",
        path.display()
    )]
    End { path: PathBuf, found: u64, expected: u64 },
}

/// A shard, folded.
pub(crate) struct OpenedShard {
    pub shard: ShardId,
    pub engine: Engine,
    path: PathBuf,
    place: Place,
    segments: Vec<PointSegment>,
    last_lsn: Lsn,
}

impl OpenedShard {
    pub fn open(directory: &DataDirectory, shard: u16) -> Result<Self, FoldError> {
        let path = directory.path().join(shard_name(shard));
        let unreadable = |error| FoldError::Directory { path: path.clone(), error };
        let below = FileDevice::open(&path).map_err(unreadable)?;
        let below = below.with_block_bytes(directory.block_bytes());
        let mut device = Overlay::new(below).map_err(unreadable)?;
        let config = WalConfig {
            shard,
            secret: directory.secret(),
            cache_bytes: CACHE_BYTES,
            prepare_bytes: 0,
            ..WalConfig::default()
        };
        let mut engine = Engine::new(ShardId(shard), EngineConfig::default());
        let opened = Wal::open(&mut device, config, &mut EngineFold(&mut engine));
        let (mut wal, _) = opened.map_err(|error| FoldError::Open { path: path.clone(), error })?;
        let last_lsn = wal.durable_lsn();
        engine.commit(last_lsn);
        let place = Place { secret: directory.secret(), shard, unit: directory.block_bytes() };
        let witnesses = wal.stats().witnesses;
        let segments =
            without_witnesses(wal.pin(), witnesses * place.unit as u64, place.unit as u64);
        Ok(Self { shard: ShardId(shard), engine, path, place, segments, last_lsn })
    }

    /// Bytes of log to read through.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.data_end).sum()
    }

    /// The length of its largest segment, bytes.
    pub fn segment_bytes_max(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).max().unwrap_or(0)
    }

    /// Reads the log through, every block checked, and hands each batch over in the log's order.
    /// `went_on` is told of bytes read.
    pub fn batches<E: From<FoldError>>(
        &self,
        went_on: &mut dyn FnMut(u64) -> Result<(), BackupError>,
        mut each: impl FnMut(&EntryHead, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut stopped = None;
        let mut last_lsn = 0;
        for segment in &self.segments {
            let path = self.path.join(names::segment(segment.number));
            let file = File::open(&path).map_err(failed("read", &path)).map_err(FoldError::from)?;
            let wanted = Wanted {
                number: segment.number,
                generation: segment.generation,
                bytes: segment.bytes,
                data_end: segment.data_end,
                sealed: false,
            };
            let mut block = |block: &wal::format::block::Block| {
                for (record, range) in block.entries() {
                    let payload = block.bytes.get(range).unwrap_or_default();
                    if record.head.is_batch()
                        && let Err(error) = each(&record.head, payload)
                    {
                        stopped = Some(error);
                        let reason = "see the error".to_owned();
                        return Err(BackupError::Stopped { reason });
                    }
                }
                Ok(())
            };
            let mut sink = Sink { file: None, block: Some(&mut block), went_on: &mut *went_on };
            let copied = copy_segment(&self.place, &wanted, &file, &path, &mut sink);
            if let Some(error) = stopped {
                return Err(error);
            }
            last_lsn = copied.map_err(FoldError::from)?.last_lsn;
        }
        if last_lsn != self.last_lsn.0 && !self.segments.is_empty() {
            let (path, expected) = (self.path.clone(), self.last_lsn.0);
            return Err(FoldError::End { path, found: last_lsn, expected }.into());
        }
        Ok(())
    }
}

/// Opening has written a witness, one unit long, which only the overlay has; or none, where the
/// last segment is full and there is no other.
fn without_witnesses(point: LogPoint, bytes: u64, unit: u64) -> Vec<PointSegment> {
    let mut segments = point.segments;
    if let Some(last) = segments.last_mut() {
        last.data_end -= bytes;
        if last.data_end <= unit {
            segments.pop();
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(data_end: u64) -> LogPoint {
        let segment =
            PointSegment { number: 3, generation: 1, bytes: 65_536, data_end, sealed: false };
        LogPoint {
            durable_lsn: Lsn(1),
            last_sequence: 1,
            incarnation: 1,
            checkpoints: Vec::new(),
            segments: vec![segment],
        }
    }

    #[test]
    fn only_a_witness_that_was_written_is_taken_off() {
        let ends = |segments: Vec<PointSegment>| -> Vec<u64> {
            segments.iter().map(|segment| segment.data_end).collect()
        };
        assert_eq!(ends(without_witnesses(point(65_536), 0, 4096)), [65_536]);
        assert_eq!(ends(without_witnesses(point(65_536), 4096, 4096)), [61_440]);
        assert_eq!(ends(without_witnesses(point(8192), 4096, 4096)), [0; 0]);
    }
}
