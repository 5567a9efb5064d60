//! Segments before the checkpoint: their footers tell what they hold. One without a good footer
//! is read through instead.

use tracing::warn;

use super::Found;
use super::blocking::Blocking;
use super::scan::{self, Chain, Place};
use crate::device::LogDevice;
use crate::error::OpenError;
use crate::format::footer::{FooterBody, FooterTrailer};
use crate::index::SegmentIndex;
use crate::segments::{FooterPlace, Segment, State};
use crate::stats::StreamUse;

/// Read from a segment's end at once, bytes; most footers are in it whole.
const END_BYTES: u64 = 64 * 1024;

/// The footer of a segment, if it is good.
fn read<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    segment: &Segment,
    secret: &[u8; 16],
) -> Option<(FooterTrailer, FooterBody)> {
    let bytes = END_BYTES.min(segment.bytes);
    let from = segment.bytes - bytes;
    let last = disk.read(segment.file, from, bytes as usize).ok()?;
    let trailer = FooterTrailer::parse(&last, secret, segment.number, segment.bytes).ok()?;
    let body_from = u64::from(trailer.body_offset);
    let body = match body_from.checked_sub(from) {
        Some(at) => FooterBody::parse(last.get(at as usize..)?, &trailer).ok()?,
        None => {
            let bytes = (segment.bytes - body_from) as usize;
            let whole = disk.read(segment.file, body_from, bytes).ok()?;
            FooterBody::parse(&whole, &trailer).ok()?
        }
    };
    (trailer.generation == segment.generation).then_some((trailer, body))
}

fn place_of(trailer: &FooterTrailer, segment: &Segment) -> FooterPlace {
    let body_offset = u64::from(trailer.body_offset);
    FooterPlace { body_offset, bytes: segment.bytes - body_offset }
}

/// Learns what segment `number` holds, which lies before those that are replayed.
pub(super) fn read_footer_or_blocks<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    found: &mut Found,
    number: u64,
) -> Result<(), OpenError> {
    let sealed_end = found.sealed_end(number);
    // The segment after it tells where it must end, unless segments between were recycled.
    let next_lsn = match sealed_end {
        Some(_) => found.segments.all.get(&number).map(|s| s.last_lsn + 1),
        None => found.segments.all.range(number + 1..).map(|(_, s)| s.first_lsn).next(),
    };
    let Some(segment) = found.segments.all.get_mut(&number) else { return Ok(()) };
    if let Some((trailer, body)) = read(disk, segment, &found.config.secret)
        && Some(trailer.last_lsn + 1) == next_lsn
        && sealed_end.is_none_or(|end| end == u64::from(trailer.data_end))
    {
        segment.state = State::Sealed;
        segment.last_lsn = trailer.last_lsn;
        segment.last_sequence = trailer.last_sequence;
        segment.last_crc = trailer.last_crc;
        segment.data_end = u64::from(trailer.data_end);
        segment.footer = Some(place_of(&trailer, segment));
        for record in &body.streams {
            segment.uses.push(StreamUse {
                stream: record.stream,
                first_offset: record.first_offset,
                last_offset: record.last_offset,
                max_time_ms: record.max_time_ms,
                bytes: record.bytes,
            });
            let stream = found.streams.entry(record.stream);
            stream.segments.push_back((number, record.first_offset));
        }
        return Ok(());
    }
    disk.read_error = None;
    warn!(shard = found.config.shard, number, "a segment has no good footer and is read through");
    read_blocks(disk, found, number, sealed_end, next_lsn)
}

fn read_blocks<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    found: &mut Found,
    number: u64,
    sealed_end: Option<u64>,
    next_lsn: Option<u64>,
) -> Result<(), OpenError> {
    let place = Place { secret: &found.config.secret, shard: found.config.shard, unit: found.unit };
    let Some(segment) = found.segments.all.get_mut(&number) else { return Ok(()) };
    let mut chain = Chain {
        next_lsn: segment.first_lsn,
        next_sequence: segment.first_sequence,
        previous_crc: segment.previous_crc,
        incarnation: 0,
    };
    let mut index = SegmentIndex::default();
    let streams = &mut found.streams;
    let end = sealed_end.unwrap_or(u64::MAX);
    let reason = place.segment(disk, segment, end, &mut chain, |block, offset| {
        scan::index_block(&mut index, streams, block, offset);
        Ok(())
    })?;
    let data_end = segment.data_end;
    // A sealed one stays without a footer, the others get theirs now.
    segment.state = if sealed_end.is_some() { State::Sealed } else { State::Sealing };
    segment.uses = if sealed_end.is_some() { index.uses() } else { Vec::new() };
    found.indexes.pin(number, index);
    let short = sealed_end.is_some_and(|end| end != data_end)
        || next_lsn.is_some_and(|next| next != chain.next_lsn);
    if short { Err(found.damaged(number, data_end, reason)) } else { Ok(()) }
}

/// Segments that were sealed before and read through now for the host's sake: whether their
/// footers are good. Those whose footers are not get new ones.
pub(super) fn find_those_replayed<D: LogDevice>(disk: &mut Blocking<'_, D>, found: &mut Found) {
    let numbers: Vec<u64> = found
        .segments
        .all
        .values()
        .filter(|s| s.state == State::Sealing)
        .map(|s| s.number)
        .collect();
    for number in numbers {
        if found.sealed_end(number).is_none() {
            continue;
        }
        let Some(segment) = found.segments.all.get_mut(&number) else { continue };
        if let Some((trailer, _)) = read(disk, segment, &found.config.secret)
            && trailer.last_lsn == segment.last_lsn
            && u64::from(trailer.data_end) == segment.data_end
            && let Some(index) = found.indexes.peek(number)
        {
            segment.state = State::Sealed;
            segment.uses = index.uses();
            segment.footer = Some(place_of(&trailer, segment));
            found.indexes.unpin(number);
        }
    }
}
