//! Frames: the 16 bytes before every body, and finding whole frames in a buffer.
//!
//! Knows lengths, not bodies.

use model::limits::FRAME_BYTES_MAX;
use model::{ErrorCode, Rejection};
use rkyv::{Archive, Serialize};

use crate::body::{BodyError, put_fixed};

/// The version in every frame header.
pub const PROTOCOL_VERSION: u8 = 1;
/// Bytes of the frame header.
pub const FRAME_HEADER_BYTES: usize = 16;

const _: () = assert!(size_of::<ArchivedFrameHeader>() == FRAME_HEADER_BYTES);

/// What stands before every body.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The whole frame, this header included, bytes.
    pub length: u32,
    pub version: u8,
    /// None is defined yet: 0.
    pub flags: u8,
    /// One of [`crate::kind`].
    pub kind: u16,
    /// The client's number for the request; a reply carries it back.
    pub correlation: u64,
}

impl FrameHeader {
    /// A header of this version whose body has `body_bytes`.
    pub fn new(kind: u16, correlation: u64, body_bytes: usize) -> Self {
        let length = FRAME_HEADER_BYTES + body_bytes;
        debug_assert!(length <= FRAME_BYTES_MAX as usize, "a frame of {length} bytes");
        Self { length: length as u32, version: PROTOCOL_VERSION, flags: 0, kind, correlation }
    }

    /// Reads and checks a header: version, flags, and a length of 16 bytes to the limit.
    #[inline]
    pub fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Self, FrameError> {
        // Every frame comes by here: field by field, as `ArchivedFrameHeader` has them.
        let [l0, l1, l2, l3, version, flags, k0, k1, correlation @ ..] = *bytes;
        let header = Self {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            version,
            flags,
            kind: u16::from_le_bytes([k0, k1]),
            correlation: u64::from_le_bytes(correlation),
        };
        if header.version != PROTOCOL_VERSION {
            let (version, correlation) = (header.version, header.correlation);
            return Err(FrameError::Version { version, correlation });
        }
        if header.length < FRAME_HEADER_BYTES as u32 {
            return Err(FrameError::TooShort { length: header.length });
        }
        if header.length > FRAME_BYTES_MAX {
            let (length, correlation) = (header.length, header.correlation);
            return Err(FrameError::TooLarge { length, correlation });
        }
        if header.flags != 0 {
            let FrameHeader { flags, length, correlation, .. } = header;
            return Err(FrameError::Flags { flags, length, correlation });
        }
        Ok(header)
    }

    /// Bytes of the body.
    pub fn body_bytes(&self) -> usize {
        (self.length as usize).saturating_sub(FRAME_HEADER_BYTES)
    }
}

/// The first frame in `buffer` and its length in bytes; `None` when it is not whole yet.
///
/// An error comes as soon as the header is there, before the body has arrived.
#[inline]
pub fn next_frame(buffer: &[u8]) -> Result<Option<(FrameHeader, usize)>, FrameError> {
    let Some(bytes) = buffer.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(None);
    };
    let header = FrameHeader::parse(bytes)?;
    let length = header.length as usize;
    Ok((buffer.len() >= length).then_some((header, length)))
}

/// Why bytes are not a frame, or not the frame they claim to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame says it has {length} bytes; at least 16 are needed")]
    TooShort { length: u32 },
    #[error("a frame says it has {length} bytes; at most 16777216 are allowed: send less at once")]
    TooLarge { length: u32, correlation: u64 },
    #[error("a frame is of protocol version {version}; this side speaks version 1")]
    Version { version: u8, correlation: u64 },
    #[error("a frame has the flags {flags:#04x}, which version 1 does not define")]
    Flags { flags: u8, length: u32, correlation: u64 },
    #[error("no reply has the kind {kind:#06x}")]
    Kind { kind: u16 },
    #[error(transparent)]
    Body(#[from] BodyError),
}

impl FrameError {
    /// What to tell the peer.
    pub fn rejection(&self) -> Rejection {
        let code = match self {
            Self::TooShort { .. } | Self::Flags { .. } => ErrorCode::Malformed,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Version { .. } => ErrorCode::UnsupportedVersion,
            Self::Kind { .. } => ErrorCode::UnknownKind,
            Self::Body(error) => error.code(),
        };
        Rejection::new(code, self.to_string())
    }

    /// The correlation id that the error reply carries; 0 when it could not be read.
    pub fn correlation(&self) -> u64 {
        match self {
            Self::TooLarge { correlation, .. }
            | Self::Version { correlation, .. }
            | Self::Flags { correlation, .. } => *correlation,
            Self::TooShort { .. } | Self::Kind { .. } | Self::Body(_) => 0,
        }
    }

    /// How many bytes to skip to the next frame; `None` when framing is lost and the connection
    /// has to be closed after the error reply.
    pub fn skip_bytes(&self) -> Option<u32> {
        match self {
            Self::Flags { length, .. } => Some(*length),
            _ => None,
        }
    }
}

/// A frame that would be over its limit; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} has {bytes} bytes; at most {max} fit")]
pub struct TooLarge {
    pub what: &'static str,
    pub bytes: usize,
    pub max: usize,
}

impl From<TooLarge> for Rejection {
    fn from(error: TooLarge) -> Self {
        Rejection::new(ErrorCode::TooLarge, error.to_string())
    }
}

/// Writes one frame whose length is known only at its end. On an error `out` is as it was.
pub(crate) fn put_frame(
    out: &mut Vec<u8>,
    kind: u16,
    correlation: u64,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLarge>,
) -> Result<(), TooLarge> {
    let start = out.len();
    put_fixed(out, &FrameHeader::new(kind, correlation, 0));
    let max = FRAME_BYTES_MAX as usize;
    let written = body(out).and_then(|()| match out.len() - start {
        bytes if bytes <= max => Ok(bytes as u32),
        bytes => Err(TooLarge { what: "the frame", bytes, max }),
    });
    match written {
        Ok(length) => {
            out[start..start + 4].copy_from_slice(&length.to_le_bytes());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind;

    fn bytes(header: &FrameHeader) -> [u8; 16] {
        let mut out = Vec::new();
        put_fixed(&mut out, header);
        out.try_into().unwrap()
    }

    #[test]
    fn golden_header() {
        let header = FrameHeader::new(kind::PRODUCE, 0x0102_0304_0506_0708, 0x1234);
        let expected = [0x44, 0x12, 0, 0, 1, 0, 0x22, 0, 8, 7, 6, 5, 4, 3, 2, 1];
        assert_eq!(bytes(&header), expected);
        assert_eq!(FrameHeader::parse(&expected), Ok(header));
    }

    #[test]
    fn frames_are_found_whole() {
        let mut buffer = bytes(&FrameHeader::new(kind::PING, 7, 4)).to_vec();
        assert_eq!(next_frame(&buffer[..15]), Ok(None));
        assert_eq!(next_frame(&buffer), Ok(None));
        buffer.extend([0; 4]);
        let (header, length) = next_frame(&buffer).unwrap().unwrap();
        assert_eq!((header.kind, header.correlation, length), (kind::PING, 7, 20));
    }

    #[test]
    fn bad_headers_say_why() {
        let good = FrameHeader::new(kind::PING, 7, 4);
        let parse = |header| FrameHeader::parse(&bytes(&header)).unwrap_err();

        let short = parse(FrameHeader { length: 15, ..good });
        assert_eq!(short, FrameError::TooShort { length: 15 });
        let long = parse(FrameHeader { length: FRAME_BYTES_MAX + 1, ..good });
        assert_eq!(long.rejection().code, ErrorCode::TooLarge);
        assert_eq!((long.correlation(), long.skip_bytes()), (7, None));
        let version = parse(FrameHeader { version: 2, ..good });
        assert_eq!(version.rejection().code, ErrorCode::UnsupportedVersion);
        let flags = parse(FrameHeader { flags: 1, ..good });
        assert_eq!(flags.skip_bytes(), Some(20));
    }

    #[test]
    fn a_frame_over_the_limit_leaves_nothing() {
        let mut out = vec![1, 2, 3];
        let result = put_frame(&mut out, kind::PONG, 1, |out| {
            out.resize(out.len() + FRAME_BYTES_MAX as usize, 0);
            Ok(())
        });
        assert!(result.is_err());
        assert_eq!(out, [1, 2, 3]);
    }
}
