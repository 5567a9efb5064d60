//! One segment after the other: the sealed ones to their known ends, then to the log's end.

use super::Audit;
use super::block::{Follows, Seen, Walk, contradiction};
use super::source::SourceFile;
use crate::device::{DeviceError, LogDevice};
use crate::format::block::{BlockHeader, HEADER_BYTES, MAGIC};
use crate::format::manifest::{SegmentRecord, SegmentState};
use crate::format::segment::{self, SegmentHeader};
use crate::format::{names, u32_at, u64_at};

impl<D: LogDevice> Audit<'_, D> {
    /// A sealed segment: blocks up to its known end, nothing missing, and a footer.
    pub(super) fn sealed(
        &mut self,
        record: &SegmentRecord,
        walk: &mut Walk,
    ) -> Result<(), DeviceError> {
        let Some(mut file) = self.segment_file(record, walk)? else {
            walk.follows = None;
            walk.next_lsn = record.last_lsn + 1;
            return Ok(());
        };
        let unbroken = walk.follows.is_some_and(|follows| {
            follows.sequence == record.first_sequence && walk.next_lsn == record.first_lsn
        });
        if !unbroken {
            // A segment between was recycled: offsets may leap, and the manifest says how the
            // chain goes on.
            walk.take_up(record);
            self.streams.clear();
        }
        let mut seen = Seen::after(walk);
        let mut at = walk.unit as u64;
        let mut whole = true;
        while at < u64::from(record.data_end) {
            match self.block(&mut file, at, record, walk, &mut seen)? {
                Ok(bytes) => at += bytes,
                Err(what) => {
                    whole = false;
                    self.damage(&file.name.clone(), at, what);
                    let end = u64::from(record.data_end);
                    at = self.next_block(&mut file, at, record, end, walk)?;
                }
            }
        }
        if whole {
            if walk.next_lsn != record.last_lsn + 1 {
                let what = format!("the segment should end with entry {}", record.last_lsn);
                self.damage(&file.name.clone(), at, what);
            }
            self.footer(&mut file, record, &seen)?;
        }
        self.source.close(file)
    }

    /// A segment that was in use or ready when the manifest was written: the log goes through it,
    /// ends in it, or never came there.
    pub(super) fn open_segment(
        &mut self,
        record: &SegmentRecord,
        next: Option<&SegmentRecord>,
        walk: &mut Walk,
    ) -> Result<(), DeviceError> {
        let Some(mut file) = self.segment_file(record, walk)? else { return Ok(()) };
        if record.state == SegmentState::Active
            && walk.follows.is_none_or(|follows| follows.sequence != record.first_sequence)
        {
            walk.take_up(record);
            self.streams.clear();
        }
        let mut seen = Seen::default();
        let mut at = walk.unit as u64;
        loop {
            let trouble = match self.block(&mut file, at, record, walk, &mut seen)? {
                Ok(bytes) => {
                    at += bytes;
                    continue;
                }
                Err(trouble) => trouble,
            };
            walk.end = (file.name.clone(), at);
            let goes_on = match next {
                Some(next) => self.continues_in(next, walk)?,
                None => false,
            };
            if goes_on {
                break;
            }
            if !self.tail_is_damaged(&mut file, at, record, walk, trouble)? {
                walk.ended = true;
                break;
            }
            let end = file.bytes;
            at = self.next_block(&mut file, at, record, end, walk)?;
            if at == end {
                break;
            }
        }
        self.source.close(file)
    }

    /// After the log's end nothing may call an entry durable that is not there.
    pub(super) fn after_the_end(
        &mut self,
        record: &SegmentRecord,
        walk: &mut Walk,
    ) -> Result<(), DeviceError> {
        let Some(mut file) = self.segment_file(record, walk)? else { return Ok(()) };
        self.look_ahead(&mut file, walk.unit as u64, record.number, walk)?;
        self.source.close(file)
    }

    /// Opens a named segment, if it is there, and checks its own header.
    fn segment_file(
        &mut self,
        record: &SegmentRecord,
        walk: &Walk,
    ) -> Result<Option<SourceFile>, DeviceError> {
        let name = names::segment(record.number);
        let Some(mut file) = self.source.open(&name)? else { return Ok(None) };
        self.report.segments += 1;
        if file.bytes != record.bytes {
            let what = format!("it has {} bytes instead of {}", file.bytes, record.bytes);
            self.damage(&name, file.bytes.min(record.bytes), what);
        }
        let first = self.source.read(&mut file, 0, walk.unit)?;
        let padding_zero = first.iter().skip(segment::HEADER_BYTES).all(|b| *b == 0);
        match SegmentHeader::parse(first, &self.secret, record.number) {
            Ok(header) => {
                let good = header.generation == record.generation
                    && header.shard == walk.shard
                    && header.unit as usize == walk.unit
                    && header.bytes == record.bytes
                    && padding_zero;
                if !good {
                    self.damage(&name, 0, "the segment's header contradicts the manifest");
                }
            }
            Err(error) => self.damage(&name, 0, format!("the segment's header: {error}")),
        }
        Ok(Some(file))
    }

    /// The place of the next block before `end` that can be made out after damage, from which the
    /// walk goes on; `end` when there is none.
    fn next_block(
        &mut self,
        file: &mut SourceFile,
        at: u64,
        record: &SegmentRecord,
        end: u64,
        walk: &mut Walk,
    ) -> Result<u64, DeviceError> {
        // Its offsets cannot be compared with what is lost.
        self.streams.clear();
        let mut from = at + walk.unit as u64;
        while let Some((offset, header)) = self.header_from(file, from, record.number, walk.unit)? {
            if offset >= end {
                break;
            }
            // What was cut once may still lie about; it repeats numbers that were walked.
            if header.first_lsn >= walk.next_lsn && header.incarnation >= walk.incarnation {
                let (sequence, previous_crc) = (header.sequence, header.previous_crc);
                walk.follows = Some(Follows { sequence, previous_crc });
                walk.next_lsn = header.first_lsn;
                return Ok(offset);
            }
            from = offset + walk.unit as u64;
        }
        walk.follows = None;
        // What is missing is said once.
        walk.next_lsn = match record.state {
            SegmentState::Sealed => record.last_lsn + 1,
            _ => walk.next_lsn.max(walk.promised + 1),
        };
        Ok(end)
    }

    /// The first good header at or after `from`.
    fn header_from(
        &mut self,
        file: &mut SourceFile,
        from: u64,
        number: u64,
        unit: usize,
    ) -> Result<Option<(u64, BlockHeader)>, DeviceError> {
        let mut at = from;
        while at + HEADER_BYTES as u64 <= file.bytes {
            let head = self.source.read(file, at, unit)?;
            if let Ok((header, _)) = BlockHeader::parse(head, &self.secret, number, at, unit) {
                return Ok(Some((at, header)));
            }
            at += unit as u64;
        }
        Ok(None)
    }

    /// Takes in what all headers from `from` on call durable; how many there are.
    pub(super) fn look_ahead(
        &mut self,
        file: &mut SourceFile,
        from: u64,
        number: u64,
        walk: &mut Walk,
    ) -> Result<u64, DeviceError> {
        let (mut at, mut found) = (from, 0);
        while let Some((offset, header)) = self.header_from(file, at, number, walk.unit)? {
            walk.promised = walk.promised.max(header.durable_lsn);
            at = offset + walk.unit as u64;
            found += 1;
        }
        Ok(found)
    }

    /// Where a block of any kind begins in a segment that should hold none.
    pub(super) fn first_block_anywhere(
        &mut self,
        name: &str,
        number: u64,
        unit: usize,
    ) -> Result<Option<u64>, DeviceError> {
        let Some(mut file) = self.source.open(name)? else { return Ok(None) };
        let mut at = 0;
        let mut found = None;
        while found.is_none() && at < file.bytes {
            let head = self.source.read(&mut file, at, unit)?;
            found = BlockHeader::parse(head, &self.secret, number, at, unit).ok().map(|_| at);
            at += unit as u64;
        }
        self.source.close(file)?;
        Ok(found)
    }

    /// Whether the log goes on in the next segment: the manifest says so, or its first block does.
    fn continues_in(&mut self, next: &SegmentRecord, walk: &Walk) -> Result<bool, DeviceError> {
        let announced = next.state != SegmentState::Pool
            && next.first_lsn == walk.next_lsn
            && walk.follows.is_some_and(|follows| {
                follows.sequence == next.first_sequence && follows.previous_crc == next.previous_crc
            });
        if announced {
            return Ok(true);
        }
        let Some(mut file) = self.source.open(&names::segment(next.number))? else {
            return Ok(false);
        };
        let at = walk.unit as u64;
        let head = self.source.read(&mut file, at, walk.unit)?;
        let goes_on = BlockHeader::parse(head, &self.secret, next.number, at, walk.unit)
            .is_ok_and(|(header, _)| contradiction(&header, next, walk).is_none());
        self.source.close(file)?;
        Ok(goes_on)
    }

    /// No block follows at `at`. True when something calls entries durable that should be there;
    /// else the log ends by itself or in a torn write.
    fn tail_is_damaged(
        &mut self,
        file: &mut SourceFile,
        at: u64,
        record: &SegmentRecord,
        walk: &mut Walk,
        trouble: String,
    ) -> Result<bool, DeviceError> {
        let beyond = self.look_ahead(file, at, record.number, walk)?;
        let name = file.name.clone();
        let (next, promised) = (walk.next_lsn, walk.promised);
        if promised >= next && next > 0 {
            let what = format!(
                "{trouble}; entries from {next} on, at least up to {promised}, were durable"
            );
            self.damage(&name, at, what);
            return Ok(true);
        }
        let head = self.source.read(file, at, walk.unit)?;
        let bad = BlockHeader::parse(head, &self.secret, record.number, at, walk.unit).is_err();
        if bad && was_a_header(head, record.number, walk) {
            self.damage(&name, at, "the header of the log's last block is changed");
            return Ok(true);
        }
        if beyond > 0 {
            let what = format!(
                "the log ends here; {beyond} blocks after it were never acknowledged or were cut"
            );
            self.note(&name, at, what);
        }
        Ok(false)
    }
}

/// Whether a bad header is that of the next block with some bytes changed. A crash cannot leave
/// that: a header lies in one sector. Each of the three is told by what the others say.
fn was_a_header(bytes: &[u8], number: u64, walk: &Walk) -> bool {
    let Some(head) = bytes.get(..HEADER_BYTES) else { return false };
    let magic = u32_at(head, 0) == MAGIC;
    let place = u64_at(head, 16) == number;
    let next = walk.follows.is_some_and(|follows| u64_at(head, 32) == follows.sequence);
    [magic, place, next].into_iter().filter(|same| *same).count() >= 2
}
