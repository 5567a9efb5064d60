//! Who reads a shard: the table of its readers, and what each connection has here.

use std::collections::VecDeque;

use ahash::{AHashMap, AHashSet};
use bytes::BytesMut;
use model::{ErrorCode, Offset, PartitionHandle, Rejection, StreamId};
use slab::Slab;
use wal::{Batches, Cursor, CursorId, TimeSeek};

use super::turns::{ReadTurns, TurnTime};
use crate::bounds::{
    CONNECTION_UNSENT_BYTES_MAX, FETCHES_OF_CONNECTION_MAX, READER_UNSENT_BYTES_MAX,
    READERS_OF_CONNECTION_MAX, READERS_PER_SHARD_MAX,
};
use crate::message::{ConnectionId, Origin, Payload};

#[derive(Debug, Default)]
pub struct Readers {
    pub(super) slots: Slab<Reader>,
    pub(super) generation: u32,
    pub(super) by_connection: AHashMap<ConnectionId, OfConnection>,
    /// Who waits for the disk.
    pub(super) by_cursor: AHashMap<CursorId, u64>,
    /// Where fetches left off, so that the next one reads on.
    pub(super) idle_cursors: VecDeque<(ConnectionId, Cursor)>,
    pub(super) seeks: Vec<PendingSeek>,
    /// The time of the core's turn.
    pub(super) now_ns: u64,
    pub(super) turn_time: TurnTime,
    pub(super) turns: ReadTurns,
    /// What readers hold keeps the log's cache above its bound: as long as it does, a reader gets
    /// little at a time, copied, and nothing before its connection has sent what it has.
    pub(super) pressed: bool,
}

/// What one connection has here; kept until it ends.
#[derive(Debug, Default)]
pub(super) struct OfConnection {
    pub(super) readers: AHashSet<u64>,
    /// How many of them are fetches.
    pub(super) fetches: usize,
    /// Handed out and not yet sent, over all its readers, bytes.
    pub(super) unsent: u64,
    /// Readers that wait for room here; some may have gone.
    pub(super) held: VecDeque<u64>,
    /// Since when it is among those whose readers can go on.
    pub(super) resumed_ns: Option<u64>,
    /// Reads that wait for the connection's turn.
    pub(super) queued: VecDeque<(u64, ReadOrder)>,
}

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) id: u64,
    pub(super) partition: PartitionHandle,
    pub(super) connection: ConnectionId,
    pub(super) kind: ReaderKind,
    pub(super) cursor: Option<Cursor>,
    /// Delivered, not yet sent by the connection's core, bytes.
    pub(super) unsent: u64,
    /// What to read, once that may be.
    pub(super) held: Option<(Hold, ReadOrder)>,
}

/// What a read waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Room of the reader's own.
    Reader,
    /// Room of its connection, among whose `held` it is, once.
    Connection,
    /// The disk.
    Disk,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum ReaderKind {
    Subscription { number: u32, correlation: u64 },
    Fetch { origin: Origin, asked: Offset },
}

/// A fetch's terms.
#[derive(Clone, Copy, Debug)]
pub struct FetchWant {
    pub offset: Offset,
    pub min_bytes: u32,
    pub max_bytes: u32,
    /// By the core's clock of waits, milliseconds.
    pub deadline_ms: i64,
}

/// What the engine lets a reader read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadOrder {
    pub(super) offset: Offset,
    pub(super) bytes_max: usize,
    pub(super) end: Offset,
    /// Since when there has been something to read and room for it.
    pub(super) due_ns: u64,
}

/// A request that first needs to know which offset a time stands for.
#[derive(Debug)]
pub(super) struct PendingSeek {
    pub(super) seek: TimeSeek,
    pub(super) partition: PartitionHandle,
    pub(super) origin: Origin,
    pub(super) then: SeekThen,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum SeekThen {
    Tell,
    Subscribe { number: u32, credit: u64 },
}

impl Readers {
    /// Nobody reads here or wants to.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.seeks.is_empty()
    }

    /// Refused when there are too many, of all or of this connection.
    pub(super) fn insert(
        &mut self,
        partition: PartitionHandle,
        connection: ConnectionId,
        kind: ReaderKind,
    ) -> Result<u64, Rejection> {
        if self.slots.len() >= READERS_PER_SHARD_MAX {
            return Err(too_many_readers());
        }
        let own = self.by_connection.get(&connection).map_or(0, |of| of.readers.len());
        if own >= READERS_OF_CONNECTION_MAX {
            return Err(too_many_of_connection());
        }
        let is_fetch = matches!(kind, ReaderKind::Fetch { .. });
        let of = self.by_connection.entry(connection).or_default();
        if is_fetch && of.fetches >= FETCHES_OF_CONNECTION_MAX {
            return Err(too_many_fetches());
        }
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slots.vacant_entry();
        let id = u64::from(self.generation) << 32 | entry.key() as u64;
        entry.insert(Reader {
            id,
            partition,
            connection,
            kind,
            cursor: None,
            unsent: 0,
            held: None,
        });
        of.readers.insert(id);
        of.fetches += usize::from(is_fetch);
        Ok(id)
    }

    pub(super) fn get(&mut self, id: u64) -> Option<&mut Reader> {
        self.slots.get_mut(slot_of(id)).filter(|reader| reader.id == id)
    }

    /// Keeps the order for later when its connection has too much that is not sent.
    pub(super) fn hold_for_connection(
        &mut self,
        connection: ConnectionId,
        id: u64,
        order: ReadOrder,
    ) -> bool {
        let Some(of) = self.by_connection.get_mut(&connection) else { return false };
        if of.unsent < unsent_max(self.pressed) {
            return false;
        }
        of.hold(id);
        if let Some(reader) = self.get(id) {
            reader.held = Some((Hold::Connection, order));
        }
        true
    }

    /// A connection has sent `bytes` that this reader was given.
    pub(super) fn sent(&mut self, id: u64, connection: ConnectionId, bytes: u64) {
        let reader = self.slots.get_mut(slot_of(id)).filter(|reader| reader.id == id);
        let Some(of) = self.by_connection.get_mut(&connection) else { return };
        of.unsent = of.unsent.saturating_sub(bytes);
        if let Some(reader) = reader {
            reader.unsent = reader.unsent.saturating_sub(bytes);
            if let Some((hold @ Hold::Reader, _)) = &mut reader.held
                && reader.unsent < READER_UNSENT_BYTES_MAX
            {
                *hold = Hold::Connection;
                of.hold(id);
            }
        }
        self.resume(connection, self.now_ns);
    }

    /// The next reader that its connection had held up and no longer does.
    pub(super) fn next_held(&mut self, connection: ConnectionId) -> Option<u64> {
        let of = self.by_connection.get_mut(&connection)?;
        if of.unsent >= unsent_max(self.pressed) {
            return None;
        }
        of.held.pop_front()
    }

    /// The batches as they are handed out.
    pub(super) fn payload(&self, batches: &Batches, due_ns: u64) -> Payload {
        if !self.pressed {
            return Payload { slices: batches.slices.clone(), copied: false, due_ns };
        }
        let mut copy = BytesMut::with_capacity(batches.bytes);
        batches.slices.iter().for_each(|slice| copy.extend_from_slice(slice));
        Payload { slices: std::iter::once(copy.freeze()).collect(), copied: true, due_ns }
    }

    /// What the reader was to read, if this is what it has waited for.
    pub(super) fn take_held(&mut self, id: u64, waits_for: Hold) -> Option<ReadOrder> {
        let held = &mut self.get(id)?.held;
        held.take_if(|(hold, _)| *hold == waits_for).map(|(_, order)| order)
    }

    /// Yields the reader's cursor, to be closed.
    pub(super) fn remove(&mut self, id: u64) -> Option<Cursor> {
        self.get(id)?;
        let reader = self.slots.remove(slot_of(id));
        if let Some(of) = self.by_connection.get_mut(&reader.connection) {
            of.readers.remove(&id);
            of.fetches -= usize::from(matches!(reader.kind, ReaderKind::Fetch { .. }));
        }
        if let Some(cursor) = &reader.cursor {
            self.by_cursor.remove(&cursor.id());
        }
        reader.cursor
    }

    pub(super) fn take_idle(
        &mut self,
        connection: ConnectionId,
        stream: StreamId,
        offset: Offset,
    ) -> Option<Cursor> {
        let at = self.idle_cursors.iter().position(|(owner, cursor)| {
            *owner == connection && cursor.stream() == stream && cursor.offset() == offset
        })?;
        self.idle_cursors.remove(at).map(|(_, cursor)| cursor)
    }
}

impl OfConnection {
    fn hold(&mut self, id: u64) {
        self.held.push_back(id);
        if self.held.len() > 2 * self.readers.len() {
            // Most have gone.
            self.held.retain(|id| self.readers.contains(id));
        }
    }
}

/// What a connection may have unsent and still be given more, bytes.
fn unsent_max(pressed: bool) -> u64 {
    if pressed { 1 } else { CONNECTION_UNSENT_BYTES_MAX }
}

fn slot_of(id: u64) -> usize {
    (id & 0xFFFF_FFFF) as usize
}

fn too_many_readers() -> Rejection {
    Rejection::new(
        ErrorCode::Busy,
        format!(
            "this shard has {READERS_PER_SHARD_MAX} readers, which is its bound; try again later"
        ),
    )
}

fn too_many_of_connection() -> Rejection {
    Rejection::new(
        ErrorCode::LimitReached,
        format!(
            "this connection has {READERS_OF_CONNECTION_MAX} readers in this shard (subscriptions \
             and waiting fetches), the most one may have; open another connection"
        ),
    )
}

fn too_many_fetches() -> Rejection {
    Rejection::new(
        ErrorCode::LimitReached,
        format!(
            "this connection has {FETCHES_OF_CONNECTION_MAX} fetches waiting in this shard, the \
             most one may have; wait for some to be answered, subscribe, or open another connection"
        ),
    )
}

#[cfg(test)]
mod tests {
    use model::{CoreId, ShardId, TopicId};

    use super::*;

    #[test]
    fn one_connection_cannot_take_the_whole_shard() {
        let mut readers = Readers::default();
        let partition =
            PartitionHandle { topic: TopicId(1), stream: StreamId(1), shard: ShardId(0) };
        let connection = |index| ConnectionId { core: CoreId(0), index, generation: 0 };
        let kind = ReaderKind::Subscription { number: 0, correlation: 0 };
        for _ in 0..READERS_OF_CONNECTION_MAX {
            readers.insert(partition, connection(1), kind).unwrap();
        }
        let refused = readers.insert(partition, connection(1), kind).unwrap_err();
        assert_eq!(refused.code, ErrorCode::LimitReached);
        readers.insert(partition, connection(2), kind).unwrap();
    }

    #[test]
    fn fetches_that_wait_are_few_and_their_places_come_back() {
        let mut readers = Readers::default();
        let partition =
            PartitionHandle { topic: TopicId(1), stream: StreamId(1), shard: ShardId(0) };
        let connection = ConnectionId { core: CoreId(0), index: 1, generation: 0 };
        let origin = Origin { connection, correlation: 0, cost: 0 };
        let fetch = ReaderKind::Fetch { origin, asked: 0 };
        let ids: Vec<_> = (0..FETCHES_OF_CONNECTION_MAX)
            .map(|_| readers.insert(partition, connection, fetch).unwrap())
            .collect();
        let refused = readers.insert(partition, connection, fetch).unwrap_err();
        assert_eq!(refused.code, ErrorCode::LimitReached);
        let subscription = ReaderKind::Subscription { number: 0, correlation: 0 };
        let other = readers.insert(partition, connection, subscription).unwrap();
        readers.remove(other);
        assert!(readers.insert(partition, connection, fetch).is_err());
        readers.remove(ids[0]);
        readers.insert(partition, connection, fetch).unwrap();
    }

    /// A connection with too much that is not sent: its readers wait, in their order, and others
    /// do not.
    #[test]
    fn a_connections_unsent_bytes_hold_up_its_readers_and_no_others() {
        let connection = |index| ConnectionId { core: CoreId(0), index, generation: 1 };
        let partition =
            PartitionHandle { topic: TopicId(1), stream: StreamId(1), shard: ShardId(0) };
        let kind = ReaderKind::Subscription { number: 1, correlation: 1 };
        let order = ReadOrder { offset: 0, bytes_max: 1, end: 1, due_ns: 0 };
        let mut readers = Readers::default();
        let of_first: Vec<_> =
            (0..3).map(|_| readers.insert(partition, connection(1), kind).unwrap()).collect();
        let other = readers.insert(partition, connection(2), kind).unwrap();
        assert!(!readers.hold_for_connection(connection(1), of_first[0], order));
        let unsent = |readers: &mut Readers, bytes| {
            readers.by_connection.get_mut(&connection(1)).unwrap().unsent = bytes;
        };
        unsent(&mut readers, CONNECTION_UNSENT_BYTES_MAX);
        for id in &of_first {
            assert!(readers.hold_for_connection(connection(1), *id, order));
        }
        assert!(!readers.hold_for_connection(connection(2), other, order));
        assert_eq!(readers.next_held(connection(1)), None, "nothing has been sent");
        unsent(&mut readers, CONNECTION_UNSENT_BYTES_MAX - 1);
        let held: Vec<_> = std::iter::from_fn(|| readers.next_held(connection(1))).collect();
        assert_eq!(held, of_first);
    }

    #[test]
    fn a_removed_reader_is_not_found_under_its_slots_next_user() {
        let connection = ConnectionId { core: CoreId(0), index: 0, generation: 1 };
        let partition =
            PartitionHandle { topic: TopicId(1), stream: StreamId(1), shard: ShardId(0) };
        let kind = ReaderKind::Subscription { number: 1, correlation: 1 };
        let mut readers = Readers::default();
        let old = readers.insert(partition, connection, kind).unwrap();
        readers.remove(old);
        let new = readers.insert(partition, connection, kind).unwrap();
        assert!(readers.get(old).is_none() && readers.get(new).is_some());
        assert_eq!(readers.by_connection[&connection].readers, [new].into());
    }
}
