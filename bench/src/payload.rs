//! The payload of every message the bench sends: enough in it to tell afterwards whether it was
//! lost, repeated, out of order or altered.
//!
//! | bytes | what (little-endian) |
//! |---|---|
//! | 0..4 | CRC32C of all that follows |
//! | 4..8 | the producer's number |
//! | 8..16 | the message's sequence in its partition, from 0, per producer |
//! | 16..24 | when it was meant to be sent, nanoseconds since the run began |
//! | 24.. | filler that does not compress |

use crc_fast::crc32_iscsi;

/// The smallest payload: no filler.
pub const BYTES_MIN: usize = 24;

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub producer: u32,
    pub sequence: u64,
    /// Nanoseconds since the run began.
    pub intended_ns: u64,
}

/// Writes the stamp over a payload whose filler is in place, and its checksum.
///
/// # Panics
/// When `payload` is shorter than [`BYTES_MIN`].
pub fn seal(payload: &mut [u8], stamp: &Stamp) {
    payload[4..8].copy_from_slice(&stamp.producer.to_le_bytes());
    payload[8..16].copy_from_slice(&stamp.sequence.to_le_bytes());
    payload[16..24].copy_from_slice(&stamp.intended_ns.to_le_bytes());
    let crc = crc32_iscsi(&payload[4..]);
    payload[..4].copy_from_slice(&crc.to_le_bytes());
}

/// Reads a payload; `None` when it is not what was sent.
pub fn open(payload: &[u8]) -> Option<Stamp> {
    let (head, _) = payload.split_first_chunk::<BYTES_MIN>()?;
    let crc = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if crc32_iscsi(&payload[4..]) != crc {
        return None;
    }
    let u64_at = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    Some(Stamp {
        producer: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
        sequence: u64_at(8),
        intended_ns: u64_at(16),
    })
}

/// Fills `payload` with bytes that do not compress, the same for the same `seed`.
pub fn fill(payload: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for chunk in payload.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_payload_opens_and_any_changed_bit_shows() {
        let stamp = Stamp { producer: 7, sequence: 1 << 40, intended_ns: 12_345 };
        for size in [BYTES_MIN, 25, 100, 1024] {
            let mut payload = vec![0; size];
            fill(&mut payload, 3);
            seal(&mut payload, &stamp);
            assert_eq!(open(&payload), Some(stamp));
            for at in 0..size {
                payload[at] ^= 0x10;
                assert_eq!(open(&payload), None, "byte {at} of {size}");
                payload[at] ^= 0x10;
            }
            assert_eq!(open(&payload[..size - 1]), None);
        }
        assert_eq!(open(&[]), None);
    }
}
