//! Compressing and unpacking record sections. Unpacking is bounded: a small batch that would become
//! huge is an error, not memory.

use std::io::{self, Read, Write};
use std::sync::Arc;

use protocol::Codec;

use crate::error::CompressionError;

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

/// The section unpacked, at most `max` bytes.
pub(crate) fn unpack(
    codec: Codec,
    section: &[u8],
    max: usize,
) -> Result<Vec<u8>, CompressionError> {
    let fail = |source| CompressionError::Codec { codec, source: Arc::new(source) };
    match codec {
        Codec::Lz4 => read_bounded(codec, lz4_flex::frame::FrameDecoder::new(section), max),
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(section).map_err(fail)?;
            read_bounded(codec, decoder, max)
        }
        Codec::None | Codec::Gzip | Codec::Snappy => Err(CompressionError::Unsupported(codec)),
    }
}

fn read_bounded(codec: Codec, from: impl Read, max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut unpacked = Vec::new();
    // One byte more than allowed tells "exactly the bound" from "over it".
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    from.take(bound)
        .read_to_end(&mut unpacked)
        .map_err(|source| CompressionError::Codec { codec, source: Arc::new(source) })?;
    if unpacked.len() > max {
        return Err(CompressionError::TooLarge { max });
    }
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
    fn garbage_is_an_error() {
        for codec in [Codec::Lz4, Codec::Zstd, Codec::Gzip, Codec::Snappy] {
            assert!(unpack(codec, b"this is no frame of anything", 1000).is_err(), "{codec:?}");
        }
    }
}
