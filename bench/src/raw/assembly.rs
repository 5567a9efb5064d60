//! Produce frames out of received pieces, without joining the pieces: a frame that came in several
//! is checked and copied from where its parts lie.

use model::ShardId;
use protocol::batch::{BATCH_HEADER_BYTES, CRC_FROM};
use protocol::{
    BatchHeader, FRAME_HEADER_BYTES, FrameHeader, PRODUCE_HEAD_BYTES, ProduceHead, kind, next_frame,
};
use ring::ReceivedBuffer;
use smallvec::SmallVec;

use crate::error::BenchError;

/// Bytes before the batch.
const HEAD_BYTES: usize = FRAME_HEADER_BYTES + PRODUCE_HEAD_BYTES;
/// Bytes that have to be looked at, as one piece.
const FIRST_BYTES: usize = HEAD_BYTES + BATCH_HEADER_BYTES;

type Parts<'a> = SmallVec<[&'a [u8]; 4]>;

/// One whole and checked produce frame.
#[derive(Debug)]
pub struct Frame<'a> {
    pub correlation: u64,
    pub shard: ShardId,
    pub records: u32,
    /// The batch, in the pieces it came in.
    pub batch: Parts<'a>,
}

/// The frame of one connection that has arrived in part. Bounded by the frame limit.
#[derive(Debug, Default)]
pub struct Assembly {
    /// Pieces, and where the frame begins in each.
    pieces: Vec<(ReceivedBuffer, usize)>,
    bytes: usize,
}

impl Assembly {
    /// Hands every frame that is whole now to `each`.
    pub fn feed(
        &mut self,
        data: ReceivedBuffer,
        mut each: impl FnMut(&Frame),
    ) -> Result<(), BenchError> {
        let mut at = 0;
        if self.bytes > 0 {
            let Some(length) = self.length(&data)? else {
                self.keep(data, 0);
                return Ok(());
            };
            if self.bytes + data.len() < length {
                self.keep(data, 0);
                return Ok(());
            }
            at = length - self.bytes;
            let mut parts: Parts = self.pieces.iter().map(|(p, from)| &p[*from..]).collect();
            parts.push(&data[..at]);
            each(&check(parts)?);
            self.pieces.clear();
            self.bytes = 0;
        }
        while let Some((_, length)) = next_frame(&data[at..])? {
            each(&check(SmallVec::from_slice(&[&data[at..at + length]]))?);
            at += length;
        }
        if at < data.len() {
            self.keep(data, at);
        }
        Ok(())
    }

    fn keep(&mut self, data: ReceivedBuffer, from: usize) {
        self.bytes += data.len() - from;
        self.pieces.push((data, from));
    }

    /// The length of the frame begun, once its header is there.
    fn length(&self, data: &[u8]) -> Result<Option<usize>, BenchError> {
        let mut parts: Parts = self.pieces.iter().map(|(p, from)| &p[*from..]).collect();
        parts.push(data);
        let mut head = [0; FRAME_HEADER_BYTES];
        if gather(&parts, &mut head) < head.len() {
            return Ok(None);
        }
        Ok(Some(FrameHeader::parse(&head)?.length as usize))
    }
}

/// Copies the first bytes of `parts`; says how many there were.
fn gather(parts: &[&[u8]], out: &mut [u8]) -> usize {
    let mut filled = 0;
    for part in parts {
        let taken = part.len().min(out.len() - filled);
        out[filled..filled + taken].copy_from_slice(&part[..taken]);
        filled += taken;
    }
    filled
}

/// `parts` without their first `bytes`.
fn skip<'a>(parts: &[&'a [u8]], mut bytes: usize) -> Parts<'a> {
    let mut rest = Parts::new();
    for part in parts {
        let skipped = bytes.min(part.len());
        bytes -= skipped;
        if skipped < part.len() {
            rest.push(&part[skipped..]);
        }
    }
    rest
}

fn check(parts: Parts) -> Result<Frame, BenchError> {
    let mut first = [0; FIRST_BYTES];
    let head: &[u8; FIRST_BYTES] = match parts[0].first_chunk() {
        Some(head) => head,
        None if gather(&parts, &mut first) == FIRST_BYTES => &first,
        None => return Err(wrong("a produce frame that is too short")),
    };
    let (frame, body) = head.split_at(FRAME_HEADER_BYTES);
    let header = frame.first_chunk().map(FrameHeader::parse).transpose()?;
    let header = header.filter(|h| h.kind == kind::PRODUCE);
    let correlation = header.ok_or_else(|| wrong("a frame that is no publish"))?.correlation;
    let produce = ProduceHead::parse(body).map_err(|e| wrong(&e.to_string()))?;
    let batch_header = head[HEAD_BYTES..].first_chunk().map(BatchHeader::parse).transpose();
    let batch_header = batch_header.map_err(|e| wrong(&e.to_string()))?;
    let batch_header = batch_header.ok_or_else(|| wrong("a batch that is too short"))?;
    let batch = if let [whole] = parts[..] {
        SmallVec::from_slice(&[&whole[HEAD_BYTES..]])
    } else {
        skip(&parts, HEAD_BYTES)
    };
    if checksum(&batch) != batch_header.crc {
        return Err(wrong("a batch whose CRC32C does not match"));
    }
    let (shard, records) = (produce.handle.shard, batch_header.records_count);
    Ok(Frame { correlation, shard, records, batch })
}

fn checksum(batch: &Parts) -> u32 {
    if let [whole] = batch[..] {
        return protocol::batch::crc32c(&whole[CRC_FROM..]);
    }
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    skip(batch, CRC_FROM).iter().for_each(|part| digest.update(part));
    digest.finalize() as u32
}

fn wrong(what: &str) -> BenchError {
    BenchError::Protocol(format!("{what} (seen by the bare append loop)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_where_the_bytes_say() {
        let parts: [&[u8]; 3] = [&[1, 2], &[3], &[4, 5, 6]];
        let flat = |bytes| skip(&parts, bytes).concat();
        for cut in 0..=6 {
            assert_eq!(flat(cut), (cut as u8 + 1..=6).collect::<Vec<_>>());
        }
        let mut head = [0; 4];
        assert_eq!(gather(&parts, &mut head), 4);
        assert_eq!(head, [1, 2, 3, 4]);
        assert_eq!(gather(&parts[..1], &mut head), 2);
    }
}
