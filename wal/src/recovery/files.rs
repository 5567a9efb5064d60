//! The files of the directory: what the manifest names must be there, and nothing else may count.

use super::blocking::Blocking;
use super::{Found, misplaced};
use crate::device::{Action, FileId, LogDevice};
use crate::error::OpenError;
use crate::format::block::BlockHeader;
use crate::format::manifest::{SegmentRecord, SegmentState};
use crate::format::names;
use crate::segments::Segment;

impl Found {
    /// Opens every segment that the manifest names.
    pub(super) fn open_segments<D: LogDevice>(
        &mut self,
        disk: &mut Blocking<'_, D>,
    ) -> Result<(), OpenError> {
        for record in self.manifest.segments.clone() {
            let name = names::segment(record.number);
            if record.state == SegmentState::Dropped {
                if self.listed.iter().any(|(listed, _)| *listed == name) {
                    self.leftovers.push(name);
                }
                continue;
            }
            let damaged =
                |reason: String| Err(OpenError::Damaged { file: name.clone(), offset: 0, reason });
            let Some((file, bytes)) = disk.open(&name)? else {
                return Err(OpenError::Missing { file: name });
            };
            if bytes != record.bytes {
                return damaged(format!("it has {bytes} bytes and should have {}", record.bytes));
            }
            self.segments.all.insert(record.number, segment_of(&record, file));
        }
        self.segments.next_number = self.manifest.next_segment.max(1);
        Ok(())
    }

    /// Looks at the files that the manifest does not name.
    pub(super) fn look_at_the_rest<D: LogDevice>(
        &mut self,
        disk: &mut Blocking<'_, D>,
    ) -> Result<(), OpenError> {
        for (name, bytes) in self.listed.clone() {
            if let Some(slot) = names::RESERVES.iter().position(|reserve| *reserve == name) {
                let usable = bytes >= self.config.reserve_bytes(self.unit) / 2;
                if usable && bytes.is_multiple_of(self.unit as u64) {
                    self.segments.reserve.segments[slot] = Some(bytes);
                } else {
                    self.leftovers.push(name);
                }
            } else if name == names::BALLAST {
                self.segments.reserve.ballast = Some(bytes);
            } else if name == names::CHECKPOINT_TMP {
                self.leftovers.push(name);
            } else if let Some(end) = names::parse_checkpoint(&name) {
                if !self.manifest.checkpoints.iter().any(|kept| kept.end == end) {
                    self.leftovers.push(name);
                }
            } else if let Some(number) = names::parse_segment(&name) {
                self.segments.next_number = self.segments.next_number.max(number + 1);
                if !self.manifest.segments.iter().any(|record| record.number == number) {
                    self.refuse_if_used(disk, number, &name)?;
                    misplaced::refuse_stray(disk, &self.config, &name)?;
                    self.leftovers.push(name);
                }
            }
        }
        Ok(())
    }

    /// A segment that the manifest does not know may hold nothing: else the manifest is not the
    /// newest, and what it says cannot be relied on.
    fn refuse_if_used<D: LogDevice>(
        &self,
        disk: &mut Blocking<'_, D>,
        number: u64,
        name: &str,
    ) -> Result<(), OpenError> {
        let Some((file, bytes)) = disk.open(name)? else { return Ok(()) };
        let end = bytes / self.unit as u64 * self.unit as u64;
        // A used segment's blocks begin at its begin.
        let unit = self.unit as u64;
        let secret = &self.config.secret;
        let used = end > unit
            && disk.read(file, unit, self.unit).is_ok_and(|head| {
                BlockHeader::parse(&head, secret, number, unit, self.unit).is_ok()
            });
        disk.must("closing", name, Action::Close { file })?;
        if !used {
            return Ok(());
        }
        let reason = "it holds a part of the log that the manifest does not name".to_owned();
        Err(OpenError::Damaged { file: name.to_owned(), offset: unit, reason })
    }
}

fn segment_of(record: &SegmentRecord, file: FileId) -> Segment {
    let prepared = u64::from(record.prepared_bytes);
    let mut segment = Segment::pool(record.number, record.generation, file, record.bytes, prepared);
    segment.from_reserve = record.from_reserve;
    if record.state != SegmentState::Pool {
        segment.first_lsn = record.first_lsn;
        segment.first_sequence = record.first_sequence;
        segment.previous_crc = record.previous_crc;
        segment.last_lsn = record.last_lsn;
        segment.data_end = u64::from(record.data_end);
    }
    segment
}
