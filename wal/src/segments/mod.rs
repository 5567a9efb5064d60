//! The segments of the log: what each one is, which is written, which are ready.

mod choose;
mod jobs;
mod manifest;
pub(crate) mod pin;
#[cfg(test)]
mod pin_tests;
pub(crate) mod recycle;
mod reserve;
mod seal;
#[cfg(test)]
mod tests;
mod zero;

use std::collections::{BTreeMap, VecDeque};

pub(crate) use jobs::Job;
pub(crate) use manifest::{Effect, ManifestKeeper};
pub(crate) use reserve::Reserve;
pub(crate) use zero::Zeroing;

use crate::device::{DeviceError, FileId};
use crate::format::manifest::{SegmentRecord, SegmentState};
use crate::format::names;
use crate::index::Streams;
use crate::stats::StreamUse;

/// What a segment is to the running log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Made; in use when the manifest names it.
    Pool,
    Active,
    /// Full; its footer is not on the disk yet.
    Sealing,
    Sealed,
    /// Not needed any more.
    Dropped,
}

/// Where a sealed segment's footer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FooterPlace {
    pub body_offset: u64,
    /// From the body's begin to the end of the file.
    pub bytes: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub number: u64,
    pub generation: u32,
    pub state: State,
    pub file: FileId,
    pub bytes: u64,
    pub first_lsn: u64,
    /// Of what was handed to the disk; one less than `first_lsn` when nothing was.
    pub last_lsn: u64,
    pub first_sequence: u64,
    pub last_sequence: u64,
    /// Header checksum of the block before the first.
    pub previous_crc: u32,
    /// Header checksum of the last block.
    pub last_crc: u32,
    /// Where the blocks end.
    pub data_end: u64,
    /// From here on the file may never have been written.
    pub prepared: u64,
    pub footer: Option<FooterPlace>,
    pub footer_under_way: bool,
    /// Made from the reserve.
    pub from_reserve: bool,
    /// Once sealed: what each stream has here, in order of the streams.
    pub uses: Vec<StreamUse>,
    /// Once sealed: how many of `uses` are still kept.
    pub live: usize,
}

impl Segment {
    /// A segment ready for use, nothing in it.
    pub fn pool(number: u64, generation: u32, file: FileId, bytes: u64, prepared: u64) -> Self {
        Self {
            number,
            generation,
            state: State::Pool,
            file,
            bytes,
            first_lsn: 0,
            last_lsn: 0,
            first_sequence: 0,
            last_sequence: 0,
            previous_crc: 0,
            last_crc: 0,
            data_end: 0,
            prepared,
            footer: None,
            footer_under_way: false,
            from_reserve: false,
            uses: Vec::new(),
            live: 0,
        }
    }

    pub fn name(&self) -> String {
        names::segment(self.number)
    }

    /// One stream's part of a sealed segment.
    pub fn stream_use(&self, stream: model::StreamId) -> Option<&StreamUse> {
        let at = self.uses.binary_search_by_key(&stream, |one| one.stream).ok()?;
        self.uses.get(at)
    }

    /// Counts the streams that are still kept here; the others forget this segment.
    pub fn count_live(&mut self, streams: &mut Streams) {
        self.live = 0;
        for one in &self.uses {
            if !streams.is_dead(one.stream, one.last_offset) {
                self.live += 1;
            } else if let Some(stream) = streams.get_mut(one.stream) {
                stream.segments.retain(|(number, _)| *number != self.number);
            }
        }
    }

    fn record(&self) -> SegmentRecord {
        let in_use = self.state != State::Pool;
        let sealed = matches!(self.state, State::Sealed | State::Dropped);
        SegmentRecord {
            number: self.number,
            generation: self.generation,
            state: match self.state {
                State::Pool => SegmentState::Pool,
                State::Active | State::Sealing => SegmentState::Active,
                State::Sealed => SegmentState::Sealed,
                State::Dropped => SegmentState::Dropped,
            },
            bytes: self.bytes,
            first_lsn: if in_use { self.first_lsn } else { 0 },
            last_lsn: if sealed { self.last_lsn } else { 0 },
            first_sequence: if in_use { self.first_sequence } else { 0 },
            previous_crc: if in_use { self.previous_crc } else { 0 },
            data_end: if sealed { self.data_end as u32 } else { 0 },
            prepared_bytes: self.prepared as u32,
            from_reserve: self.from_reserve,
            footerless: self.state == State::Sealed && self.footer.is_none(),
        }
    }
}

/// All segments the log has, and the making of new ones.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    pub all: BTreeMap<u64, Segment>,
    pub active: Option<u64>,
    /// Named in the manifest, in order of their numbers.
    pub ready: VecDeque<u64>,
    /// Made, waiting for the manifest.
    pub naming: u32,
    pub next_number: u64,
    /// Dropped, and the manifest says so.
    pub dropped: VecDeque<u64>,
    pub job: Option<Job>,
    /// No job before this time, after one failed.
    pub retry_at_ns: u64,
    /// Why the last job failed.
    pub last_error: Option<DeviceError>,
    pub disk_full: bool,
    /// Jobs fail for another reason than space, and that was said.
    pub failing: bool,
    pub reserve: Reserve,
    /// A block waits for a segment.
    pub wanted: bool,
    /// Something may have become free since the last look.
    pub look_for_dropped: bool,
    pub recycled_total: u64,
    pub removed_total: u64,
}

impl Segments {
    pub fn active(&self) -> Option<&Segment> {
        self.all.get(&self.active?)
    }

    pub fn active_mut(&mut self) -> Option<&mut Segment> {
        self.all.get_mut(&self.active?)
    }

    /// Bytes of log in use.
    pub fn log_bytes(&self) -> u64 {
        self.in_use().map(|segment| segment.data_end).sum()
    }

    /// The active segment and those before it.
    pub fn in_use(&self) -> impl Iterator<Item = &Segment> {
        self.all
            .values()
            .filter(|s| matches!(s.state, State::Active | State::Sealing | State::Sealed))
    }
}
