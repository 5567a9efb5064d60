//! What is left of a log: every good entry in order, every gap, whatever frames them.
//!
//! The audit says whether a log is good and recovery refuses one that is not; this reads around
//! damage. It believes nothing without its checksum and writes nothing. A torn tail, which no one
//! ever acknowledged, is the end of the log here as it is for recovery, and no gap.

mod frame;
mod pieces;
mod walk;

use std::collections::BTreeMap;

use model::{EntryHead, Lsn, StreamId};

use super::{Audit, LogReport, Source};
use crate::device::{DeviceError, LogDevice};
use crate::format::manifest::{CheckpointRecord, Manifest};
use frame::Segment;

/// Bytes that should hold a part of the log and do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub file: String,
    /// Bytes from the start of the file.
    pub from: u64,
    /// One past the last byte. Of a file that is missing: where it should have ended, or 0.
    pub to: u64,
    pub what: String,
    pub lost: Lost,
}

/// What a gap takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nothing that is not known from elsewhere.
    Nothing,
    /// One entry, of which all but the payload is known.
    Payload { lsn: Lsn, head: EntryHead },
    /// These entries.
    Entries { first: Lsn, last: Lsn },
    /// The newest entries from `first` on. Those up to `promised` were durable; whether there were
    /// more is not known.
    End { first: Lsn, promised: Lsn },
}

/// Who is told what is left.
pub trait Visit {
    type Error: From<DeviceError>;

    /// A good entry; their numbers rise.
    fn entry(&mut self, lsn: Lsn, head: &EntryHead, payload: &[u8]) -> Result<(), Self::Error>;

    /// A gap, in its place between the entries.
    fn gap(&mut self, gap: &Gap) -> Result<(), Self::Error>;
}

/// A log whose frame (manifest, segments, footers, checkpoints) has been looked at.
pub struct Salvage<'a, D> {
    audit: Audit<'a, D>,
    manifest: Option<Manifest>,
    shard: u16,
    segments: Vec<Segment>,
    checkpoints: Vec<CheckpointRecord>,
    labels: BTreeMap<StreamId, Vec<u8>>,
    gaps: Vec<Gap>,
    /// The furthest LSN that the frame calls durable.
    promised: u64,
}

impl<'a, D: LogDevice> Salvage<'a, D> {
    /// Looks at the frame of a shard's log. `unit` is the block size of the directory; what the
    /// manifest says counts where there is one.
    ///
    /// # Errors
    /// When the directory cannot be listed or a file not opened.
    pub fn open(
        device: &'a mut D,
        secret: &[u8; 16],
        shard: u16,
        unit: usize,
    ) -> Result<Self, DeviceError> {
        let audit = Audit {
            source: Source::new(device),
            secret: *secret,
            unit,
            report: LogReport::default(),
            streams: BTreeMap::new(),
        };
        let mut salvage = Self {
            audit,
            manifest: None,
            shard,
            segments: Vec::new(),
            checkpoints: Vec::new(),
            labels: BTreeMap::new(),
            gaps: Vec::new(),
            promised: 0,
        };
        salvage.look_at_manifests()?;
        salvage.look_at_segments()?;
        salvage.look_at_checkpoints()?;
        Ok(salvage)
    }

    /// What is wrong with the frame.
    pub fn frame_gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The good checkpoints, the newest first.
    pub fn checkpoints(&self) -> &[CheckpointRecord] {
        &self.checkpoints
    }

    /// What streams are called, as far as good footers say it.
    pub fn labels(&self) -> &BTreeMap<StreamId, Vec<u8>> {
        &self.labels
    }

    /// Whether there is anything of a log at all.
    pub fn is_empty(&self) -> bool {
        self.manifest.is_none() && self.segments.is_empty() && self.checkpoints.is_empty()
    }

    /// Length of the newest segment's file, bytes; `None` without any.
    pub fn segment_bytes(&self) -> Option<u64> {
        self.segments.iter().rev().find(|s| s.exists).map(|s| s.bytes)
    }

    /// Bytes that the files of the log's segments have in all.
    pub fn log_bytes(&self) -> u64 {
        self.segments.iter().filter(|s| s.exists).map(|s| s.bytes).sum()
    }
}
