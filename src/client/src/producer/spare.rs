//! Memory of batches that are done, for the next ones: taking and giving back a few hundred KiB
//! at a time costs more than filling them.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Buffers kept, over all partitions of a producer.
const BUFFERS_MAX: usize = 16;
/// Smaller ones are not worth it.
const BYTES_MIN: usize = 4 * 1024;

#[derive(Debug)]
pub(super) struct Spare {
    buffers: Mutex<Vec<Vec<u8>>>,
    /// Larger ones, of single messages over the size of a batch, are not kept.
    bytes_max: usize,
}

impl Spare {
    pub(super) fn new(batch_bytes_max: u32) -> Self {
        // A full batch ends within the room that doubling has given it.
        let bytes_max = (batch_bytes_max as usize).saturating_mul(2);
        Self { buffers: Mutex::default(), bytes_max }
    }

    /// A buffer with room for at least `bytes`; what is in it does not matter.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = buffers.iter().rposition(|buffer| buffer.capacity() >= bytes);
        let found = fits.filter(|_| bytes >= BYTES_MIN).map(|at| buffers.swap_remove(at));
        drop(buffers);
        found.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// Keeps the memory of `batch`, unless someone else still has it.
    pub(super) fn give(&self, batch: Bytes) {
        if batch.len() < BYTES_MIN {
            return;
        }
        let Ok(mut batch) = batch.try_into_mut() else { return };
        batch.clear();
        let buffer = Vec::from(batch);
        if buffer.capacity() > self.bytes_max {
            return;
        }
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < BUFFERS_MAX {
            buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(spare: &Spare) -> usize {
        spare.buffers.lock().unwrap().len()
    }

    #[test]
    fn memory_comes_back_once_nobody_else_has_it() {
        let spare = Spare::new(10_000);
        let batch = Bytes::from(vec![7; 10_000]);
        let at = batch.as_ptr();
        let held = batch.clone();
        spare.give(batch);
        assert_eq!(kept(&spare), 0);
        spare.give(held);
        assert_eq!(kept(&spare), 1);
        let buffer = spare.take(9_000);
        assert_eq!((buffer.as_ptr(), kept(&spare)), (at, 0));
        assert!(buffer.is_empty() && buffer.capacity() >= 9_000);
    }

    #[test]
    fn what_is_kept_is_bounded_and_fits() {
        let spare = Spare::new(10_000);
        for _ in 0..2 * BUFFERS_MAX {
            spare.give(Bytes::from(vec![7; 10_000]));
        }
        assert_eq!(kept(&spare), BUFFERS_MAX);
        for wrong in [BYTES_MIN - 1, 20_001] {
            spare.give(Bytes::from(vec![7; wrong]));
        }
        assert_eq!(kept(&spare), BUFFERS_MAX);
        // A small batch gets no large buffer, and a large one none that is too small.
        assert!(spare.take(100).capacity() < BYTES_MIN);
        assert!(spare.take(15_000).capacity() >= 15_000);
        assert_eq!(kept(&spare), BUFFERS_MAX);
    }
}
