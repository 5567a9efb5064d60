//! What callers have left to be written, in order.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::state::{Answer, BatchAck};

/// Bytes that may wait to be written before callers wait; one frame more always fits.
const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Batches up to this size are copied to their frame: cheaper than handing them on one by one.
pub(super) const COPIED_BYTES_MAX: usize = 2 * 1024;

/// What waits to be written.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) chunks: Vec<Bytes>,
    /// Small frames gathered into one chunk, after all of `chunks`.
    tail: BytesMut,
    /// Where a frame is made.
    frame: Vec<u8>,
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
        self.frame.clear();
        put(&mut self.frame)?;
        self.tail.extend_from_slice(&self.frame);
        self.bytes += self.frame.len();
        Ok(())
    }

    /// Adds the bytes that belong to the frame before: large ones are not copied.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        self.bytes += bytes.len();
        if bytes.len() <= COPIED_BYTES_MAX {
            self.tail.extend_from_slice(bytes);
        } else {
            self.close_tail();
            self.chunks.push(bytes.clone());
        }
    }

    /// Takes all of it out, as chunks. The memory of what is written by then is used for what comes next.
    pub(super) fn take(&mut self) -> Self {
        self.close_tail();
        Self {
            chunks: std::mem::take(&mut self.chunks),
            unacknowledged: std::mem::take(&mut self.unacknowledged),
            bytes: std::mem::take(&mut self.bytes),
            ..Self::default()
        }
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
            self.chunks.push(self.tail.split().freeze());
        }
    }
}
