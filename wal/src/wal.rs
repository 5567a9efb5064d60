//! The log: what the host calls, and who is told when an action has ended.

use std::collections::VecDeque;

use model::Lsn;
use tracing::debug;

use crate::cache::{Chunks, Tail};
use crate::checkpoint::Checkpointing;
use crate::config::WalConfig;
use crate::device::{Completion, DeviceError, Done, LogDevice};
use crate::error::WalFailure;
use crate::index::{Indexes, Streams};
use crate::io::{Io, Purpose};
use crate::read::Readers;
use crate::segments::pin::Pin;
use crate::segments::recycle::Change;
use crate::segments::{Effect, ManifestKeeper, Segments, State, Zeroing};
use crate::stats::{SegmentUse, StreamUse, WalStats};
use crate::writer::Writer;

/// Whether an entry may be appended now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Yes,
    /// Too much is waiting for the disk: try again after completions.
    Backlog,
    /// No space on the disk; entries that free space may still be appended.
    DiskFull,
    /// A write has failed: the log is read-only.
    Failed,
}

/// One shard's log.
///
/// The host appends and commits, passes every completion of the device to [`Wal::complete`], and
/// calls [`Wal::tick`] every few milliseconds. Nothing here blocks, except [`Wal::create`] and
/// [`Wal::open`].
pub struct Wal {
    pub(crate) config: WalConfig,
    /// The block size of the directory, bytes.
    pub(crate) unit: usize,
    pub(crate) io: Io,
    pub(crate) writer: Writer,
    pub(crate) segments: Segments,
    pub(crate) manifest: ManifestKeeper,
    pub(crate) zeroing: Zeroing,
    pub(crate) streams: Streams,
    pub(crate) indexes: Indexes,
    pub(crate) chunks: Chunks,
    pub(crate) tail: Tail,
    pub(crate) readers: Readers,
    pub(crate) checkpoint: Checkpointing,
    /// Changes of streams that wait for durability, with the entry they wait for.
    pub(crate) changes: VecDeque<(Lsn, Change)>,
    /// Set while a backup copies files.
    pub(crate) pin: Pin,
    pub(crate) failure: Option<WalFailure>,
    pub(crate) stats: WalStats,
    pub(crate) now_ns: u64,
    pub(crate) stopping: bool,
    pub(crate) stop_asked: bool,
    pub(crate) manifest_stopped: bool,
}

impl Wal {
    /// One submitted action has ended. Every completion of the device comes here, once.
    pub fn complete<D: LogDevice>(&mut self, device: &mut D, completion: Completion) {
        let Some(purpose) = self.io.ended(completion.ticket) else { return };
        let result = completion.result;
        match purpose {
            Purpose::Block { sequence } => {
                self.block_written(sequence, result.map(drop));
                self.pump(device);
                self.advance_checkpoint(device);
            }
            Purpose::Zero => self.zeroed(device, result.map(drop)),
            Purpose::Job => self.job_step(device, result.map(drop)),
            Purpose::Manifest { number } => {
                self.manifest_written(device, number, result.map(drop));
            }
            Purpose::Footer { segment } => self.footer_written(device, segment, result.map(drop)),
            Purpose::FooterRead { segment } => self.footer_read(segment, read_bytes(result)),
            Purpose::ColdRead { cursor, part, slot, .. } => {
                self.cold_read_done(cursor, part, slot, read_bytes(result));
            }
            Purpose::Checkpoint => self.checkpoint_step(device, result.map(drop)),
            Purpose::Nothing => {}
        }
        if self.stopping {
            self.advance_shutdown(device);
        }
    }

    /// Does what time brings: witnesses, footers, new segments, zeros, cleaning. Call it every few
    /// milliseconds and after commits; `now_ns` is any clock that does not go back.
    pub fn tick<D: LogDevice>(&mut self, device: &mut D, now_ns: u64) {
        self.now_ns = now_ns;
        self.watch_slowness();
        self.chunks.shrink();
        self.pump(device);
        self.witness_when_idle(device);
        self.seal_full_segments(device);
        self.drop_unneeded(device);
        self.start_job(device);
        if !self.stopping {
            self.zero_ahead(device);
        }
        self.advance_checkpoint(device);
        self.write_manifest(device);
        if self.stopping {
            self.advance_shutdown(device);
        }
    }

    fn witness_when_idle<D: LogDevice>(&mut self, device: &mut D) {
        let writer = &mut self.writer;
        let idle = writer.in_flight.is_empty() && !writer.has_waiting();
        if !idle || writer.witnessed_lsn >= writer.durable_lsn || self.failure.is_some() {
            writer.idle_since_ns = None;
            return;
        }
        let since = *writer.idle_since_ns.get_or_insert(self.now_ns);
        if self.now_ns.saturating_sub(since) >= self.config.witness_after_ns {
            self.submit_witness(device);
        }
    }

    /// Hands over what is appended, then a witness and a manifest. No entry may be appended after
    /// this; the host goes on passing completions until [`Wal::is_shut_down`].
    pub fn shutdown<D: LogDevice>(&mut self, device: &mut D) {
        self.stopping = true;
        self.commit(device);
        self.advance_shutdown(device);
    }

    fn advance_shutdown<D: LogDevice>(&mut self, device: &mut D) {
        if self.failure.is_some() || self.stop_asked {
            return;
        }
        if self.writer.has_waiting() {
            return self.commit(device);
        }
        if !self.writer.in_flight.is_empty() {
            return;
        }
        if self.writer.witnessed_lsn < self.writer.durable_lsn && self.submit_witness(device) {
            return;
        }
        self.stop_asked = true;
        self.manifest.request(Effect::Stopped);
        self.write_manifest(device);
    }

    /// True when the device has nothing of this log under way and everything is written that
    /// could be.
    pub fn is_shut_down(&self) -> bool {
        let written = self.manifest_stopped || self.failure.is_some();
        self.stopping && written && self.io.count() == 0
    }

    /// Whether readers refer to so much of what was read for them that the cache is above its bound.
    pub fn cache_is_pressed(&self) -> bool {
        self.chunks.is_pressed()
    }

    /// Actions of this log that the device has under way, of whatever kind.
    pub fn actions_under_way(&self) -> usize {
        self.io.count()
    }

    /// Why the log takes no more writes, when it does not.
    pub fn failure(&self) -> Option<&WalFailure> {
        self.failure.as_ref()
    }

    /// From now on the log is read-only. Only the first reason is kept.
    pub(crate) fn fail(&mut self, file: String, offset: u64, error: DeviceError) {
        let durable = self.durable_lsn();
        if self.failure.is_none() {
            let failure = WalFailure { file, offset, error, durable };
            debug!(shard = self.config.shard, %failure, "the log has failed");
            self.failure = Some(failure);
        }
    }

    /// The full segments, oldest first.
    pub fn sealed_segments(&self) -> impl Iterator<Item = SegmentUse> + '_ {
        self.segments.all.values().filter(|s| s.state == State::Sealed).map(|s| SegmentUse {
            number: s.number,
            bytes: s.data_end,
            max_time_ms: s.uses.iter().map(|one| one.max_time_ms).max().unwrap_or(i64::MIN),
        })
    }

    /// What each stream has in a sealed segment, in order of the streams; nothing for any other
    /// number.
    pub fn segment_streams(&self, number: u64) -> &[StreamUse] {
        self.segments.all.get(&number).map_or(&[], |segment| &segment.uses)
    }

    pub fn stats(&self) -> WalStats {
        WalStats {
            log_bytes: self.segments.log_bytes(),
            segments: self.segments.in_use().count() as u32,
            pool: self.segments.ready.len() as u32,
            recycled_total: self.segments.recycled_total,
            removed_total: self.segments.removed_total,
            cached_bytes: self.chunks.allocated_bytes(),
            zeroed_bytes: self.zeroing.bytes_total,
            disk_full: self.segments.disk_full && !self.segments.has_spare(),
            oldest_write_age_ns: self.oldest_write_age_ns(),
            slow_since_ns: self.writer.slowness.since_ns,
            ..self.stats
        }
    }
}

/// The bytes that a read has brought.
fn read_bytes(
    result: Result<Done, DeviceError>,
) -> Result<crate::buffer::AlignedBuffer, DeviceError> {
    match result? {
        Done::Read { mut buffer, bytes } => {
            buffer.truncate(bytes);
            Ok(buffer)
        }
        _ => Ok(crate::buffer::AlignedBuffer::zeroed(0)),
    }
}
