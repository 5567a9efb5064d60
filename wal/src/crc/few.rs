//! The CRC32C of a few bytes: laid at the end of aligned words, which go through the checksum one
//! instruction each. As they come they would mostly go through it byte by byte.

use super::crc32c;
use super::join::{ONE, multiply};

/// Bytes of an entry's start that are handed over as a number.
pub const START_BYTES: usize = size_of::<u128>();
const WORDS_BYTES: usize = 24;

#[repr(align(8))]
struct Words([u8; WORDS_BYTES]);

/// CRC32C of the little-endian bytes of `start` and then the first `MORE` of `next`, which are 1 to 7.
///
/// Numbers are handed over in registers, and each word is written and read once, whole: what is read
/// in other pieces than it has just been written in is waited for.
#[inline]
pub fn crc32c_of_start<const MORE: usize>(start: u128, next: [u8; 8]) -> u32 {
    const { assert!(MORE >= 1 && MORE <= 7) };
    let (first, second) = (start as u64, (start >> 64) as u64);
    let next = u64::from_le_bytes(next);
    let zeros = 8 * (8 - MORE);
    let mut words = Words([0; WORDS_BYTES]);
    words.0[..8].copy_from_slice(&(first << zeros).to_le_bytes());
    words.0[8..16].copy_from_slice(&(first >> (64 - zeros) | second << zeros).to_le_bytes());
    words.0[16..].copy_from_slice(&(second >> (64 - zeros) | next << zeros).to_le_bytes());
    crc32c(&words.0) ^ const { of_zeros_before(8 - MORE, START_BYTES + MORE) }
}

/// By what the checksum of `bytes` bytes differs from that of the same after `zeros` zeros,
/// whatever they are: the register begins with ones, and everything else is linear.
const fn of_zeros_before(zeros: usize, bytes: usize) -> u32 {
    let after_zeros = multiply(u32::MAX, power_of(zeros));
    multiply(after_zeros ^ u32::MAX, power_of(bytes))
}

/// x^(8 `bytes`).
const fn power_of(bytes: usize) -> u32 {
    let (mut power, mut n) = (ONE, 0);
    while n < bytes {
        power = multiply(power, ONE >> 8);
        n += 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_few_bytes_have_the_checksum_they_have(bytes: [u8; WORDS_BYTES]) {
            fn of_start<const MORE: usize>(bytes: &[u8]) -> [u32; 2] {
                let (start, next) = bytes.split_first_chunk().unwrap();
                let next = *next.first_chunk().unwrap();
                let few = crc32c_of_start::<MORE>(u128::from_le_bytes(*start), next);
                [few, crc32c(&bytes[..START_BYTES + MORE])]
            }
            let all = [
                of_start::<1>, of_start::<2>, of_start::<3>, of_start::<4>, of_start::<5>, of_start::<6>,
                of_start::<7>,
            ];
            for [few, plain] in all.map(|of| of(&bytes)) {
                prop_assert_eq!(few, plain);
            }
        }
    }
}
