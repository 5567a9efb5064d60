//! Little-endian writing and checked reading of small structures.
//!
//! Knows bytes, names and topic settings; not what an entry or a checkpoint object means.
//! Reading never panics and never allocates more than the input holds.

use model::{AckLevel, TopicConfig, TopicName};

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the bytes end early")]
    Short,
    #[error("{0} bytes follow the end")]
    Trailing(usize),
    #[error("the field {0} has a value that is not allowed")]
    BadField(&'static str),
}

pub(crate) fn put_u8(out: &mut Vec<u8>, value: u8) {
    out.push(value);
}

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A name: its length in one byte (names end at 249), then its characters.
pub(crate) fn put_name(out: &mut Vec<u8>, name: &str) {
    let length = u8::try_from(name.len()).expect("a parsed name is at most 249 bytes");
    put_u8(out, length);
    out.extend_from_slice(name.as_bytes());
}

/// Settings: a byte of presence bits (1 retention_ms, 2 retention_bytes), the ack level, then
/// two u64 that are 0 where absent: 18 bytes.
pub(crate) fn put_config(out: &mut Vec<u8>, config: &TopicConfig) {
    let present =
        u8::from(config.retention_ms.is_some()) | u8::from(config.retention_bytes.is_some()) << 1;
    put_u8(out, present);
    put_u8(out, config.ack as u8);
    put_u64(out, config.retention_ms.unwrap_or(0));
    put_u64(out, config.retention_bytes.unwrap_or(0));
}

/// Takes fields off the front of a slice.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// All has been read.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }

    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.u8()?;
        let bytes = self.bytes(usize::from(length))?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::BadField("name"))
    }

    pub fn topic_name(&mut self) -> Result<TopicName, DecodeError> {
        TopicName::parse(self.text()?).map_err(|_| DecodeError::BadField("topic name"))
    }

    pub fn config(&mut self) -> Result<TopicConfig, DecodeError> {
        let present = self.u8()?;
        if present > 3 {
            return Err(DecodeError::BadField("config"));
        }
        let ack = AckLevel::from_wire(self.u8()?).ok_or(DecodeError::BadField("ack"))?;
        let (age, bytes) = (self.u64()?, self.u64()?);
        Ok(TopicConfig {
            retention_ms: (present & 1 != 0).then_some(age),
            retention_bytes: (present & 2 != 0).then_some(bytes),
            ack,
        })
    }

    /// A u32 count of items that each take at least `item_bytes`: a count that cannot fit in
    /// what is left is refused before anything is allocated for it.
    pub fn count(&mut self, item_bytes: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / item_bytes {
            return Err(DecodeError::Short);
        }
        Ok(count)
    }
}
