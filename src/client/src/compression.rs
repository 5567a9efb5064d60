//! Compressing and unpacking record sections. Unpacking is bounded: a small batch that would become
//! huge is an error, not memory.

use std::io::{self, Read, Write};
use std::sync::Arc;

use model::limits::BATCH_BYTES_MAX;
use protocol::Codec;

use crate::error::{CompressionError, Error};
use crate::record::SECTION_BYTES_MAX;

/// How many times its packed size a section may unpack to...
const UNPACKED_RATIO_MAX: usize = 1_000;
/// ...beyond these bytes, to which anything may unpack: a good batch was no larger before it was
/// packed.
const UNPACKED_ANYWAY_BYTES: usize = BATCH_BYTES_MAX as usize;
/// The least and the most that `window_bytes_max` may be, as powers of two: what RFC 8878 asks
/// every decoder to support, and the largest window there is on any machine.
const ZSTD_WINDOW_LOGS: std::ops::RangeInclusive<u32> = 23..=30;

/// What one compressed batch may cost its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    /// The most that its records may unpack to, bytes: at most 4,294,967,295. Default: 64 MiB.
    pub unpacked_bytes_max: usize,
    /// The largest window that a Zstandard frame may ask for: a power of two from 8 MiB to 1 GiB.
    /// It is reserved, but memory is only taken as records unpack into it. Default: 128 MiB, which
    /// is what the levels up to the highest ask for, and what most readers allow.
    pub window_bytes_max: usize,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { unpacked_bytes_max: 64 * 1024 * 1024, window_bytes_max: 128 * 1024 * 1024 }
    }
}

impl UnpackLimits {
    /// What is wrong with them, if anything is.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.unpacked_bytes_max > SECTION_BYTES_MAX {
            let problem = "at most 4294967295 bytes are allowed";
            return Err(Error::InvalidOption { option: "unpacked_bytes_max", problem });
        }
        let window = self.window_bytes_max;
        if window.is_power_of_two() && ZSTD_WINDOW_LOGS.contains(&window.ilog2()) {
            return Ok(());
        }
        let problem = "a power of two from 8388608 to 1073741824 is allowed";
        Err(Error::InvalidOption { option: "window_bytes_max", problem })
    }

    fn window_log(&self) -> u32 {
        let log = self.window_bytes_max.max(1).ilog2();
        log.clamp(*ZSTD_WINDOW_LOGS.start(), *ZSTD_WINDOW_LOGS.end())
    }
}

/// How a producer compresses batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    /// LZ4 frame format, as Kafka's clients write it.
    Lz4,
    /// Zstandard, level 3.
    Zstd,
}

const ZSTD_LEVEL: i32 = 3;

impl Compression {
    pub(crate) fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
        }
    }

    /// The section compressed; `None` where that would not make it smaller.
    pub(crate) fn compress(self, section: &[u8]) -> Result<Option<Vec<u8>>, CompressionError> {
        let fail =
            |source| CompressionError::Codec { codec: self.codec(), source: Arc::new(source) };
        let compressed = match self {
            Self::None => return Ok(None),
            Self::Lz4 => lz4(section).map_err(fail)?,
            Self::Zstd => zstd::bulk::compress(section, ZSTD_LEVEL).map_err(fail)?,
        };
        Ok((compressed.len() < section.len()).then_some(compressed))
    }
}

fn lz4(section: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::with_capacity(section.len() / 2));
    encoder.write_all(section)?;
    encoder.finish().map_err(io::Error::other)
}

/// Packs whatever is given, even where that makes it larger.
///
/// # Panics
/// With a codec that is not written here.
pub fn pack(codec: Codec, section: &[u8]) -> Vec<u8> {
    match codec {
        Codec::Lz4 => lz4(section).expect("memory takes all"),
        Codec::Zstd => zstd::bulk::compress(section, ZSTD_LEVEL).expect("memory takes all"),
        other => panic!("{other:?} is not written here"),
    }
}

/// The section unpacked, within `limits` and to at most [`UNPACKED_RATIO_MAX`] times its size.
/// Memory grows with what has been unpacked, not with what a header says.
pub fn unpack(
    codec: Codec,
    section: &[u8],
    limits: &UnpackLimits,
) -> Result<Vec<u8>, CompressionError> {
    let fail = |source| CompressionError::Codec { codec, source: Arc::new(source) };
    let max = limits.unpacked_bytes_max;
    let by_ratio = section.len().saturating_mul(UNPACKED_RATIO_MAX).max(UNPACKED_ANYWAY_BYTES);
    let bound = max.min(by_ratio);
    let unpacked = match codec {
        Codec::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(section), bound),
        Codec::Zstd => {
            let window_max = 1 << limits.window_log();
            if let Some(window) = zstd_window_bytes(section).filter(|window| *window > window_max) {
                return Err(CompressionError::WindowTooLarge { window, max: window_max });
            }
            zstd::stream::read::Decoder::with_buffer(section).and_then(|mut decoder| {
                decoder.window_log_max(limits.window_log())?;
                read_bounded(decoder, bound)
            })
        }
        Codec::None | Codec::Gzip | Codec::Snappy => {
            return Err(CompressionError::Unsupported(codec));
        }
    };
    let unpacked = unpacked.map_err(fail)?;
    match unpacked.len() > bound {
        false => Ok(unpacked),
        true if max <= by_ratio => Err(CompressionError::TooLarge { max }),
        true => {
            Err(CompressionError::TooDense { packed: section.len(), ratio: UNPACKED_RATIO_MAX })
        }
    }
}

/// The window that the first Zstandard frame asks for (RFC 8878, 3.1.1.1); `None` where there is no
/// such frame.
fn zstd_window_bytes(section: &[u8]) -> Option<u64> {
    let rest = section.strip_prefix(&[0x28, 0xB5, 0x2F, 0xFD])?;
    let (descriptor, rest) = rest.split_first()?;
    if descriptor & 0x20 == 0 {
        let window = rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: the window is the whole content, whose length follows the dictionary's id.
    let rest = rest.get([0, 1, 2, 4][usize::from(descriptor & 3)]..)?;
    Some(match descriptor >> 6 {
        0 => u64::from(*rest.first()?),
        1 => u64::from(u16::from_le_bytes(*rest.first_chunk()?)) + 256,
        2 => u64::from(u32::from_le_bytes(*rest.first_chunk()?)),
        _ => u64::from_le_bytes(*rest.first_chunk()?),
    })
}

/// One byte more than allowed tells "exactly the bound" from "over it".
fn read_bounded(from: impl Read, bound: usize) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let bound = u64::try_from(bound).unwrap_or(u64::MAX).saturating_add(1);
    from.take(bound).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(unpacked_bytes_max: usize) -> UnpackLimits {
        UnpackLimits { unpacked_bytes_max, ..UnpackLimits::default() }
    }

    /// As a sender does that does not know the length beforehand.
    fn with_window(section: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(section).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn sections_come_back() {
        let section = b"one two one two one two ".repeat(5_000);
        for compression in [Compression::Lz4, Compression::Zstd] {
            let packed = compression.compress(&section).unwrap().expect("smaller");
            let unpacked = unpack(compression.codec(), &packed, &within(section.len())).unwrap();
            assert_eq!(unpacked, section);
        }
    }

    #[test]
    fn what_does_not_shrink_stays() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            assert_eq!(compression.compress(b"x").unwrap(), None);
        }
    }

    #[test]
    fn a_bomb_is_an_error() {
        let section = vec![0; 64 * 1024 * 1024];
        for compression in [Compression::Lz4, Compression::Zstd] {
            let packed = compression.compress(&section).unwrap().unwrap();
            assert!(packed.len() < 1024 * 1024);
            let result = unpack(compression.codec(), &packed, &within(100_000));
            assert!(matches!(result, Err(CompressionError::TooLarge { max: 100_000 })));
        }
    }

    #[test]
    fn a_bomb_is_an_error_even_where_much_is_allowed() {
        let section = vec![0; 64 * 1024 * 1024];
        let packed = Compression::Zstd.compress(&section).unwrap().unwrap();
        let result = unpack(Codec::Zstd, &packed, &within(usize::MAX));
        assert!(matches!(result, Err(CompressionError::TooDense { .. })), "{}", packed.len());
        // LZ4 cannot pack that densely.
        let packed = Compression::Lz4.compress(&section).unwrap().unwrap();
        assert_eq!(unpack(Codec::Lz4, &packed, &within(usize::MAX)).unwrap().len(), section.len());
        // What a good batch may hold is let through however dense it is.
        let section = &section[..UNPACKED_ANYWAY_BYTES];
        let packed = Compression::Zstd.compress(section).unwrap().unwrap();
        assert_eq!(unpack(Codec::Zstd, &packed, &within(usize::MAX)).unwrap(), section);
    }

    #[test]
    fn a_frame_that_asks_for_much_memory_is_refused_before_it_has_any() {
        // A Zstandard frame: a window of 2^31 bytes, one raw block of 4 bytes.
        let frame = [&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 21 << 3][..], &[0x21, 0, 0], b"data"].concat();
        let result = unpack(Codec::Zstd, &frame, &within(usize::MAX));
        let Err(CompressionError::WindowTooLarge { window, max }) = result else {
            panic!("{result:?}")
        };
        assert_eq!((window, max), (1 << 31, 128 << 20));
        // In a frame that is not the first the library refuses it.
        let second = [&pack(Codec::Zstd, b"first")[..], &frame].concat();
        let result = unpack(Codec::Zstd, &second, &within(usize::MAX));
        assert!(matches!(result, Err(CompressionError::Codec { .. })), "{result:?}");
    }

    #[test]
    fn windows_are_taken_up_to_the_limit() {
        let section = b"one two one two one two ".repeat(5_000);
        let small = UnpackLimits { window_bytes_max: 8 << 20, ..UnpackLimits::default() };
        for (log, limits, taken) in [
            (23, small, true),
            (24, small, false),
            (27, small, false),
            (27, UnpackLimits::default(), true),
        ] {
            let packed = with_window(&section, log);
            assert_eq!(zstd_window_bytes(&packed), Some(1 << log));
            let result = unpack(Codec::Zstd, &packed, &limits);
            assert_eq!(result.is_ok(), taken, "{log}: {result:?}");
            if let Err(error) = result {
                assert!(error.to_string().contains("window_bytes_max"), "{error}");
            }
        }
    }

    #[test]
    fn a_window_is_read_from_every_kind_of_header() {
        let head = [0x28, 0xB5, 0x2F, 0xFD];
        let of = |rest: &[u8]| zstd_window_bytes(&[&head[..], rest].concat());
        assert_eq!(of(&[0x00, (13 << 3) | 4]), Some((8 << 20) + (4 << 20)));
        assert_eq!(of(&[0x20, 200]), Some(200));
        assert_eq!(of(&[0x60, 0, 1]), Some(512));
        assert_eq!(of(&[0xA3, 9, 9, 9, 9, 0, 0, 0, 1]), Some(1 << 24));
        assert_eq!(of(&[0xE1, 9, 0, 0, 0, 0, 1, 0, 0, 0]), Some(1 << 32));
        for cut in [&[][..], &[0x00], &[0x20], &[0xE0, 0, 0]] {
            assert_eq!(of(cut), None);
        }
        assert_eq!(zstd_window_bytes(b"no frame"), None);
    }

    #[test]
    fn frames_one_after_the_other_count_together() {
        let part = vec![7; 60_000];
        for compression in [Compression::Lz4, Compression::Zstd] {
            let packed = compression.compress(&part).unwrap().unwrap().repeat(100);
            let result = unpack(compression.codec(), &packed, &within(1_000_000));
            // All of them are read and bounded, or only the first is read.
            match result {
                Err(CompressionError::TooLarge { .. }) => {}
                other => assert_eq!(other.unwrap(), part, "{compression:?}"),
            }
        }
    }

    #[test]
    fn garbage_is_an_error() {
        for codec in [Codec::Lz4, Codec::Zstd, Codec::Gzip, Codec::Snappy] {
            assert!(
                unpack(codec, b"this is no frame of anything", &within(1000)).is_err(),
                "{codec:?}"
            );
        }
    }
}
