//! Buffers that come back: lent out as `Bytes`, returned when the last slice is dropped.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Spare buffers kept; more are given back to the allocator.
const SPARE_MAX: usize = 256;

/// A free list of buffers of one kind. A returned buffer keeps its contents.
#[derive(Debug)]
pub struct Pool<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: AsRef<[u8]> + Send + 'static> Pool<T> {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }

    /// A spare buffer, if there is one.
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Hands `buffer` out as reference-counted bytes; it is spare again when all are dropped.
    pub fn lend(&self, buffer: T) -> Bytes {
        Bytes::from_owner(Lent { buffer: Some(buffer), pool: self.clone() })
    }

    fn put(&self, buffer: T) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    }
}

struct Lent<T: AsRef<[u8]> + Send + 'static> {
    /// Taken on drop only.
    buffer: Option<T>,
    pool: Pool<T>,
}

impl<T: AsRef<[u8]> + Send + 'static> AsRef<[u8]> for Lent<T> {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], T::as_ref)
    }
}

impl<T: AsRef<[u8]> + Send + 'static> Drop for Lent<T> {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.put(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_with_its_contents_when_the_last_slice_goes() {
        let pool = Pool::new();
        assert!(pool.take().is_none());
        let bytes = pool.lend(vec![1, 2, 3]);
        let tail = bytes.slice(1..);
        drop(bytes);
        assert!(pool.take().is_none());
        assert_eq!(tail, [2, 3][..]);
        drop(tail);
        assert_eq!(pool.take(), Some(vec![1, 2, 3]));
    }
}
