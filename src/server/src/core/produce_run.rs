//! Publishes that came in a row on one connection, taken at once: each for itself would look the
//! connection, the shard and its log up anew, which costs more than a small message does.

use protocol::batch::BATCH_HEADER_BYTES;
use protocol::{
    BATCHES_AT, FrameHeader, ProduceHead, WholePublish, check_whole_batch, kind, whole_publish,
};
use shards::PlainBatch;
use smallvec::SmallVec;

use super::borders::{guarded, panicked_rejection};
use super::work::{self, Work};
use super::{Core, ShardSlot};
use crate::bounds::{RUN_FRAME_BYTES_MAX, RUN_PUBLISHES_MAX};
use crate::connection::Input;
use crate::message::{ConnectionId, Origin};
use crate::shard::{ProduceTerms, ShardHost};

/// As they lie in the receive buffer, not checked yet.
type InARow<'a> = SmallVec<[WholePublish<'a>; RUN_PUBLISHES_MAX]>;
/// Checked.
type Publishes<'a> = SmallVec<[(Origin, PlainBatch<'a>); RUN_PUBLISHES_MAX]>;

/// What became of the publishes at the front.
pub(super) enum Run {
    /// They were taken, with so much work.
    Taken(Work),
    /// Nothing has been done; so many frames have to be taken alone, which also finds out what may
    /// be wrong with them.
    Alone(usize),
}

impl Core {
    /// Takes publishes that follow one another in one receive buffer and ask for the same, as far as
    /// `share` goes. `header` is the next frame's. What would be taken for nothing is found out
    /// before any checksum is gone through.
    pub(super) fn produce_run(
        &mut self,
        id: ConnectionId,
        header: &FrameHeader,
        input: &mut Input,
        share: Work,
    ) -> Run {
        let received = input.front();
        let two = header.length as usize + BATCHES_AT + BATCH_HEADER_BYTES;
        if header.kind != kind::PRODUCE || received.len() < two {
            return Run::Alone(1);
        }
        let Some(connection) = self.connections.get_mut(id).filter(|one| one.may_publish()) else {
            return Run::Alone(1);
        };
        let received_ns = connection.unparsed_since_ns;
        let room = (self.config.in_flight_bytes_max + 1).saturating_sub(connection.in_flight_bytes);
        let in_a_row = in_a_row(received, room, share);
        let [first, _, ..] = &in_a_row[..] else { return Run::Alone(1) };
        let terms = ProduceTerms {
            origin: Origin { connection: id, correlation: first.correlation, cost: first.length },
            partition: first.head.handle,
            ack: first.head.ack,
            deadline_ms: first.head.deadline_ms,
            received_ns,
        };
        let Some(slot) = self.slot_with_room(&terms) else { return Run::Alone(1) };
        let publishes = checked(id, &in_a_row);
        if publishes.len() < 2 {
            return Run::Alone(1);
        }
        let (clock, out) = (&self.clock, &mut self.out);
        match guarded(&mut self.shards[slot], |host| {
            host.produce_run(clock, &terms, &publishes, out)
        }) {
            Some(false) => return Run::Alone(publishes.len()),
            Some(true) => {}
            None => {
                for (origin, _) in &publishes {
                    self.out.reject(*origin, panicked_rejection());
                }
            }
        }
        let bytes: usize = publishes.iter().map(|(origin, _)| origin.cost as usize).sum();
        let work = publishes.iter().map(|(origin, _)| work::of_publish(origin.cost)).sum();
        let messages: u64 = publishes.iter().map(|(_, batch)| u64::from(batch.records())).sum();
        self.counters.messages_in += messages;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.in_flight_bytes += bytes;
            // The next frame has its own time.
            connection.partial_since_ns = 0;
        }
        drop((publishes, in_a_row));
        input.consume(bytes);
        Run::Taken(work)
    }

    /// The place of the shard if it is this core's, served, and takes publishes now.
    fn slot_with_room(&mut self, terms: &ProduceTerms) -> Option<usize> {
        let shard = terms.partition.shard;
        if !self.map.has(shard) || self.map.core_of(shard) != self.out.core() {
            return None;
        }
        let place = self.slot_of(shard);
        let slot = self.shards.get_mut(place)?;
        let has_room = |host: &mut ShardHost| !host.is_full(terms.origin.cost as usize);
        (matches!(slot, ShardSlot::Open(_)) && guarded(slot, has_room)?).then_some(place)
    }
}

/// The publishes at the front that ask for the same: at most [`RUN_PUBLISHES_MAX`], until `room` bytes
/// or `share` are used up.
fn in_a_row(received: &[u8], room: usize, share: Work) -> InARow<'_> {
    let mut found = InARow::new();
    let (mut bytes, mut work) = (0, 0);
    while found.len() < RUN_PUBLISHES_MAX && bytes < room && work < share {
        let next = whole_publish(&received[bytes..]).filter(|next| {
            let first = found.first().unwrap_or(next);
            next.length <= RUN_FRAME_BYTES_MAX
                && !next.is_numbered()
                && asks_the_same(&first.head, &next.head)
        });
        let Some(next) = next else { break };
        bytes += next.length as usize;
        work += work::of_publish(next.length);
        found.push(next);
    }
    found
}

/// Those of `in_a_row` before the first with something wrong.
fn checked<'a>(connection: ConnectionId, in_a_row: &[WholePublish<'a>]) -> Publishes<'a> {
    let mut checked = Publishes::new();
    for publish in in_a_row {
        let WholePublish { correlation, length, head, batch } = *publish;
        let header = check_whole_batch(batch).ok();
        let Some(batch) = header.and_then(|h| PlainBatch::new(head.handle, &h, batch)) else {
            break;
        };
        checked.push((Origin { connection, correlation, cost: length }, batch));
    }
    checked
}

/// Whether one answer to "which level, by when" is right for both: the topic's own level needs the
/// same partition.
fn asks_the_same(first: &ProduceHead, next: &ProduceHead) -> bool {
    next.handle.shard == first.handle.shard
        && next.ack == first.ack
        && next.deadline_ms == first.deadline_ms
        && (first.ack.is_some() || next.handle == first.handle)
}

#[cfg(test)]
mod tests {
    use model::{AckLevel, CoreId, PartitionHandle, ShardId, StreamId, TopicId};
    use protocol::{BatchBuilder, Producer, put_produce_head};

    use super::*;

    const MANY: usize = usize::MAX;

    fn head(stream: u32, shard: u16, ack: Option<AckLevel>, deadline_ms: u32) -> ProduceHead {
        let (topic, stream, shard) = (TopicId(1), StreamId(stream), ShardId(shard));
        let handle = PartitionHandle { topic, stream, shard };
        ProduceHead { handle, ack, deadline_ms, batch_count: 1 }
    }

    fn batch(bytes: usize, producer: Option<Producer>) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        builder.append(1, None, Some(&vec![7; bytes]), []).unwrap();
        builder.finish(producer)
    }

    fn publish(correlation: u64, head: ProduceHead, batch: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put_produce_head(&mut frame, correlation, &head, batch.len());
        frame.extend_from_slice(batch);
        frame
    }

    /// How many of these heads, with a small batch each, are one row.
    fn row(heads: &[ProduceHead]) -> usize {
        let small = batch(100, None);
        let frames = heads.iter().enumerate().map(|(at, head)| publish(at as u64, *head, &small));
        in_a_row(&frames.collect::<Vec<_>>().concat(), MANY, Work::MAX).len()
    }

    #[test]
    fn a_row_ends_where_something_else_is_asked_for() {
        let durable = Some(AckLevel::Durable);
        let usual = head(1, 0, durable, 0);
        assert_eq!(row(&[usual; 5]), 5);
        assert_eq!(row(&[usual, head(2, 0, durable, 0), usual]), 3, "other partitions");
        assert_eq!(row(&[usual, usual, head(1, 1, durable, 0), usual]), 2, "another shard");
        assert_eq!(row(&[usual, usual, head(1, 0, durable, 9), usual]), 2, "another deadline");
        assert_eq!(row(&[usual, head(1, 0, Some(AckLevel::Memory), 0)]), 1, "another level");
        let own_level = head(1, 0, None, 0);
        assert_eq!(row(&[own_level, own_level, head(2, 0, None, 0)]), 2, "the topic's own level");
        assert_eq!(row(&[usual; 200]), RUN_PUBLISHES_MAX);
        assert_eq!(row(&[]), 0);
    }

    #[test]
    fn a_row_ends_at_its_bounds_and_at_what_has_to_be_taken_alone() {
        let head = head(1, 0, None, 0);
        let small = publish(1, head, &batch(100, None));
        let numbered = Producer { id: 1, epoch: 0, sequence: 0 };
        let numbered = publish(2, head, &batch(100, Some(numbered)));
        let large = publish(3, head, &batch(RUN_FRAME_BYTES_MAX as usize, None));
        for last in [&numbered, &large, &small[..small.len() - 1].to_vec(), &vec![0; 100]] {
            let received = [&small[..], &small, last].concat();
            assert_eq!(in_a_row(&received, MANY, Work::MAX).len(), 2);
        }
        let four = small.repeat(4);
        assert_eq!(in_a_row(&four, small.len() + 1, Work::MAX).len(), 2, "bytes in flight");
        assert_eq!(in_a_row(&four, 0, Work::MAX).len(), 0);
        assert_eq!(in_a_row(&four, MANY, 3).len(), 3, "the connection's share of the turn");
        assert_eq!(in_a_row(&four[..four.len() - 1], MANY, Work::MAX).len(), 3, "not yet whole");
    }

    #[test]
    fn only_what_is_before_a_spoiled_batch_is_taken() {
        let head = head(1, 0, None, 0);
        let mut spoiled = batch(100, None);
        *spoiled.last_mut().unwrap() ^= 1;
        let good = batch(100, None);
        let frames = [&good, &good, &spoiled, &good].map(|batch| publish(1, head, batch)).concat();
        let row = in_a_row(&frames, MANY, Work::MAX);
        assert_eq!(row.len(), 4);
        let id = ConnectionId { core: CoreId(0), index: 0, generation: 0 };
        let publishes = checked(id, &row);
        assert_eq!(publishes.len(), 2);
        let (origin, batch) = publishes[0];
        assert_eq!((origin.cost as usize, batch.records()), (frames.len() / 4, 1));
    }
}
