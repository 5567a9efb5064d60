//! Reading the log block by block: which block follows which, and where the log ends.

use model::Lsn;

use super::blocking::{Blocking, Scan};
use crate::device::LogDevice;
use crate::error::OpenError;
use crate::fold::Fold;
use crate::format::block::{Block, BlockHeader};
use crate::index::{SegmentIndex, Streams};
use crate::segments::Segment;

/// What the next block must continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub next_lsn: u64,
    pub next_sequence: u64,
    pub previous_crc: u32,
    pub incarnation: u32,
}

impl Chain {
    /// Why this block does not come next.
    fn refuses(&self, header: &BlockHeader, segment: &Segment, shard: u16) -> Option<String> {
        if header.shard != shard {
            Some(format!("the block is of shard {}", header.shard))
        } else if header.generation != segment.generation {
            Some(format!("the block is of generation {}", header.generation))
        } else if header.sequence != self.next_sequence {
            let next = self.next_sequence;
            Some(format!("block {} stands where block {next} should", header.sequence))
        } else if header.previous_crc != self.previous_crc {
            Some("the block does not continue the one before".to_owned())
        } else if header.incarnation < self.incarnation {
            Some(format!("the block is of an earlier incarnation, {}", header.incarnation))
        } else if header.first_lsn != self.next_lsn {
            let next = self.next_lsn;
            Some(format!("entry {} stands where entry {next} should", header.first_lsn))
        } else {
            None
        }
    }

    /// Whether the manifest has named this very place as the segment's begin.
    pub fn is_announced_by(&self, next: &Segment) -> bool {
        next.first_sequence == self.next_sequence
            && next.first_lsn == self.next_lsn
            && next.previous_crc == self.previous_crc
    }

    pub fn accept(&mut self, block: &Block) {
        self.next_lsn = block.header.last_lsn() + 1;
        self.next_sequence = block.header.sequence + 1;
        self.previous_crc = block.header_crc;
        self.incarnation = block.header.incarnation;
    }
}

/// What every step of a scan needs to know.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub secret: &'a [u8; 16],
    pub shard: u16,
    pub unit: usize,
}

impl Place<'_> {
    /// The block at `offset` if it is whole and continues the chain; else why not.
    fn block_at<D: LogDevice>(
        &self,
        disk: &mut Blocking<'_, D>,
        scan: &mut Scan,
        segment: &Segment,
        offset: u64,
        chain: &Chain,
    ) -> Result<Block, String> {
        let unit = self.unit as u64;
        if offset + unit > segment.bytes {
            return Err("the segment ends".to_owned());
        }
        let unreadable = || "the block cannot be read".to_owned();
        let head = scan.get(disk, offset, unit).ok_or_else(unreadable)?;
        let (header, header_crc) =
            BlockHeader::parse(&head, self.secret, segment.number, offset, self.unit)
                .map_err(|error| format!("there is no block: {error}"))?;
        if let Some(reason) = chain.refuses(&header, segment, self.shard) {
            return Err(reason);
        }
        let length = u64::from(header.block_bytes);
        if offset + length > segment.bytes {
            return Err("the block is longer than its segment".to_owned());
        }
        let bytes = scan.get(disk, offset, length).ok_or_else(unreadable)?;
        let block = Block { header, header_crc, bytes };
        if !block.body_is_good() {
            return Err("the block's contents do not match their checksum".to_owned());
        }
        let bad = |(record, range): (crate::format::entry::EntryRecord, _)| {
            crate::crc::crc32c(&block.bytes[range]) != record.payload_crc
        };
        if block.entries().any(bad) {
            return Err("an entry does not match its checksum".to_owned());
        }
        Ok(block)
    }

    /// Whether the first block of the segment continues the chain, by its header.
    pub fn begins_with<D: LogDevice>(
        &self,
        disk: &mut Blocking<'_, D>,
        segment: &Segment,
        chain: &Chain,
    ) -> bool {
        let unit = self.unit as u64;
        let Ok(head) = disk.read(segment.file, unit, self.unit) else { return false };
        let header = BlockHeader::parse(&head, self.secret, segment.number, unit, self.unit);
        header.is_ok_and(|(header, _)| chain.refuses(&header, segment, self.shard).is_none())
    }

    /// Reads the segment's blocks as far as they continue the chain, gives each to `each`, and
    /// notes in the segment what it holds. Returns why the next one does not continue.
    pub fn segment<D: LogDevice>(
        &self,
        disk: &mut Blocking<'_, D>,
        segment: &mut Segment,
        end: u64,
        chain: &mut Chain,
        mut each: impl FnMut(&Block, u64) -> Result<(), OpenError>,
    ) -> Result<String, OpenError> {
        segment.first_lsn = chain.next_lsn;
        segment.last_lsn = chain.next_lsn - 1;
        segment.first_sequence = chain.next_sequence;
        segment.last_sequence = chain.next_sequence - 1;
        segment.previous_crc = chain.previous_crc;
        segment.last_crc = chain.previous_crc;
        let mut offset = self.unit as u64;
        let mut scan = Scan::new(segment.file, segment.bytes);
        let ended = loop {
            if offset == end {
                break Ok("the segment ends".to_owned());
            }
            match self.block_at(disk, &mut scan, segment, offset, chain) {
                Err(reason) => break Ok(reason),
                Ok(block) => {
                    if let Err(error) = each(&block, offset) {
                        break Err(error);
                    }
                    chain.accept(&block);
                    segment.last_lsn = block.header.last_lsn();
                    segment.last_sequence = block.header.sequence;
                    segment.last_crc = block.header_crc;
                    offset += u64::from(block.header.block_bytes);
                }
            }
        };
        segment.data_end = offset;
        segment.prepared = segment.prepared.max(offset);
        scan.finish(disk);
        ended
    }
}

/// Takes a block into its segment's index.
pub(super) fn index_block(
    index: &mut SegmentIndex,
    streams: &mut Streams,
    block: &Block,
    offset: u64,
) {
    let number = block.header.segment;
    index.add_block(
        offset as u32,
        block.header.block_bytes,
        block.records(),
        |stream, first_offset| {
            let stream = streams.entry(stream);
            stream.segments.push_back((number, first_offset));
            stream.label.len()
        },
    );
}

/// Gives the host the entries after `start`.
pub(super) fn replay<F: Fold>(
    fold: &mut F,
    block: &Block,
    start: Lsn,
    replayed: &mut u64,
) -> Result<(), OpenError> {
    let lsns = (block.header.first_lsn..).map(Lsn);
    for (lsn, (record, range)) in lsns.zip(block.entries()) {
        if lsn > start {
            fold.apply(lsn, &record.head, &block.bytes[range])
                .map_err(|error| OpenError::Fold { lsn, reason: error.to_string() })?;
            *replayed += 1;
        }
    }
    Ok(())
}
