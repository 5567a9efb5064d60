//! Makes the payloads of one connection's requests.

use bench::payload::{self, Stamp};
use bytes::{Bytes, BytesMut};

use crate::driver::{Messages, Shape};

/// Payloads for topics in turn, those of each topic numbered from 0 in the order they are made. A
/// payload names its topic as its producer: nobody else sends to it.
#[derive(Debug)]
pub struct Mill {
    /// The number of the first topic; those of the others follow it.
    first: u32,
    shape: Shape,
    /// How many payloads were made for each topic.
    made: Vec<u64>,
    /// Whose turn it is.
    next_topic: usize,
    /// One payload's filler, and its checksum.
    template: Vec<u8>,
    filler_crc: u32,
}

impl Mill {
    /// For `topics` topics, which are numbered from `first`.
    pub fn new(first: u32, topics: usize, shape: Shape) -> Self {
        let mut template = vec![0; shape.size];
        payload::fill(&mut template, u64::from(first) + 1);
        let filler_crc = payload::filler_crc(&template);
        Self { first, shape, made: vec![0; topics], next_topic: 0, template, filler_crc }
    }

    /// The next request, meant to be sent at `intended_ns`, and the place of its topic.
    pub fn make(&mut self, intended_ns: u64) -> (usize, Messages) {
        let topic = self.next_topic;
        self.next_topic = (topic + 1) % self.made.len();
        let Shape { size, batch, .. } = self.shape;
        let mut bytes = BytesMut::with_capacity(size * batch);
        for _ in 0..batch {
            let at = bytes.len();
            bytes.extend_from_slice(&self.template);
            let (producer, sequence) = (self.first + topic as u32, self.made[topic]);
            let stamp = Stamp { producer, sequence, intended_ns };
            payload::seal(&mut bytes[at..], &stamp, self.filler_crc);
            self.made[topic] += 1;
        }
        (topic, Messages::new(Bytes::from(bytes), size))
    }

    /// How many payloads were made for each topic.
    pub fn into_made(self) -> Vec<u64> {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_opens_and_is_numbered_in_its_topic() {
        let mut mill = Mill::new(3, 2, Shape { size: 100, batch: 2, in_flight: 1 });
        let requests = [mill.make(5), mill.make(7), mill.make(9)];
        let stamps = requests.iter().flat_map(|(topic, messages)| {
            messages.iter().map(|payload| (*topic, payload::open(&payload).unwrap()))
        });
        let expected = |topic, sequence, intended_ns| {
            (topic, Stamp { producer: 3 + topic as u32, sequence, intended_ns })
        };
        let first = [expected(0, 0, 5), expected(0, 1, 5), expected(1, 0, 7), expected(1, 1, 7)];
        let second = [expected(0, 2, 9), expected(0, 3, 9)];
        assert_eq!(stamps.collect::<Vec<_>>(), [&first[..], &second[..]].concat());
        assert_eq!(mill.into_made(), [4, 2]);
    }
}
