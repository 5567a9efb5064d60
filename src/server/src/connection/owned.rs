//! Memory in which a frame is put together outside the receive pool.

use std::ops::Deref;

use wal::AlignedBuffer;

/// From this capacity on the memory comes on huge pages where the system has them: a frame's bytes come
/// as fast as the network brings them, and a fault for every 4 KiB costs more than copying them.
const LARGE_BYTES: usize = 2 * 1024 * 1024;

/// Bytes with a capacity that does not grow.
#[derive(Debug)]
pub enum OwnedBytes {
    Small(Vec<u8>),
    Large { buffer: AlignedBuffer, filled: usize },
}

impl OwnedBytes {
    pub fn with_capacity(capacity: usize) -> Self {
        if capacity < LARGE_BYTES {
            return Self::Small(Vec::with_capacity(capacity));
        }
        Self::Large { buffer: AlignedBuffer::zeroed(capacity), filled: 0 }
    }

    pub fn capacity(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.capacity(),
            Self::Large { buffer, .. } => buffer.len(),
        }
    }

    /// What still fits.
    pub fn room(&self) -> usize {
        self.capacity() - self.len()
    }

    /// # Panics
    /// When there is no room for them.
    pub fn push(&mut self, more: &[u8]) {
        match self {
            Self::Small(bytes) => bytes.extend_from_slice(more),
            Self::Large { buffer, filled } => {
                buffer[*filled..*filled + more.len()].copy_from_slice(more);
                *filled += more.len();
            }
        }
    }
}

impl Deref for OwnedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large { buffer, filled } => &buffer[..*filled],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_ones_keep_what_they_are_given() {
        for capacity in [10, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 5_000] {
            let mut bytes = OwnedBytes::with_capacity(capacity);
            assert!(bytes.is_empty() && bytes.capacity() >= capacity);
            let mut expected = Vec::new();
            for part in [&b"abc"[..], b"", b"defg"] {
                bytes.push(part);
                expected.extend_from_slice(part);
            }
            assert_eq!((&bytes[..], bytes.len() + bytes.room()), (&expected[..], bytes.capacity()));
        }
    }
}
