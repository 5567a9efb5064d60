//! The payload of a normal message: enough in it to tell whether it came through unchanged.
//!
//! 8 bytes checksum of the rest, 4 the producer, 8 the sequence, then filler that follows from both.

use crate::random::Random;

pub const BYTES: usize = 200;
const HEAD_BYTES: usize = 20;

/// Which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub producer: u32,
    pub sequence: u64,
}

pub fn make(stamp: Stamp) -> [u8; BYTES] {
    let mut payload = [0; BYTES];
    payload[8..12].copy_from_slice(&stamp.producer.to_le_bytes());
    payload[12..HEAD_BYTES].copy_from_slice(&stamp.sequence.to_le_bytes());
    let mut random = Random::new(stamp.sequence ^ (u64::from(stamp.producer) << 48));
    for chunk in payload[HEAD_BYTES..].chunks_mut(8) {
        chunk.copy_from_slice(&random.number().to_le_bytes()[..chunk.len()]);
    }
    let checksum = checksum(&payload[8..]);
    payload[..8].copy_from_slice(&checksum.to_le_bytes());
    payload
}

/// `None`: it is no message of a normal client, or one that was altered.
pub fn read(payload: &[u8]) -> Option<Stamp> {
    let payload: &[u8; BYTES] = payload.try_into().ok()?;
    let producer = u32::from_le_bytes(*payload[8..].first_chunk()?);
    let sequence = u64::from_le_bytes(*payload[12..].first_chunk()?);
    let stamp = Stamp { producer, sequence };
    (*payload == make(stamp)).then_some(stamp)
}

fn checksum(bytes: &[u8]) -> u64 {
    u64::from(protocol::batch::crc32c(bytes)) | (bytes.len() as u64) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_shows() {
        let stamp = Stamp { producer: 3, sequence: 77 };
        let mut payload = make(stamp);
        assert_eq!(read(&payload), Some(stamp));
        for at in 0..BYTES {
            payload[at] ^= 4;
            assert_eq!(read(&payload), None, "byte {at}");
            payload[at] ^= 4;
        }
    }
}
