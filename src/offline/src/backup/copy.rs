//! Copying a log's files, every block, footer and checkpoint checked on the way.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use wal::format::block::{Block, BlockHeader, HEADER_BYTES};
use wal::format::checkpoint::{CheckpointHeader, CheckpointTrailer, ENDS_BYTES};
use wal::format::footer::{FooterBody, FooterTrailer, TRAILER_BYTES};
use wal::format::segment::SegmentHeader;

use super::set::{CheckpointFile, FooterPlace, SegmentFile};
use super::{BackupError, failed};

/// Read at once, bytes; a larger block is read whole.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// A block is at most this long, bytes: the largest entry and the largest group with room to spare.
const BLOCK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Which log the files belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub secret: [u8; 16],
    pub shard: u16,
    /// The block size, bytes.
    pub unit: usize,
}

/// Given a block; an error stops the copying.
pub(crate) type EachBlock<'a> = &'a mut dyn FnMut(&Block) -> Result<(), BackupError>;

/// Where the copy goes, and who is told of what was copied.
pub(crate) struct Sink<'a> {
    /// `None`: nothing is written, only checked.
    pub file: Option<(&'a File, &'a Path)>,
    /// Given each block of a segment that is good.
    pub block: Option<EachBlock<'a>>,
    /// Told of bytes that are copied; an error stops the copying.
    pub went_on: &'a mut dyn FnMut(u64) -> Result<(), BackupError>,
}

impl Sink<'_> {
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), BackupError> {
        if let Some((file, path)) = self.file {
            file.write_all_at(bytes, offset).map_err(failed("write", path))?;
        }
        (self.went_on)(bytes.len() as u64)
    }
}

/// The segment that is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub number: u64,
    pub generation: u32,
    pub bytes: u64,
    pub data_end: u64,
    /// It may have a footer.
    pub sealed: bool,
}

/// Copies a segment: its header, its blocks up to `data_end`, and its footer.
///
/// # Errors
/// `Damaged` for the first thing that is not as it must be.
pub(crate) fn copy_segment(
    place: &Place,
    wanted: &Wanted,
    from: &File,
    from_path: &Path,
    sink: &mut Sink<'_>,
) -> Result<SegmentFile, BackupError> {
    let mut source = Source::new(from, from_path);
    let head = source.read(0, place.unit)?;
    let good = SegmentHeader::parse(head, &place.secret, wanted.number).is_ok_and(|header| {
        header.shard == place.shard
            && header.generation == wanted.generation
            && header.unit as usize == place.unit
            && header.bytes == wanted.bytes
    });
    if !good {
        return Err(damaged(from_path, 0, "the segment's header is not what it should be"));
    }
    sink.put(0, head)?;
    let mut segment = copy_blocks(place, wanted, &mut source, sink)?;
    if wanted.sealed {
        segment.footer = copy_footer(place, &segment, &mut source, sink)?;
    }
    source.forget();
    Ok(segment)
}

/// The blocks, one after the other, each following the one before.
fn copy_blocks(
    place: &Place,
    wanted: &Wanted,
    source: &mut Source<'_>,
    sink: &mut Sink<'_>,
) -> Result<SegmentFile, BackupError> {
    let mut at = place.unit as u64;
    let mut found: Option<(SegmentFile, u32)> = None;
    while at < wanted.data_end {
        let head = source.read(at, HEADER_BYTES)?;
        let parsed = BlockHeader::parse(head, &place.secret, wanted.number, at, place.unit);
        let (header, header_crc) =
            parsed.map_err(|error| damaged(source.path, at, format!("the block: {error}")))?;
        let length = u64::from(header.block_bytes);
        if header.shard != place.shard || header.generation != wanted.generation {
            return Err(damaged(source.path, at, "the block is of another segment"));
        }
        if length > BLOCK_BYTES_MAX || at + length > wanted.data_end {
            return Err(damaged(source.path, at, "the block goes beyond the end of the log"));
        }
        let follows = found.as_ref().is_none_or(|(segment, incarnation)| {
            header.sequence == segment.last_sequence + 1
                && header.previous_crc == segment.last_crc
                && header.first_lsn == segment.last_lsn + 1
                && header.incarnation >= *incarnation
        });
        if !follows {
            return Err(damaged(source.path, at, "the block does not follow the one before"));
        }
        let bytes = Bytes::copy_from_slice(source.read(at, length as usize)?);
        let block = Block { header, header_crc, bytes };
        if !block.body_is_good() {
            return Err(damaged(
                source.path,
                at,
                "the block's content does not match its checksum",
            ));
        }
        sink.put(at, &block.bytes)?;
        if let Some(each) = &mut sink.block {
            each(&block)?;
        }
        let (segment, incarnation) = found.get_or_insert_with(|| {
            let segment = SegmentFile {
                number: wanted.number,
                generation: wanted.generation,
                bytes: wanted.bytes,
                data_end: wanted.data_end,
                first_lsn: header.first_lsn,
                last_lsn: 0,
                first_sequence: header.sequence,
                last_sequence: 0,
                previous_crc: header.previous_crc,
                last_crc: 0,
                footer: None,
            };
            (segment, header.incarnation)
        });
        segment.last_lsn = header.last_lsn();
        segment.last_sequence = header.sequence;
        segment.last_crc = header_crc;
        *incarnation = header.incarnation;
        at += length;
    }
    found
        .map(|(segment, _)| segment)
        .ok_or_else(|| damaged(source.path, place.unit as u64, "there is no block in it"))
}

/// The footer, when there is a good one that agrees with the blocks. A segment may lawfully lack
/// it; then it is read through when the log is opened.
fn copy_footer(
    place: &Place,
    segment: &SegmentFile,
    source: &mut Source<'_>,
    sink: &mut Sink<'_>,
) -> Result<Option<FooterPlace>, BackupError> {
    let Some((trailer, crc)) = read_trailer(place, segment.number, segment.bytes, source)? else {
        return Ok(None);
    };
    let at = u64::from(trailer.body_offset);
    let length = segment.bytes.saturating_sub(at);
    let agrees = trailer.generation == segment.generation
        && u64::from(trailer.data_end) == segment.data_end
        && trailer.last_lsn == segment.last_lsn
        && trailer.last_sequence == segment.last_sequence
        && trailer.last_crc == segment.last_crc
        && at >= segment.data_end
        && at.is_multiple_of(place.unit as u64);
    if !agrees {
        let at = segment.bytes - TRAILER_BYTES as u64;
        return Err(damaged(source.path, at, "the footer contradicts the blocks"));
    }
    let bytes = source.read(at, length as usize)?;
    let body = bytes.get(..trailer.body_bytes as usize).unwrap_or_default();
    if let Err(error) = FooterBody::parse(body, &trailer) {
        return Err(damaged(source.path, at, format!("the footer: {error}")));
    }
    sink.put(at, bytes)?;
    Ok(Some(FooterPlace { at, crc }))
}

/// The trailer of a sealed segment, with its checksum; `None` when there is none.
fn read_trailer(
    place: &Place,
    number: u64,
    bytes: u64,
    source: &mut Source<'_>,
) -> Result<Option<(FooterTrailer, u32)>, BackupError> {
    let at = bytes.saturating_sub(place.unit as u64);
    let last = source.read(at, place.unit)?;
    let crc = last.last_chunk().map_or(0, |raw| u32::from_le_bytes(*raw));
    Ok(FooterTrailer::parse(last, &place.secret, number, bytes).ok().map(|found| (found, crc)))
}

/// The checksum that tells a sealed segment's content; `None` when it has no footer.
pub(crate) fn footer_crc(
    place: &Place,
    wanted: &Wanted,
    from: &File,
    from_path: &Path,
) -> Result<Option<(FooterTrailer, u32)>, BackupError> {
    let mut source = Source::new(from, from_path);
    let found = read_trailer(place, wanted.number, wanted.bytes, &mut source)?;
    Ok(found.filter(|(trailer, _)| {
        trailer.generation == wanted.generation && u64::from(trailer.data_end) == wanted.data_end
    }))
}

/// What is needed of the first block of a segment that is not read again.
pub(crate) fn first_block(
    place: &Place,
    wanted: &Wanted,
    from: &File,
    from_path: &Path,
) -> Result<BlockHeader, BackupError> {
    let at = place.unit as u64;
    let mut source = Source::new(from, from_path);
    let head = source.read(at, HEADER_BYTES)?;
    BlockHeader::parse(head, &place.secret, wanted.number, at, place.unit)
        .map(|(header, _)| header)
        .map_err(|error| damaged(from_path, at, format!("the block: {error}")))
}

/// Copies a checkpoint, whose end is `end`.
///
/// # Errors
/// As [`copy_segment`].
pub(crate) fn copy_checkpoint(
    place: &Place,
    end: u64,
    from: &File,
    from_path: &Path,
    sink: &mut Sink<'_>,
) -> Result<CheckpointFile, BackupError> {
    let unit = place.unit as u64;
    let bytes = from.metadata().map_err(failed("read", from_path))?.len();
    let mut source = Source::new(from, from_path);
    if bytes < 2 * unit || !bytes.is_multiple_of(unit) {
        return Err(damaged(from_path, bytes, "the checkpoint is cut short"));
    }
    let head = source.read(0, ENDS_BYTES)?;
    let header = CheckpointHeader::parse(head, &place.secret)
        .map_err(|error| damaged(from_path, 0, format!("the checkpoint's header: {error}")))?;
    let last = bytes - unit;
    let trailer = CheckpointTrailer::parse(source.read(last, ENDS_BYTES)?, &place.secret)
        .map_err(|error| damaged(from_path, last, format!("the checkpoint's trailer: {error}")))?;
    let agrees = trailer.start == header.start
        && trailer.end == end
        && trailer.shard == place.shard
        && header.shard == place.shard
        && trailer.body_bytes <= last - unit;
    if !agrees {
        return Err(damaged(from_path, last, "the checkpoint's ends contradict each other"));
    }
    let mut crc = Digest::new(CrcAlgorithm::Crc32Iscsi);
    let (mut at, body_end) = (0, unit + trailer.body_bytes);
    while at < bytes {
        let length = (bytes - at).min(WINDOW_BYTES as u64);
        let part = source.read(at, length as usize)?;
        let from = unit.clamp(at, at + length) - at;
        let to = body_end.clamp(at, at + length) - at;
        crc.update(part.get(from as usize..to as usize).unwrap_or_default());
        sink.put(at, part)?;
        at += length;
    }
    if crc.finalize() as u32 != trailer.body_crc {
        return Err(damaged(from_path, unit, "the checkpoint does not match its checksum"));
    }
    source.forget();
    Ok(CheckpointFile { start: header.start, end, bytes })
}

pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> BackupError {
    BackupError::Damaged { path: path.to_owned(), offset, what: what.into() }
}

/// A file read through a window.
struct Source<'a> {
    file: &'a File,
    path: &'a Path,
    window: Vec<u8>,
    start: u64,
}

impl<'a> Source<'a> {
    fn new(file: &'a File, path: &'a Path) -> Self {
        // What an earlier look has left in the page cache may be older than the disk.
        drop_pages(file);
        Self { file, path, window: Vec::new(), start: 0 }
    }

    /// These bytes; a file that ends before is damaged.
    fn read(&mut self, at: u64, length: usize) -> Result<&[u8], BackupError> {
        let held = at >= self.start && at + length as u64 <= self.start + self.window.len() as u64;
        if !held {
            self.window.resize(length.max(WINDOW_BYTES), 0);
            let filled = self.fill(at).map_err(failed("read", self.path))?;
            self.window.truncate(filled);
            self.start = at;
            if filled < length {
                let end = at + filled as u64;
                return Err(damaged(self.path, end, "the file ends here, too early"));
            }
        }
        let from = (at - self.start) as usize;
        Ok(&self.window[from..from + length])
    }

    fn fill(&mut self, at: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < self.window.len() {
            match self.file.read_at(&mut self.window[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// The copy shall not push what others need out of the page cache.
    fn forget(&self) {
        drop_pages(self.file);
    }
}

fn drop_pages(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}
