//! The bytes on the disk: one definition for each structure, little-endian, at fixed places.
//!
//! Parsing never panics: whatever the bytes are, it gives a value that was checked or an error.

pub mod block;
pub mod checkpoint;
pub mod entry;
pub mod footer;
pub mod manifest;
pub mod names;
pub mod segment;

/// The version of all structures here. A file with a higher one is refused.
pub const FORMAT: u16 = 1;

/// Why bytes are not the structure they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("it is shorter than the structure")]
    Short,
    #[error("it does not begin with the structure's magic number")]
    NoMagic,
    #[error("it has format {0}, which is newer than this version")]
    Newer(u16),
    #[error("its checksum does not match")]
    Checksum,
    #[error("its {0} is impossible")]
    Impossible(&'static str),
}

macro_rules! little_endian {
    ($($get:ident $put:ident $type:ty;)*) => {
        $(
            #[inline]
            pub(crate) fn $get(bytes: &[u8], at: usize) -> $type {
                let mut raw = [0; size_of::<$type>()];
                raw.copy_from_slice(&bytes[at..at + size_of::<$type>()]);
                <$type>::from_le_bytes(raw)
            }

            #[inline]
            pub(crate) fn $put(bytes: &mut [u8], at: usize, value: $type) {
                bytes[at..at + size_of::<$type>()].copy_from_slice(&value.to_le_bytes());
            }
        )*
    };
}

// The places are constants of the structures, whose length is checked before.
little_endian! {
    u16_at put_u16 u16;
    u32_at put_u32 u32;
    u64_at put_u64 u64;
    i64_at put_i64 i64;
}

/// Checks magic number and format version, which every structure begins with (u32, u16).
pub(crate) fn check_start(bytes: &[u8], magic: u32) -> Result<(), FormatError> {
    if u32_at(bytes, 0) != magic {
        return Err(FormatError::NoMagic);
    }
    Ok(())
}

/// Checks the version, after the checksum: a changed bit must not pose as a newer format.
pub(crate) fn check_version(bytes: &[u8]) -> Result<(), FormatError> {
    match u16_at(bytes, 4) {
        1..=FORMAT => Ok(()),
        0 => Err(FormatError::Impossible("format")),
        newer => Err(FormatError::Newer(newer)),
    }
}

#[cfg(test)]
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
