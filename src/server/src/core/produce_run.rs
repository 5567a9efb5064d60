//! Publishes that came in a row on one connection, taken at once: each for itself would look the
//! connection, the shard and its log up anew, which costs more than a small message does.

use model::PartitionHandle;
use protocol::batch::BATCH_HEADER_BYTES;
use protocol::{
    BATCHES_AT, FrameHeader, PRODUCE_HEAD_BYTES, ProduceHead, WholePublish, check_whole_batch,
    kind, whole_publish,
};
use shards::PlainBatch;
use smallvec::SmallVec;

use super::borders::{guarded, panicked_rejection};
use super::work::{self, Work};
use super::{Core, ShardSlot};
use crate::bounds::{RUN_FRAME_BYTES_MAX, RUN_PUBLISHES_MAX};
use crate::connection::Input;
use crate::message::{ConnectionId, Origin};
use crate::shard::{ProduceTerms, RunPublish, ShardHost};

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
        let Some(row) = Row::begin(received, room, share) else { return Run::Alone(1) };
        let Row { first, head, .. } = row;
        let terms = ProduceTerms {
            origin: Origin { connection: id, correlation: first.correlation, cost: first.length },
            partition: head.handle,
            ack: head.ack,
            deadline_ms: head.deadline_ms,
            received_ns,
        };
        let Some(slot) = self.slot_with_room(&terms) else { return Run::Alone(1) };
        let (bytes, work) = match self.take(row, &terms, slot) {
            Ok(taken) => taken,
            Err(frames) => return Run::Alone(frames),
        };
        if let Some(connection) = self.connections.get_mut(id) {
            connection.in_flight_bytes += bytes;
            // The next frame has its own time.
            connection.partial_since_ns = 0;
        }
        input.consume(bytes);
        Run::Taken(work)
    }

    /// Checks a row and hands it to its shard. Returns its bytes and the work it was; an error: how
    /// many frames have to be taken alone.
    fn take(
        &mut self,
        row: Row<'_>,
        terms: &ProduceTerms,
        slot: usize,
    ) -> Result<(usize, Work), usize> {
        // Looked at where it lies and not handed on by value: each move would copy some KiB.
        let run = row.checked();
        if run.publishes.len() < 2 {
            return Err(1);
        }
        let (clock, out) = (&self.clock, &mut self.out);
        match guarded(&mut self.shards[slot], |host| {
            host.produce_run(clock, terms, &run.publishes, out)
        }) {
            Some(false) => return Err(run.publishes.len()),
            Some(true) => {}
            None => {
                for RunPublish { correlation, cost, .. } in &run.publishes {
                    let (correlation, cost) = (*correlation, *cost);
                    let origin = Origin { correlation, cost, ..terms.origin };
                    self.out.reject(origin, panicked_rejection());
                }
            }
        }
        self.counters.messages_in += run.messages;
        Ok((run.bytes, run.work))
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
#[derive(Clone)]
struct Row<'a> {
    received: &'a [u8],
    room: usize,
    share: Work,
    first: WholePublish<'a>,
    /// The first one's.
    head: ProduceHead,
    /// The last one's, and the partition it names.
    last: (&'a [u8; PRODUCE_HEAD_BYTES], PartitionHandle),
    /// Of those that were gone through.
    count: usize,
    bytes: usize,
    work: Work,
}

/// Those of a row before the first with something wrong, and what they are together.
#[derive(Default)]
struct Checked<'a> {
    publishes: SmallVec<[RunPublish<'a>; RUN_PUBLISHES_MAX]>,
    bytes: usize,
    work: Work,
    messages: u64,
}

impl<'a> Row<'a> {
    /// `None` unless there are two at least. No checksum is gone through.
    fn begin(received: &'a [u8], room: usize, share: Work) -> Option<Self> {
        let first = whole_publish(received)?;
        let head = first.read_head()?;
        let last = (first.head, head.handle);
        let row = Self { received, room, share, first, head, last, count: 0, bytes: 0, work: 0 };
        row.clone().nth(1).map(|_| row)
    }

    fn checked(self) -> Checked<'a> {
        let mut checked = Checked::default();
        for (publish, partition) in self {
            let header = check_whole_batch(publish.batch).ok();
            let batch =
                header.and_then(|header| PlainBatch::new(partition, &header, publish.batch));
            let Some(batch) = batch else { break };
            let WholePublish { correlation, length: cost, .. } = publish;
            checked.bytes += cost as usize;
            checked.work += work::of_publish(cost);
            checked.messages += u64::from(batch.records());
            checked.publishes.push(RunPublish { correlation, cost, batch });
        }
        checked
    }

    /// The partition that `next` is for, if it asks for what the first does.
    #[inline]
    fn partition_of(&mut self, next: &WholePublish<'a>) -> Option<PartitionHandle> {
        if self.last.0 != next.head {
            let head = next.read_head().filter(|head| asks_the_same(&self.head, head))?;
            self.last = (next.head, head.handle);
        }
        Some(self.last.1)
    }
}

impl<'a> Iterator for Row<'a> {
    type Item = (WholePublish<'a>, PartitionHandle);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.count >= RUN_PUBLISHES_MAX || self.bytes >= self.room || self.work >= self.share {
            return None;
        }
        let next = whole_publish(&self.received[self.bytes..])?;
        if next.length > RUN_FRAME_BYTES_MAX || next.is_numbered() {
            return None;
        }
        let partition = self.partition_of(&next)?;
        self.count += 1;
        self.bytes += next.length as usize;
        self.work += work::of_publish(next.length);
        Some((next, partition))
    }
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
    use model::{AckLevel, PartitionHandle, ShardId, StreamId, TopicId};
    use protocol::{BatchBuilder, FRAME_HEADER_BYTES, Producer, put_produce_head};

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
        count(&frames.collect::<Vec<_>>().concat(), MANY, Work::MAX)
    }

    /// 0 where there are not two.
    fn count(received: &[u8], room: usize, share: Work) -> usize {
        Row::begin(received, room, share).map_or(0, Iterator::count)
    }

    #[test]
    fn a_row_ends_where_something_else_is_asked_for() {
        let durable = Some(AckLevel::Durable);
        let usual = head(1, 0, durable, 0);
        assert_eq!(row(&[usual; 5]), 5);
        assert_eq!(row(&[usual, head(2, 0, durable, 0), usual]), 3, "other partitions");
        assert_eq!(row(&[usual, usual, head(1, 1, durable, 0), usual]), 2, "another shard");
        assert_eq!(row(&[usual, usual, head(1, 0, durable, 9), usual]), 2, "another deadline");
        assert_eq!(row(&[usual, head(1, 0, Some(AckLevel::Memory), 0)]), 0, "another level");
        let own_level = head(1, 0, None, 0);
        assert_eq!(row(&[own_level, own_level, head(2, 0, None, 0)]), 2, "the topic's own level");
        assert_eq!(row(&[usual; 200]), RUN_PUBLISHES_MAX);
        assert_eq!(row(&[]), 0);
    }

    /// The partitions of the row that these frames begin with.
    fn partitions(frames: &[Vec<u8>]) -> Vec<PartitionHandle> {
        let received = frames.concat();
        let row = Row::begin(&received, MANY, Work::MAX);
        row.into_iter().flatten().map(|(_, partition)| partition).collect()
    }

    /// The frame with another byte in one place.
    fn altered(frame: &[u8], at: usize, byte: u8) -> Vec<u8> {
        let mut frame = frame.to_vec();
        assert_ne!(frame[at], byte, "byte {at}");
        frame[at] = byte;
        frame
    }

    #[test]
    fn a_row_ends_before_a_head_that_is_malformed_or_another_one() {
        // Where the fields of a produce head are in its frame.
        const DEADLINE: usize = FRAME_HEADER_BYTES;
        const SHARD: usize = DEADLINE + 16;
        const ACK: usize = DEADLINE + 20;
        const BATCH_COUNT: usize = DEADLINE + 24;
        const KIND: usize = 6;
        let durable = Some(AckLevel::Durable);
        let good = publish(1, head(1, 0, durable, 0), &batch(100, None));
        let other = publish(1, head(2, 0, durable, 0), &batch(100, None));
        let endings = [
            ("version", 4, 2),
            ("flags of the frame", 5, 1),
            ("another kind", KIND, kind::FETCH as u8),
            ("an unknown kind", KIND + 1, 0xEE),
            ("another deadline", DEADLINE, 9),
            ("a deadline, in its highest byte", DEADLINE + 3, 1),
            ("another shard", SHARD, 1),
            ("reserved byte of the handle", SHARD + 2, 1),
            ("last reserved byte of the handle", SHARD + 3, 1),
            ("the topic's own level", ACK, 0xFF),
            ("another level", ACK, AckLevel::Memory as u8),
            ("a bad level", ACK, 3),
            ("flags of the head", ACK + 1, 1),
            ("reserved byte", ACK + 2, 1),
            ("last reserved byte", ACK + 3, 1),
            ("no batch", BATCH_COUNT, 0),
            ("two batches", BATCH_COUNT, 2),
            ("very many batches", BATCH_COUNT + 3, 1),
        ];
        for (what, at, byte) in endings {
            let bad = altered(&good, at, byte);
            let [a, b] = [head(1, 0, durable, 0), head(2, 0, durable, 0)].map(|head| head.handle);
            // As the second, after its own head and after another one; then as the third.
            let second = [good.clone(), bad.clone(), good.clone()];
            assert_eq!(partitions(&second), [], "{what}");
            let third = [good.clone(), good.clone(), bad.clone(), good.clone()];
            assert_eq!(partitions(&third), [a, a], "{what}");
            let after_another = [good.clone(), other.clone(), bad.clone(), bad.clone()];
            assert_eq!(partitions(&after_another), [a, b], "{what}");
            let received = third.concat();
            let checked = Row::begin(&received, MANY, Work::MAX).unwrap().checked();
            assert_eq!(checked.bytes, 2 * good.len(), "{what}");
        }
    }

    #[test]
    fn each_publish_of_a_row_goes_to_the_partition_it_names() {
        let durable = Some(AckLevel::Durable);
        let small = batch(100, None);
        for streams in [&[1, 2, 1][..], &[1, 1, 2, 2, 1, 3, 3, 1, 2], &[7, 8, 9], &[5; 9]] {
            let heads: Vec<_> = streams.iter().map(|stream| head(*stream, 0, durable, 0)).collect();
            let frames: Vec<_> = heads.iter().map(|head| publish(1, *head, &small)).collect();
            let expected: Vec<_> = heads.iter().map(|head| head.handle).collect();
            assert_eq!(partitions(&frames), expected, "{streams:?}");
        }
        // The same number, of another topic.
        let mut elsewhere = head(1, 0, durable, 0);
        elsewhere.handle.topic = TopicId(2);
        let heads = [head(1, 0, durable, 0), elsewhere, head(1, 0, durable, 0)];
        let frames = heads.map(|head| publish(1, head, &small));
        assert_eq!(partitions(&frames), heads.map(|head| head.handle));
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
            assert_eq!(count(&received, MANY, Work::MAX), 2);
        }
        let four = small.repeat(4);
        assert_eq!(count(&four, small.len() + 1, Work::MAX), 2, "bytes in flight");
        assert_eq!(count(&four, 0, Work::MAX), 0);
        assert_eq!(count(&four, MANY, 3), 3, "the connection's share of the turn");
        assert_eq!(count(&four[..four.len() - 1], MANY, Work::MAX), 3, "not yet whole");
    }

    #[test]
    fn only_what_is_before_a_spoiled_batch_is_taken() {
        let head = head(1, 0, None, 0);
        let mut spoiled = batch(100, None);
        *spoiled.last_mut().unwrap() ^= 1;
        let good = batch(100, None);
        let frames = [&good, &good, &spoiled, &good].map(|batch| publish(1, head, batch)).concat();
        assert_eq!(count(&frames, MANY, Work::MAX), 4);
        let checked = Row::begin(&frames, MANY, Work::MAX).unwrap().checked();
        assert_eq!((checked.publishes.len(), checked.messages, checked.work), (2, 2, 2));
        assert_eq!(checked.bytes, frames.len() / 2);
        let RunPublish { correlation, cost, batch } = checked.publishes[0];
        assert_eq!((correlation, cost as usize, batch.records()), (1, frames.len() / 4, 1));
    }
}
