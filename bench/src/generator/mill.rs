//! Produce frames, made once and patched for every send: correlation, partition, stamps and the
//! two checksums change, all other bytes stay where they lie.

use bytes::Bytes;
use model::{AckLevel, PartitionHandle};
use protocol::batch::crc32c;
use protocol::batch::{BATCH_HEADER_BYTES, CRC, CRC_FROM};
use protocol::{
    BatchBuilder, BatchHeader, FRAME_HEADER_BYTES, PRODUCE_HEAD_BYTES, ProduceHead, RecordIter,
    put_produce_head,
};

use crate::error::BenchError;
use crate::payload::{self, Stamp};
use crate::pool::Pool;

/// Bytes of a produce frame before its batch.
const HEAD_BYTES: usize = FRAME_HEADER_BYTES + PRODUCE_HEAD_BYTES;
/// Where the correlation id lies in a frame (u64, little-endian).
const CORRELATION: std::ops::Range<usize> = 8..16;
/// Most bytes of frames made as one piece, unless one frame is larger: stays in a core's cache.
const CHUNK_BYTES: usize = 256 * 1024;
/// The same where sizes differ: a chunk has one size, so that most hold few frames.
const CHUNK_MIXED_BYTES: usize = 8 * 1024;
/// All chunks together, about, one on each connection: with many connections each has a smaller one.
const CHUNKS_BYTES: usize = 128 * 1024 * 1024;
/// Bytes of a key.
const KEY_BYTES: usize = 8;
/// Different fillers among the frames of a chunk.
const FILLERS: u64 = 64;

/// What changes from frame to frame.
#[derive(Clone, Copy, Debug)]
pub struct Patch {
    pub correlation: u64,
    /// Where the partition stands in the mill's list.
    pub partition: u32,
    /// Of all messages of the frame, where they have one.
    pub key: u64,
    /// Of the frame's first message; the others follow by one.
    pub stamp: Stamp,
}

/// What the messages of a run have in common.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub ack: AckLevel,
    /// Messages of a frame.
    pub batch: usize,
    /// Messages have keys.
    pub keyed: bool,
    /// Their timestamp, Unix milliseconds.
    pub time_ms: i64,
}

/// The mills of a run, one for each size of payload.
pub type Mills = [Mill];

/// Makes the produce frames of one size. All have the same length.
#[derive(Debug)]
pub struct Mill {
    /// Frame header and produce head of each partition, correlation 0.
    heads: Vec<[u8; HEAD_BYTES]>,
    /// Where the payloads lie in a frame, in order.
    payloads: Vec<usize>,
    /// Where the keys lie; none when messages have none.
    keys: Vec<usize>,
    /// CRC of the filler of each payload of each frame of a chunk: it stays as it is.
    filler_crcs: Vec<u32>,
    payload_bytes: usize,
    frame_bytes: usize,
    /// A chunk of frames, to be copied when no spare one is left.
    template: Vec<u8>,
    spare: Pool<Vec<u8>>,
}

/// Frames being made, one after the other.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    /// Made so far.
    frames: usize,
}

impl Mill {
    /// A mill for each of `sizes`, payload bytes, all for so many connections.
    pub fn all(
        partitions: &[PartitionHandle],
        form: &Form,
        sizes: &[usize],
        connections: usize,
    ) -> Result<Vec<Self>, BenchError> {
        let most = if sizes.len() == 1 { CHUNK_BYTES } else { CHUNK_MIXED_BYTES };
        let chunk_bytes = most.min(CHUNKS_BYTES / connections.max(1));
        sizes.iter().map(|size| Self::new(partitions, form, *size, chunk_bytes)).collect()
    }

    fn new(
        partitions: &[PartitionHandle],
        form: &Form,
        size: usize,
        chunk_bytes: usize,
    ) -> Result<Self, BenchError> {
        let first = build_batch(size, form, 0)?;
        let (payloads, keys) = find_parts(&first)?;
        let frame_bytes = HEAD_BYTES + first.len();
        let heads = partitions.iter().map(|handle| head(*handle, form.ack, first.len())).collect();
        let frames = (chunk_bytes / frame_bytes).max(1);
        let mut template = Vec::with_capacity(frames * frame_bytes);
        for frame in 0..frames as u64 {
            template.extend_from_slice(&[0; HEAD_BYTES]);
            template.extend_from_slice(&build_batch(size, form, frame % FILLERS)?);
        }
        let mut filler_crcs = Vec::with_capacity(frames * payloads.len());
        for frame in template.chunks(frame_bytes) {
            let crc = |at: &usize| payload::filler_crc(&frame[*at..*at + size]);
            filler_crcs.extend(payloads.iter().map(crc));
        }
        let (payload_bytes, spare) = (size, Pool::new());
        Ok(Self { heads, payloads, keys, filler_crcs, payload_bytes, frame_bytes, template, spare })
    }

    /// Bytes of every frame on the wire.
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Messages in every frame.
    pub fn batch(&self) -> usize {
        self.payloads.len()
    }

    /// Payload bytes of every frame.
    pub fn payload_bytes(&self) -> usize {
        self.payloads.len() * self.payload_bytes
    }

    /// Whether the chunk has room for another frame.
    pub fn has_room(&self, chunk: &Chunk) -> bool {
        chunk.frames < self.frames_per_chunk()
    }

    /// Frames that fit one chunk.
    pub fn frames_per_chunk(&self) -> usize {
        self.template.len() / self.frame_bytes
    }

    pub fn chunk(&self) -> Chunk {
        let bytes = self.spare.take().unwrap_or_else(|| self.template.clone());
        Chunk { bytes, frames: 0 }
    }

    /// Makes the next frame of the chunk, which must have room for it.
    pub fn put(&self, chunk: &mut Chunk, patch: &Patch) {
        let frame = &mut chunk.bytes[chunk.frames * self.frame_bytes..][..self.frame_bytes];
        frame[..HEAD_BYTES].copy_from_slice(&self.heads[patch.partition as usize]);
        frame[CORRELATION].copy_from_slice(&patch.correlation.to_le_bytes());
        let mut stamp = patch.stamp;
        let crcs = &self.filler_crcs[chunk.frames * self.payloads.len()..];
        for (at, crc) in self.payloads.iter().zip(crcs) {
            payload::seal(&mut frame[*at..*at + self.payload_bytes], &stamp, *crc);
            stamp.sequence += 1;
        }
        for at in &self.keys {
            frame[*at..*at + KEY_BYTES].copy_from_slice(&patch.key.to_be_bytes());
        }
        let batch = &mut frame[HEAD_BYTES..];
        let crc = crc32c(&batch[CRC_FROM..]);
        batch[CRC].copy_from_slice(&crc.to_be_bytes());
        chunk.frames += 1;
    }

    /// The frames made, to be sent; the memory is used again afterwards.
    pub fn finish(&self, chunk: Chunk) -> Bytes {
        self.spare.lend(chunk.bytes).slice(..chunk.frames * self.frame_bytes)
    }
}

fn head(partition: PartitionHandle, ack: AckLevel, batch_bytes: usize) -> [u8; HEAD_BYTES] {
    let head = ProduceHead { handle: partition, ack: Some(ack), deadline_ms: 0, batch_count: 1 };
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    put_produce_head(&mut bytes, 0, &head, batch_bytes);
    let mut out = [0; HEAD_BYTES];
    out.copy_from_slice(&bytes);
    out
}

fn build_batch(size: usize, form: &Form, seed: u64) -> Result<Vec<u8>, BenchError> {
    let too_large = |error: protocol::TooLarge| BenchError::Options(error.to_string());
    let mut builder = BatchBuilder::with_capacity(form.batch * (size + 16));
    let mut payload = vec![0; size];
    let key = form.keyed.then_some([0; KEY_BYTES]);
    let key = key.as_ref().map(<[u8; KEY_BYTES]>::as_slice);
    for record in 0..form.batch as u64 {
        payload::fill(&mut payload, seed << 32 | record);
        builder.append(form.time_ms, key, Some(&payload), []).map_err(too_large)?;
    }
    Ok(builder.finish(None))
}

/// Where the values and the keys of a batch's records lie in the frame that holds it.
fn find_parts(batch: &[u8]) -> Result<(Vec<usize>, Vec<usize>), BenchError> {
    let wrong = || BenchError::Protocol("a batch made here cannot be read".into());
    let header = batch.first_chunk().ok_or_else(wrong)?;
    let header = BatchHeader::parse(header).map_err(|_| wrong())?;
    let place = |part: &[u8]| HEAD_BYTES + (part.as_ptr() as usize - batch.as_ptr() as usize);
    let (mut values, mut keys) = (Vec::new(), Vec::new());
    for record in RecordIter::new(&header, &batch[BATCH_HEADER_BYTES..]) {
        let record = record.map_err(|_| wrong())?;
        values.push(place(record.value.ok_or_else(wrong)?));
        keys.extend(record.key.map(place));
    }
    Ok((values, keys))
}

#[cfg(test)]
impl Mill {
    /// One that acknowledges durably, for tests.
    pub fn sample(partitions: &[PartitionHandle], size: usize, batch: usize, keyed: bool) -> Self {
        let form = Form { ack: AckLevel::Durable, batch, keyed, time_ms: 77 };
        Self::all(partitions, &form, &[size], 1).unwrap().remove(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ShardId, StreamId, TopicId};
    use protocol::{check_batch, next_frame};

    #[test]
    fn every_frame_is_whole_and_says_what_it_was_told() {
        let partitions: Vec<_> = (0..3)
            .map(|p| PartitionHandle { topic: TopicId(9), stream: StreamId(p), shard: ShardId(1) })
            .collect();
        for (size, batch, keyed) in
            [(24, 1, false), (100, 1, true), (1024, 100, true), (1024, 1, false)]
        {
            let mill = Mill::sample(&partitions, size, batch, keyed);
            // Twice, so that the second round patches used memory.
            for round in 0..2_u64 {
                let frames = mill.frames_per_chunk().min(5);
                let mut chunk = mill.chunk();
                for k in 0..frames as u64 {
                    let stamp = Stamp { producer: 4, sequence: round * 1000 + k, intended_ns: k };
                    let partition = (k % 3) as u32;
                    let patch = Patch { correlation: 50 + k, partition, key: k, stamp };
                    assert!(mill.has_room(&chunk));
                    mill.put(&mut chunk, &patch);
                }
                let bytes = mill.finish(chunk);
                check_frames(&bytes, &mill, frames, round, size);
            }
        }
    }

    fn check_frames(bytes: &[u8], mill: &Mill, frames: usize, round: u64, size: usize) {
        let mut rest = bytes;
        for k in 0..frames as u64 {
            let (header, length) = next_frame(rest).unwrap().unwrap();
            assert_eq!((header.correlation, length), (50 + k, mill.frame_bytes()));
            let head = ProduceHead::parse(&rest[FRAME_HEADER_BYTES..]).unwrap();
            assert_eq!(head.handle.stream.0, (k % 3) as u32);
            let batch = &rest[HEAD_BYTES..length];
            let checked = check_batch(&[batch]).unwrap();
            assert_eq!(checked.records_count as usize, mill.batch());
            let records = RecordIter::new(&checked, &batch[BATCH_HEADER_BYTES..]);
            for (at, record) in records.enumerate() {
                let record = record.unwrap();
                let key = k.to_be_bytes();
                assert_eq!(record.key, (!mill.keys.is_empty()).then_some(&key[..]));
                let value = record.value.unwrap();
                assert_eq!(value.len(), size);
                let stamp = payload::open(value).unwrap();
                assert_eq!(stamp.sequence, round * 1000 + k + at as u64);
            }
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
    }
}
