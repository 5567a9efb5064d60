//! The publish, which is the hot path: a fixed head, then record batches to the end of the frame;
//! and its acknowledgement, which may cover a run of requests.

use model::limits::FRAME_BYTES_MAX;
use model::{AckLevel, Offset, PartitionHandle, ShardId};
use rkyv::{Archive, Serialize};

use crate::body::{BodyError, Cursor, check_reserved, put_fixed};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::kind;
use crate::topic::{WireHandle, read_ack};

/// Bytes of a produce body before its batches.
pub const PRODUCE_HEAD_BYTES: usize = 28;
/// Where the batches begin in the frame.
pub const BATCHES_AT: usize = FRAME_HEADER_BYTES + PRODUCE_HEAD_BYTES;
/// Bytes of the body of a produce acknowledgement.
pub const PRODUCE_ACK_BYTES: usize = 32;

const _: () = assert!(size_of::<ArchivedProduceBody>() == PRODUCE_HEAD_BYTES);
const _: () = assert!(size_of::<ArchivedProduceAckBody>() == PRODUCE_ACK_BYTES);

/// Stands for "the topic's own level".
const ACK_DEFAULT: u8 = 0xFF;

/// What a publish says before its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceHead {
    pub handle: PartitionHandle,
    /// `None`: the topic's own level.
    pub ack: Option<AckLevel>,
    /// How long the client waits from the moment the server has the request; 0: no limit.
    pub deadline_ms: u32,
    /// Batches that follow, at least 1.
    pub batch_count: u32,
}

#[derive(Archive, Serialize)]
struct ProduceBody {
    deadline_ms: u32,
    handle: WireHandle,
    ack: u8,
    flags: u8,
    reserved: u16,
    batch_count: u32,
}

impl ProduceHead {
    /// Reads the head from the first [`PRODUCE_HEAD_BYTES`] of `body`; what follows is not looked
    /// at.
    #[inline]
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let wire = Cursor::new(body).fixed::<ArchivedProduceBody>("the produce head")?;
        check_reserved(
            u64::from(wire.flags) | u64::from(wire.reserved.to_native()),
            "the produce head",
        )?;
        let ack = match wire.ack {
            ACK_DEFAULT => None,
            byte => Some(read_ack(byte)?),
        };
        let batch_count = wire.batch_count.to_native();
        if batch_count == 0 {
            return Err(BodyError::Value { field: "the batch count", value: 0 });
        }
        let deadline_ms = wire.deadline_ms.to_native();
        Ok(Self { handle: wire.handle.read()?, ack, deadline_ms, batch_count })
    }
}

/// Writes frame header and head; `batches_bytes` of batches have to follow.
///
/// The caller keeps the whole within the frame limit: 16 + 28 + `batches_bytes`.
#[inline]
pub fn put_produce_head(
    out: &mut Vec<u8>,
    correlation: u64,
    head: &ProduceHead,
    batches_bytes: usize,
) {
    let body_bytes = PRODUCE_HEAD_BYTES + batches_bytes;
    debug_assert!(FRAME_HEADER_BYTES + body_bytes <= FRAME_BYTES_MAX as usize);
    put_fixed(out, &FrameHeader::new(kind::PRODUCE, correlation, body_bytes));
    let body = ProduceBody {
        deadline_ms: head.deadline_ms,
        handle: head.handle.into(),
        ack: head.ack.map_or(ACK_DEFAULT, |level| level as u8),
        flags: 0,
        reserved: 0,
        batch_count: head.batch_count,
    };
    put_fixed(out, &body);
}

/// Acknowledges `count` publishes with consecutive correlation ids of one connection.
///
/// The i-th of them begins at `base_offset + i * offset_step`: a run joins only publishes to one shard
/// with the same number of records, whose offsets follow one another. Their partitions may differ where
/// the offsets happen to follow: a client knows of each correlation id which partition it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceAck {
    /// At least 1.
    pub count: u32,
    /// What is true of every message of the run.
    pub level: AckLevel,
    /// The first record's offset in the first publish.
    pub base_offset: Offset,
    /// Records in each publish.
    pub offset_step: u32,
    pub shard: ShardId,
    /// When the log took the first publish, Unix milliseconds.
    pub append_time_ms: i64,
}

#[derive(Archive, Serialize)]
struct ProduceAckBody {
    count: u32,
    level: u8,
    reserved: [u8; 3],
    base_offset: u64,
    offset_step: u32,
    shard: u16,
    reserved_2: u16,
    append_time_ms: i64,
}

impl ProduceAck {
    /// Reads the body of an acknowledgement.
    #[inline]
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut cursor = Cursor::new(body);
        let wire = cursor.fixed::<ArchivedProduceAckBody>("the acknowledgement")?;
        cursor.end()?;
        let [a, b, c] = wire.reserved;
        check_reserved(
            u64::from(a | b | c) | u64::from(wire.reserved_2.to_native()),
            "the acknowledgement",
        )?;
        let count = wire.count.to_native();
        if count == 0 {
            return Err(BodyError::Value { field: "the count of replies", value: 0 });
        }
        Ok(Self {
            count,
            level: read_ack(wire.level)?,
            base_offset: wire.base_offset.to_native(),
            offset_step: wire.offset_step.to_native(),
            shard: ShardId(wire.shard.to_native()),
            append_time_ms: wire.append_time_ms.to_native(),
        })
    }
}

/// Writes a whole acknowledgement frame.
#[inline]
pub fn put_produce_ack(out: &mut Vec<u8>, ack: &ProduceAck, first_correlation: u64) {
    put_fixed(out, &FrameHeader::new(kind::PRODUCE_ACK, first_correlation, PRODUCE_ACK_BYTES));
    let body = ProduceAckBody {
        count: ack.count,
        level: ack.level as u8,
        reserved: [0; 3],
        base_offset: ack.base_offset,
        offset_step: ack.offset_step,
        shard: ack.shard.0,
        reserved_2: 0,
        append_time_ms: ack.append_time_ms,
    };
    put_fixed(out, &body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{StreamId, TopicId};

    #[test]
    fn golden_produce_head() {
        let handle =
            PartitionHandle { topic: TopicId(0x0102), stream: StreamId(3), shard: ShardId(4) };
        let head = ProduceHead { handle, ack: None, deadline_ms: 1000, batch_count: 2 };
        let mut out = Vec::new();
        put_produce_head(&mut out, 6, &head, 100);
        assert_eq!(out[..16], [144, 0, 0, 0, 1, 0, 0x22, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        #[rustfmt::skip]
        let body = [
            0xE8, 3, 0, 0,
            2, 1, 0, 0, 0, 0, 0, 0,
            3, 0, 0, 0,
            4, 0, 0, 0,
            0xFF, 0, 0, 0,
            2, 0, 0, 0,
        ];
        assert_eq!(out[16..], body);
        assert_eq!(ProduceHead::parse(&out[16..]), Ok(head));

        let durable = ProduceHead { ack: Some(AckLevel::Durable), ..head };
        out.clear();
        put_produce_head(&mut out, 6, &durable, 100);
        assert_eq!(out[36], 2);
        assert_eq!(ProduceHead::parse(&out[16..]), Ok(durable));
    }

    #[test]
    fn bad_heads_are_refused() {
        let head = ProduceHead {
            handle: PartitionHandle::default(),
            ack: None,
            deadline_ms: 0,
            batch_count: 1,
        };
        let mut out = Vec::new();
        put_produce_head(&mut out, 6, &head, 0);
        let body = &out[16..];
        let with = |at: usize, byte: u8| {
            let mut body = body.to_vec();
            body[at] = byte;
            ProduceHead::parse(&body)
        };
        assert!(matches!(with(18, 1), Err(BodyError::Reserved { .. })));
        assert!(matches!(with(20, 3), Err(BodyError::Value { field: "the ack level", .. })));
        assert!(matches!(with(21, 1), Err(BodyError::Reserved { .. })));
        assert!(matches!(with(24, 0), Err(BodyError::Value { field: "the batch count", .. })));
        assert!(matches!(ProduceHead::parse(&body[..27]), Err(BodyError::Short { .. })));
    }

    #[test]
    fn golden_produce_ack() {
        let ack = ProduceAck {
            count: 3,
            level: AckLevel::Durable,
            base_offset: 0x0506,
            offset_step: 7,
            shard: ShardId(8),
            append_time_ms: -2,
        };
        let mut out = Vec::new();
        put_produce_ack(&mut out, &ack, 9);
        assert_eq!(out[..16], [48, 0, 0, 0, 1, 0, 0x23, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        #[rustfmt::skip]
        let body = [
            3, 0, 0, 0,
            2, 0, 0, 0,
            6, 5, 0, 0, 0, 0, 0, 0,
            7, 0, 0, 0,
            8, 0, 0, 0,
            0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        ];
        assert_eq!(out[16..], body);
        assert_eq!(ProduceAck::parse(&out[16..]), Ok(ack));
        out[16] = 0;
        assert!(ProduceAck::parse(&out[16..]).is_err());
    }
}
