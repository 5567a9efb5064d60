//! Who is reading: subscriptions and waiting fetches, and whose turn it is.
//!
//! Knows numbers of streams and offsets that it is told of; not the partitions themselves. A
//! reader that waits costs nothing until its own partition moves.

use std::collections::{BTreeSet, VecDeque};

use ahash::AHashMap;
use model::{Offset, StreamId};
use slab::Slab;

/// A reader's number: chosen by the host, unique in the shard while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u64);

/// No reader, in a list's links.
const NONE: u32 = u32::MAX;

pub(crate) enum Kind {
    Subscription {
        /// Bytes that may still be sent; below 0 when the last batch was larger.
        credit: i64,
    },
    Fetch(Fetch),
}

pub(crate) struct Fetch {
    pub min_bytes: u64,
    pub max_bytes: u32,
    pub deadline_ms: i64,
    /// Bytes that must still be committed, when it begins to wait, before another look is worth it.
    pub lacking: u64,
    /// The deadline has passed: the next look is the last.
    pub expired: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Until its partition moves.
    Waiting,
    /// A subscription without credit.
    Parked,
    /// In the queue of those that have something to read.
    Queued,
    /// Handed to the host.
    Reading,
}

pub(crate) struct Reader {
    pub id: ReaderId,
    pub stream: StreamId,
    pub position: Offset,
    /// The committed end that the read under way was given.
    pub read_end: Offset,
    pub kind: Kind,
    state: State,
    /// When it was last queued.
    pub queued_ns: u64,
    /// Tells this reader from an earlier one in the same slot.
    serial: u64,
    /// A fetch that waits: how far its stream's count has to come, bytes.
    due_bytes: u64,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List { first: NONE, last: NONE };

/// Each reader of a stream is in exactly one of the three.
struct Lists {
    /// Subscriptions that wait: every commit is for each of them.
    waiting: List,
    /// Fetches that wait, by what they wait for: a commit costs nothing for those it does not
    /// satisfy, however many there are.
    fetches: BTreeSet<(u64, u64, u32)>,
    others: List,
    /// Bytes committed since there have been readers.
    count_bytes: u64,
}

impl Lists {
    fn new() -> Self {
        Self { waiting: EMPTY, fetches: BTreeSet::new(), others: EMPTY, count_bytes: 0 }
    }

    fn first_satisfied(&self) -> Option<u32> {
        let (due_bytes, _, slot) = self.fetches.first()?;
        (*due_bytes <= self.count_bytes).then_some(*slot)
    }

    fn is_empty(&self) -> bool {
        self.waiting.first == NONE && self.others.first == NONE && self.fetches.is_empty()
    }
}

#[derive(Default)]
pub(crate) struct Readers {
    slots: Slab<Reader>,
    by_id: AHashMap<ReaderId, u32>,
    streams: AHashMap<StreamId, Lists>,
    runnable: VecDeque<(u32, u64)>,
    deadlines: BTreeSet<(i64, ReaderId)>,
    serial: u64,
    waiting: usize,
    /// The time by which readers are queued, as last told.
    pub now_ns: u64,
}

impl Readers {
    pub fn contains(&self, id: ReaderId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Adds a reader whose id is not in use; it does nothing until [`Readers::set_state`].
    pub fn insert(&mut self, id: ReaderId, stream: StreamId, position: Offset, kind: Kind) -> u32 {
        if let Kind::Fetch(fetch) = &kind {
            self.deadlines.insert((fetch.deadline_ms, id));
        }
        self.serial += 1;
        let slot = self.slots.insert(Reader {
            id,
            stream,
            position,
            read_end: 0,
            kind,
            state: State::Parked,
            queued_ns: 0,
            serial: self.serial,
            due_bytes: 0,
            previous: NONE,
            next: NONE,
        }) as u32;
        self.by_id.insert(id, slot);
        self.link(slot);
        slot
    }

    pub fn slot(&self, id: ReaderId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub fn reader(&mut self, slot: u32) -> &mut Reader {
        &mut self.slots[slot as usize]
    }

    pub fn state(&self, slot: u32) -> State {
        self.slots[slot as usize].state
    }

    /// Forgets a reader.
    pub fn remove(&mut self, slot: u32) -> Reader {
        self.unlink(slot);
        let reader = self.slots.remove(slot as usize);
        self.by_id.remove(&reader.id);
        if let Kind::Fetch(fetch) = &reader.kind {
            self.deadlines.remove(&(fetch.deadline_ms, reader.id));
        }
        reader
    }

    /// Moves a reader to `state`; one that becomes queued goes to the end of the queue.
    pub fn set_state(&mut self, slot: u32, state: State) {
        let reader = &mut self.slots[slot as usize];
        let before = reader.state;
        if before == state {
            return;
        }
        if state == State::Queued {
            reader.queued_ns = self.now_ns;
            self.runnable.push_back((slot, reader.serial));
        }
        let moves = (before == State::Waiting) != (state == State::Waiting);
        if moves {
            self.unlink(slot);
        }
        self.slots[slot as usize].state = state;
        if moves {
            self.link(slot);
        }
    }

    /// The next in the queue; it is still queued when this returns.
    pub fn next_runnable(&mut self) -> Option<u32> {
        while let Some((slot, serial)) = self.runnable.pop_front() {
            let reader = self.slots.get(slot as usize);
            if reader.is_some_and(|r| r.serial == serial && r.state == State::Queued) {
                return Some(slot);
            }
        }
        None
    }

    /// `bytes` more of `stream` are committed: queues those that waited for it.
    pub fn wake(&mut self, stream: StreamId, bytes: u64) {
        if self.waiting == 0 {
            return;
        }
        let Some(lists) = self.streams.get_mut(&stream) else { return };
        lists.count_bytes += bytes;
        let mut slot = lists.waiting.first;
        while slot != NONE {
            let next = self.slots[slot as usize].next;
            self.set_state(slot, State::Queued);
            slot = next;
        }
        while let Some(slot) = self.streams.get(&stream).and_then(Lists::first_satisfied) {
            self.set_state(slot, State::Queued);
        }
    }

    /// Forgets every reader of a stream; their ids in the order they came to their lists.
    pub fn remove_stream(&mut self, stream: StreamId) -> Vec<ReaderId> {
        let mut ended = Vec::new();
        while let Some(lists) = self.streams.get(&stream) {
            let fetch = lists.fetches.first().map(|(_, _, slot)| *slot);
            let lists = [lists.waiting.first, fetch.unwrap_or(NONE), lists.others.first];
            let Some(slot) = lists.into_iter().find(|slot| *slot != NONE) else { break };
            ended.push(self.remove(slot).id);
        }
        ended
    }

    /// Lets fetches whose deadline is not after `now_ms` take their last look.
    pub fn expire(&mut self, now_ms: i64) {
        while let Some(&(deadline_ms, id)) = self.deadlines.first() {
            if deadline_ms > now_ms {
                return;
            }
            self.deadlines.pop_first();
            let Some(slot) = self.slot(id) else { continue };
            if let Kind::Fetch(fetch) = &mut self.reader(slot).kind {
                fetch.expired = true;
            }
            if self.state(slot) == State::Waiting {
                self.set_state(slot, State::Queued);
            }
        }
    }

    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Appends a reader to the list its state calls for.
    fn link(&mut self, slot: u32) {
        let reader = &mut self.slots[slot as usize];
        let (stream, waits) = (reader.stream, reader.state == State::Waiting);
        self.waiting += usize::from(waits);
        let lists = self.streams.entry(stream).or_insert_with(Lists::new);
        if waits && let Kind::Fetch(fetch) = &reader.kind {
            reader.due_bytes = lists.count_bytes + fetch.lacking;
            lists.fetches.insert((reader.due_bytes, reader.serial, slot));
            return;
        }
        let list = if waits { &mut lists.waiting } else { &mut lists.others };
        let last = std::mem::replace(&mut list.last, slot);
        if last == NONE {
            list.first = slot;
        } else {
            self.slots[last as usize].next = slot;
        }
        let reader = &mut self.slots[slot as usize];
        reader.previous = last;
        reader.next = NONE;
    }

    /// Takes a reader out of the list its state says it is in.
    fn unlink(&mut self, slot: u32) {
        let reader = &self.slots[slot as usize];
        let (stream, previous, next) = (reader.stream, reader.previous, reader.next);
        let waits = reader.state == State::Waiting;
        self.waiting -= usize::from(waits);
        let lists = self.streams.get_mut(&stream).expect("a reader is in its stream's lists");
        if waits && matches!(reader.kind, Kind::Fetch(_)) {
            lists.fetches.remove(&(reader.due_bytes, reader.serial, slot));
        } else {
            let list = if waits { &mut lists.waiting } else { &mut lists.others };
            if previous == NONE {
                list.first = next;
            } else {
                self.slots[previous as usize].next = next;
            }
            if next == NONE {
                list.last = previous;
            } else {
                self.slots[next as usize].previous = previous;
            }
        }
        if lists.is_empty() {
            self.streams.remove(&stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId(4);

    fn subscription(readers: &mut Readers, id: u64) -> u32 {
        readers.insert(ReaderId(id), STREAM, 0, Kind::Subscription { credit: 1 })
    }

    #[test]
    fn those_who_wait_are_woken_in_order_and_once() {
        let mut readers = Readers::default();
        for id in 0..4 {
            let slot = subscription(&mut readers, id);
            readers.set_state(slot, State::Waiting);
        }
        let third = readers.slot(ReaderId(2)).unwrap();
        readers.remove(third);
        readers.wake(StreamId(9), 1);
        assert_eq!(readers.next_runnable(), None);
        readers.wake(STREAM, 1);
        readers.wake(STREAM, 1);
        let mut order = Vec::new();
        while let Some(slot) = readers.next_runnable() {
            readers.set_state(slot, State::Reading);
            order.push(readers.reader(slot).id.0);
        }
        assert_eq!(order, [0, 1, 3]);
        assert_eq!(readers.remove_stream(STREAM).len(), 3);
        assert!(readers.streams.is_empty() && readers.waiting == 0);
    }

    #[test]
    fn a_removed_reader_leaves_nothing_in_the_queue() {
        let mut readers = Readers::default();
        let slot = subscription(&mut readers, 1);
        readers.set_state(slot, State::Queued);
        readers.remove(slot);
        let again = subscription(&mut readers, 1);
        assert_eq!(again, slot, "the slot is used again");
        assert_eq!(readers.next_runnable(), None);
        readers.set_state(again, State::Queued);
        assert_eq!(readers.next_runnable(), Some(again));
    }

    #[test]
    fn a_fetch_waits_for_what_it_lacks_or_for_its_deadline() {
        let mut readers = Readers::default();
        for (id, deadline_ms) in [(1, 50), (2, 40)] {
            let fetch =
                Fetch { min_bytes: 10, max_bytes: 99, deadline_ms, lacking: 10, expired: false };
            let slot = readers.insert(ReaderId(id), STREAM, 0, Kind::Fetch(fetch));
            readers.set_state(slot, State::Waiting);
        }
        readers.wake(STREAM, 6);
        assert_eq!(readers.next_runnable(), None);
        assert_eq!(readers.next_deadline_ms(), Some(40));
        readers.expire(45);
        let slot = readers.next_runnable().unwrap();
        assert_eq!(readers.reader(slot).id, ReaderId(2));
        readers.wake(STREAM, 4);
        let slot = readers.next_runnable().unwrap();
        assert_eq!(readers.reader(slot).id, ReaderId(1));
        readers.remove(slot);
        assert_eq!(readers.next_deadline_ms(), None);
    }

    /// What each is woken by is counted from when it began to wait, and those who lack more are not
    /// looked at.
    #[test]
    fn fetches_that_lack_more_are_left_alone() {
        let mut readers = Readers::default();
        let waits = |readers: &mut Readers, id, lacking| {
            let fetch =
                Fetch { min_bytes: 10, max_bytes: 99, deadline_ms: 1, lacking, expired: false };
            let slot = readers.insert(ReaderId(id), STREAM, 0, Kind::Fetch(fetch));
            readers.set_state(slot, State::Waiting);
        };
        let woken = |readers: &mut Readers| {
            let mut ids = Vec::new();
            while let Some(slot) = readers.next_runnable() {
                readers.set_state(slot, State::Reading);
                ids.push(readers.reader(slot).id.0);
            }
            ids
        };
        for (id, lacking) in [(1, u64::from(u32::MAX)), (2, 30), (3, 10), (4, 10)] {
            waits(&mut readers, id, lacking);
        }
        readers.wake(STREAM, 9);
        assert_eq!(woken(&mut readers), [0; 0]);
        waits(&mut readers, 5, 21);
        readers.wake(STREAM, 0);
        assert_eq!(woken(&mut readers), [0; 0]);
        readers.wake(STREAM, 1);
        assert_eq!(woken(&mut readers), [3, 4]);
        readers.wake(STREAM, 20);
        assert_eq!(woken(&mut readers), [2, 5]);
        assert_eq!(readers.remove_stream(STREAM).len(), 5);
        assert!(readers.streams.is_empty() && readers.waiting == 0);
    }
}
