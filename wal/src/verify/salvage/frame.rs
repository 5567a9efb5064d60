//! The frame: manifests, the segments there are or should be, checkpoints.

use super::{Gap, Lost, Salvage};
use crate::device::{DeviceError, LogDevice};
use crate::format::checkpoint::CheckpointHeader;
use crate::format::footer::{FooterBody, FooterTrailer};
use crate::format::manifest::{CheckpointRecord, SegmentRecord, SegmentState};
use crate::format::names;
use crate::format::segment::SegmentHeader;
use crate::verify::source::SourceFile;

/// A segment that is there, or that the manifest says should be.
pub(super) struct Segment {
    pub number: u64,
    pub name: String,
    pub exists: bool,
    /// Length of the file.
    pub bytes: u64,
    pub generation: Option<u32>,
    /// Its first entry, where manifest or footer know it.
    pub first_lsn: Option<u64>,
    /// Its last entry, once it was full.
    pub last_lsn: Option<u64>,
    /// Where its blocks end, once it was full.
    pub data_end: Option<u64>,
}

impl<D: LogDevice> Salvage<'_, D> {
    /// The newer good manifest counts, as for recovery.
    pub(super) fn look_at_manifests(&mut self) -> Result<(), DeviceError> {
        self.manifest = self.audit.manifest()?;
        let report = std::mem::take(&mut self.audit.report);
        for finding in report.damage.into_iter().chain(report.notes) {
            let (file, from) = (finding.file, finding.offset);
            self.gaps.push(Gap { file, from, to: from, what: finding.what, lost: Lost::Nothing });
        }
        if let Some(manifest) = &self.manifest {
            self.audit.unit = manifest.unit as usize;
            let sealed = manifest.segments.iter().map(|record| record.last_lsn).max();
            self.promised = manifest.durable_lsn.max(sealed.unwrap_or(0));
        }
        Ok(())
    }

    pub(super) fn look_at_segments(&mut self) -> Result<(), DeviceError> {
        let listed = self.audit.source.list()?;
        let named: Vec<SegmentRecord> =
            self.manifest.as_ref().map(|m| m.segments.clone()).unwrap_or_default();
        // With both manifests good a file that is not named holds nothing.
        let strangers_count = self.manifest.is_none() || !self.gaps.is_empty();
        let mut numbers: Vec<u64> = listed
            .iter()
            .filter_map(|(name, _)| names::parse_segment(name))
            .filter(|number| strangers_count || named.iter().any(|record| record.number == *number))
            .chain(named.iter().map(|record| record.number))
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let record = named.iter().find(|record| record.number == number);
            if record.is_some_and(|record| record.state == SegmentState::Dropped) {
                continue;
            }
            let segment = self.look_at_segment(number, record)?;
            self.segments.push(segment);
        }
        Ok(())
    }

    fn look_at_segment(
        &mut self,
        number: u64,
        record: Option<&SegmentRecord>,
    ) -> Result<Segment, DeviceError> {
        let sealed = record.filter(|record| record.state == SegmentState::Sealed);
        let mut segment = Segment {
            number,
            name: names::segment(number),
            exists: false,
            bytes: record.map_or(0, |record| record.bytes),
            generation: record.map(|record| record.generation),
            first_lsn: record.map(|record| record.first_lsn).filter(|lsn| *lsn > 0),
            last_lsn: sealed.map(|record| record.last_lsn),
            data_end: sealed.map(|record| u64::from(record.data_end)),
        };
        let Some(mut file) = self.audit.source.open(&segment.name)? else { return Ok(segment) };
        segment.exists = true;
        segment.bytes = file.bytes;
        let (unit, secret) = (self.audit.unit, self.audit.secret);
        let first = self.audit.source.read_if_can(&mut file, 0, unit).unwrap_or_default();
        match SegmentHeader::parse(first, &secret, number) {
            Ok(header) => segment.generation = Some(header.generation),
            Err(error) => {
                let what = format!("the segment's header: {error}");
                let to = unit as u64;
                self.gaps.push(Gap {
                    file: segment.name.clone(),
                    from: 0,
                    to,
                    what,
                    lost: Lost::Nothing,
                });
            }
        }
        self.look_at_footer(&mut segment, &mut file);
        self.audit.source.close(file)?;
        Ok(segment)
    }

    /// Takes names of streams and the segment's ends from its footer, if that is good.
    fn look_at_footer(&mut self, segment: &mut Segment, file: &mut SourceFile) {
        let (unit, secret) = (self.audit.unit, self.audit.secret);
        let source = &mut self.audit.source;
        let last = file.bytes.saturating_sub(unit as u64);
        let last = last - last % unit as u64;
        let file_bytes = file.bytes;
        let bytes = source.read_if_can(file, last, unit).unwrap_or_default();
        let Ok(trailer) = FooterTrailer::parse(bytes, &secret, segment.number, file_bytes) else {
            return;
        };
        if segment.generation.is_some_and(|generation| generation != trailer.generation) {
            return;
        }
        segment.generation = Some(trailer.generation);
        segment.first_lsn = segment.first_lsn.or(Some(trailer.first_lsn));
        segment.last_lsn = segment.last_lsn.or(Some(trailer.last_lsn));
        segment.data_end = segment.data_end.or(Some(u64::from(trailer.data_end)));
        self.promised = self.promised.max(trailer.last_lsn);
        let start = u64::from(trailer.body_offset);
        let aligned = start - start % unit as u64;
        let skip = (start - aligned) as usize;
        let bytes = source.read_if_can(file, aligned, skip + trailer.body_bytes as usize);
        let body = bytes.and_then(|bytes| bytes.get(skip..));
        if let Some(Ok(body)) = body.map(|body| FooterBody::parse(body, &trailer)) {
            for record in &body.streams {
                let label = body.label(record);
                if !label.is_empty() {
                    self.labels.insert(record.stream, label.to_vec());
                }
            }
        }
    }

    /// Every checkpoint file, whether the manifest names it or not: one gets its name only when
    /// the log is durable up to its end.
    pub(super) fn look_at_checkpoints(&mut self) -> Result<(), DeviceError> {
        let named = self.manifest.as_ref().map(|m| m.checkpoints.clone()).unwrap_or_default();
        let listed = self.audit.source.list()?;
        let mut ends: Vec<u64> =
            listed.iter().filter_map(|(name, _)| names::parse_checkpoint(name)).collect();
        ends.extend(named.iter().map(|record| record.end));
        ends.sort_unstable();
        ends.dedup();
        for end in ends.into_iter().rev() {
            self.look_at_checkpoint(end)?;
        }
        Ok(())
    }

    fn look_at_checkpoint(&mut self, end: u64) -> Result<(), DeviceError> {
        let name = names::checkpoint(end);
        let unit = self.audit.unit;
        let bad = |from, what: String| Gap {
            file: names::checkpoint(end),
            from,
            to: from,
            what,
            lost: Lost::Nothing,
        };
        let Some(mut file) = self.audit.source.open(&name)? else {
            self.gaps.push(bad(0, "the manifest names this checkpoint, but it is missing".into()));
            return Ok(());
        };
        let secret = self.audit.secret;
        let first = self.audit.source.read_if_can(&mut file, 0, unit).unwrap_or_default();
        let start = CheckpointHeader::parse(first, &secret).map(|header| header.start);
        match start {
            Err(error) => self.gaps.push(bad(0, format!("the checkpoint's header: {error}"))),
            Ok(start) => {
                let record = CheckpointRecord { start, end };
                match self.audit.checkpoint_parts(&mut file, &record) {
                    Ok(None) => {
                        self.checkpoints.push(record);
                        self.promised = self.promised.max(end);
                    }
                    Ok(Some((from, what))) => self.gaps.push(bad(from, what)),
                    Err(error) => self.gaps.push(bad(0, format!("it cannot be read: {error}"))),
                }
            }
        }
        self.audit.source.close(file)
    }
}
