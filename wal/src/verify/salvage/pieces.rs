//! The pieces of a good checkpoint, one after another.

use super::Salvage;
use crate::config::CHECKPOINT_PIECE_BYTES_MAX;
use crate::device::{DeviceError, LogDevice};
use crate::format::checkpoint::{CheckpointTrailer, PIECE_HEAD_BYTES};
use crate::format::manifest::CheckpointRecord;
use crate::format::names;

/// Read at once, bytes.
const STEP_BYTES: u64 = 1024 * 1024;

impl<D: LogDevice> Salvage<'_, D> {
    /// Gives every piece of a checkpoint that [`Salvage::checkpoints`] named to `each`. False when
    /// the file has changed since and cannot be read as it was.
    pub fn checkpoint_pieces<E: From<DeviceError>>(
        &mut self,
        record: &CheckpointRecord,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let unit = self.audit.unit as u64;
        let Some(mut file) = self.audit.source.open(&names::checkpoint(record.end))? else {
            return Ok(false);
        };
        let last = file.bytes.saturating_sub(unit);
        let secret = self.audit.secret;
        let trailer = self.audit.source.read(&mut file, last, unit as usize)?;
        let Ok(trailer) = CheckpointTrailer::parse(trailer, &secret) else { return Ok(false) };
        let end = unit + trailer.body_bytes;
        let mut piece: Vec<u8> = Vec::new();
        let mut at = unit;
        while at < end {
            let take = (end - at).min(STEP_BYTES.next_multiple_of(unit)) as usize;
            let mut bytes = self.audit.source.read(&mut file, at, take)?;
            if bytes.len() < take {
                return Ok(false);
            }
            at += take as u64;
            while !bytes.is_empty() {
                let need = match piece.first_chunk::<PIECE_HEAD_BYTES>() {
                    None => PIECE_HEAD_BYTES,
                    Some(head) => PIECE_HEAD_BYTES + u32::from_le_bytes(*head) as usize,
                };
                if need > PIECE_HEAD_BYTES + CHECKPOINT_PIECE_BYTES_MAX {
                    return Ok(false);
                }
                let (now, rest) = bytes.split_at(bytes.len().min(need - piece.len()));
                piece.extend_from_slice(now);
                bytes = rest;
                if let Some((head, text)) = piece.split_first_chunk::<PIECE_HEAD_BYTES>()
                    && text.len() == u32::from_le_bytes(*head) as usize
                {
                    each(text)?;
                    piece.clear();
                }
            }
        }
        self.audit.source.close(file)?;
        Ok(piece.is_empty())
    }
}
