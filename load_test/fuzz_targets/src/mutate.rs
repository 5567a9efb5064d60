//! Changes that follow from a seed, for where no fuzzer chooses them.

use wal::device::sim::Dice;

/// Chooses what is changed, and how.
pub struct Mutator(Dice);

const BYTES_MAX: usize = 64 * 1024;

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self(Dice::new(seed))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0.below(end as u64) as usize
    }

    /// One of `seeds`, changed in a few places; now and then with another behind it.
    pub fn next_input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes, seeds);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let numbers = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0x8000_0000, u64::MAX, 1 << 63];
        match self.below(10) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.0.roll() as u8),
            2 => bytes.extend_from_slice(&seeds[self.below(seeds.len())]),
            3 if !bytes.is_empty() => {
                let upto = at + self.below(bytes.len() - at);
                bytes.extend_from_within(at..upto);
            }
            4..=6 => {
                let number = numbers[self.below(numbers.len())].to_le_bytes();
                let width = 1 << self.below(4);
                let big_endian = self.below(2) == 0;
                for (i, byte) in bytes.iter_mut().skip(at).take(width).enumerate() {
                    *byte = number[if big_endian { width - 1 - i } else { i }];
                }
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.0.roll() as u8;
                }
            }
        }
    }
}
