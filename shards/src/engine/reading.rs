//! Readers: where they start, whose turn it is, and what a finished read means.
//!
//! The engine never holds payloads: it tells the host what to read, up to the committed end.

use model::limits::CREDIT_BYTES_MAX;
use model::{ErrorCode, Offset, PartitionHandle, Rejection, StartPosition, StreamId};

use crate::engine::{Effect, Engine};
use crate::partition::Shown;
use crate::readers::{Fetch, Kind, ReaderId, State};
use crate::rejection;

/// A new subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub stream: StreamId,
    /// The first offset it will be given.
    pub offset: Offset,
}

/// What a partition holds that is committed: offsets from `first` up to before `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub first: Offset,
    pub next: Offset,
}

/// What the host does with what it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadVerdict {
    /// Send it. A fetch is answered with it and is gone.
    Reply,
    /// Drop it: the fetch waits for more, and will read again from the same offset.
    Wait,
    /// Drop it: the reader is gone.
    Gone,
}

impl Engine {
    /// The committed bounds of a partition.
    pub fn bounds(&self, partition: PartitionHandle) -> Result<Bounds, Rejection> {
        let shown = self.revealed(partition)?.shown;
        Ok(Bounds { first: shown.first_offset, next: shown.next_offset })
    }

    /// The offset that a position stands for now. `Time` is looked up by the host in the log's
    /// index, and refused here.
    pub fn resolve(
        &self,
        partition: PartitionHandle,
        position: &StartPosition,
    ) -> Result<Offset, Rejection> {
        let shown = self.revealed(partition)?.shown;
        let (first, next) = (shown.first_offset, shown.next_offset);
        match position {
            StartPosition::First => Ok(first),
            StartPosition::Last => {
                let last = self.revealed(partition)?.last_with_record(next.saturating_sub(1));
                Ok(last.max(first))
            }
            StartPosition::Next => Ok(next),
            StartPosition::Offset(offset) => in_range(*offset, &shown).map(|()| *offset),
            StartPosition::Committed(consumer) => {
                match self.committed_offset(partition, consumer) {
                    Ok(offset) => Ok(offset.clamp(first, next)),
                    Err(refused) if refused.code == ErrorCode::NoCommittedOffset => Ok(first),
                    Err(refused) => Err(refused),
                }
            }
            StartPosition::Time(_) => {
                Err(rejection::invalid("a start time is looked up in the log; give its offset"))
            }
        }
    }

    /// Where a reader that stands at `offset` finds the next record: behind the offsets that have
    /// none, if it stands before such.
    pub fn behind_hole(&self, stream: StreamId, offset: Offset) -> Offset {
        self.streams.get(stream).map_or(offset, |partition| partition.behind_hole(offset))
    }

    /// Begins a subscription; nothing is read for it before [`Engine::add_credit`].
    pub fn subscribe(
        &mut self,
        reader: ReaderId,
        partition: PartitionHandle,
        position: &StartPosition,
    ) -> Result<Subscribed, Rejection> {
        self.expect_unused(reader)?;
        let stream = partition.stream;
        let offset = self.behind_hole(stream, self.resolve(partition, position)?);
        self.readers.insert(reader, stream, offset, Kind::Subscription { credit: 0 });
        Ok(Subscribed { stream, offset })
    }

    /// Lets a subscription be sent `bytes` more. While credit is above 0 at least one batch is
    /// sent, however large. Unknown readers and fetches are left alone.
    pub fn add_credit(&mut self, reader: ReaderId, bytes: u64) {
        let Some(slot) = self.readers.slot(reader) else { return };
        let Kind::Subscription { credit } = &mut self.readers.reader(slot).kind else { return };
        let bytes = bytes.min(CREDIT_BYTES_MAX) as i64;
        *credit = credit.saturating_add(bytes).min(CREDIT_BYTES_MAX as i64);
        if self.readers.state(slot) == State::Parked {
            self.schedule(slot);
        }
    }

    /// Ends a subscription or a fetch; whether it was there. A read under way for it is answered
    /// by [`ReadVerdict::Gone`].
    pub fn unsubscribe(&mut self, reader: ReaderId) -> bool {
        let slot = self.readers.slot(reader);
        slot.map(|slot| self.readers.remove(slot)).is_some()
    }

    /// Begins a one-shot read of batches from `offset` on. It is answered when `min_bytes` are
    /// there, when more would pass `max_bytes`, or at `deadline_ms` (of [`Engine::tick`]'s clock)
    /// with whatever there is.
    pub fn fetch(
        &mut self,
        reader: ReaderId,
        partition: PartitionHandle,
        offset: Offset,
        min_bytes: u32,
        max_bytes: u32,
        deadline_ms: i64,
    ) -> Result<(), Rejection> {
        self.expect_unused(reader)?;
        let shown = self.revealed(partition)?.shown;
        in_range(offset, &shown)?;
        let fetch = Fetch {
            min_bytes: u64::from(min_bytes.min(max_bytes)),
            max_bytes,
            deadline_ms,
            lacking: 0,
            expired: deadline_ms <= self.clock_ms || min_bytes == 0,
        };
        let slot = self.readers.insert(reader, partition.stream, offset, Kind::Fetch(fetch));
        self.schedule(slot);
        Ok(())
    }

    /// What the host is to do next; `None` when there is nothing until something changes.
    pub fn next_effect(&mut self) -> Option<Effect> {
        if let Some(notice) = self.notices.pop_front() {
            return Some(notice);
        }
        while let Some(slot) = self.readers.next_runnable() {
            if let Some(effect) = self.turn_of(slot) {
                return Some(effect);
            }
        }
        None
    }

    /// The host has read (and, by the verdict, sends or drops) `bytes` of whole batches; the
    /// last of them ends before `next_offset`.
    pub fn read_done(&mut self, reader: ReaderId, next_offset: Offset, bytes: u64) -> ReadVerdict {
        let Some(slot) = self.reading(reader) else { return ReadVerdict::Gone };
        let found = self.readers.reader(slot);
        let read_end = found.read_end;
        match &mut found.kind {
            Kind::Subscription { credit } => {
                *credit = credit.saturating_sub_unsigned(bytes);
                let moved = next_offset > found.position;
                found.position = found.position.max(next_offset);
                if moved {
                    self.schedule(slot);
                } else {
                    // Nothing came of it: look again only when there is something new.
                    self.readers.set_state(slot, State::Waiting);
                }
                ReadVerdict::Reply
            }
            Kind::Fetch(fetch) => {
                let late = fetch.expired || fetch.deadline_ms <= self.clock_ms;
                if late || bytes >= fetch.min_bytes || next_offset < read_end {
                    self.readers.remove(slot);
                    return ReadVerdict::Reply;
                }
                fetch.lacking = fetch.min_bytes - bytes;
                let grown = self.shown_of(slot).next_offset > read_end;
                let state = if grown { State::Queued } else { State::Waiting };
                self.readers.set_state(slot, state);
                ReadVerdict::Wait
            }
        }
    }

    /// The host waits for the disk: the read stays under way, and one of the other reports
    /// follows later.
    pub fn read_blocked(&mut self, _reader: ReaderId) {}

    /// The log holds nothing before `first_offset` any more. A subscription goes on from there;
    /// a fetch is gone, to be answered by the returned refusal.
    pub fn read_trimmed(&mut self, reader: ReaderId, first_offset: Offset) -> Option<Rejection> {
        let slot = self.reading(reader)?;
        let next = self.shown_of(slot).next_offset;
        let found = self.readers.reader(slot);
        let wanted = found.position;
        if matches!(found.kind, Kind::Fetch(_)) {
            self.readers.remove(slot);
            return Some(rejection::offset_out_of_range(wanted, first_offset, next));
        }
        found.position = wanted.max(first_offset);
        self.schedule(slot);
        None
    }

    /// Tells the time that [`Effect::Read`] gives back, by a clock of the host's choice: once for all
    /// that is about to be asked and committed. Nothing is decided by it.
    pub fn turn_begins(&mut self, now_ns: u64) {
        self.readers.now_ns = now_ns;
    }

    /// Tells the time by a clock of the host's choice that does not jump (entries' times are told
    /// apart from it): fetches whose deadline has come take their last turn.
    pub fn tick(&mut self, now_ms: i64) {
        self.clock_ms = self.clock_ms.max(now_ms);
        self.readers.expire(self.clock_ms);
    }

    /// When [`Engine::tick`] has something to do, milliseconds of its clock.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.readers.next_deadline_ms()
    }

    fn expect_unused(&self, reader: ReaderId) -> Result<(), Rejection> {
        if !self.readers.contains(reader) {
            return Ok(());
        }
        let message = "the subscription's number is in use; unsubscribe first or choose another";
        Err(Rejection::new(ErrorCode::UnknownSubscription, message))
    }

    fn reading(&self, reader: ReaderId) -> Option<u32> {
        let slot = self.readers.slot(reader)?;
        (self.readers.state(slot) == State::Reading).then_some(slot)
    }

    /// What is revealed of a reader's partition; its readers go when it goes.
    fn shown_of(&mut self, slot: u32) -> Shown {
        let stream = self.readers.reader(slot).stream;
        self.streams.get(stream).map(|partition| partition.shown).unwrap_or_default()
    }

    /// Puts a reader that is not being read for where it belongs.
    fn schedule(&mut self, slot: u32) {
        let next = self.shown_of(slot).next_offset;
        let reader = self.readers.reader(slot);
        let has_data = reader.position < next;
        let state = match &mut reader.kind {
            Kind::Subscription { credit } if *credit <= 0 => State::Parked,
            Kind::Subscription { .. } if has_data => State::Queued,
            Kind::Fetch(fetch) if has_data || fetch.expired => State::Queued,
            Kind::Subscription { .. } => State::Waiting,
            Kind::Fetch(fetch) => {
                fetch.lacking = fetch.min_bytes;
                State::Waiting
            }
        };
        self.readers.set_state(slot, state);
    }

    /// What the reader at the head of the queue needs; `None` when it had better wait.
    fn turn_of(&mut self, slot: u32) -> Option<Effect> {
        let shown = self.shown_of(slot);
        let read_bytes_max = self.config.read_bytes_max;
        let found = self.readers.reader(slot);
        let (reader, stream) = (found.id, found.stream);
        if let Some(partition) = self.streams.get(stream) {
            found.position = partition.behind_hole(found.position);
        }
        let max_bytes = match &found.kind {
            Kind::Subscription { credit } => {
                found.position = found.position.max(shown.first_offset);
                if *credit <= 0 || found.position >= shown.next_offset {
                    self.schedule(slot);
                    return None;
                }
                u32::try_from(*credit).unwrap_or(u32::MAX).min(read_bytes_max)
            }
            Kind::Fetch(fetch) => {
                if found.position < shown.first_offset {
                    let (first, next) = (shown.first_offset, shown.next_offset);
                    let rejection = rejection::offset_out_of_range(found.position, first, next);
                    self.readers.remove(slot);
                    return Some(Effect::Ended { reader, rejection });
                }
                if found.position >= shown.next_offset {
                    if !fetch.expired {
                        self.schedule(slot);
                        return None;
                    }
                    let next_offset = found.position;
                    self.readers.remove(slot);
                    return Some(Effect::FetchExpired { reader, stream, next_offset });
                }
                fetch.max_bytes
            }
        };
        found.read_end = shown.next_offset;
        let (offset, end_offset, due_ns) = (found.position, found.read_end, found.queued_ns);
        self.readers.set_state(slot, State::Reading);
        Some(Effect::Read { reader, stream, offset, max_bytes, end_offset, due_ns })
    }
}

fn in_range(offset: Offset, shown: &Shown) -> Result<(), Rejection> {
    let (first, next) = (shown.first_offset, shown.next_offset);
    if (first..=next).contains(&offset) {
        return Ok(());
    }
    Err(rejection::offset_out_of_range(offset, first, next))
}
