//! What frames the blocks: the manifest's slots, footers, checkpoints.

use super::Audit;
use super::block::Seen;
use super::source::SourceFile;
use crate::device::{DeviceError, LogDevice};
use crate::format::checkpoint::{
    CheckpointHeader, CheckpointTrailer, ENDS_BYTES, PIECE_HEAD_BYTES,
};
use crate::format::footer::{
    FooterBody, FooterTrailer, INDEX_BYTES, STREAM_BYTES, StreamRecord, TRAILER_BYTES,
};
use crate::format::manifest::{CheckpointRecord, HEADER_BYTES, Manifest, SegmentRecord};
use crate::format::{names, u32_at};

/// What is written as a whole, bytes: within it a crash leaves old or new.
const SECTOR_BYTES: usize = 512;
/// How much of a checkpoint is read at once, bytes.
const PIECES_BYTES: usize = 4 * 1024 * 1024;

impl<D: LogDevice> Audit<'_, D> {
    /// The newer good slot of the manifest.
    pub(super) fn manifest(&mut self) -> Result<Option<Manifest>, DeviceError> {
        let mut newest: Option<Manifest> = None;
        let mut bad = Vec::new();
        for (slot, name) in names::MANIFESTS.iter().enumerate() {
            let Some(mut file) = self.source.open(name)? else { continue };
            let length = usize::try_from(file.bytes).unwrap_or(usize::MAX);
            let bytes = self.source.read(&mut file, 0, length)?;
            match Manifest::parse(bytes, &self.secret) {
                Ok(manifest) if Manifest::slot(manifest.number) != slot => {
                    self.damage(name, 8, "the manifest belongs into the other slot");
                }
                Ok(manifest) => {
                    if newest.as_ref().is_none_or(|other| other.number < manifest.number) {
                        newest = Some(manifest);
                    }
                }
                // A slot that was never written.
                Err(_) if bytes.iter().all(|b| *b == 0) => {}
                Err(error) => bad.push((*name, error, torn(bytes))),
            }
            self.source.close(file)?;
        }
        for (name, error, torn) in bad {
            let what = format!("the manifest: {error}");
            match (torn, newest.is_some()) {
                (true, true) => {
                    self.note(name, 0, format!("{what}; a crash tore it, the other is good"));
                }
                _ => self.damage(name, 0, what),
            }
        }
        if newest.is_none() && self.report.damage.is_empty() {
            self.damage(names::MANIFESTS[0], 0, "there is no manifest");
        }
        Ok(newest)
    }

    /// Compares a sealed segment's footer with what its blocks say.
    pub(super) fn footer(
        &mut self,
        file: &mut SourceFile,
        record: &SegmentRecord,
        seen: &Seen,
    ) -> Result<(), DeviceError> {
        let unit = self.unit;
        let name = file.name.clone();
        if record.footerless {
            self.note(&name, u64::from(record.data_end), "it has no footer, as the manifest says");
            return Ok(());
        }
        let last = file.bytes.saturating_sub(unit as u64);
        let bytes = self.source.read(file, last, unit)?;
        let trailer = FooterTrailer::parse(bytes, &self.secret, record.number, record.bytes);
        let trailer_at = file.bytes.saturating_sub(TRAILER_BYTES as u64);
        let trailer = match trailer {
            Ok(trailer) => trailer,
            // A single huge block may leave no room for a footer; such a segment is read whole.
            Err(_) if !has_room(record, seen, unit) => return Ok(()),
            Err(error) => {
                self.damage(&name, trailer_at, format!("the footer's trailer: {error}"));
                return Ok(());
            }
        };
        let agrees = trailer.generation == record.generation
            && trailer.data_end == record.data_end
            && trailer.last_lsn == record.last_lsn
            && seen.first_lsn.is_none_or(|first| first == trailer.first_lsn)
            && seen.last_sequence == trailer.last_sequence
            && seen.last_crc == trailer.last_crc;
        if !agrees {
            self.damage(&name, trailer_at, "the footer's trailer contradicts the blocks");
        }
        let body_at = u64::from(trailer.body_offset);
        let start = body_at - body_at % unit as u64;
        let skip = (body_at - start) as usize;
        let bytes = self.source.read(file, start, skip + trailer.body_bytes as usize)?;
        match FooterBody::parse(bytes.get(skip..).unwrap_or_default(), &trailer) {
            Ok(body) => match contradiction(&body, seen) {
                Some(what) => self.damage(&name, body_at, what),
                None => self.report.footers += 1,
            },
            Err(error) => self.damage(&name, body_at, format!("the footer: {error}")),
        }
        Ok(())
    }

    pub(super) fn checkpoints(&mut self, manifest: &Manifest) -> Result<(), DeviceError> {
        for record in &manifest.checkpoints {
            self.checkpoint(record)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, record: &CheckpointRecord) -> Result<(), DeviceError> {
        let name = names::checkpoint(record.end);
        let Some(mut file) = self.source.open(&name)? else {
            self.damage(&name, 0, "the manifest names this checkpoint, but it is missing");
            return Ok(());
        };
        match self.checkpoint_parts(&mut file, record)? {
            None => self.report.checkpoints += 1,
            Some((offset, what)) => self.damage(&name, offset, what),
        }
        self.source.close(file)
    }

    /// The first thing wrong with a checkpoint.
    pub(super) fn checkpoint_parts(
        &mut self,
        file: &mut SourceFile,
        record: &CheckpointRecord,
    ) -> Result<Option<(u64, String)>, DeviceError> {
        let unit = self.unit;
        let first = self.source.read(file, 0, unit)?;
        let start = match CheckpointHeader::parse(first, &self.secret) {
            // A crash may leave a later one with the same end under the name.
            Ok(header) if header.start >= record.start => header.start,
            Ok(_) => return Ok(Some((0, "the checkpoint begins elsewhere".into()))),
            Err(error) => return Ok(Some((0, format!("the checkpoint's header: {error}")))),
        };
        if first[ENDS_BYTES..].iter().any(|b| *b != 0) {
            return Ok(Some((0, "the padding of the checkpoint's header is not zero".into())));
        }
        let trailer_at = file.bytes.saturating_sub(unit as u64);
        let last = self.source.read(file, trailer_at, unit)?;
        let trailer = match CheckpointTrailer::parse(last, &self.secret) {
            Ok(trailer) => trailer,
            Err(error) => {
                return Ok(Some((trailer_at, format!("the checkpoint's trailer: {error}"))));
            }
        };
        let body_end = unit as u64 + trailer.body_bytes;
        if trailer.start != start || trailer.end != record.end || body_end > trailer_at {
            return Ok(Some((
                trailer_at,
                "the checkpoint's trailer contradicts the manifest".into(),
            )));
        }
        self.pieces(file, &trailer)
    }

    /// Walks the pieces: their lengths fill the body exactly, their bytes match the checksum.
    fn pieces(
        &mut self,
        file: &mut SourceFile,
        trailer: &CheckpointTrailer,
    ) -> Result<Option<(u64, String)>, DeviceError> {
        let unit = self.unit as u64;
        let body_end = unit + trailer.body_bytes;
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        let (mut at, mut next_piece, mut pieces) = (unit, unit, 0);
        while at < body_end {
            let take = (body_end - at).min(PIECES_BYTES as u64) as usize;
            let bytes = self.source.read(file, at, take)?;
            if bytes.len() < take {
                return Ok(Some((file.bytes, "the checkpoint ends within its pieces".into())));
            }
            digest.update(bytes);
            at += take as u64;
        }
        while next_piece + PIECE_HEAD_BYTES as u64 <= body_end {
            let aligned = next_piece - next_piece % unit;
            let within = (next_piece - aligned) as usize;
            let bytes = self.source.read(file, aligned, within + PIECE_HEAD_BYTES)?;
            next_piece += PIECE_HEAD_BYTES as u64 + u64::from(u32_at(bytes, within));
            pieces += 1;
        }
        if digest.finalize() as u32 != trailer.body_crc {
            return Ok(Some((unit, "the checkpoint's pieces do not match their checksum".into())));
        }
        let good = next_piece == body_end && pieces == trailer.pieces;
        Ok((!good).then(|| (unit, "the checkpoint's pieces do not fill it".into())))
    }
}

/// Whether a crash can have left this: the first sector is good, what follows is older or newer.
fn torn(bytes: &[u8]) -> bool {
    let Some(head) = bytes.get(..HEADER_BYTES) else { return true };
    let segments = u32_at(head, 84) as usize;
    bytes.len() > SECTOR_BYTES
        && HEADER_BYTES + segments * crate::format::manifest::RECORD_BYTES > SECTOR_BYTES
}

/// Whether the smallest footer fits behind the segment's blocks.
fn has_room(record: &SegmentRecord, seen: &Seen, unit: usize) -> bool {
    let least = seen.streams.len() * (STREAM_BYTES + INDEX_BYTES) + TRAILER_BYTES;
    u64::from(record.data_end) + least.next_multiple_of(unit) as u64 <= record.bytes
}

/// What a footer says that the blocks do not.
fn contradiction(body: &FooterBody, seen: &Seen) -> Option<String> {
    if body.streams.len() != seen.streams.len() {
        let (footer, blocks) = (body.streams.len(), seen.streams.len());
        return Some(format!("the footer has {footer} streams, the blocks have {blocks}"));
    }
    for (record, found) in body.streams.iter().zip(seen.streams.values()) {
        let as_seen = StreamRecord {
            index_start: record.index_start,
            index_entries: record.index_entries,
            label_start: record.label_start,
            label_bytes: record.label_bytes,
            ..*found
        };
        if *record != as_seen {
            return Some(format!(
                "the footer contradicts the blocks about stream {}",
                record.stream
            ));
        }
        let start = record.index_start as usize;
        let entries = body.index.get(start..start + record.index_entries as usize)?;
        let mut last = None;
        for entry in entries {
            let place = seen.places.get(&(record.stream.0, entry.block));
            if place != Some(&entry.offset) || last.is_some_and(|last| last >= entry.block) {
                return Some(format!("the index of stream {} points beside it", record.stream));
            }
            last = Some(entry.block);
        }
        if entries.first().is_none_or(|entry| entry.offset != record.first_offset) {
            return Some(format!("the index of stream {} misses its start", record.stream));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_one_sector_cannot_be_torn() {
        let mut bytes = vec![0; 4096];
        bytes[84] = 6;
        assert!(!torn(&bytes));
        bytes[84] = 7;
        assert!(torn(&bytes));
        assert!(torn(&bytes[..100]));
    }
}
