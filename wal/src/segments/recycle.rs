//! Which segments are not needed any more. A stream that begins later or is gone takes its claim
//! from every segment; a segment with no claim left, and that no kept checkpoint needs, is dropped.

use model::{Lsn, StreamId};

use super::{Effect, Segments, State};
use crate::device::LogDevice;
use crate::wal::Wal;

/// A change of a stream that frees space. It counts only once the entry that decided it is
/// durable: else a crash could bring back a stream whose bytes are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    LogStart(StreamId, u64),
    Removed(StreamId),
}

impl Wal {
    /// What offline tools show the stream as.
    pub fn label(&mut self, stream: StreamId, label: &[u8]) {
        self.streams.set_label(stream, label);
    }

    /// Offsets before this one are not kept. Takes hold when all that is appended now is durable.
    pub fn set_log_start(&mut self, stream: StreamId, offset: u64) {
        self.change(Change::LogStart(stream, offset));
    }

    /// The stream does not exist any more. Takes hold when all that is appended now is durable.
    pub fn remove_stream(&mut self, stream: StreamId) {
        self.change(Change::Removed(stream));
    }

    fn change(&mut self, change: Change) {
        self.changes.push_back((self.appended_lsn(), change));
        self.apply_changes();
    }

    /// Applies the changes that are durable now.
    pub(crate) fn apply_changes(&mut self) {
        let durable = Lsn(self.writer.durable_lsn);
        while let Some((lsn, change)) = self.changes.front().copied() {
            if lsn > durable {
                return;
            }
            self.changes.pop_front();
            match change {
                Change::LogStart(stream, offset) => self.move_log_start(stream, offset),
                Change::Removed(stream) => self.forget_stream(stream),
            }
        }
    }

    fn move_log_start(&mut self, id: StreamId, offset: u64) {
        let stream = self.streams.entry(id);
        stream.log_start = stream.log_start.max(offset);
        let log_start = stream.log_start;
        // From the oldest on: the segments that held only what is gone now.
        while let Some((number, _)) = stream.segments.front().copied() {
            match self.segments.all.get_mut(&number) {
                None => {}
                Some(segment) if segment.state == State::Sealed => {
                    if segment.stream_use(id).is_some_and(|one| one.last_offset >= log_start) {
                        break;
                    }
                    segment.live = segment.live.saturating_sub(1);
                    self.segments.look_for_dropped = true;
                }
                // What a segment still open holds is counted when it is sealed.
                Some(_) => break,
            }
            stream.segments.pop_front();
        }
    }

    fn forget_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(id) else { return };
        for (number, _) in stream.segments {
            if let Some(segment) = self.segments.all.get_mut(&number)
                && segment.state == State::Sealed
            {
                segment.live = segment.live.saturating_sub(1);
                self.segments.look_for_dropped = true;
            }
        }
    }

    /// Drops what is not needed; the manifest says so before a file is touched.
    pub(crate) fn drop_unneeded<D: LogDevice>(&mut self, device: &mut D) {
        if self.pin.is_held() {
            // Looked at again when the pin is gone.
            return;
        }
        if !std::mem::take(&mut self.segments.look_for_dropped) || self.failure.is_some() {
            return;
        }
        // Without an older checkpoint the log's begin is what a bad newest one is replaced by.
        let Some(older) = self.checkpoint.kept.get(1) else { return };
        let unneeded: Vec<u64> = self.segments.unneeded(older.start).collect();
        for number in unneeded {
            self.segments.drop_segment(number);
            self.indexes.remove(number);
            self.forget_windows(number);
            self.manifest.request(Effect::Dropped(number));
        }
        self.write_manifest(device);
    }
}

impl Segments {
    /// The sealed segments that no stream and no checkpoint from this one on needs.
    pub(crate) fn unneeded(&self, older_checkpoint: u64) -> impl Iterator<Item = u64> {
        self.all
            .values()
            .filter(move |s| {
                s.state == State::Sealed && s.live == 0 && s.last_lsn <= older_checkpoint
            })
            .map(|s| s.number)
    }
}
