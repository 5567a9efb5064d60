//! Checkpoints: the state as a list of objects, written in slices and read back in pieces.
//!
//! Each object is a u32 length (of what follows it), a u8 tag and the object:
//! - 0, first and once: format u16, shard u16, next stream u32, next topic u64, next producer
//!   id i64, time i64;
//! - 1, a topic or tombstone (`topics.rs`), ids rising;
//! - 2, stream u32 and a partition (`partition.rs`), streams rising;
//! - 3, after a partition with holes in its offsets: stream u32, count u32, and for each hole the
//!   first offset in it and the first one behind it, both u64.
//!
//! The same state always gives the same bytes.

use model::{Lsn, ShardId, StreamId, TopicId};

use crate::codec::{self, DecodeError, Fields};
use crate::engine::replay::ReplayError;
use crate::engine::{Counters, Engine};
use crate::partition::Partition;
use crate::topics::Topic;

const FORMAT: u16 = 1;
const TAG_HEAD: u8 = 0;
const TAG_TOPIC: u8 = 1;
const TAG_PARTITION: u8 = 2;
const TAG_HOLES: u8 = 3;
/// A slice also ends here, so that a few very large objects do not make one long.
const SLICE_BYTES_MAX: usize = 64 * 1024;

/// How far a checkpoint has come. Holds no reference: the engine goes on between slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotCursor(Stage);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Topics { next: TopicId },
    Partitions { next: StreamId },
    Done,
}

impl Engine {
    /// Begins a checkpoint.
    pub fn snapshot(&self) -> SnapshotCursor {
        SnapshotCursor(Stage::Head)
    }

    /// Appends up to `objects_max` objects to `out`, each as it is now. Returns whether there
    /// are more. A few hundred objects take well under 200 us.
    pub fn snapshot_slice(
        &self,
        cursor: &mut SnapshotCursor,
        objects_max: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let bytes_max = out.len() + SLICE_BYTES_MAX;
        let mut left = objects_max.max(1);
        if cursor.0 == Stage::Head {
            put_object(out, TAG_HEAD, |out| self.encode_head(out));
            cursor.0 = Stage::Topics { next: TopicId(0) };
            left -= 1;
        }
        if let Stage::Topics { next } = cursor.0 {
            cursor.0 = Stage::Partitions { next: StreamId(0) };
            for topic in self.topics.range(next) {
                if left == 0 || out.len() >= bytes_max {
                    cursor.0 = Stage::Topics { next: topic.record.id };
                    return true;
                }
                put_object(out, TAG_TOPIC, |out| topic.encode(out));
                left -= 1;
            }
        }
        if let Stage::Partitions { next } = cursor.0 {
            cursor.0 = Stage::Done;
            for (stream, partition) in self.streams.range(next).filter(|(_, p)| !p.deleted) {
                if left == 0 || out.len() >= bytes_max {
                    cursor.0 = Stage::Partitions { next: stream };
                    return true;
                }
                put_object(out, TAG_PARTITION, |out| {
                    codec::put_u32(out, stream.0);
                    partition.encode(out);
                });
                if !partition.holes.is_empty() {
                    put_object(out, TAG_HOLES, |out| put_holes(out, stream, partition));
                }
                left -= 1;
            }
        }
        false
    }

    /// Takes the next piece of a checkpoint; pieces may be cut anywhere.
    pub fn load(&mut self, piece: &[u8]) -> Result<(), ReplayError> {
        let mut partial = std::mem::take(&mut self.replay.partial);
        partial.extend_from_slice(piece);
        let mut at = 0;
        while let Some(length) = partial[at..].first_chunk() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some(object) = partial[at + 4..].get(..length) else { break };
            self.load_object(object)?;
            at += 4 + length;
        }
        partial.drain(..at);
        self.replay.partial = partial;
        Ok(())
    }

    /// The checkpoint is complete: it holds all entries up to `start`, and some up to `end`.
    /// The entries after `start` are applied next.
    pub fn loaded(&mut self, start: Lsn, end: Lsn) -> Result<(), ReplayError> {
        if !self.replay.partial.is_empty() || !self.replay.head_seen {
            return Err(DecodeError::Short.into());
        }
        self.replay.partial = Vec::new();
        self.replay.fuzzy_until = end;
        self.last_lsn = start;
        self.committed_lsn = start;
        Ok(())
    }

    fn encode_head(&self, out: &mut Vec<u8>) {
        codec::put_u16(out, FORMAT);
        codec::put_u16(out, self.shard.0);
        codec::put_u32(out, self.counters.stream_next.0);
        codec::put_u64(out, self.counters.topic_next.0);
        codec::put_i64(out, self.counters.producer_id_next);
        codec::put_i64(out, self.counters.time_ms);
    }

    fn load_object(&mut self, object: &[u8]) -> Result<(), ReplayError> {
        let mut fields = Fields::new(object);
        let tag = fields.u8()?;
        if (tag == TAG_HEAD) == self.replay.head_seen {
            return Err(ReplayError::CheckpointOrder);
        }
        match tag {
            TAG_HEAD => self.load_head(&mut fields)?,
            TAG_TOPIC => {
                let topic = Topic::decode(&mut fields)?;
                let id = topic.record.id;
                if self.topics.get(id).is_some() || id.0 == u64::MAX {
                    return Err(ReplayError::CheckpointOrder);
                }
                self.counters.topic_next = self.counters.topic_next.max(TopicId(id.0 + 1));
                self.topics.insert(topic);
            }
            TAG_PARTITION => {
                let stream = StreamId(fields.u32()?);
                let partition = Partition::decode(&mut fields)?;
                if self.streams.get(stream).is_some() || stream.0 == u32::MAX {
                    return Err(ReplayError::CheckpointOrder);
                }
                let following = StreamId(stream.0 + 1);
                self.counters.stream_next = self.counters.stream_next.max(following);
                self.take_place((partition.topic, partition.index), stream);
                self.remembered += partition.remembered();
                self.streams.insert(stream, partition);
            }
            TAG_HOLES => self.load_holes(&mut fields)?,
            _ => return Err(DecodeError::BadField("object tag").into()),
        }
        fields.end()?;
        Ok(())
    }

    fn load_holes(&mut self, fields: &mut Fields<'_>) -> Result<(), ReplayError> {
        let partition = self.streams.get_mut(StreamId(fields.u32()?));
        let partition = partition.ok_or(ReplayError::CheckpointOrder)?;
        for _ in 0..fields.count(16)? {
            let hole = (fields.u64()?, fields.u64()?);
            let after = partition.holes.last().map_or(partition.first_offset, |last| last.1);
            let inside = hole.1 > hole.0.max(after) && hole.1 <= partition.next_offset;
            if !inside || (hole.0 < after && !partition.holes.is_empty()) {
                return Err(DecodeError::BadField("hole").into());
            }
            partition.holes.push(hole);
        }
        Ok(())
    }

    fn load_head(&mut self, fields: &mut Fields<'_>) -> Result<(), ReplayError> {
        let format = fields.u16()?;
        if format == 0 || format > FORMAT {
            return Err(ReplayError::CheckpointFormat { found: format, known: FORMAT });
        }
        let shard = ShardId(fields.u16()?);
        if shard != self.shard {
            return Err(ReplayError::CheckpointShard { found: shard, expected: self.shard });
        }
        self.counters = Counters {
            stream_next: StreamId(fields.u32()?),
            topic_next: TopicId(fields.u64()?),
            producer_id_next: fields.i64()?,
            time_ms: fields.i64()?,
        };
        self.replay.head_seen = true;
        Ok(())
    }
}

fn put_holes(out: &mut Vec<u8>, stream: StreamId, partition: &Partition) {
    codec::put_u32(out, stream.0);
    codec::put_u32(out, partition.holes.len() as u32);
    for (from, to) in &partition.holes {
        codec::put_u64(out, *from);
        codec::put_u64(out, *to);
    }
}

fn put_object(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    codec::put_u32(out, 0);
    codec::put_u8(out, tag);
    body(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}
