//! The pieces of a body: fixed structures, strings and lists, read from a slice and written to a
//! `Vec`. Knows no kind.
//!
//! A fixed structure is an rkyv archive with unaligned little-endian fields, so its bytes are its
//! fields in order with nothing between them, and it is read where it lies.

use model::limits::FRAME_BYTES_MAX;
use model::{ConsumerName, ErrorCode, NameError, Rejection, TopicName};
use rkyv::api::low::LowValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Failure, Strategy};
use rkyv::ser::{Positional, Writer};
use rkyv::{Portable, Serialize};

use crate::frame::TooLarge;

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body ends inside {field}: {missing} more bytes were expected")]
    Short { field: &'static str, missing: usize },
    #[error("{field} is not valid UTF-8")]
    Utf8 { field: &'static str },
    #[error("{bytes} bytes follow the last field of the body")]
    Trailing { bytes: usize },
    #[error("the reserved bytes of {field} are not zero")]
    Reserved { field: &'static str },
    #[error("{field} is {value}, which has no meaning there")]
    Value { field: &'static str, value: u64 },
    #[error("{count} of {field} are too many; at most {max} are allowed: ask in portions")]
    TooMany { field: &'static str, count: u32, max: u32 },
    #[error("{field}: {source}")]
    Name { field: &'static str, source: NameError },
}

impl BodyError {
    /// The code that a server answers with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Value { .. } | Self::Name { .. } | Self::TooMany { .. } => {
                ErrorCode::InvalidArgument
            }
            _ => ErrorCode::Malformed,
        }
    }
}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        Rejection::new(error.code(), error.to_string())
    }
}

/// Reads a body from its front.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    pub(crate) fn take(
        &mut self,
        bytes: usize,
        field: &'static str,
    ) -> Result<&'a [u8], BodyError> {
        match self.rest.split_at_checked(bytes) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(BodyError::Short { field, missing: bytes - self.rest.len() }),
        }
    }

    /// A fixed structure, read in place.
    #[inline]
    pub(crate) fn fixed<T>(&mut self, field: &'static str) -> Result<&'a T, BodyError>
    where
        T: Portable + for<'v> CheckBytes<LowValidator<'v, Failure>>,
    {
        let bytes = self.take(size_of::<T>(), field)?;
        rkyv::api::low::access::<T, Failure>(bytes)
            .map_err(|_| BodyError::Value { field, value: 0 })
    }

    /// A u16 length and that many bytes of UTF-8.
    pub(crate) fn string(&mut self, field: &'static str) -> Result<&'a str, BodyError> {
        let length = self.fixed::<rkyv::rend::unaligned::u16_ule>(field)?.to_native();
        let bytes = self.take(length as usize, field)?;
        std::str::from_utf8(bytes).map_err(|_| BodyError::Utf8 { field })
    }

    pub(crate) fn topic_name(&mut self, field: &'static str) -> Result<TopicName, BodyError> {
        let text = self.string(field)?;
        TopicName::parse(text).map_err(|source| BodyError::Name { field, source })
    }

    pub(crate) fn consumer_name(&mut self, field: &'static str) -> Result<ConsumerName, BodyError> {
        let text = self.string(field)?;
        ConsumerName::parse(text).map_err(|source| BodyError::Name { field, source })
    }

    /// A u32 count and that many elements, each of at least `element_bytes_min`: a lying count is
    /// found out before anything is allocated for it.
    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, BodyError>,
    ) -> Result<Vec<T>, BodyError> {
        let count = self.fixed::<rkyv::rend::unaligned::u32_ule>(field)?.to_native() as usize;
        let least = count.saturating_mul(element_bytes_min.max(1));
        if least > self.rest.len() {
            return Err(BodyError::Short { field, missing: least - self.rest.len() });
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// The same, of at most `count_max` elements.
    pub(crate) fn short_list<T>(
        &mut self,
        field: &'static str,
        count_max: u32,
        element: impl FnMut(&mut Self) -> Result<T, BodyError>,
    ) -> Result<Vec<T>, BodyError> {
        let mut ahead = *self;
        let count = ahead.fixed::<rkyv::rend::unaligned::u32_ule>(field)?.to_native();
        // A count that cannot be true is found out below.
        if count > count_max && count as usize <= ahead.rest.len() {
            return Err(BodyError::TooMany { field, count, max: count_max });
        }
        self.list(field, 1, element)
    }

    /// A u32 count and that many bytes.
    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], BodyError> {
        let count = self.fixed::<rkyv::rend::unaligned::u32_ule>(field)?.to_native() as usize;
        self.take(count, field)
    }

    /// The body must end here.
    pub(crate) fn end(self) -> Result<(), BodyError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(BodyError::Trailing { bytes }),
        }
    }
}

/// Reserved bytes must be zero, so that a later version can give them a meaning.
pub(crate) fn check_reserved(bits: u64, field: &'static str) -> Result<(), BodyError> {
    if bits == 0 { Ok(()) } else { Err(BodyError::Reserved { field }) }
}

/// Reads a byte that must be 0 or 1.
pub(crate) fn flag(byte: u8, field: &'static str) -> Result<bool, BodyError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(BodyError::Value { field, value: value.into() }),
    }
}

/// Where rkyv writes: the end of `out`, with positions counted from where this structure began.
pub(crate) struct BodyWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl Positional for BodyWriter<'_> {
    fn pos(&self) -> usize {
        self.out.len() - self.start
    }
}

impl Writer<Failure> for BodyWriter<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends a fixed structure.
#[inline]
pub(crate) fn put_fixed<'o, T>(out: &'o mut Vec<u8>, value: &T)
where
    T: Serialize<Strategy<BodyWriter<'o>, Failure>>,
{
    let start = out.len();
    let written = rkyv::api::serialize_using(value, &mut BodyWriter { out, start });
    debug_assert_eq!(written, Ok(0), "a structure of plain fields starts where it is written");
}

pub(crate) fn put_string(
    out: &mut Vec<u8>,
    what: &'static str,
    text: &str,
) -> Result<(), TooLarge> {
    let max = usize::from(u16::MAX);
    if text.len() > max {
        return Err(TooLarge { what, bytes: text.len(), max });
    }
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_list<T>(
    out: &mut Vec<u8>,
    elements: &[T],
    mut put: impl FnMut(&mut Vec<u8>, &T) -> Result<(), TooLarge>,
) -> Result<(), TooLarge> {
    let start = out.len();
    out.extend_from_slice(&(elements.len() as u32).to_le_bytes());
    for element in elements {
        put(out, element)?;
        // No further than a frame goes: the list may be a thousand times that.
        let (bytes, max) = (out.len() - start, FRAME_BYTES_MAX as usize);
        if bytes > max {
            return Err(TooLarge { what: "a list", bytes, max });
        }
    }
    Ok(())
}

/// The longest front of `text` that fits `bytes_max` and ends between characters.
pub(crate) fn clipped(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lying_count_is_refused_before_it_is_believed() {
        let mut body = u32::MAX.to_le_bytes().to_vec();
        body.extend([0; 10]);
        let result = Cursor::new(&body).list("the list", 2, |c| c.string("an element"));
        assert!(matches!(result, Err(BodyError::Short { field: "the list", .. })));
    }

    #[test]
    fn strings_and_ends() {
        let mut out = Vec::new();
        put_string(&mut out, "s", "aé").unwrap();
        assert_eq!(out, [3, 0, b'a', 0xC3, 0xA9]);
        let mut cursor = Cursor::new(&out);
        assert_eq!(cursor.string("s"), Ok("aé"));
        assert_eq!(cursor.end(), Ok(()));
        assert_eq!(
            Cursor::new(&[2, 0, 0xC3, 0x28]).string("s"),
            Err(BodyError::Utf8 { field: "s" })
        );
        assert_eq!(Cursor::new(&[0]).end(), Err(BodyError::Trailing { bytes: 1 }));
        assert_eq!(clipped("aé", 2), "a");
        assert!(put_string(&mut out, "s", &"x".repeat(65_536)).is_err());
    }
}
