//! The sizes of a ring, checked before the kernel sees them.

use crate::RingError;

/// Most submission entries the kernel takes.
pub(crate) const ENTRIES_MAX: u32 = 32_768;
/// Completion entries per submission entry: multishot operations complete many times.
pub(crate) const COMPLETIONS_PER_ENTRY: u32 = 4;
/// Most completion entries the kernel takes.
pub(crate) const COMPLETIONS_MAX: u32 = 65_536;
/// Most provided buffers the kernel takes.
pub(crate) const RECEIVE_BUFFERS_MAX: u16 = 32_768;
/// Bounds of one receive buffer.
pub(crate) const RECEIVE_BUFFER_BYTES_MIN: u32 = 64;
pub(crate) const RECEIVE_BUFFER_BYTES_MAX: u32 = 16 << 20;

/// Sizes of one [`Ring`](crate::Ring).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Submission entries, 1 to 32,768; rounded up to a power of two. More operations than that
    /// may be in flight; this many can be queued between two system calls without an extra one.
    pub entries: u32,
    /// Receive buffers shared by all sockets of the ring: a power of two, at most 32,768.
    pub receive_buffers: u16,
    /// Bytes of one receive buffer, 64 to 16 MiB: the most that one `Received` brings.
    /// Memory is taken from the system when a buffer is first used.
    pub receive_buffer_bytes: u32,
}

impl Default for RingConfig {
    fn default() -> Self {
        RingConfig { entries: 4096, receive_buffers: 128, receive_buffer_bytes: 64 << 10 }
    }
}

impl RingConfig {
    pub(crate) fn check(&self) -> Result<(), RingError> {
        let refuse = |option, value: u32, allowed| {
            Err(RingError::Config { option, value: value.into(), allowed })
        };
        if self.entries == 0 || self.entries > ENTRIES_MAX {
            return refuse("entries", self.entries, "1 to 32768");
        }
        if !self.receive_buffers.is_power_of_two() || self.receive_buffers > RECEIVE_BUFFERS_MAX {
            let value = self.receive_buffers.into();
            return refuse("receive_buffers", value, "a power of two, at most 32768");
        }
        let bytes = self.receive_buffer_bytes;
        if !(RECEIVE_BUFFER_BYTES_MIN..=RECEIVE_BUFFER_BYTES_MAX).contains(&bytes) {
            return refuse("receive_buffer_bytes", bytes, "64 to 16777216");
        }
        Ok(())
    }

    pub(crate) fn completion_entries(&self) -> u32 {
        (self.entries.next_power_of_two() * COMPLETIONS_PER_ENTRY).min(COMPLETIONS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_valid_and_bounds_are_refused() {
        let good = RingConfig::default();
        assert!(good.check().is_ok());
        for bad in [
            RingConfig { entries: 0, ..good.clone() },
            RingConfig { entries: 40_000, ..good.clone() },
            RingConfig { receive_buffers: 0, ..good.clone() },
            RingConfig { receive_buffers: 3, ..good.clone() },
            RingConfig { receive_buffer_bytes: 0, ..good.clone() },
            RingConfig { receive_buffer_bytes: u32::MAX, ..good.clone() },
        ] {
            assert!(matches!(bad.check(), Err(RingError::Config { .. })), "{bad:?}");
        }
        assert_eq!(RingConfig { entries: 32_768, ..good }.completion_entries(), 65_536);
    }
}
