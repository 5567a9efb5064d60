//! Loading a checkpoint: checked whole first, so that the host never sees a piece of a bad one.

use crc_fast::{CrcAlgorithm, Digest};
use model::Lsn;

use super::blocking::{Blocking, Scan};
use crate::config::CHECKPOINT_PIECE_BYTES_MAX;
use crate::device::{Action, FileId, LogDevice};
use crate::error::OpenError;
use crate::fold::Fold;
use crate::format::checkpoint::{CheckpointHeader, CheckpointTrailer, PIECE_HEAD_BYTES};
use crate::format::manifest::CheckpointRecord;
use crate::format::names;

/// Read at once, bytes.
const STEP_BYTES: u64 = 1024 * 1024;

/// A checkpoint found to be good.
pub(super) struct Good {
    file: FileId,
    file_bytes: u64,
    trailer: CheckpointTrailer,
}

impl Good {
    pub fn start(&self) -> Lsn {
        Lsn(self.trailer.start)
    }

    pub fn end(&self) -> Lsn {
        Lsn(self.trailer.end)
    }
}

/// Opens and checks a checkpoint. The error says what is wrong with it.
pub(super) fn check<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    record: &CheckpointRecord,
    secret: &[u8; 16],
    unit: usize,
) -> Result<Result<Good, String>, OpenError> {
    let Some((file, file_bytes)) = disk.open(&names::checkpoint(record.end))? else {
        return Ok(Err("it is missing".to_owned()));
    };
    let found = check_file(disk, file, file_bytes, secret, unit as u64);
    match found {
        Ok(trailer) if trailer.end == record.end => Ok(Ok(Good { file, file_bytes, trailer })),
        found => {
            let reason = found.err().unwrap_or_else(|| "it is another one".to_owned());
            disk.must("closing", "a checkpoint", Action::Close { file })?;
            Ok(Err(reason))
        }
    }
}

fn check_file<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    file: FileId,
    file_bytes: u64,
    secret: &[u8; 16],
    unit: u64,
) -> Result<CheckpointTrailer, String> {
    if file_bytes < 2 * unit || !file_bytes.is_multiple_of(unit) {
        return Err(format!("its length is {file_bytes} bytes"));
    }
    let read = |disk: &mut Blocking<'_, D>, offset| {
        disk.read(file, offset, unit as usize).map_err(|error| error.to_string())
    };
    let first = read(disk, 0)?;
    let last = read(disk, file_bytes - unit)?;
    let header = CheckpointHeader::parse(&first, secret).map_err(|e| e.to_string())?;
    let trailer = CheckpointTrailer::parse(&last, secret).map_err(|e| e.to_string())?;
    let padded = trailer.body_bytes.checked_next_multiple_of(unit);
    if header.start != trailer.start || padded != Some(file_bytes - 2 * unit) {
        return Err("begin and end contradict each other".to_owned());
    }
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    let whole = body(disk, file, file_bytes, unit, trailer.body_bytes, |bytes| {
        digest.update(bytes);
        Ok::<_, OpenError>(())
    });
    match whole {
        Ok(true) if digest.finalize() as u32 == trailer.body_crc => Ok(trailer),
        Ok(true) => Err("its checksum does not match".to_owned()),
        Ok(false) => Err("it cannot be read".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Gives the body's bytes to `each`, in order. False when the file cannot be read.
fn body<D: LogDevice, E>(
    disk: &mut Blocking<'_, D>,
    file: FileId,
    file_bytes: u64,
    unit: u64,
    body_bytes: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<bool, E> {
    let end = file_bytes - unit;
    let mut scan = Scan::new(file, end);
    let mut left = body_bytes;
    let mut offset = unit;
    let mut result = Ok(true);
    while left > 0 && matches!(result, Ok(true)) {
        let step = STEP_BYTES.max(unit).min(end - offset);
        result = match scan.get(disk, offset, step) {
            None => Ok(false),
            Some(bytes) => {
                let now = left.min(step) as usize;
                left -= now as u64;
                offset += step;
                each(&bytes[..now]).map(|()| true)
            }
        };
    }
    scan.finish(disk);
    result
}

/// Closes a checkpoint that is not loaded.
pub(super) fn close<D: LogDevice>(disk: &mut Blocking<'_, D>, good: Good) -> Result<(), OpenError> {
    disk.must("closing", "a checkpoint", Action::Close { file: good.file }).map(drop)
}

/// Gives the pieces to the host and closes the file.
pub(super) fn load<D: LogDevice, F: Fold>(
    disk: &mut Blocking<'_, D>,
    good: Good,
    unit: usize,
    fold: &mut F,
) -> Result<(), OpenError> {
    let name = names::checkpoint(good.trailer.end);
    let lsn = good.start();
    let told = |error: F::Error| OpenError::Fold { lsn, reason: error.to_string() };
    let damaged = |reason: &str| OpenError::Damaged {
        file: name.clone(),
        offset: 0,
        reason: reason.to_owned(),
    };
    let mut piece: Vec<u8> = Vec::new();
    let read = body(
        disk,
        good.file,
        good.file_bytes,
        unit as u64,
        good.trailer.body_bytes,
        |mut bytes| {
            while !bytes.is_empty() {
                let need = match piece.first_chunk::<PIECE_HEAD_BYTES>() {
                    None => PIECE_HEAD_BYTES,
                    Some(head) => PIECE_HEAD_BYTES + u32::from_le_bytes(*head) as usize,
                };
                if need > PIECE_HEAD_BYTES + CHECKPOINT_PIECE_BYTES_MAX {
                    return Err(damaged("a piece is longer than any can be"));
                }
                let (now, rest) = bytes.split_at(bytes.len().min(need - piece.len()));
                piece.extend_from_slice(now);
                bytes = rest;
                if let Some((head, text)) = piece.split_first_chunk::<PIECE_HEAD_BYTES>()
                    && text.len() == u32::from_le_bytes(*head) as usize
                {
                    fold.load(text).map_err(told)?;
                    piece.clear();
                }
            }
            Ok(())
        },
    )?;
    if !read || !piece.is_empty() {
        return Err(damaged("its pieces do not end where it ends"));
    }
    disk.must("closing", &name, Action::Close { file: good.file })?;
    fold.loaded(good.start(), good.end()).map_err(told)
}
