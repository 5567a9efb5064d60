//! Writing checkpoints. The host gives the pieces; here they become a file that counts only when
//! the log is durable up to the checkpoint's end and the manifest names it.

use std::collections::VecDeque;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use model::Lsn;
use tracing::{info, warn};

use crate::buffer::AlignedBuffer;
use crate::config::CHECKPOINT_PIECE_BYTES_MAX;
use crate::device::{Action, DeviceError, FileId, LogDevice};
use crate::format::checkpoint::{CheckpointHeader, CheckpointTrailer};
use crate::format::manifest::CheckpointRecord;
use crate::format::names;
use crate::io::Purpose;
use crate::segments::{Effect, State};
use crate::wal::Wal;

/// Pieces are gathered up to this many bytes for one write.
const WRITE_BYTES: usize = 256 * 1024;
/// Writes that may wait before `checkpoint_room` says no.
const WRITES_WAITING_MAX: usize = 4;
/// No new checkpoint this long after one failed, nanoseconds.
const RETRY_AFTER_NS: u64 = 1_000_000_000;

/// The checkpoints kept and the one being written.
#[derive(Default)]
pub(crate) struct Checkpointing {
    /// The newest first, at most two.
    pub kept: Vec<CheckpointRecord>,
    /// Since the last checkpoint was begun.
    pub log_bytes_since: u64,
    pub segment_switched: bool,
    retry_at_ns: u64,
    /// The last one could not be written, and that was said.
    failing: bool,
    /// The last one found no space: what becomes free is for the next.
    pub no_space: bool,
    /// Length of the newest, bytes.
    pub file_bytes: u64,
    under_way: Option<Box<UnderWay>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Pieces come, writes go.
    Writing,
    /// All is written; the log must be durable up to the end.
    Waiting { end: u64 },
    /// The last actions go.
    Naming { end: u64 },
    /// It has failed; what there is of it is removed.
    GivingUp,
}

struct UnderWay {
    file: FileId,
    start: u64,
    step: Step,
    buffer: AlignedBuffer,
    filled: usize,
    /// Where the buffer goes in the file.
    offset: u64,
    body: Digest,
    body_bytes: u64,
    pieces: u64,
    /// One at a time, in order.
    waiting: VecDeque<Action>,
    busy: bool,
    open: bool,
    /// The file has been made.
    made: bool,
}

impl Checkpointing {
    /// After recovery: the checkpoints that are good, and how much log was replayed. It counts as
    /// written since, so that the next replay is not longer still.
    pub fn recovered(
        kept: Vec<CheckpointRecord>,
        replayed_bytes: u64,
        listed: &[(String, u64)],
    ) -> Self {
        let newest = kept.first().map(|newest| names::checkpoint(newest.end));
        let file = newest.and_then(|name| listed.iter().find(|(listed, _)| *listed == name));
        let file_bytes = file.map_or(0, |(_, bytes)| *bytes);
        Self { kept, log_bytes_since: replayed_bytes, file_bytes, ..Self::default() }
    }

    /// There may be space now for one that failed.
    pub fn try_again(&mut self) {
        self.retry_at_ns = 0;
    }
}

impl Wal {
    /// Whether it is time for a checkpoint: a segment was begun, or one segment's worth of log
    /// was written, since the last; or space can be freed by one.
    pub fn checkpoint_due(&self) -> bool {
        let state = &self.checkpoint;
        state.under_way.is_none()
            && self.failure.is_none()
            && !self.stopping
            && self.now_ns >= state.retry_at_ns
            && (state.segment_switched
                || state.log_bytes_since > self.config.segment_bytes
                || self.space_waits_for_checkpoint())
    }

    /// Whether segments are wanted and only the age of the checkpoints keeps some from being used
    /// again. It takes two checkpoints, with an entry between them.
    fn space_waits_for_checkpoint(&self) -> bool {
        let segments = &self.segments;
        let short = (segments.ready.len() as u32 + segments.naming) < self.config.pool_segments;
        (short || segments.disk_full)
            && !self.is_at_newest_checkpoint()
            && self.checkpoint_would_free()
    }

    /// Whether no entry was appended since the newest checkpoint.
    fn is_at_newest_checkpoint(&self) -> bool {
        let newest = self.checkpoint.kept.first();
        newest.is_some_and(|newest| self.writer.next_lsn <= newest.end + 1)
    }

    fn checkpoint_would_free(&self) -> bool {
        let older = self.checkpoint.kept.get(1).map_or(0, |older| older.start);
        let mut sealed = self.segments.in_use().filter(|s| s.state == State::Sealed);
        sealed.any(|segment| segment.live == 0 && segment.last_lsn > older)
    }

    /// Whether the disk is full, and what would be free after one more checkpoint is not because
    /// nothing was appended since the last: any entry will do, which the host then appends.
    pub fn wants_mark(&self) -> bool {
        self.segments.disk_full
            && self.failure.is_none()
            && !self.stopping
            && self.checkpoint.under_way.is_none()
            && self.is_at_newest_checkpoint()
            && self.checkpoint_would_free()
    }

    /// Begins a checkpoint of everything up to the entry returned; what the host pushes may hold
    /// later entries too.
    ///
    /// # Panics
    /// When one is under way.
    pub fn checkpoint_begin<D: LogDevice>(&mut self, device: &mut D) -> Lsn {
        assert!(self.checkpoint.under_way.is_none(), "a checkpoint is under way");
        let start = self.appended_lsn();
        let file = self.io.new_file();
        let mut buffer = AlignedBuffer::zeroed(WRITE_BYTES.max(self.unit));
        CheckpointHeader { shard: self.config.shard, start: start.0 }
            .encode(&self.config.secret, &mut buffer);
        let create = Action::Create { file, name: names::CHECKPOINT_TMP.to_owned(), bytes: 0 };
        self.checkpoint.segment_switched = false;
        self.checkpoint.log_bytes_since = 0;
        self.checkpoint.under_way = Some(Box::new(UnderWay {
            file,
            start: start.0,
            step: Step::Writing,
            buffer,
            filled: self.unit,
            offset: 0,
            body: Digest::new(CrcAlgorithm::Crc32Iscsi),
            body_bytes: 0,
            pieces: 0,
            waiting: VecDeque::from([create]),
            busy: false,
            open: false,
            made: false,
        }));
        self.advance_checkpoint(device);
        start
    }

    /// False while the disk is behind: push no more until completions have come.
    pub fn checkpoint_room(&self) -> bool {
        self.checkpoint
            .under_way
            .as_ref()
            .is_none_or(|state| state.waiting.len() < WRITES_WAITING_MAX)
    }

    /// Adds a piece, which recovery gives back as it is. Nothing happens when the checkpoint has
    /// been given up (see `checkpoint_under_way`).
    ///
    /// # Panics
    /// When the piece is larger than [`CHECKPOINT_PIECE_BYTES_MAX`].
    pub fn checkpoint_push<D: LogDevice>(&mut self, device: &mut D, piece: &[u8]) {
        assert!(piece.len() <= CHECKPOINT_PIECE_BYTES_MAX, "a piece of {} bytes", piece.len());
        let Some(state) = &mut self.checkpoint.under_way else { return };
        if state.step != Step::Writing {
            return;
        }
        state.pieces += 1;
        state.add_body(&(piece.len() as u32).to_le_bytes());
        state.add_body(piece);
        self.advance_checkpoint(device);
    }

    /// No more pieces. The checkpoint counts when `checkpoint_under_way` is false again.
    pub fn checkpoint_finish<D: LogDevice>(&mut self, device: &mut D) {
        let end = self.appended_lsn().0;
        let shard = self.config.shard;
        let Some(state) = &mut self.checkpoint.under_way else { return };
        if state.step != Step::Writing {
            return;
        }
        state.pad_to(self.unit);
        let trailer = CheckpointTrailer {
            shard,
            start: state.start,
            end,
            body_bytes: state.body_bytes,
            pieces: state.pieces,
            body_crc: state.body.finalize() as u32,
        };
        let mut last = vec![0; self.unit];
        trailer.encode(&self.config.secret, &mut last);
        state.add_bytes(&last);
        state.flush();
        state.step = Step::Waiting { end };
        self.advance_checkpoint(device);
    }

    /// Whether one is being written.
    pub fn checkpoint_under_way(&self) -> bool {
        self.checkpoint.under_way.is_some()
    }

    /// Submits the next action of the checkpoint, if it is due.
    pub(crate) fn advance_checkpoint<D: LogDevice>(&mut self, device: &mut D) {
        let Some(state) = &mut self.checkpoint.under_way else { return };
        if state.busy {
            return;
        }
        if let Some(action) = state.waiting.pop_front() {
            state.busy = true;
            state.open |= matches!(action, Action::Create { .. });
            state.open &= !matches!(action, Action::Close { .. });
            self.io.submit(device, Purpose::Checkpoint, action);
            return;
        }
        match state.step {
            Step::Writing => {}
            Step::Waiting { end } if self.writer.durable_lsn >= end => {
                state.step = Step::Naming { end };
                let file = state.file;
                let from = names::CHECKPOINT_TMP.to_owned();
                state.waiting = VecDeque::from([
                    Action::Sync { file },
                    Action::Close { file },
                    Action::Rename { from, to: names::checkpoint(end) },
                    Action::SyncDirectory,
                ]);
                self.advance_checkpoint(device);
            }
            Step::Waiting { .. } if self.failure.is_some() => self.give_checkpoint_up(device),
            Step::Waiting { .. } => {}
            Step::Naming { end } => {
                let newest = CheckpointRecord { start: state.start, end };
                self.checkpoint.file_bytes = state.offset;
                self.checkpoint.failing = false;
                self.checkpoint.no_space = false;
                self.segments.reserve.ballast_wanted = false;
                self.checkpoint.under_way = None;
                self.checkpoint_kept(device, newest);
            }
            Step::GivingUp => self.checkpoint.under_way = None,
        }
    }

    fn checkpoint_kept<D: LogDevice>(&mut self, device: &mut D, newest: CheckpointRecord) {
        let kept = &mut self.checkpoint.kept;
        // One with the same end has the same name: its file has been replaced.
        kept.retain(|old| old.end != newest.end);
        kept.insert(0, newest);
        let gone = kept.split_off(kept.len().min(2));
        self.stats.checkpoints += 1;
        self.segments.look_for_dropped = true;
        self.manifest.request(Effect::None);
        for old in gone {
            self.manifest.request(Effect::CheckpointGone(old));
        }
        info!(shard = self.config.shard, start = newest.start, end = newest.end, "checkpoint");
        self.write_manifest(device);
    }

    pub(crate) fn checkpoint_step<D: LogDevice>(
        &mut self,
        device: &mut D,
        result: Result<(), DeviceError>,
    ) {
        let Some(state) = &mut self.checkpoint.under_way else { return };
        state.busy = false;
        match result {
            Ok(()) => {
                state.made = true;
                self.advance_checkpoint(device);
            }
            Err(_) if state.step == Step::GivingUp => self.checkpoint.under_way = None,
            Err(error) => {
                if !std::mem::replace(&mut self.checkpoint.failing, true) {
                    let shard = self.config.shard;
                    warn!(shard, %error, "a checkpoint could not be written; it is tried again");
                }
                if error == DeviceError::NoSpace {
                    self.checkpoint.no_space = true;
                    self.segments.disk_full = true;
                    self.segments.reserve.ballast_wanted = true;
                }
                // A file that could not be made is not open.
                state.open &= state.made;
                self.give_checkpoint_up(device);
                if error == DeviceError::NoSpace && self.segments.reserve.ballast.is_none() {
                    self.break_pin(device);
                }
            }
        }
    }

    fn give_checkpoint_up<D: LogDevice>(&mut self, device: &mut D) {
        let Some(state) = &mut self.checkpoint.under_way else { return };
        self.checkpoint.retry_at_ns = self.now_ns + RETRY_AFTER_NS;
        self.checkpoint.segment_switched = true;
        state.step = Step::GivingUp;
        state.waiting.clear();
        if state.open {
            state.waiting.push_back(Action::Close { file: state.file });
        }
        let name = names::CHECKPOINT_TMP.to_owned();
        state.waiting.push_back(Action::Remove { name });
        self.advance_checkpoint(device);
    }

    pub(crate) fn remove_checkpoint<D: LogDevice>(
        &mut self,
        device: &mut D,
        old: CheckpointRecord,
    ) {
        if self.pin.keeps(old) {
            return;
        }
        let name = names::checkpoint(old.end);
        self.io.submit(device, Purpose::Nothing, Action::Remove { name });
        self.io.submit(device, Purpose::Nothing, Action::SyncDirectory);
    }
}

impl UnderWay {
    fn add_body(&mut self, bytes: &[u8]) {
        self.body.update(bytes);
        self.body_bytes += bytes.len() as u64;
        self.add_bytes(bytes);
    }

    fn add_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.buffer.len() - self.filled;
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            self.buffer[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = rest;
            if self.filled == self.buffer.len() {
                self.flush();
            }
        }
    }

    fn pad_to(&mut self, unit: usize) {
        let padded = self.filled.next_multiple_of(unit);
        self.buffer[self.filled..padded].fill(0);
        self.filled = padded;
        if self.filled == self.buffer.len() {
            self.flush();
        }
    }

    /// Queues what is in the buffer, which is whole blocks.
    fn flush(&mut self) {
        if self.filled == 0 {
            return;
        }
        let mut full = std::mem::replace(&mut self.buffer, AlignedBuffer::zeroed(0));
        let bytes = full.len();
        full.truncate(self.filled);
        let data = Bytes::from(full);
        let offset = self.offset;
        self.offset += data.len() as u64;
        self.waiting.push_back(Action::Write { file: self.file, offset, data });
        self.buffer = AlignedBuffer::zeroed(bytes);
        self.filled = 0;
    }
}
