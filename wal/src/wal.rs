//! The log: what the host calls. Bodies are in the rooms beside.

use model::{Lsn, StreamId};

use crate::config::WalConfig;
use crate::device::{Completion, LogDevice};
use crate::error::{OpenError, WalFailure};
use crate::fold::{EntryHead, Fold, Recovered};
use crate::read::{Cursor, CursorId, ReadStep, SeekStep, TimeSeek};
use crate::stats::{SegmentUse, StreamUse, WalStats};

/// Whether an entry may be appended now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Yes,
    /// Too much is waiting for the disk: try again after completions.
    Backlog,
    /// No space on the disk; entries that free space may still be appended.
    DiskFull,
    /// A write has failed: the log is read-only.
    Failed,
}

/// One shard's log.
pub struct Wal {}

const SKELETON: &str = "the log's bodies are being written";

#[allow(unused_variables)]
impl Wal {
    pub fn create<D: LogDevice>(device: &mut D, config: &WalConfig) -> Result<(), OpenError> {
        panic!("{SKELETON}")
    }
    pub fn open<D: LogDevice, F: Fold>(
        device: &mut D,
        config: WalConfig,
        fold: &mut F,
    ) -> Result<(Wal, Recovered), OpenError> {
        panic!("{SKELETON}")
    }
    pub fn append(&mut self, head: &EntryHead, payload: &[&[u8]]) -> Lsn {
        panic!("{SKELETON}")
    }
    pub fn room(&self, payload_bytes: usize, frees_space: bool) -> Room {
        panic!("{SKELETON}")
    }
    pub fn commit<D: LogDevice>(&mut self, device: &mut D) {
        panic!("{SKELETON}")
    }
    pub fn complete<D: LogDevice>(&mut self, device: &mut D, completion: Completion) {
        panic!("{SKELETON}")
    }
    pub fn tick<D: LogDevice>(&mut self, device: &mut D, now_ns: u64) {
        panic!("{SKELETON}")
    }
    pub fn appended_lsn(&self) -> Lsn {
        panic!("{SKELETON}")
    }
    pub fn durable_lsn(&self) -> Lsn {
        panic!("{SKELETON}")
    }
    pub fn failure(&self) -> Option<&WalFailure> {
        panic!("{SKELETON}")
    }
    /// Block writes under way.
    pub fn in_flight(&self) -> usize {
        panic!("{SKELETON}")
    }
    pub fn label(&mut self, stream: StreamId, label: &[u8]) {
        panic!("{SKELETON}")
    }
    pub fn set_log_start(&mut self, stream: StreamId, offset: u64) {
        panic!("{SKELETON}")
    }
    pub fn remove_stream(&mut self, stream: StreamId) {
        panic!("{SKELETON}")
    }
    pub fn cursor(&mut self, stream: StreamId, offset: u64) -> Cursor {
        panic!("{SKELETON}")
    }
    pub fn close_cursor(&mut self, cursor: Cursor) {
        panic!("{SKELETON}")
    }
    pub fn read<D: LogDevice>(
        &mut self,
        device: &mut D,
        cursor: &mut Cursor,
        max_bytes: usize,
        end_offset: u64,
    ) -> ReadStep {
        panic!("{SKELETON}")
    }
    pub fn take_ready(&mut self) -> Option<CursorId> {
        panic!("{SKELETON}")
    }
    pub fn seek_time<D: LogDevice>(&mut self, device: &mut D, seek: &mut TimeSeek) -> SeekStep {
        panic!("{SKELETON}")
    }
    /// Gives back what an unfinished search holds.
    pub fn close_seek(&mut self, seek: TimeSeek) {
        panic!("{SKELETON}")
    }
    pub fn sealed_segments(&self) -> impl Iterator<Item = SegmentUse> + '_ {
        std::iter::empty()
    }
    pub fn segment_streams(&self, number: u64) -> &[StreamUse] {
        panic!("{SKELETON}")
    }
    pub fn checkpoint_due(&self) -> bool {
        panic!("{SKELETON}")
    }
    pub fn checkpoint_begin<D: LogDevice>(&mut self, device: &mut D) -> Lsn {
        panic!("{SKELETON}")
    }
    /// False while the disk is behind: push no more until completions have come.
    pub fn checkpoint_room(&self) -> bool {
        panic!("{SKELETON}")
    }
    pub fn checkpoint_push<D: LogDevice>(&mut self, device: &mut D, piece: &[u8]) {
        panic!("{SKELETON}")
    }
    pub fn checkpoint_finish<D: LogDevice>(&mut self, device: &mut D) {
        panic!("{SKELETON}")
    }
    pub fn checkpoint_under_way(&self) -> bool {
        panic!("{SKELETON}")
    }
    /// Drops entries above `lsn` that were not yet handed to the disk; returns where the log ends.
    pub fn truncate(&mut self, lsn: Lsn) -> Lsn {
        panic!("{SKELETON}")
    }
    pub fn shutdown<D: LogDevice>(&mut self, device: &mut D) {
        panic!("{SKELETON}")
    }
    pub fn is_shut_down(&self) -> bool {
        panic!("{SKELETON}")
    }
    pub fn stats(&self) -> WalStats {
        panic!("{SKELETON}")
    }
}
