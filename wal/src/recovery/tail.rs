//! What lies after the log's end: nothing, a torn tail, or proof that acknowledged data is gone.

use tracing::warn;

use super::blocking::{Blocking, Scan};
use super::scan::{Chain, Place};
use crate::buffer::AlignedBuffer;
use crate::device::{Action, DeviceError, FileId, LogDevice};
use crate::error::OpenError;
use crate::fold::Cut;
use crate::format::block::{BlockHeader, HEADER_BYTES, MAGIC};
use crate::format::{names, u32_at, u64_at};
use crate::segments::Segment;

/// Copied at once when a tail is set aside, bytes.
const COPY_BYTES: u64 = 1024 * 1024;
/// Tails kept; the oldest go.
const TORN_FILES_MAX: usize = 8;

/// A header found after the log's end.
pub(super) struct Stray {
    pub segment: u64,
    pub file: FileId,
    pub offset: u64,
    pub header: BlockHeader,
}

/// A part of the tail that is cut: from `from` to `to` of one segment.
pub(super) struct CutRange {
    pub segment: u64,
    pub file: FileId,
    pub from: u64,
    pub to: u64,
}

/// Every good header within `window` bytes after the end, over all segments from the last on.
/// `segments` are those from the end on, the first one from `from`.
pub(super) fn strays<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    place: Place<'_>,
    segments: &[&Segment],
    from: u64,
    window: u64,
) -> Vec<Stray> {
    let mut found = Vec::new();
    let mut left = window;
    for (at, segment) in segments.iter().enumerate() {
        let start = if at == 0 { from } else { place.unit as u64 };
        let end = segment.bytes.min(start.saturating_add(left));
        left -= end.saturating_sub(start);
        strays_in(disk, place, segment, start, end, &mut found);
        if left == 0 {
            break;
        }
    }
    found
}

fn strays_in<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    place: Place<'_>,
    segment: &Segment,
    start: u64,
    end: u64,
    found: &mut Vec<Stray>,
) {
    let unit = place.unit as u64;
    let end = end / unit * unit;
    let mut scan = Scan::new(segment.file, end.max(start));
    let mut offset = start;
    while offset < end {
        let step = COPY_BYTES.max(unit).min(end - offset);
        // What cannot be read at once is tried block by block.
        let step = if scan.get(disk, offset, step).is_some() { step } else { unit };
        if let Some(bytes) = scan.get(disk, offset, step) {
            for (i, block) in bytes.chunks(place.unit).enumerate() {
                let at = offset + i as u64 * unit;
                if u32_at(block, 0) != MAGIC {
                    continue;
                }
                let parsed =
                    BlockHeader::parse(block, place.secret, segment.number, at, place.unit);
                if let Ok((header, _)) = parsed
                    && header.generation == segment.generation
                {
                    let (file, segment) = (segment.file, segment.number);
                    found.push(Stray { segment, file, offset: at, header });
                }
            }
        }
        offset += step;
    }
    scan.finish(disk);
}

/// A block at the log's end whose header has been changed: a crash cannot leave that, since a
/// header lies in one sector. No one calls it durable, so it is cut, but not without a trace.
pub(super) fn changed_header<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    place: Place<'_>,
    segment: &Segment,
    from: u64,
    chain: &Chain,
) -> Option<CutRange> {
    if from + place.unit as u64 > segment.bytes {
        return None;
    }
    let head = disk.read(segment.file, from, place.unit).ok()?;
    let head = head.get(..HEADER_BYTES)?;
    let ours = u32_at(head, 0) == MAGIC
        && u64_at(head, 16) == segment.number
        && u64_at(head, 32) == chain.next_sequence;
    let bytes = u64::from(u32_at(head, 80)).next_multiple_of(place.unit as u64);
    let to = from + bytes.clamp(place.unit as u64, segment.bytes - from);
    ours.then_some(CutRange { segment: segment.number, file: segment.file, from, to })
}

/// The strays that belong to the tail that was under way when the last run ended.
pub(super) fn torn<'a>(strays: &'a [Stray], chain: &Chain) -> Vec<&'a Stray> {
    strays
        .iter()
        .filter(|stray| {
            stray.header.incarnation >= chain.incarnation
                && stray.header.sequence >= chain.next_sequence
        })
        .collect()
}

/// One range for each segment with a torn block, from the end of the log or the segment's begin.
pub(super) fn ranges(
    torn: &[&Stray],
    last_segment: u64,
    from: u64,
    unit: u64,
    segment_bytes: impl Fn(u64) -> u64,
) -> Vec<CutRange> {
    let mut ranges: Vec<CutRange> = Vec::new();
    for stray in torn {
        let bytes = u64::from(stray.header.block_bytes);
        let to = (stray.offset + bytes).min(segment_bytes(stray.segment));
        match ranges.last_mut() {
            Some(last) if last.segment == stray.segment => last.to = last.to.max(to),
            _ => {
                let from = if stray.segment == last_segment { from } else { unit };
                ranges.push(CutRange { segment: stray.segment, file: stray.file, from, to });
            }
        }
    }
    ranges
}

/// Copies the ranges into files beside the log. A disk without space for them is no reason not
/// to open the log: nothing in them was acknowledged.
pub(super) fn set_aside<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    ranges: &[CutRange],
    lsn: u64,
    incarnation: u32,
    unit: u64,
) -> Cut {
    let file = ranges.first().map(|first| names::segment(first.segment)).unwrap_or_default();
    let offset = ranges.first().map_or(0, |first| first.from);
    let mut cut = Cut { file, offset, bytes: 0, saved_as: Vec::new() };
    for range in ranges {
        let name = names::torn(lsn, incarnation, range.segment);
        match copy(disk, range, &name, unit) {
            Ok(bytes) => {
                cut.bytes += bytes;
                cut.saved_as.push(name);
            }
            Err(error) => warn!(%error, name, "a torn tail could not be set aside"),
        }
    }
    if let Err(error) = disk.run(Action::SyncDirectory) {
        warn!(%error, "the directory could not be synced");
    }
    cut
}

fn copy<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    range: &CutRange,
    name: &str,
    unit: u64,
) -> Result<u64, DeviceError> {
    let file = disk.new_file();
    disk.run(Action::Create { file, name: name.to_owned(), bytes: 0 })?;
    let mut scan = Scan::new(range.file, range.to);
    let mut offset = range.from;
    let mut result = Ok(range.to - range.from);
    while offset < range.to && result.is_ok() {
        let step = COPY_BYTES.max(unit).min(range.to - offset);
        // Bytes that cannot be read are set aside as zeros.
        let data = scan
            .get(disk, offset, step)
            .unwrap_or_else(|| AlignedBuffer::zeroed(step as usize).freeze());
        let mut aligned = AlignedBuffer::zeroed(step as usize);
        aligned.copy_from_slice(&data);
        let to = offset - range.from;
        let write = Action::Write { file, offset: to, data: aligned.freeze() };
        if let Err(error) = disk.run(write) {
            result = Err(error);
        }
        offset += step;
    }
    scan.finish(disk);
    disk.run(Action::Sync { file }).ok();
    disk.run(Action::Close { file })?;
    result
}

/// Overwrites the headers of cut blocks, and the place where the log goes on: none of them can
/// come back, even if what follows is never written.
pub(super) fn erase<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    torn: &[&Stray],
    unit: usize,
) -> Result<(), OpenError> {
    for stray in torn {
        let data = AlignedBuffer::zeroed(unit).freeze();
        let write = Action::Write { file: stray.file, offset: stray.offset, data };
        disk.must("erasing a torn block in", &names::segment(stray.segment), write)?;
    }
    Ok(())
}

/// The names of cut tails that are too many, oldest first.
pub(super) fn too_many(listed: &[(String, u64)]) -> Vec<String> {
    let mut names: Vec<_> =
        listed.iter().map(|(name, _)| name).filter(|name| names::is_torn(name)).cloned().collect();
    names.sort();
    names.truncate(names.len().saturating_sub(TORN_FILES_MAX));
    names
}
