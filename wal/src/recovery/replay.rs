//! From the newest good checkpoint through the segments to the log's end, and what lies behind it.

use model::Lsn;
use tracing::warn;

use super::blocking::Blocking;
use super::scan::{self, Place};
use super::{Found, checkpoint, footers, tail};
use crate::device::LogDevice;
use crate::error::OpenError;
use crate::fold::Fold;
use crate::format::manifest::CheckpointRecord;
use crate::format::names;
use crate::index::SegmentIndex;
use crate::segments::{Segment, State};

impl Found {
    /// Loads the newest good checkpoint; returns the entry after which replay begins.
    pub(super) fn load_checkpoint<D: LogDevice, F: Fold>(
        &mut self,
        disk: &mut Blocking<'_, D>,
        fold: &mut F,
    ) -> Result<Lsn, OpenError> {
        let mut bad = None;
        for record in self.manifest.checkpoints.clone() {
            let name = names::checkpoint(record.end);
            match checkpoint::check(disk, &record, &self.config.secret, self.unit)? {
                Ok(good) => {
                    self.kept.push(CheckpointRecord { start: good.start().0, ..record });
                    if self.report.checkpoint_start.is_none() {
                        self.report.checkpoint_start = Some(good.start());
                        self.report.older_checkpoint_used = bad.is_some();
                        checkpoint::load(disk, good, self.unit, fold)?;
                    } else {
                        checkpoint::close(disk, good)?;
                    }
                }
                Err(reason) => {
                    // The older one takes its place, whatever is wrong with it.
                    disk.read_error = None;
                    warn!(shard = self.config.shard, name, reason, "a checkpoint is bad");
                    bad = Some((name, reason));
                }
            }
        }
        if let (Some((file, reason)), None) = (bad, self.report.checkpoint_start) {
            // The log's begin may have been recycled: only if it is all there can it be replayed.
            let first = self.segments.all.values().next();
            if self.manifest.checkpoints.len() > 1 || first.is_none_or(|s| s.first_sequence > 1) {
                return Err(OpenError::Damaged { file, offset: 0, reason });
            }
        }
        Ok(self.report.checkpoint_start.unwrap_or(Lsn::ZERO))
    }

    /// Reads the footers of the segments before the checkpoint, and the blocks from there on.
    pub(super) fn read_segments<D: LogDevice, F: Fold>(
        &mut self,
        disk: &mut Blocking<'_, D>,
        start: Lsn,
        fold: &mut F,
    ) -> Result<(), OpenError> {
        let first = self.first_to_replay(start);
        let numbers: Vec<u64> = self.segments.all.keys().copied().collect();
        for number in numbers.iter().copied().filter(|number| *number < first) {
            footers::read_footer_or_blocks(disk, self, number)?;
        }
        let replayed: Vec<u64> = numbers.into_iter().filter(|number| *number >= first).collect();
        self.begin_chain(first, start)?;
        let mut end = None;
        for (at, number) in replayed.iter().copied().enumerate() {
            let reason = self.replay_segment(disk, number, start, fold)?;
            let Some(segment) = self.segments.all.get(&number) else { break };
            let sealed_end = self.sealed_end(number);
            if sealed_end.is_some_and(|sealed| sealed != segment.data_end) {
                return Err(self.damaged(number, segment.data_end, reason));
            }
            let next = replayed.get(at + 1).and_then(|next| self.segments.all.get(next));
            let place = self.place();
            match next {
                // The manifest or the next block says that this segment was full.
                Some(next) if self.chain.is_announced_by(next) => {}
                Some(next) if place.begins_with(disk, next, &self.chain) => {}
                Some(next) if sealed_end.is_some() => {
                    end = Some((next.number, self.unit as u64, reason));
                    break;
                }
                _ => {
                    end = Some((number, segment.data_end, reason));
                    break;
                }
            }
        }
        self.set_active(end)
    }

    /// The segment that holds the first entry after `start`.
    fn first_to_replay(&self, start: Lsn) -> u64 {
        let used = self.segments.all.values().filter(|s| s.first_lsn > 0);
        let holding = used.filter(|s| s.first_lsn <= start.0 + 1).map(|s| s.number).max();
        holding.or(self.segments.all.keys().next().copied()).unwrap_or(0)
    }

    fn begin_chain(&mut self, first: u64, start: Lsn) -> Result<(), OpenError> {
        let Some(segment) = self.segments.all.get(&first) else { return Ok(()) };
        if segment.first_sequence > 0 {
            self.chain.next_lsn = segment.first_lsn;
            self.chain.next_sequence = segment.first_sequence;
            self.chain.previous_crc = segment.previous_crc;
        }
        if self.chain.next_lsn > start.0 + 1 {
            let reason = format!(
                "the log begins at entry {}, the state is known up to entry {start}",
                self.chain.next_lsn
            );
            return Err(self.damaged(first, self.unit as u64, reason));
        }
        Ok(())
    }

    fn replay_segment<D: LogDevice, F: Fold>(
        &mut self,
        disk: &mut Blocking<'_, D>,
        number: u64,
        start: Lsn,
        fold: &mut F,
    ) -> Result<String, OpenError> {
        let end = self.sealed_end(number).unwrap_or(u64::MAX);
        let mut index = SegmentIndex::default();
        let place =
            Place { secret: &self.config.secret, shard: self.config.shard, unit: self.unit };
        let Some(segment) = self.segments.all.get_mut(&number) else { return Ok(String::new()) };
        let (streams, replayed) = (&mut self.streams, &mut self.report.entries_replayed);
        let reason = place.segment(disk, segment, end, &mut self.chain, |block, offset| {
            scan::index_block(&mut index, streams, block, offset);
            scan::replay(fold, block, start, replayed)
        })?;
        segment.state = State::Sealing;
        self.replayed_bytes += segment.data_end;
        self.indexes.pin(number, index);
        Ok(reason)
    }

    /// The last segment reached is the active one, those after it are the pool.
    fn set_active(&mut self, end: Option<(u64, u64, String)>) -> Result<(), OpenError> {
        let Some((active, position, reason)) = end else { return Ok(()) };
        self.position = position;
        let after: Vec<u64> = self.segments.all.keys().copied().filter(|n| *n > active).collect();
        self.segments.ready = after.into();
        let sealed = self.sealed_end(active).is_some();
        if let Some(segment) = self.segments.all.get_mut(&active) {
            if sealed {
                // Full to its end, and nothing to go on in yet.
                self.position = self.unit as u64;
            } else if segment.state == State::Pool {
                self.segments.ready.push_front(active);
            } else {
                segment.state = State::Active;
                self.segments.active = Some(active);
            }
        }
        self.check_witnesses(active, position, &reason)
    }

    /// A log shorter than anything says it was is damaged.
    fn check_witnesses(&self, active: u64, position: u64, reason: &str) -> Result<(), OpenError> {
        let last = self.chain.next_lsn - 1;
        let sealed = self.manifest.segments.iter().map(|record| record.last_lsn);
        let checkpoints = self.manifest.checkpoints.iter().map(|record| record.end);
        let known = sealed.chain(checkpoints).chain([self.manifest.durable_lsn]).max();
        let known = known.unwrap_or(0);
        if known > last {
            let reason =
                format!("{reason}; the log ends after entry {last}, entry {known} was durable");
            return Err(self.damaged(active, position, reason));
        }
        Ok(())
    }

    /// Where the log ends is known only if every block could be read.
    pub(super) fn check_reads<D: LogDevice>(
        &self,
        disk: &Blocking<'_, D>,
    ) -> Result<(), OpenError> {
        let Some((file, error)) = disk.read_error.clone() else { return Ok(()) };
        let segment = self.segments.all.values().find(|segment| segment.file == file);
        let file = segment.map_or_else(|| "a file of the log".to_owned(), Segment::name);
        Err(OpenError::Device { doing: "reading", file, error })
    }

    /// Tells a torn tail from damage.
    pub(super) fn look_after_the_end<D: LogDevice>(
        &mut self,
        disk: &mut Blocking<'_, D>,
    ) -> Result<(), OpenError> {
        let first = self.segments.active.or(self.segments.ready.front().copied());
        let Some(first) = first else { return self.check_empty() };
        let segments: Vec<&Segment> = self.segments.all.range(first..).map(|(_, s)| s).collect();
        let window = self.manifest.window_bytes.max(self.config.window_bytes(self.unit));
        let place = self.place();
        let strays = tail::strays(disk, place, &segments, self.position, window);
        let claim = strays.iter().find(|s| s.header.durable_lsn >= self.chain.next_lsn);
        if let Some(claim) = claim {
            let reason = format!(
                "there is no whole block for entry {}, and the block at byte {} of {} says that \
                 entry {} was durable",
                self.chain.next_lsn,
                claim.offset,
                names::segment(claim.segment),
                claim.header.durable_lsn
            );
            return Err(self.damaged(first, self.position, reason));
        }
        let torn = tail::torn(&strays, &self.chain);
        let bytes = |number: u64| self.segments.all.get(&number).map_or(0, |s| s.bytes);
        let mut cut = tail::ranges(&torn, first, self.position, self.unit as u64, bytes);
        if let (true, Some(last)) = (cut.is_empty(), segments.first()) {
            cut.extend(tail::changed_header(disk, place, last, self.position, &self.chain));
        }
        self.cut = cut;
        self.strays = strays;
        Ok(())
    }

    fn check_empty(&self) -> Result<(), OpenError> {
        self.check_witnesses(self.segments.next_number, 0, "there are no segments")
    }
}
