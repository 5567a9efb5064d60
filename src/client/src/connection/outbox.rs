//! What callers have left to be written, in order.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::state::{Answer, BatchAck};

/// Bytes that may wait to be written before callers wait; one frame more always fits.
const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Batches up to this size are copied to their frame: cheaper than handing them on one by one.
pub(super) const COPIED_BYTES_MAX: usize = 2 * 1024;
/// Memory of written frames up to this size is kept for the next ones.
const KEPT_BYTES_MAX: usize = 256 * 1024;

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
        let made = put(&mut self.frame);
        if made.is_ok() {
            self.tail.extend_from_slice(&self.frame);
            self.bytes += self.frame.len();
        }
        self.frame.clear();
        self.frame.shrink_to(COPIED_BYTES_MAX);
        made
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
            let chunk = self.tail.split().freeze();
            if chunk.len() > KEPT_BYTES_MAX {
                self.tail = BytesMut::new();
            }
            self.chunks.push(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small and large batches, frames that could not be made, and writes that stop anywhere.
    #[test]
    fn what_goes_in_comes_out_whole_and_in_order() {
        let seed = std::env::var("CORELANE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("CORELANE_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut outbox, mut sent, mut written) =
            (Outbox::default(), Vec::new(), Vec::<Bytes>::new());
        let mut in_flight = VecDeque::new();
        for mark in 0..2_000_u32 {
            let (head, refused) = (mark.to_le_bytes(), random.u32(0..10) == 0);
            let put = outbox.put(|out| {
                out.extend_from_slice(&head);
                if refused { Err(()) } else { Ok(()) }
            });
            assert_eq!(put.is_err(), refused);
            if !refused {
                let size = [0, 1, 1_000, COPIED_BYTES_MAX, COPIED_BYTES_MAX + 1, 40_000];
                let batch = vec![mark as u8; size[random.usize(0..size.len())]];
                sent.extend_from_slice(&head);
                sent.extend_from_slice(&batch);
                outbox.push(&batch.into());
            }
            // What was taken before may be held for long, and its memory must not change by what comes.
            if random.u32(0..4) == 0 {
                let writable = random.usize(0..=in_flight.len());
                written.extend(in_flight.drain(..writable));
                outbox.put_back(std::mem::take(&mut in_flight));
                in_flight = outbox.take().chunks.into();
            }
        }
        written.extend(in_flight);
        written.extend(outbox.take().chunks);
        let written = written.concat();
        assert!(written == sent, "{} bytes of {}", written.len(), sent.len());
        assert_eq!((outbox.bytes, outbox.is_empty()), (0, true));
    }

    #[test]
    fn memory_of_a_backlog_is_not_kept() {
        let mut outbox = Outbox::default();
        let batch = Bytes::from(vec![7; 1_000]);
        for count in [4_000, 10] {
            (0..count).for_each(|_| outbox.push(&batch));
            drop(outbox.take());
            assert!(outbox.tail.capacity() <= 2 * KEPT_BYTES_MAX, "{}", outbox.tail.capacity());
        }
        let put = outbox.put(|out| {
            out.resize(1 << 20, 0);
            Ok::<(), ()>(())
        });
        assert!(put.is_ok());
        drop(outbox.take());
        assert!(outbox.frame.capacity() <= KEPT_BYTES_MAX && outbox.tail.capacity() == 0);
    }
}
