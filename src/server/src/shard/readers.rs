//! Readers of a shard: subscriptions that are pushed to, fetches that wait, and questions for a
//! time's offset. The engine says who may read up to where; this reads the log and sends.

use std::collections::VecDeque;

use model::{ErrorCode, Offset, PartitionHandle, Rejection, Reply, StartPosition};
use protocol::{DeliverHead, FetchHead};
use ring::Ring;
use shards::{Effect, ReadVerdict};
use wal::{Batches, Cursor, ReadStep, SeekStep, TimeSeek};

use super::ShardHost;
pub use super::reader_table::FetchWant;
use super::reader_table::{Hold, PendingSeek, ReadOrder, Reader, ReaderKind, SeekThen};
use super::turns::ReadSource;
use crate::bounds::{
    FETCH_CURSORS_MAX, READ_BYTES_MAX, READ_BYTES_PRESSED, READER_UNSENT_BYTES_MAX, SORTED_PER_LOOK,
};
use crate::clock::Clock;
use crate::message::{ConnectionId, Message, Origin, Payload, ReaderKey};
use crate::outbox::Outbox;

impl ShardHost {
    /// Begins a subscription and says where it starts.
    pub(super) fn subscribe(
        &mut self,
        origin: Origin,
        partition: PartitionHandle,
        number: u32,
        position: &StartPosition,
        credit: u64,
        out: &mut Outbox,
    ) {
        if let StartPosition::Time(time_ms) = position {
            let then = SeekThen::Subscribe { number, credit };
            return self.seek(origin, partition, *time_ms, then, out);
        }
        let kind = ReaderKind::Subscription { number, correlation: origin.correlation };
        let id = match self.readers.insert(partition, origin.connection, kind) {
            Ok(id) => id,
            Err(rejection) => return out.reject(origin, rejection),
        };
        match self.engine.subscribe(shards::ReaderId(id), partition, position) {
            Ok(subscribed) => {
                let key = ReaderKey { shard: self.id, reader: id };
                let subscribed = Message::Subscribed {
                    origin,
                    subscription: number,
                    key,
                    offset: subscribed.offset,
                };
                out.send(origin.connection.core, subscribed);
                self.engine.add_credit(shards::ReaderId(id), credit);
            }
            Err(rejection) => {
                self.drop_reader(id);
                out.reject(origin, rejection);
            }
        }
    }

    /// Begins a fetch; it is answered when it has enough or its time is up.
    pub(super) fn fetch(
        &mut self,
        origin: Origin,
        partition: PartitionHandle,
        want: FetchWant,
        out: &mut Outbox,
    ) {
        let kind = ReaderKind::Fetch { origin, asked: want.offset };
        let id = match self.readers.insert(partition, origin.connection, kind) {
            Ok(id) => id,
            Err(rejection) => return out.reject(origin, rejection),
        };
        let begun = self.engine.fetch(
            shards::ReaderId(id),
            partition,
            want.offset,
            want.min_bytes,
            want.max_bytes,
            want.deadline_ms,
        );
        if let Err(rejection) = begun {
            self.drop_reader(id);
            out.reject(origin, rejection);
        }
    }

    /// Looks up the offset of a position and tells it.
    pub(super) fn look_up(
        &mut self,
        origin: Origin,
        partition: PartitionHandle,
        position: &StartPosition,
        out: &mut Outbox,
    ) {
        if let StartPosition::Time(time_ms) = position {
            return self.seek(origin, partition, *time_ms, SeekThen::Tell, out);
        }
        match self.engine.resolve(partition, position) {
            Ok(offset) => out.reply(origin, Reply::Offset { offset }),
            Err(rejection) => out.reject(origin, rejection),
        }
    }

    fn seek(
        &mut self,
        origin: Origin,
        partition: PartitionHandle,
        time_ms: i64,
        then: SeekThen,
        out: &mut Outbox,
    ) {
        if let Err(rejection) = self.engine.resolve(partition, &StartPosition::Next) {
            return out.reject(origin, rejection);
        }
        if self.readers.seeks.len() >= FETCH_CURSORS_MAX {
            let text = "too many look-ups by time are under way on this shard; try again shortly";
            return out.reject(origin, Rejection::new(ErrorCode::Busy, text));
        }
        let seek = TimeSeek::new(partition.stream, time_ms);
        self.readers.seeks.push(PendingSeek { seek, partition, origin, then });
    }

    pub fn add_credit(&mut self, key: ReaderKey, bytes: u64) {
        if self.readers.get(key.reader).is_some() {
            self.engine.add_credit(shards::ReaderId(key.reader), bytes);
        }
    }

    pub fn unsubscribe(&mut self, key: ReaderKey) {
        self.drop_reader(key.reader);
    }

    /// A connection has sent `bytes` that this reader was given.
    pub fn reader_sent(&mut self, key: ReaderKey, connection: ConnectionId, bytes: u64) {
        self.readers.sent(key.reader, connection, bytes);
    }

    /// Reads on for a connection that has sent something, and so has room again. Returns whether
    /// there was one.
    fn read_resumed(&mut self, ring: &mut Ring, out: &mut Outbox) -> bool {
        let Some((id, order)) = self.readers.next_resumed() else { return false };
        self.read(ring, id, order, out);
        true
    }

    /// Forgets what a connection that has ended was reading.
    pub fn connection_closed(&mut self, connection: ConnectionId, out: &mut Outbox) {
        let gone = || Rejection::new(ErrorCode::Busy, "the connection has ended");
        for id in self.readers.by_connection.remove(&connection).unwrap_or_default().readers {
            // Nobody hears the answer, but it gives back the request's place between the cores.
            if let Some(ReaderKind::Fetch { origin, .. }) = self.readers.get(id).map(|r| r.kind) {
                out.reject(origin, gone());
            }
            self.drop_reader(id);
        }
        let mut kept = VecDeque::new();
        for (owner, cursor) in std::mem::take(&mut self.readers.idle_cursors) {
            if owner == connection {
                self.wal.close_cursor(cursor);
            } else {
                kept.push_back((owner, cursor));
            }
        }
        self.readers.idle_cursors = kept;
        for pending in std::mem::take(&mut self.readers.seeks) {
            if pending.origin.connection == connection {
                out.reject(pending.origin, gone());
                self.wal.close_seek(pending.seek);
            } else {
                self.readers.seeks.push(pending);
            }
        }
        self.stalled.retain(|stalled| *stalled != connection);
    }

    /// Lets every reader go on that can, as far as the turn's time goes. Returns whether there may be
    /// more.
    pub(super) fn serve_readers(
        &mut self,
        ring: &mut Ring,
        clock: &Clock,
        publishes_wait: bool,
        out: &mut Outbox,
    ) -> bool {
        self.readers.pressed = self.wal.cache_is_pressed();
        if !self.readers.seeks.is_empty() {
            self.poll_seeks(ring, out);
        }
        let now_ns = clock.now_ns();
        if self.readers.turns.has_queued() {
            self.queue_effects(clock, publishes_wait, out);
        }
        while !self.readers.turn_time.is_up(clock, publishes_wait) {
            if !self.read_one(ring, now_ns, out) {
                return false;
            }
            self.readers.turn_time.begin(clock);
        }
        self.queue_effects(clock, publishes_wait, out);
        true
    }

    /// One read, or one thing that the engine asks for. Whom the disk has answered, who has room again
    /// and who comes new take turns: none keeps another from its part of the time. Returns whether
    /// there was anything.
    fn read_one(&mut self, ring: &mut Ring, now_ns: u64, out: &mut Outbox) -> bool {
        ReadSource::ALL.iter().any(|_| match self.readers.turns.next_source() {
            ReadSource::Ready => self.read_ready(ring, out),
            ReadSource::Resumed => self.read_resumed(ring, out),
            ReadSource::Asked => self.read_asked(ring, now_ns, out),
        })
    }

    /// Reads for whoever is next, or does what the engine asks for.
    fn read_asked(&mut self, ring: &mut Ring, now_ns: u64, out: &mut Outbox) -> bool {
        let next = match self.readers.next_queued() {
            Some((id, order)) => Some(Next::Read(id, order)),
            None => self.next_effect(now_ns, out),
        };
        if let Some(Next::Read(id, order)) = next {
            self.read(ring, id, order, out);
        }
        next.is_some()
    }

    /// Reads on for one that the disk has answered. Returns whether there was one.
    fn read_ready(&mut self, ring: &mut Ring, out: &mut Outbox) -> bool {
        let Some(cursor) = self.wal.take_ready() else { return false };
        if let Some(id) = self.readers.by_cursor.remove(&cursor)
            && let Some(order) = self.readers.take_held(id, Hold::Disk)
        {
            self.read(ring, id, order, out);
        }
        true
    }

    /// There is more to read than a turn has time for: from here on connections take turns. Sorts as
    /// many as the turn has time for.
    fn queue_effects(&mut self, clock: &Clock, publishes_wait: bool, out: &mut Outbox) {
        let left_ns = self.readers.turn_time.sort_ns_left(clock, publishes_wait);
        let began_ns = clock.read_ns();
        let mut passed_ns = 0;
        while passed_ns < left_ns && self.queue_some(clock.now_ns(), out) {
            passed_ns = clock.read_ns() - began_ns;
        }
        self.readers.turn_time.sorted(passed_ns);
    }

    /// As many as are sorted between two looks at the clock. Returns whether there may be more.
    fn queue_some(&mut self, now_ns: u64, out: &mut Outbox) -> bool {
        for _ in 0..SORTED_PER_LOOK {
            match self.next_effect(now_ns, out) {
                Some(Next::Read(id, order)) => self.readers.queue(id, order),
                Some(Next::Other) => {}
                None => return false,
            }
        }
        true
    }

    /// Does what the engine asks for next, unless it is a read.
    fn next_effect(&mut self, now_ns: u64, out: &mut Outbox) -> Option<Next> {
        match self.engine.next_effect()? {
            Effect::Read { reader, offset, max_bytes, end_offset, due_ns, .. } => {
                let bytes_max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
                let order = ReadOrder { offset, bytes_max, end: end_offset, due_ns };
                return Some(Next::Read(reader.0, order));
            }
            Effect::FetchExpired { reader, next_offset, .. } => {
                self.answer_empty(reader.0, next_offset, now_ns, out);
            }
            Effect::Ended { reader, rejection } => self.end_reader(reader.0, rejection, out),
            Effect::LogStart { stream, first_offset } => {
                self.wal.set_log_start(stream, first_offset);
            }
            Effect::PartitionRemoved { stream } => self.wal.remove_stream(stream),
            // The coordinator learns of it by the answers it waits for.
            Effect::TopicsChanged => {}
        }
        Some(Next::Other)
    }

    fn read(&mut self, ring: &mut Ring, id: u64, order: ReadOrder, out: &mut Outbox) {
        let Some(reader) = self.readers.get(id) else {
            self.engine.unsubscribe(shards::ReaderId(id));
            return;
        };
        let (connection, cursor) = (reader.connection, reader.cursor.as_ref().map(Cursor::id));
        let own = reader.unsent >= READER_UNSENT_BYTES_MAX;
        if own {
            reader.held = Some((Hold::Reader, order));
        }
        if own || self.readers.hold_for_connection(connection, id, order) {
            // Whoever takes nothing keeps no one from the disk.
            if let Some(cursor) = cursor {
                self.wal.rest(cursor);
            }
            return;
        }
        let Some(reader) = self.readers.get(id) else { return };
        let (stream, connection) = (reader.partition.stream, reader.connection);
        let mut cursor = match reader.cursor.take() {
            Some(cursor) if cursor.offset() == order.offset => cursor,
            other => {
                if let Some(stale) = other {
                    self.wal.close_cursor(stale);
                }
                self.readers
                    .take_idle(connection, stream, order.offset)
                    .unwrap_or_else(|| self.wal.cursor(stream, order.offset))
            }
        };
        let most = if self.readers.pressed { READ_BYTES_PRESSED } else { READ_BYTES_MAX };
        let bytes_max = order.bytes_max.min(most);
        let step =
            self.with_log(ring, |wal, device| wal.read(device, &mut cursor, bytes_max, order.end));
        let cursor_id = cursor.id();
        let Some(reader) = self.readers.get(id) else { return };
        reader.cursor = Some(cursor);
        match step {
            ReadStep::Batches(batches) => {
                self.readers.turn_time.spend(batches.bytes);
                self.hand_out(id, &batches, order, out);
            }
            ReadStep::Pending => {
                reader.held = Some((Hold::Disk, order));
                self.readers.by_cursor.insert(cursor_id, id);
            }
            ReadStep::End => self.nothing_read(id, order, out),
            ReadStep::Trimmed { first_offset } => self.trimmed(id, first_offset, out),
            ReadStep::Damaged { file, offset } => self.damaged(id, &file, offset, out),
        }
    }

    fn hand_out(&mut self, id: u64, batches: &Batches, order: ReadOrder, out: &mut Outbox) {
        let (end, due_ns) = (order.end, order.due_ns);
        let bytes = batches.bytes as u64;
        let Some(reader) = self.readers.get(id) else { return };
        let next_offset = self.engine.behind_hole(reader.partition.stream, batches.next_offset);
        let verdict = self.engine.read_done(shards::ReaderId(id), next_offset, bytes);
        match (reader.kind, verdict) {
            (_, ReadVerdict::Gone) => {}
            (ReaderKind::Subscription { number, .. }, _) => {
                reader.unsent += bytes;
                let connection = reader.connection;
                self.readers.by_connection.entry(connection).or_default().unsent += bytes;
                let head = DeliverHead {
                    subscription: number,
                    batch_count: batches.entries,
                    first_offset: batches.first_offset,
                    next_offset,
                    high_watermark: end,
                };
                let key = ReaderKey { shard: self.id, reader: id };
                let payload = self.readers.payload(batches, due_ns);
                out.send(connection.core, Message::Deliver { connection, key, head, payload });
            }
            (ReaderKind::Fetch { .. }, ReadVerdict::Wait) => {}
            (ReaderKind::Fetch { origin, .. }, ReadVerdict::Reply) => {
                let log_start = self.engine.log_start(reader.partition.stream).unwrap_or(0);
                let head = FetchHead {
                    batch_count: batches.entries,
                    first_offset: batches.first_offset,
                    next_offset,
                    high_watermark: end,
                    log_start,
                };
                let payload = self.readers.payload(batches, due_ns);
                self.send_fetched(id, origin, head, payload, out);
            }
        }
    }

    fn nothing_read(&mut self, id: u64, order: ReadOrder, out: &mut Outbox) {
        let verdict = self.engine.read_done(shards::ReaderId(id), order.offset, 0);
        if verdict == ReadVerdict::Reply {
            self.answer_empty(id, order.offset, order.due_ns, out);
        }
    }

    /// A fetch whose time is up is answered with nothing.
    fn answer_empty(&mut self, id: u64, next_offset: Offset, due_ns: u64, out: &mut Outbox) {
        let Some(reader) = self.readers.get(id) else { return };
        let ReaderKind::Fetch { origin, asked } = reader.kind else { return };
        let bounds = self
            .engine
            .bounds(reader.partition)
            .unwrap_or(shards::Bounds { first: asked, next: asked });
        let head = FetchHead {
            batch_count: 0,
            first_offset: asked,
            next_offset: next_offset.max(asked),
            high_watermark: bounds.next,
            log_start: bounds.first,
        };
        self.send_fetched(id, origin, head, Payload { due_ns, ..Payload::default() }, out);
    }

    fn send_fetched(
        &mut self,
        id: u64,
        origin: Origin,
        head: FetchHead,
        payload: Payload,
        out: &mut Outbox,
    ) {
        if let Some(cursor) = self.readers.get(id).and_then(|reader| reader.cursor.take()) {
            if self.readers.idle_cursors.len() >= FETCH_CURSORS_MAX
                && let Some((_, oldest)) = self.readers.idle_cursors.pop_front()
            {
                self.wal.close_cursor(oldest);
            }
            self.readers.idle_cursors.push_back((origin.connection, cursor));
        }
        self.drop_reader(id);
        if let Some(of) = self.readers.by_connection.get_mut(&origin.connection) {
            of.unsent += payload.bytes() as u64;
        }
        let key = ReaderKey { shard: self.id, reader: id };
        out.send(origin.connection.core, Message::Fetched { origin, key, head, payload });
    }

    fn trimmed(&mut self, id: u64, first_offset: Offset, out: &mut Outbox) {
        if let Some(refusal) = self.engine.read_trimmed(shards::ReaderId(id), first_offset) {
            self.end_reader(id, refusal, out);
        }
    }

    fn damaged(&mut self, id: u64, file: &str, offset: u64, out: &mut Outbox) {
        tracing::error!(shard = %self.id, file, offset, "stored bytes do not match their checksum and are not served; run corelane verify");
        let text = format!(
            "stored data is damaged in {file} at byte {offset} of shard {}; the operator can run \
             `corelane verify` on the data directory",
            self.id
        );
        self.end_reader(id, Rejection::new(ErrorCode::DamagedData, text), out);
    }

    fn end_reader(&mut self, id: u64, rejection: Rejection, out: &mut Outbox) {
        let Some(reader) = self.readers.get(id) else { return };
        let origin = origin_of(reader);
        self.drop_reader(id);
        out.reject(origin, rejection);
    }

    /// Tells all who read or look here, without touching engine or log.
    pub(super) fn refuse_readers(&mut self, rejection: &Rejection, out: &mut Outbox) {
        for (_, reader) in self.readers.slots.iter() {
            out.reject(origin_of(reader), rejection.clone());
        }
        for seek in &self.readers.seeks {
            out.reject(seek.origin, rejection.clone());
        }
    }

    fn drop_reader(&mut self, id: u64) {
        self.engine.unsubscribe(shards::ReaderId(id));
        if let Some(cursor) = self.readers.remove(id) {
            self.wal.close_cursor(cursor);
        }
    }

    fn poll_seeks(&mut self, ring: &mut Ring, out: &mut Outbox) {
        for mut pending in std::mem::take(&mut self.readers.seeks) {
            let step = self.with_log(ring, |wal, device| wal.seek_time(device, &mut pending.seek));
            let offset = match step {
                SeekStep::Pending => {
                    self.readers.seeks.push(pending);
                    continue;
                }
                SeekStep::Found(offset) => Some(offset),
                SeekStep::End => None,
                SeekStep::Damaged { file, offset } => {
                    let text = format!("the index of {file} is damaged at byte {offset}");
                    out.reject(pending.origin, Rejection::new(ErrorCode::DamagedData, text));
                    continue;
                }
            };
            let position = self.visible(pending.partition, offset);
            match pending.then {
                SeekThen::Tell => self.look_up(pending.origin, pending.partition, &position, out),
                SeekThen::Subscribe { number, credit } => self.subscribe(
                    pending.origin,
                    pending.partition,
                    number,
                    &position,
                    credit,
                    out,
                ),
            }
        }
    }

    /// A found offset may not be committed yet, or have been trimmed meanwhile.
    fn visible(&self, partition: PartitionHandle, offset: Option<Offset>) -> StartPosition {
        match (offset, self.engine.bounds(partition)) {
            (Some(offset), Ok(bounds)) if offset < bounds.first => StartPosition::First,
            (Some(offset), Ok(bounds)) if offset < bounds.next => StartPosition::Offset(offset),
            _ => StartPosition::Next,
        }
    }
}

/// What the engine asked for.
#[derive(Clone, Copy)]
enum Next {
    Read(u64, ReadOrder),
    /// Something else, which is done.
    Other,
}

/// Who is told when a reader ends.
fn origin_of(reader: &Reader) -> Origin {
    match reader.kind {
        ReaderKind::Fetch { origin, .. } => origin,
        ReaderKind::Subscription { correlation, .. } => {
            Origin { connection: reader.connection, correlation, cost: 0 }
        }
    }
}
