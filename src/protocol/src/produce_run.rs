//! Publishes that came one after the other, as they lie in one receive buffer: the way by which
//! small messages under way in numbers are taken. Whatever is not quite so is left to the general way.

use crate::batch::{BatchHeader, check_whole_batch};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::kind;
use crate::produce::{PRODUCE_HEAD_BYTES, ProduceHead};

/// Where the batch begins in the frame.
const BATCH_AT: usize = FRAME_HEADER_BYTES + PRODUCE_HEAD_BYTES;

/// A publish of one batch, whole and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholePublish<'a> {
    pub correlation: u64,
    /// The whole frame, bytes.
    pub length: u32,
    pub head: ProduceHead,
    pub header: BatchHeader,
    pub batch: &'a [u8],
}

/// The publish that `received` begins with, when all of it is there, it has one batch and nothing is
/// wrong with it. `None` says nothing about what it is instead.
#[inline]
pub fn whole_publish(received: &[u8]) -> Option<WholePublish<'_>> {
    let header = FrameHeader::parse(received.first_chunk()?).ok()?;
    if header.kind != kind::PRODUCE {
        return None;
    }
    let frame = received.get(..header.length as usize)?;
    let head = ProduceHead::parse(frame.get(FRAME_HEADER_BYTES..)?).ok()?;
    if head.batch_count != 1 {
        return None;
    }
    let batch = frame.get(BATCH_AT..)?;
    let (correlation, length) = (header.correlation, header.length);
    let header = check_whole_batch(batch).ok()?;
    Some(WholePublish { correlation, length, head, header, batch })
}

#[cfg(test)]
mod tests {
    use model::{AckLevel, PartitionHandle, ShardId, StreamId, TopicId};

    use super::*;
    use crate::{BatchBuilder, put_produce_head};

    fn batch(value: &[u8]) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        builder.append(1_700_000_000_000, None, Some(value), []).unwrap();
        builder.finish(None).to_vec()
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
        assert_eq!((first.head.deadline_ms, first.head.handle.stream), (5, StreamId(3)));
        assert_eq!(first.batch, &frames[0][BATCH_AT..]);
        assert_eq!(first.header, check_whole_batch(first.batch).unwrap());
        let second = whole_publish(&received[frames[0].len()..]).unwrap();
        assert_eq!((second.correlation, second.batch), (6, &frames[1][BATCH_AT..]));
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
                let batch = crate::check_batch(&[&changed[BATCH_AT..length]]).ok()?;
                good.then_some((header.correlation, head, batch))
            };
            let taken = whole_publish(&changed).map(|one| (one.correlation, one.head, one.header));
            assert_eq!(taken, general(), "byte {at}");
        }
        assert_eq!(whole_publish(&publish(5, &[batch(b"a"), batch(b"b")])), None);
    }
}
