//! The payload: who sent it, its number, and bytes that follow from both.

use crc_fast::{CrcAlgorithm, checksum};

use crate::random::Random;

/// Which message; also all that is kept of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub producer: u16,
    /// Counted from 0 by each producer, over all partitions.
    pub sequence: u64,
}

const HEAD_BYTES: usize = 14;
const FILLER_BYTES_MAX: u64 = 600;

impl Message {
    /// Producer, sequence, checksum of the filler, filler.
    pub fn payload(self) -> Vec<u8> {
        let mut random = Random::new((u64::from(self.producer) << 48) ^ self.sequence);
        let length = random.between(0, FILLER_BYTES_MAX) as usize;
        let mut filler = Vec::with_capacity(length + 8);
        while filler.len() < length {
            filler.extend_from_slice(&random.number().to_le_bytes());
        }
        filler.truncate(length);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + length);
        bytes.extend_from_slice(&self.producer.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&sum(&filler).to_le_bytes());
        bytes.extend_from_slice(&filler);
        bytes
    }

    /// A producer's messages go round the partitions.
    pub fn partition(self, partitions: u32) -> u32 {
        ((self.sequence + u64::from(self.producer)) % u64::from(partitions)) as u32
    }

    /// Reads a payload back; `None` when it is not one, or has changed.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (producer, rest) = bytes.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (sum_wanted, filler) = rest.split_first_chunk()?;
        let message = Self {
            producer: u16::from_le_bytes(*producer),
            sequence: u64::from_le_bytes(*sequence),
        };
        (sum(filler) == u32::from_le_bytes(*sum_wanted)).then_some(message)
    }
}

fn sum(filler: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, filler) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_back_unless_changed() {
        for sequence in 0..50 {
            let message = Message { producer: 3, sequence };
            let mut payload = message.payload();
            assert_eq!(Message::read(&payload), Some(message));
            if let Some(last) = payload[HEAD_BYTES..].last_mut() {
                *last ^= 1;
                assert_eq!(Message::read(&payload), None);
            }
        }
        assert_eq!(Message::read(b"short"), None);
    }
}
