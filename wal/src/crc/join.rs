//! The CRC32C of bytes whose parts' checksums are known, without another look at the bytes.
//!
//! With `crc(A)` and `crc(B)` known, `crc(AB)` is `crc(A)` times x^(8 |B|), plus `crc(B)`, in the
//! field of polynomials over GF(2) modulo the Castagnoli polynomial. A number's highest bit is the
//! coefficient of x^0.

/// The Castagnoli polynomial without x^32.
const POLYNOMIAL: u32 = 0x82F6_3B78;
pub(super) const ONE: u32 = 1 << 31;
/// Below this a pass over the bytes is as cheap where many such parts lie together, bytes.
pub const JOIN_BYTES_MIN: usize = 256;
/// The same for one part alone, which a pass is slower to begin with.
const JOIN_ALONE_BYTES_MIN: usize = 128;
/// From here on a pass over the bytes costs more than preparing for a new length, bytes.
const ANY_LENGTH_FROM: usize = 8 * 1024;
/// What preparing for a new length costs, in bytes of a pass.
const PREPARING_BYTES: usize = 6 * 1024;

const fn times_x(a: u32) -> u32 {
    if a & 1 == 1 { (a >> 1) ^ POLYNOMIAL } else { a >> 1 }
}

pub(super) const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, ONE);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = times_x(b);
        bit >>= 1;
    }
    product
}

/// `POWERS[d][n]` is x^(8 n 256^d).
static POWERS: [[u32; 256]; 4] = {
    let mut powers = [[ONE; 256]; 4];
    let mut step = ONE >> 8;
    let mut digit = 0;
    while digit < 4 {
        let mut n = 1;
        while n < 256 {
            powers[digit][n] = multiply(powers[digit][n - 1], step);
            n += 1;
        }
        step = multiply(powers[digit][255], step);
        digit += 1;
    }
    powers
};

/// x^(8 `bytes`).
fn power(bytes: u32) -> u32 {
    let [first, rest @ ..] = bytes.to_le_bytes();
    let mut power = POWERS[0][usize::from(first)];
    for (digit, table) in rest.into_iter().zip(&POWERS[1..]) {
        if digit != 0 {
            power = multiply(power, table[usize::from(digit)]);
        }
    }
    power
}

/// Multiplication by one number, half a byte at a time.
#[derive(Clone, Debug)]
struct Multiplier([[u32; 16]; 8]);

impl Multiplier {
    fn new(mut factor: u32) -> Self {
        let mut tables = [[0; 16]; 8];
        // The highest half byte holds the lowest powers.
        for table in tables.iter_mut().rev() {
            for bit in [8, 4, 2, 1] {
                table[bit] = factor;
                factor = times_x(factor);
            }
            for n in 1..16usize {
                let lowest = n & n.wrapping_neg();
                table[n] = table[lowest] ^ table[n ^ lowest];
            }
        }
        Self(tables)
    }

    #[inline]
    fn times(&self, a: u32) -> u32 {
        let halves = self.0.iter().enumerate();
        halves.fold(0, |sum, (at, table)| sum ^ table[(a >> (4 * at)) as usize & 15])
    }
}

/// Joins checksums; quick as long as the second parts have one length.
#[derive(Clone, Debug)]
pub struct Joiner {
    bytes: usize,
    multiplier: Multiplier,
    /// The length last asked about: the second time in a row it is worth preparing for.
    asked: usize,
}

impl Default for Joiner {
    fn default() -> Self {
        Self { bytes: 0, multiplier: Multiplier::new(ONE), asked: 0 }
    }
}

impl Joiner {
    /// CRC32C of A and then B: from `first`, that of A, and `second`, that of B, which has
    /// `second_bytes`.
    #[inline]
    pub fn join(&mut self, first: u32, second: u32, second_bytes: usize) -> u32 {
        if second_bytes != self.bytes {
            self.prepare(second_bytes);
        }
        self.multiplier.times(first) ^ second
    }

    /// Whether joining with a part of this length is cheaper than a pass over it.
    #[inline]
    pub fn is_worth(&mut self, second_bytes: usize) -> bool {
        if second_bytes == self.bytes {
            return second_bytes >= JOIN_ALONE_BYTES_MIN;
        }
        let twice = std::mem::replace(&mut self.asked, second_bytes) == second_bytes;
        second_bytes >= ANY_LENGTH_FROM || twice && second_bytes >= JOIN_ALONE_BYTES_MIN
    }

    /// Whether joining parts of these lengths is cheaper than a pass over all of them.
    pub fn are_worth(&self, lengths: impl Iterator<Item = usize>) -> bool {
        let (mut last, mut pass, mut join) = (self.bytes, 0, 0);
        for length in lengths {
            pass += length;
            join += if length == last { JOIN_BYTES_MIN } else { PREPARING_BYTES };
            last = length;
        }
        join < pass
    }

    #[cold]
    fn prepare(&mut self, bytes: usize) {
        self.bytes = bytes;
        // Blocks are far below 4 GiB.
        self.multiplier = Multiplier::new(power(u32::try_from(bytes).unwrap_or(u32::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::crc32c;
    use super::*;

    #[test]
    fn lengths_with_every_digit() {
        let bytes = vec![0xA5; (1 << 24) + 70_000];
        for length in [0, 1, 255, 256, 257, 65_535, 65_536, 65_537, 1 << 24, (1 << 24) + 65_793] {
            let (first, second) = bytes[..length + 3].split_at(3);
            let joined = Joiner::default().join(crc32c(first), crc32c(second), length);
            assert_eq!(joined, crc32c(&bytes[..length + 3]), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn joined_is_the_checksum_of_the_whole(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2_000), 0..8)
        ) {
            let mut joiner = Joiner::default();
            let joined = parts.iter().fold(crc32c(&[]), |sum, part| {
                joiner.join(sum, crc32c(part), part.len())
            });
            prop_assert_eq!(joined, crc32c(&parts.concat()));
        }
    }

    #[test]
    fn a_length_is_prepared_for_once_it_is_usual() {
        let mut joiner = Joiner::default();
        assert!(!joiner.is_worth(1_000) && joiner.is_worth(1_000));
        assert!(!joiner.is_worth(100) && !joiner.is_worth(100));
        assert!(joiner.is_worth(100_000));
        assert!(joiner.are_worth([1_000; 100].into_iter()));
        assert!(!joiner.are_worth([100; 100].into_iter()));
        assert!(!joiner.are_worth(1_000..1_100));
    }
}
