//! The payload of every message the bench sends: enough in it to tell afterwards whether it was
//! lost, repeated, out of order or altered.
//!
//! | bytes | what (little-endian) |
//! |---|---|
//! | 0..4 | checksum: CRC32C of the filler, xor a hash of the stamp |
//! | 4..8 | the producer's number |
//! | 8..16 | the message's sequence in its partition, from 0, per producer |
//! | 16..24 | when it was meant to be sent, nanoseconds since the run began |
//! | 24.. | filler that does not compress |
//!
//! The filler of a frame that is used again stays the same, and so does its CRC: making a message
//! costs its stamp, whatever its size.

use crc_fast::{CrcAlgorithm, checksum};

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

fn crc32c(bytes: &[u8]) -> u32 {
    // A 32 bit algorithm leaves the upper half empty.
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC32C of a payload's filler.
pub fn filler_crc(payload: &[u8]) -> u32 {
    crc32c(payload.get(BYTES_MIN..).unwrap_or_default())
}

/// Writes the stamp and the checksum over a payload whose filler is in place and has `filler_crc`.
///
/// # Panics
/// When `payload` is shorter than [`BYTES_MIN`].
#[inline]
pub fn seal(payload: &mut [u8], stamp: &Stamp, filler_crc: u32) {
    let checksum = filler_crc ^ hash(stamp);
    payload[..4].copy_from_slice(&checksum.to_le_bytes());
    payload[4..8].copy_from_slice(&stamp.producer.to_le_bytes());
    payload[8..16].copy_from_slice(&stamp.sequence.to_le_bytes());
    payload[16..24].copy_from_slice(&stamp.intended_ns.to_le_bytes());
}

/// Spreads every bit of the stamp over the whole result.
#[inline]
fn hash(stamp: &Stamp) -> u32 {
    let spread = |value: u64, odd: u64| {
        let product = value.wrapping_add(odd).wrapping_mul(odd);
        (product ^ (product >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    };
    let mixed = spread(stamp.sequence, 0xD6E8_FEB8_6659_FD93)
        ^ spread(stamp.intended_ns, 0xA076_1D64_78BD_642F)
        ^ spread(stamp.producer.into(), 0xE703_7ED1_A0B4_28DB);
    (mixed >> 32) as u32
}

/// Reads a payload; `None` when it is not what was sent.
#[inline]
pub fn open(payload: &[u8]) -> Option<Stamp> {
    let (head, filler) = payload.split_first_chunk::<BYTES_MIN>()?;
    let stamp = read(head);
    (crc32c(filler) ^ hash(&stamp) == u32_at(head, 0)).then_some(stamp)
}

/// What a payload says that is known to be as it was sent; `None` when it is too short to say it.
#[inline]
pub fn stamp(payload: &[u8]) -> Option<Stamp> {
    payload.first_chunk().map(read)
}

fn read(head: &[u8; BYTES_MIN]) -> Stamp {
    let u64_at = |at: usize| u64::from(u32_at(head, at)) | u64::from(u32_at(head, at + 4)) << 32;
    Stamp { producer: u32_at(head, 4), sequence: u64_at(8), intended_ns: u64_at(16) }
}

fn u32_at(head: &[u8; BYTES_MIN], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
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
            let crc = filler_crc(&payload);
            seal(&mut payload, &stamp, crc);
            assert_eq!(open(&payload), Some(stamp));
            for bit in 0..size * 8 {
                payload[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(open(&payload), None, "bit {bit} of {size} bytes");
                payload[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(open(&payload[..size - 1]), None);
        }
        assert_eq!(open(&[]), None);
    }
}
