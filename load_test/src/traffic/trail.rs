//! What readers were shown, as a number per thousand messages: an offset, once shown, keeps its
//! message for ever, and this is enough to see that it did.

use std::collections::HashMap;

use super::message::Message;

/// Messages in a chunk.
pub const CHUNK: u64 = 1024;

/// A row of messages, from its first offset on, folded into one number.
#[derive(Clone, Copy, Debug)]
pub struct Trail {
    /// The offset that comes next; `None` before the first.
    next: Option<u64>,
    hash: u64,
    /// The chunk under way was seen from its beginning.
    whole: bool,
}

impl Trail {
    pub fn new() -> Self {
        Self { next: None, hash: 0, whole: false }
    }

    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// The number of the messages of the chunk under way, if all of them were seen.
    pub fn tail(&self) -> Option<u64> {
        self.whole.then_some(self.hash)
    }

    /// Takes the message at `offset` in, which follows the last or begins anew. Returns the chunk
    /// it ends, with its number.
    pub fn push(&mut self, offset: u64, message: Message) -> Option<(u64, u64)> {
        if offset.is_multiple_of(CHUNK) {
            (self.hash, self.whole) = (0, true);
        } else if self.next != Some(offset) {
            self.whole = false;
        }
        let mixed = (u64::from(message.producer) << 48) ^ message.sequence ^ offset.rotate_left(32);
        self.hash = (self.hash ^ mixed).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        self.next = Some(offset + 1);
        ((offset + 1).is_multiple_of(CHUNK) && self.whole).then_some((offset / CHUNK, self.hash))
    }
}

/// All chunks that any reader has seen whole, by partition.
#[derive(Debug)]
pub struct Shown {
    chunks: Vec<HashMap<u64, u64>>,
}

impl Shown {
    pub fn new(partitions: u32) -> Self {
        Self { chunks: (0..partitions).map(|_| HashMap::new()).collect() }
    }

    /// Compares a chunk with what was shown before.
    pub fn note(&mut self, partition: u32, (chunk, hash): (u64, u64)) -> Result<(), String> {
        let before = *self.chunks[partition as usize].entry(chunk).or_insert(hash);
        if before == hash {
            return Ok(());
        }
        Err(format!(
            "partition {partition}: offsets {} to {} do not hold the messages they were shown with",
            chunk * CHUNK,
            chunk * CHUNK + CHUNK - 1
        ))
    }

    pub fn chunks(&self) -> usize {
        self.chunks.iter().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(from: u64, changed: u64) -> Vec<(u64, u64)> {
        let mut trail = Trail::new();
        let message =
            |offset| Message { producer: 1, sequence: offset + u64::from(offset == changed) };
        (from..4 * CHUNK).filter_map(|offset| trail.push(offset, message(offset))).collect()
    }

    #[test]
    fn a_changed_message_changes_its_chunk_only() {
        let (before, after) = (shown(0, u64::MAX), shown(0, CHUNK + 7));
        assert_eq!(before.len(), 4);
        let changed: Vec<_> = (0..4).filter(|at| before[*at] != after[*at]).collect();
        assert_eq!(changed, [1]);
        let mut all = Shown::new(1);
        assert!(before.iter().all(|chunk| all.note(0, *chunk).is_ok()));
        assert_eq!(after.iter().filter(|chunk| all.note(0, **chunk).is_err()).count(), 1);
    }

    #[test]
    fn a_reader_that_comes_late_sees_the_same_chunks() {
        assert_eq!(shown(10, u64::MAX), shown(0, u64::MAX)[1..]);
    }
}
