//! What callers have left to be written, in order.

use std::collections::VecDeque;

use bytes::Bytes;

use super::state::{Answer, BatchAck};

/// Bytes that may wait to be written before callers wait; one frame more always fits.
const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What waits to be written.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) chunks: Vec<Bytes>,
    /// Small frames gathered into one chunk, after all of `chunks`.
    tail: Vec<u8>,
    bytes: usize,
    /// Batches without acknowledgement in here: answered once written.
    pub(super) unacknowledged: Vec<Answer<BatchAck>>,
}

impl Outbox {
    /// Adds a small frame.
    pub(super) fn put<E>(
        &mut self,
        put: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.tail.len();
        put(&mut self.tail)?;
        self.bytes += self.tail.len() - before;
        Ok(())
    }

    /// Adds bytes that are not copied.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.close_tail();
        self.bytes += chunk.len();
        self.chunks.push(chunk);
    }

    /// Takes all of it out, as chunks.
    pub(super) fn take(&mut self) -> Self {
        let mut taken = std::mem::take(self);
        taken.close_tail();
        taken
    }

    /// Puts back what could not be written, before what has come since.
    pub(super) fn put_back(&mut self, chunks: VecDeque<Bytes>) {
        self.bytes += chunks.iter().map(Bytes::len).sum::<usize>();
        self.chunks.splice(0..0, chunks);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty()
    }

    /// Whether callers may go on adding.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < OUTBOX_BYTES_MAX
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push(std::mem::take(&mut self.tail).into());
        }
    }
}
