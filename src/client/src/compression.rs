//! Compressing and unpacking record sections. Unpacking is bounded: a small batch that would become
//! huge is an error, not memory.

use std::io::{self, Read, Write};
use std::sync::Arc;

use model::limits::BATCH_BYTES_MAX;
use protocol::Codec;

use crate::error::CompressionError;

/// How many times its packed size a section may unpack to...
const UNPACKED_RATIO_MAX: usize = 1_000;
/// ...beyond these bytes, to which anything may unpack: a good batch was no larger before it was
/// packed.
const UNPACKED_ANYWAY_BYTES: usize = BATCH_BYTES_MAX as usize;
/// The memory a Zstandard frame may ask for before it has unpacked anything: 2^23 bytes, what
/// RFC 8878 asks every decoder to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

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

/// The section unpacked, at most `max` bytes and [`UNPACKED_RATIO_MAX`] times its size. Memory
/// grows with what has been unpacked, not with what a header says.
pub fn unpack(codec: Codec, section: &[u8], max: usize) -> Result<Vec<u8>, CompressionError> {
    let fail = |source| CompressionError::Codec { codec, source: Arc::new(source) };
    let by_ratio = section.len().saturating_mul(UNPACKED_RATIO_MAX).max(UNPACKED_ANYWAY_BYTES);
    let bound = max.min(by_ratio);
    let unpacked = match codec {
        Codec::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(section), bound),
        Codec::Zstd => zstd::stream::read::Decoder::with_buffer(section).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            read_bounded(decoder, bound)
        }),
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

    #[test]
    fn sections_come_back() {
        let section = b"one two one two one two ".repeat(5_000);
        for compression in [Compression::Lz4, Compression::Zstd] {
            let packed = compression.compress(&section).unwrap().expect("smaller");
            let unpacked = unpack(compression.codec(), &packed, section.len()).unwrap();
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
            let result = unpack(compression.codec(), &packed, 100_000);
            assert!(matches!(result, Err(CompressionError::TooLarge { max: 100_000 })));
        }
    }

    #[test]
    fn a_bomb_is_an_error_even_where_much_is_allowed() {
        let section = vec![0; 64 * 1024 * 1024];
        let packed = Compression::Zstd.compress(&section).unwrap().unwrap();
        let result = unpack(Codec::Zstd, &packed, usize::MAX);
        assert!(matches!(result, Err(CompressionError::TooDense { .. })), "{}", packed.len());
        // LZ4 cannot pack that densely.
        let packed = Compression::Lz4.compress(&section).unwrap().unwrap();
        assert_eq!(unpack(Codec::Lz4, &packed, usize::MAX).unwrap().len(), section.len());
        // What a good batch may hold is let through however dense it is.
        let section = &section[..UNPACKED_ANYWAY_BYTES];
        let packed = Compression::Zstd.compress(section).unwrap().unwrap();
        assert_eq!(unpack(Codec::Zstd, &packed, usize::MAX).unwrap(), section);
    }

    #[test]
    fn a_frame_that_asks_for_much_memory_is_refused_before_it_has_any() {
        // A Zstandard frame: a window of 2^31 bytes, one raw block of 4 bytes.
        let frame = [&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 21 << 3][..], &[0x21, 0, 0], b"data"].concat();
        let result = unpack(Codec::Zstd, &frame, usize::MAX);
        assert!(matches!(result, Err(CompressionError::Codec { .. })), "{result:?}");
    }

    #[test]
    fn frames_one_after_the_other_count_together() {
        let part = vec![7; 60_000];
        for compression in [Compression::Lz4, Compression::Zstd] {
            let packed = compression.compress(&part).unwrap().unwrap().repeat(100);
            let result = unpack(compression.codec(), &packed, 1_000_000);
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
            assert!(unpack(codec, b"this is no frame of anything", 1000).is_err(), "{codec:?}");
        }
    }
}
