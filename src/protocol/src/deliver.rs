//! Messages to a client: `Deliver`, pushed to a subscription, and the reply to `Fetch`. A fixed
//! head, then record batches as they are stored, to the end of the frame.

use model::Offset;
use rkyv::{Archive, Serialize};

use crate::body::{BodyError, Cursor, check_reserved, put_fixed};
use crate::frame::FrameHeader;
use crate::kind;

/// Bytes of a deliver body before its batches.
pub const DELIVER_HEAD_BYTES: usize = 32;
/// Bytes of a fetch reply's body before its batches.
pub const FETCH_HEAD_BYTES: usize = 40;

const _: () = assert!(size_of::<ArchivedDeliverBody>() == DELIVER_HEAD_BYTES);
const _: () = assert!(size_of::<ArchivedFetchReplyBody>() == FETCH_HEAD_BYTES);

/// What a `Deliver` says before its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliverHead {
    /// The client's number for the subscription.
    pub subscription: u32,
    /// Batches that follow; 0: not counted.
    pub batch_count: u32,
    /// Base offset of the first batch. A batch is never split, so this may be before the offset
    /// wanted: the client skips records below its position.
    pub first_offset: Offset,
    /// Where the subscription stands after these batches.
    pub next_offset: Offset,
    /// One past the newest committed offset.
    pub high_watermark: Offset,
}

/// What a fetch reply says before its batches; there may be none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchHead {
    /// Batches that follow; 0: not counted.
    pub batch_count: u32,
    /// Base offset of the first batch; the offset asked for when there is none.
    pub first_offset: Offset,
    /// The offset to fetch next.
    pub next_offset: Offset,
    /// One past the newest committed offset.
    pub high_watermark: Offset,
    /// The oldest offset kept.
    pub log_start: Offset,
}

#[derive(Archive, Serialize)]
struct DeliverBody {
    subscription: u32,
    batch_count: u32,
    first_offset: u64,
    next_offset: u64,
    high_watermark: u64,
}

/// The same shape as a deliver body, with 0 for the subscription and the log's start at the end.
#[derive(Archive, Serialize)]
struct FetchReplyBody {
    batches: DeliverBody,
    log_start: u64,
}

impl ArchivedDeliverBody {
    fn read(&self) -> DeliverHead {
        DeliverHead {
            subscription: self.subscription.to_native(),
            batch_count: self.batch_count.to_native(),
            first_offset: self.first_offset.to_native(),
            next_offset: self.next_offset.to_native(),
            high_watermark: self.high_watermark.to_native(),
        }
    }
}

impl DeliverHead {
    /// Reads the head from the first [`DELIVER_HEAD_BYTES`] of `body`.
    #[inline]
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let wire = Cursor::new(body).fixed::<ArchivedDeliverBody>("the deliver head")?;
        Ok(wire.read())
    }
}

impl FetchHead {
    /// Reads the head from the first [`FETCH_HEAD_BYTES`] of `body`.
    #[inline]
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let wire = Cursor::new(body).fixed::<ArchivedFetchReplyBody>("the fetch reply")?;
        let DeliverHead { subscription, batch_count, first_offset, next_offset, high_watermark } =
            wire.batches.read();
        check_reserved(subscription.into(), "the fetch reply")?;
        let log_start = wire.log_start.to_native();
        Ok(Self { batch_count, first_offset, next_offset, high_watermark, log_start })
    }
}

/// Writes frame header and head; `batches_bytes` of batches have to follow. The caller keeps the
/// whole within the frame limit.
#[inline]
pub fn put_deliver_head(out: &mut Vec<u8>, head: &DeliverHead, batches_bytes: usize) {
    put_fixed(out, &FrameHeader::new(kind::DELIVER, 0, DELIVER_HEAD_BYTES + batches_bytes));
    let DeliverHead { subscription, batch_count, first_offset, next_offset, high_watermark } =
        *head;
    let body = DeliverBody { subscription, batch_count, first_offset, next_offset, high_watermark };
    put_fixed(out, &body);
}

/// Writes frame header and head of a fetch reply; `batches_bytes` of batches have to follow. The
/// caller keeps the whole within the frame limit.
#[inline]
pub fn put_fetch_head(out: &mut Vec<u8>, correlation: u64, head: &FetchHead, batches_bytes: usize) {
    let body_bytes = FETCH_HEAD_BYTES + batches_bytes;
    put_fixed(out, &FrameHeader::new(kind::FETCH_REPLY, correlation, body_bytes));
    let FetchHead { batch_count, first_offset, next_offset, high_watermark, log_start } = *head;
    let batches =
        DeliverBody { subscription: 0, batch_count, first_offset, next_offset, high_watermark };
    put_fixed(out, &FetchReplyBody { batches, log_start });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const OFFSETS: [u8; 24] = [
        2, 1, 0, 0, 0, 0, 0, 0,
        4, 3, 0, 0, 0, 0, 0, 0,
        6, 5, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn golden_deliver() {
        let head = DeliverHead {
            subscription: 9,
            batch_count: 2,
            first_offset: 0x0102,
            next_offset: 0x0304,
            high_watermark: 0x0506,
        };
        let mut out = Vec::new();
        put_deliver_head(&mut out, &head, 200);
        assert_eq!(out[..16], [248, 0, 0, 0, 1, 0, 0x3B, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out[16..], [&[9, 0, 0, 0, 2, 0, 0, 0], &OFFSETS[..]].concat());
        assert_eq!(DeliverHead::parse(&out[16..]), Ok(head));
        assert!(DeliverHead::parse(&out[16..47]).is_err());
    }

    #[test]
    fn golden_fetch_reply() {
        let head = FetchHead {
            batch_count: 2,
            first_offset: 0x0102,
            next_offset: 0x0304,
            high_watermark: 0x0506,
            log_start: 7,
        };
        let mut out = Vec::new();
        put_fetch_head(&mut out, 5, &head, 0);
        assert_eq!(out[..16], [56, 0, 0, 0, 1, 0, 0x31, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        let (counts, start) = ([0, 0, 0, 0, 2, 0, 0, 0], [7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out[16..], [&counts[..], &OFFSETS[..], &start[..]].concat());
        assert_eq!(FetchHead::parse(&out[16..]), Ok(head));
        out[16] = 1;
        assert!(FetchHead::parse(&out[16..]).is_err());
    }
}
