//! Publishes that came one after the other, as they lie in one receive buffer: the way by which
//! small messages under way in numbers are taken. Whatever is not quite so is left to the general way.

use crate::batch::PRODUCER_ID;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::kind;
use crate::produce::{PRODUCE_HEAD_BYTES, ProduceHead};

/// A publish, whole. Neither its head nor its batches are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholePublish<'a> {
    pub correlation: u64,
    /// The whole frame, bytes.
    pub length: u32,
    /// Mostly that of the publish before it, to the byte: then it need not be read.
    pub head: &'a [u8; PRODUCE_HEAD_BYTES],
    /// As many bytes as the frame has for them.
    pub batch: &'a [u8],
}

impl WholePublish<'_> {
    /// The head, when nothing is wrong with it and there is one batch. `None` says nothing about
    /// what it is instead.
    pub fn read_head(&self) -> Option<ProduceHead> {
        ProduceHead::parse(self.head).ok().filter(|head| head.batch_count == 1)
    }

    /// Whether the batch's producer numbers its batches, if it is a batch.
    #[inline]
    pub fn is_numbered(&self) -> bool {
        self.batch.get(PRODUCER_ID.start).is_some_and(|highest| highest & 0x80 == 0)
    }
}

/// The publish that `received` begins with, when all of it is there. `None` says nothing about what
/// it is instead.
#[inline]
pub fn whole_publish(received: &[u8]) -> Option<WholePublish<'_>> {
    let header = FrameHeader::parse(received.first_chunk()?).ok()?;
    if header.kind != kind::PRODUCE {
        return None;
    }
    let body = received.get(FRAME_HEADER_BYTES..header.length as usize)?;
    let (head, batch) = body.split_first_chunk()?;
    let FrameHeader { correlation, length, .. } = header;
    Some(WholePublish { correlation, length, head, batch })
}

#[cfg(test)]
mod tests {
    use model::{AckLevel, PartitionHandle, ShardId, StreamId, TopicId};

    use super::*;
    use crate::{BATCHES_AT, BatchBuilder, Producer, put_produce_head};

    fn batch(value: &[u8]) -> Vec<u8> {
        batch_of(value, None)
    }

    fn batch_of(value: &[u8], producer: Option<Producer>) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        builder.append(1_700_000_000_000, None, Some(value), []).unwrap();
        builder.finish(producer)
    }

    fn publish(correlation: u64, batches: &[Vec<u8>]) -> Vec<u8> {
        let head = ProduceHead {
            handle: PartitionHandle { topic: TopicId(7), stream: StreamId(3), shard: ShardId(1) },
            ack: Some(AckLevel::Durable),
            deadline_ms: 5,
            batch_count: batches.len() as u32,
        };
        let mut frame = Vec::new();
        put_produce_head(&mut frame, correlation, &head, batches.iter().map(Vec::len).sum());
        frame.extend(batches.concat());
        frame
    }

    #[test]
    fn publishes_are_taken_one_after_the_other() {
        let frames = [publish(5, &[batch(b"first")]), publish(6, &[batch(b"the second")])];
        let received = frames.concat();
        let first = whole_publish(&received).unwrap();
        assert_eq!((first.correlation, first.length as usize), (5, frames[0].len()));
        let head = first.read_head().unwrap();
        assert_eq!((head.deadline_ms, head.handle.stream), (5, StreamId(3)));
        assert_eq!(first.batch, &frames[0][BATCHES_AT..]);
        assert!(!first.is_numbered());
        let second = whole_publish(&received[frames[0].len()..]).unwrap();
        assert_eq!((second.correlation, second.batch), (6, &frames[1][BATCHES_AT..]));
        assert_eq!(second.head, first.head);
        assert_eq!(whole_publish(&[]), None);
    }

    /// Every cut, and every byte changed in its lowest bit: taken only where the general way takes
    /// the same.
    #[test]
    fn only_what_the_general_way_takes_is_taken() {
        let frame = publish(5, &[batch(b"value")]);
        for end in 0..frame.len() {
            assert_eq!(whole_publish(&frame[..end]), None, "cut at {end}");
        }
        for at in 0..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 1;
            let general = || {
                let (header, length) = crate::next_frame(&changed).ok()??;
                let head = ProduceHead::parse(&changed[FRAME_HEADER_BYTES..length]).ok()?;
                let good = header.kind == kind::PRODUCE && head.batch_count == 1;
                // In two pieces, which are checked in another way.
                let (left, right) = changed[BATCHES_AT..length].split_at(30);
                let batch = crate::check_batch(&[left, right]).ok()?;
                good.then_some((header.correlation, head, batch))
            };
            let taken = whole_publish(&changed).and_then(|one| {
                let head = one.read_head()?;
                let header = crate::check_whole_batch(one.batch).ok()?;
                assert_eq!(one.is_numbered(), header.is_idempotent());
                Some((one.correlation, head, header))
            });
            assert_eq!(taken, general(), "byte {at}");
        }
        let producer = Producer { id: 0, epoch: 0, sequence: 0 };
        let numbered = publish(5, &[batch_of(b"value", Some(producer))]);
        assert!(whole_publish(&numbered).unwrap().is_numbered());
        let two = publish(5, &[batch(b"a"), batch(b"b")]);
        assert_eq!(whole_publish(&two).unwrap().read_head(), None);
    }
}
