//! The newest blocks in memory, in the order of the log, dropped a whole chunk at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::buffer::Memory;
use crate::format::block::Block;

struct TailBlock {
    offset: u64,
    block: Block,
}

struct TailChunk {
    memory: Arc<Memory>,
    blocks: usize,
}

/// The blocks kept. They follow each other in the log without a gap.
#[derive(Default)]
pub(crate) struct Tail {
    blocks: VecDeque<TailBlock>,
    chunks: VecDeque<TailChunk>,
}

impl Tail {
    /// Takes the log's newest block, carved from `memory`.
    pub fn push(&mut self, offset: u64, block: Block, memory: &Arc<Memory>) {
        match self.chunks.back_mut() {
            Some(last) if Arc::ptr_eq(&last.memory, memory) => last.blocks += 1,
            _ => self.chunks.push_back(TailChunk { memory: memory.clone(), blocks: 1 }),
        }
        self.blocks.push_back(TailBlock { offset, block });
    }

    /// The block that begins at `offset` of the segment.
    pub fn find(&self, segment: u64, offset: u64) -> Option<&Block> {
        let at =
            self.blocks.partition_point(|b| (b.block.header.segment, b.offset) < (segment, offset));
        let found = self.blocks.get(at)?;
        let here = found.block.header.segment == segment && found.offset == offset;
        here.then_some(&found.block)
    }

    /// Where the blocks of a segment that are here begin.
    pub fn first_in(&self, segment: u64) -> Option<u64> {
        let at = self.blocks.partition_point(|b| b.block.header.segment < segment);
        let found = self.blocks.get(at)?;
        (found.block.header.segment == segment).then_some(found.offset)
    }

    /// Drops the blocks of the oldest chunk. False when there is nothing to drop.
    pub fn evict_oldest(&mut self) -> bool {
        let Some(chunk) = self.chunks.pop_front() else { return false };
        self.blocks.drain(..chunk.blocks);
        true
    }
}
