//! Makes the payloads of one connection's requests.

use bench::payload::{self, Stamp};
use bytes::{Bytes, BytesMut};

use crate::driver::{Messages, Shape};

/// Payloads numbered from 0 in the order they are made.
#[derive(Debug)]
pub struct Mill {
    producer: u32,
    shape: Shape,
    next_sequence: u64,
    /// One payload's filler, and its checksum.
    template: Vec<u8>,
    filler_crc: u32,
}

impl Mill {
    pub fn new(producer: u32, shape: Shape) -> Self {
        let mut template = vec![0; shape.size];
        payload::fill(&mut template, u64::from(producer) + 1);
        let filler_crc = payload::filler_crc(&template);
        Self { producer, shape, next_sequence: 0, template, filler_crc }
    }

    /// The next request, meant to be sent at `intended_ns`.
    pub fn make(&mut self, intended_ns: u64) -> Messages {
        let Shape { size, batch, .. } = self.shape;
        let mut bytes = BytesMut::with_capacity(size * batch);
        for _ in 0..batch {
            let at = bytes.len();
            bytes.extend_from_slice(&self.template);
            let sequence = self.next_sequence;
            let stamp = Stamp { producer: self.producer, sequence, intended_ns };
            payload::seal(&mut bytes[at..], &stamp, self.filler_crc);
            self.next_sequence += 1;
        }
        Messages::new(Bytes::from(bytes), size)
    }

    /// How many payloads were made.
    pub fn made(&self) -> u64 {
        self.next_sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_opens_and_is_numbered() {
        let mut mill = Mill::new(3, Shape { size: 100, batch: 2, in_flight: 1 });
        let requests = [mill.make(5), mill.make(9)];
        let stamps: Vec<Stamp> =
            requests.iter().flat_map(Messages::iter).map(|p| payload::open(&p).unwrap()).collect();
        let expected = |sequence, intended_ns| Stamp { producer: 3, sequence, intended_ns };
        assert_eq!(stamps, [expected(0, 5), expected(1, 5), expected(2, 9), expected(3, 9)]);
        assert_eq!(mill.made(), 4);
    }
}
