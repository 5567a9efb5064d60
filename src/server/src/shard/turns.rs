//! Whose read is next. Reading is bounded in each turn of the core, in time and in bytes; when that is
//! not enough for all, connections take turns, however many reads each of them has. Sorting reads by
//! their connections has a time of its own, so that it cannot use up theirs.

use std::collections::VecDeque;

use super::reader_table::{Hold, ReadOrder, Readers};
use crate::bounds::{
    READ_BYTES_ALONE, READ_BYTES_BESIDE_PUBLISHES, READ_NS_ALONE, READ_NS_BESIDE_PUBLISHES,
    SORT_SHARE,
};
use crate::clock::Clock;
use crate::message::ConnectionId;

/// What of the turn's time for reading is left.
#[derive(Debug, Default)]
pub(super) struct TurnTime {
    /// The turn, by its time.
    turn_ns: u64,
    /// When reading began in it.
    began_ns: Option<u64>,
    /// What has been handed out in it.
    bytes: usize,
    /// What sorting has taken of it.
    sorted_ns: u64,
}

impl TurnTime {
    /// Whether the next read has to wait for the next turn, which comes sooner while publishes wait
    /// for it.
    pub(super) fn is_up(&mut self, clock: &Clock, publishes_wait: bool) -> bool {
        self.follow(clock);
        let Some(began_ns) = self.began_ns else { return false };
        let (bytes_max, ns_max) = most(publishes_wait);
        self.bytes >= bytes_max || clock.read_ns() >= began_ns + ns_max
    }

    /// How long reads may still be sorted in this turn.
    pub(super) fn sort_ns_left(&mut self, clock: &Clock, publishes_wait: bool) -> u64 {
        self.follow(clock);
        (most(publishes_wait).1 / SORT_SHARE).saturating_sub(self.sorted_ns)
    }

    /// Counts time that sorting has taken.
    pub(super) fn sorted(&mut self, ns: u64) {
        self.sorted_ns += ns;
    }

    /// Another turn has its time anew.
    fn follow(&mut self, clock: &Clock) {
        if self.turn_ns != clock.now_ns() {
            *self = Self { turn_ns: clock.now_ns(), ..Self::default() };
        }
    }

    /// Something has been read in this turn: time runs from here on, so that one read always fits.
    pub(super) fn begin(&mut self, clock: &Clock) {
        if self.began_ns.is_none() {
            self.began_ns = Some(clock.read_ns());
        }
    }

    /// Counts what was handed out, which has to be sent as well.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
}

/// Most bytes and nanoseconds of one turn's reading.
fn most(publishes_wait: bool) -> (usize, u64) {
    match publishes_wait {
        true => (READ_BYTES_BESIDE_PUBLISHES, READ_NS_BESIDE_PUBLISHES),
        false => (READ_BYTES_ALONE, READ_NS_ALONE),
    }
}

/// Where the next read comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ReadSource {
    /// The disk has answered.
    Ready,
    /// The connection has room again.
    Resumed,
    /// The engine asks for it.
    #[default]
    Asked,
}

impl ReadSource {
    pub(super) const ALL: [Self; 3] = [Self::Ready, Self::Resumed, Self::Asked];
}

/// Connections that have something to be read for.
#[derive(Debug, Default)]
pub(super) struct ReadTurns {
    last: ReadSource,
    /// With reads that wait: each once.
    queued: VecDeque<ConnectionId>,
    /// With room again after a send, for readers that wait for it: each once.
    resumed: VecDeque<ConnectionId>,
}

impl ReadTurns {
    pub(super) fn next_source(&mut self) -> ReadSource {
        self.last = match self.last {
            ReadSource::Ready => ReadSource::Resumed,
            ReadSource::Resumed => ReadSource::Asked,
            ReadSource::Asked => ReadSource::Ready,
        };
        self.last
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }
}

impl Readers {
    /// Keeps a read until it is its connection's turn.
    pub(super) fn queue(&mut self, id: u64, order: ReadOrder) {
        let Some(connection) = self.get(id).map(|reader| reader.connection) else { return };
        let of = self.by_connection.entry(connection).or_default();
        if of.queued.is_empty() {
            self.turns.queued.push_back(connection);
        }
        of.queued.push_back((id, order));
        if of.queued.len() > 2 * of.readers.len() {
            // Most are of readers that have gone: one that is there has one read at a time.
            of.queued.retain(|(id, _)| of.readers.contains(id));
        }
    }

    /// The next read that was kept: one of each connection before the second of any.
    pub(super) fn next_queued(&mut self) -> Option<(u64, ReadOrder)> {
        while let Some(connection) = self.turns.queued.pop_front() {
            // It may have ended.
            let Some(of) = self.by_connection.get_mut(&connection) else { continue };
            let next = of.queued.pop_front();
            if !of.queued.is_empty() {
                self.turns.queued.push_back(connection);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// Readers of this connection that wait for room go on when its turn comes, if there are any.
    pub(super) fn resume(&mut self, connection: ConnectionId, since_ns: u64) {
        if let Some(of) = self.by_connection.get_mut(&connection)
            && !of.held.is_empty()
            && of.resumed_ns.is_none()
        {
            of.resumed_ns = Some(since_ns);
            self.turns.resumed.push_back(connection);
        }
    }

    /// The next read for which there is room again: one of each connection before the second of
    /// any.
    pub(super) fn next_resumed(&mut self) -> Option<(u64, ReadOrder)> {
        while let Some(connection) = self.turns.resumed.pop_front() {
            // It may have ended.
            let Some(of) = self.by_connection.get_mut(&connection) else { continue };
            let since_ns = of.resumed_ns.take().unwrap_or(self.now_ns);
            while let Some(id) = self.next_held(connection) {
                if let Some(order) = self.take_held(id, Hold::Connection) {
                    self.resume(connection, since_ns);
                    // Until then it was the connection that had no room.
                    let due_ns = order.due_ns.max(since_ns);
                    return Some((id, ReadOrder { due_ns, ..order }));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use model::{CoreId, PartitionHandle, ShardId, StreamId, TopicId};

    use super::super::reader_table::ReaderKind;
    use super::*;
    use crate::bounds::{CONNECTION_UNSENT_BYTES_MAX, READER_UNSENT_BYTES_MAX};

    #[test]
    fn a_turn_has_its_time_once() {
        let mut clock = Clock::driven(1_000_000_000, 10_000);
        let mut time = TurnTime::default();
        for (publishes_wait, ns_max) in [(true, READ_NS_BESIDE_PUBLISHES), (false, READ_NS_ALONE)] {
            clock.refresh();
            assert!(!time.is_up(&clock, publishes_wait), "nothing has been read");
            time.begin(&clock);
            let looks = (1..).take_while(|_| !time.is_up(&clock, publishes_wait)).count();
            assert_eq!((looks as u64 + 1) * 10_000, ns_max);
            time.begin(&clock);
            assert!(time.is_up(&clock, publishes_wait), "the same turn");
            clock.refresh();
            assert!(!time.is_up(&clock, publishes_wait), "another turn");
        }
        time.begin(&clock);
        time.spend(READ_BYTES_ALONE);
        assert!(time.is_up(&clock, false) && time.is_up(&clock, true), "it has to be sent");
        clock.refresh();
        assert!(!time.is_up(&clock, true), "and is another turn's again");
        assert_eq!(time.bytes, 0);
        time.begin(&clock);
        time.spend(READ_BYTES_BESIDE_PUBLISHES);
        assert!(time.is_up(&clock, true), "publishes wait for less");
        assert!(!time.is_up(&clock, false), "and not for that much");
    }

    #[test]
    fn sorting_has_a_share_of_the_turn_once() {
        let mut clock = Clock::driven(1_000_000_000, 1);
        let mut time = TurnTime::default();
        for (publishes_wait, ns_max) in [(true, READ_NS_BESIDE_PUBLISHES), (false, READ_NS_ALONE)] {
            clock.refresh();
            let share = ns_max / SORT_SHARE;
            assert_eq!(time.sort_ns_left(&clock, publishes_wait), share);
            time.sorted(share - 5);
            assert_eq!(time.sort_ns_left(&clock, publishes_wait), 5);
            time.sorted(10);
            assert_eq!(time.sort_ns_left(&clock, publishes_wait), 0);
            assert!(!time.is_up(&clock, publishes_wait), "reading has its own");
        }
    }

    #[test]
    fn connections_take_turns_however_much_each_has_to_be_read() {
        let partition =
            PartitionHandle { topic: TopicId(1), stream: StreamId(1), shard: ShardId(0) };
        let kind = ReaderKind::Subscription { number: 0, correlation: 0 };
        let connection = |index| ConnectionId { core: CoreId(0), index, generation: 0 };
        let mut readers = Readers::default();
        let mut insert = |index| readers.insert(partition, connection(index), kind).unwrap();
        let greedy: Vec<_> = (0..1_000).map(|_| insert(1)).collect();
        let (modest, other) = (insert(2), insert(3));
        let order = ReadOrder { offset: 0, bytes_max: 1, end: 1, due_ns: 0 };
        for id in greedy.iter().copied().chain([modest, other]) {
            readers.queue(id, order);
        }
        let first: Vec<_> =
            (0..5).map(|_| readers.next_queued().map(|(id, _)| id).unwrap()).collect();
        assert_eq!(first, [greedy[0], modest, other, greedy[1], greedy[2]]);
        readers.queue(modest, order);
        assert_eq!(readers.next_queued().map(|(id, _)| id), Some(greedy[3]));
        assert_eq!(readers.next_queued().map(|(id, _)| id), Some(modest));
        // What a connection that has ended had waiting goes with it.
        readers.by_connection.remove(&connection(1));
        assert!(readers.next_queued().is_none());
        assert!(!readers.turns.has_queued());
    }

    /// However often a connection stops and goes on, it has one place among those with room again.
    #[test]
    fn a_connection_that_has_sent_has_one_turn_at_a_time() {
        let partition =
            PartitionHandle { topic: TopicId(1), stream: StreamId(1), shard: ShardId(0) };
        let connection = |index| ConnectionId { core: CoreId(0), index, generation: 0 };
        let kind = ReaderKind::Subscription { number: 0, correlation: 0 };
        let order = ReadOrder { offset: 0, bytes_max: 1, end: 1, due_ns: 0 };
        let mut readers = Readers::default();
        let mut insert = |index| readers.insert(partition, connection(index), kind).unwrap();
        let often: Vec<_> = (0..3).map(|_| insert(1)).collect();
        let once = insert(2);
        for (index, ids) in [(1, &often[..]), (2, &[once])] {
            let of = readers.by_connection.get_mut(&connection(index)).unwrap();
            of.unsent = CONNECTION_UNSENT_BYTES_MAX + 1_000;
            ids.iter()
                .for_each(|id| assert!(readers.hold_for_connection(connection(index), *id, order)));
        }
        for _ in 0..1_000 {
            readers.sent(often[0], connection(1), 1);
        }
        assert_eq!(readers.turns.resumed.len(), 1);
        assert!(readers.next_resumed().is_none(), "there is no room yet");
        for _ in 0..1_000 {
            readers.sent(often[1], connection(1), 1);
            readers.sent(once, connection(2), 2);
        }
        assert_eq!(readers.turns.resumed.len(), 2);
        let next = |readers: &mut Readers| readers.next_resumed().map(|(id, _)| id);
        let order: Vec<_> = (0..4).map_while(|_| next(&mut readers)).collect();
        assert_eq!(order, [often[0], once, often[1], often[2]]);
        assert!(next(&mut readers).is_none() && readers.turns.resumed.is_empty());
    }

    /// One that has too much of its own goes on when that is sent, behind those before it, and not
    /// before.
    #[test]
    fn a_reader_with_too_much_of_its_own_goes_on_once_that_is_sent() {
        let partition =
            PartitionHandle { topic: TopicId(1), stream: StreamId(1), shard: ShardId(0) };
        let connection = ConnectionId { core: CoreId(0), index: 1, generation: 0 };
        let kind = ReaderKind::Subscription { number: 0, correlation: 0 };
        let order = ReadOrder { offset: 7, bytes_max: 1, end: 9, due_ns: 0 };
        let mut readers = Readers::default();
        let id = readers.insert(partition, connection, kind).unwrap();
        readers.by_connection.get_mut(&connection).unwrap().unsent = READER_UNSENT_BYTES_MAX + 5;
        let reader = readers.get(id).unwrap();
        (reader.unsent, reader.held) = (READER_UNSENT_BYTES_MAX + 5, Some((Hold::Reader, order)));
        readers.sent(id, connection, 5);
        assert!(readers.next_resumed().is_none(), "it has as much as it may have");
        for now_ns in [30, 40, 50] {
            readers.now_ns = now_ns;
            readers.sent(id, connection, 1);
        }
        let next = readers.next_resumed().map(|(id, order)| (id, order.offset, order.due_ns));
        assert_eq!(next, Some((id, 7, 30)), "due since there was room");
        assert!(readers.next_resumed().is_none(), "once");
        // One that the disk keeps is none of these.
        readers.get(id).unwrap().held = Some((Hold::Disk, order));
        readers.sent(id, connection, 1);
        assert!(readers.next_resumed().is_none());
        assert!(readers.take_held(id, Hold::Disk).is_some());
    }

    #[test]
    fn readers_that_go_leave_nothing_queued_behind() {
        let partition =
            PartitionHandle { topic: TopicId(1), stream: StreamId(1), shard: ShardId(0) };
        let kind = ReaderKind::Subscription { number: 0, correlation: 0 };
        let connection = ConnectionId { core: CoreId(0), index: 1, generation: 0 };
        let order = ReadOrder { offset: 0, bytes_max: 1, end: 1, due_ns: 0 };
        let mut readers = Readers::default();
        let stays = readers.insert(partition, connection, kind).unwrap();
        readers.by_connection.get_mut(&connection).unwrap().unsent = u64::MAX;
        readers.queue(stays, order);
        assert!(readers.hold_for_connection(connection, stays, order));
        for _ in 0..10_000 {
            let goes = readers.insert(partition, connection, kind).unwrap();
            readers.queue(goes, order);
            assert!(readers.hold_for_connection(connection, goes, order));
            readers.remove(goes);
        }
        let of = &readers.by_connection[&connection];
        assert!(
            of.queued.len() <= 4 && of.held.len() <= 4,
            "{} {}",
            of.queued.len(),
            of.held.len()
        );
        assert_eq!(
            readers.next_queued().map(|(id, _)| id),
            Some(stays),
            "none that is there is lost"
        );
    }
}
