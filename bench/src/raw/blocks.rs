//! Frames gathered into blocks, blocks written several at a time, and acknowledged in order.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;

use protocol::{ProduceAck, put_produce_ack};
use ring::{AlignedBuffer, Ring};

use crate::error::BenchError;
use crate::pool::Pool;
use crate::raw::space::{Files, Place};

/// Writes under way at once.
const DEPTH: usize = 4;
/// A block is closed at this size, unless one frame is larger.
pub const BLOCK_BYTES: usize = 1024 * 1024;
/// Closed blocks that wait for their turn; with more, nothing further is taken in.
const WAITING_MAX: usize = 32;
/// Blocks begin and end on this, bytes.
const ALIGNMENT: usize = 4096;
/// Marks the zeroing writes; block writes have their number, which stays below.
const ZEROING: u64 = u64::MAX;

/// Consecutive requests of one connection at consecutive offsets: one acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub connection: u32,
    /// The first request's correlation id.
    pub first: u64,
    pub ack: ProduceAck,
}

impl Run {
    /// Takes `next` in, when it follows.
    pub fn join(&mut self, next: &Run) -> bool {
        let (ours, theirs) = (&mut self.ack, &next.ack);
        let count = u64::from(ours.count);
        let follows = self.connection == next.connection
            && next.first == self.first + count
            && theirs.offset_step == ours.offset_step
            && theirs.base_offset == ours.base_offset + count * u64::from(ours.offset_step);
        if follows {
            ours.count += theirs.count;
        }
        follows
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        put_produce_ack(out, &self.ack, self.first);
    }
}

#[derive(Debug)]
struct Block {
    buffer: AlignedBuffer,
    filled: usize,
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Writing {
    /// Keeps the file open.
    _place: Place,
    runs: Vec<Run>,
    done: bool,
}

/// The bare log: no entries, no index, no recovery.
#[derive(Debug)]
pub struct Blocks {
    files: Files,
    block_bytes: usize,
    spare: Pool<AlignedBuffer>,
    spare_runs: Vec<Vec<Run>>,
    filling: Block,
    waiting: VecDeque<Block>,
    writing: VecDeque<Writing>,
    /// Number of the write at the front of `writing`.
    front: u64,
}

/// On a huge page, as the broker's: direct writes of small pages are split and cost more.
fn block_memory(bytes: usize) -> AlignedBuffer {
    AlignedBuffer::new(bytes.max(AlignedBuffer::HUGE_PAGE))
}

impl Blocks {
    pub fn new(files: Files, frame_bytes: usize) -> Self {
        let block_bytes = BLOCK_BYTES.max(frame_bytes.next_multiple_of(ALIGNMENT));
        let filling = Block { buffer: block_memory(block_bytes), filled: 0, runs: vec![] };
        Self {
            files,
            block_bytes,
            spare: Pool::new(),
            spare_runs: Vec::new(),
            filling,
            waiting: VecDeque::new(),
            writing: VecDeque::new(),
            front: 0,
        }
    }

    /// Whether more may be appended: what waits for the disk is bounded.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Copies one batch, which lies in `parts`, and what is to be said once it is durable.
    pub fn append(&mut self, parts: &[&[u8]], run: Option<&Run>) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if self.filling.filled + bytes > self.block_bytes {
            self.close();
        }
        let Block { buffer, filled, runs } = &mut self.filling;
        let memory = buffer.as_mut_slice();
        for part in parts {
            memory[*filled..*filled + part.len()].copy_from_slice(part);
            *filled += part.len();
        }
        if let Some(run) = run
            && !runs.last_mut().is_some_and(|last| last.join(run))
        {
            runs.push(*run);
        }
    }

    fn close(&mut self) {
        let buffer = self.spare.take().unwrap_or_else(|| block_memory(self.block_bytes));
        let runs = self.spare_runs.pop().unwrap_or_default();
        let full = std::mem::replace(&mut self.filling, Block { buffer, filled: 0, runs });
        self.waiting.push_back(full);
    }

    /// Starts writes while fewer than the depth are under way. A block that is not full goes when
    /// nothing is ahead of it.
    pub fn write(&mut self, ring: &mut Ring) -> Result<(), BenchError> {
        while self.writing.len() < DEPTH {
            if self.waiting.is_empty() {
                if self.filling.filled == 0 {
                    break;
                }
                self.close();
            }
            let Some(block) = self.waiting.front() else { break };
            let padded = block.filled.next_multiple_of(ALIGNMENT);
            let Some(place) = self.files.place(padded as u64)? else { break };
            let Some(mut block) = self.waiting.pop_front() else { break };
            block.buffer.as_mut_slice()[block.filled..padded].fill(0);
            let bytes = self.spare.lend(block.buffer).slice(..padded);
            let number = self.front + self.writing.len() as u64;
            ring.write_at(number, place.file.as_raw_fd(), place.offset, bytes);
            self.writing.push_back(Writing { _place: place, runs: block.runs, done: false });
        }
        self.files.zero_ahead(ZEROING, ring)
    }

    /// A write ended. Reports what became durable with it, in order.
    pub fn written(&mut self, token: u64, mut durable: impl FnMut(&Run)) {
        if token == ZEROING {
            self.files.zeroed();
            return;
        }
        let at = (token - self.front) as usize;
        if let Some(writing) = self.writing.get_mut(at) {
            writing.done = true;
        }
        while self.writing.front().is_some_and(|w| w.done) {
            let Some(mut writing) = self.writing.pop_front() else { break };
            self.front += 1;
            writing.runs.iter().for_each(&mut durable);
            writing.runs.clear();
            self.spare_runs.push(writing.runs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{AckLevel, ShardId};

    fn run(connection: u32, first: u64, base_offset: u64, offset_step: u32) -> Run {
        let (level, shard, append_time_ms) = (AckLevel::Durable, ShardId(0), 0);
        let count = 1;
        let ack = ProduceAck { count, level, base_offset, offset_step, shard, append_time_ms };
        Run { connection, first, ack }
    }

    #[test]
    fn only_what_follows_joins_a_run() {
        let mut joined = run(1, 5, 100, 2);
        assert!(joined.join(&run(1, 6, 102, 2)));
        assert!(!joined.join(&run(1, 6, 104, 2)), "a correlation id twice");
        assert!(!joined.join(&run(1, 7, 106, 2)), "a gap in the offsets");
        assert!(!joined.join(&run(1, 7, 104, 1)), "another step");
        assert!(!joined.join(&run(2, 7, 104, 2)), "another connection");
        assert!(joined.join(&run(1, 7, 104, 2)));
        assert_eq!(joined.ack.count, 3);
    }
}
