//! One shard on its core: the engine, its log, and the replies and readers that wait on them.
//!
//! The engine decides, the log keeps, this glue moves values between the two and passes time in.

mod acks;
mod checkpoint;
mod device;
mod linger;
mod open;
mod pace;
mod pending;
mod pin;
mod reader_table;
mod readers;
mod requests;
mod retention;
#[cfg(test)]
mod tests;
mod times;
mod turns;

use std::collections::VecDeque;

pub use acks::{BatchSlices, ProduceTerms, RunPublish};
pub use device::{DiskState, RingDevice};
use model::reply::{ShardHealth, ShardStatus};
use model::{EntryHead, ErrorCode, Lsn, Rejection, ShardId, SpaceUse};
pub use open::{OpenShard, open_shard};
pub use requests::send_answer;
use ring::{Completion as RingCompletion, Ring};
use shards::{Engine, Journal, Room, UNCOVERED_BYTES};
use wal::Wal;

use crate::clock::Clock;
use crate::message::ConnectionId;
use crate::outbox::Outbox;
use crate::stages::StageTimes;
use checkpoint::CheckpointRun;
use pending::Pending;
use reader_table::Readers;
use retention::Retention;

/// What the status of a shard in memory says.
const VOLATILE_REASON: &str = "volatile: the data lies in memory, acknowledgements say memory";

pub struct ShardHost {
    pub id: ShardId,
    wal: Wal,
    engine: Engine,
    disk: DiskState,
    /// The share in the device's write budget, where it has one.
    pace: Option<pace::Pace>,
    /// The data lies in memory: no acknowledgement says `durable`.
    volatile: bool,
    /// Replies that wait for the log.
    pending: Pending,
    /// Acknowledgements from memory, sent at the turn's end so that runs can form.
    taken: Pending,
    /// Kept for its allocation.
    run_offsets: Vec<model::Offset>,
    readers: Readers,
    checkpoint: Option<CheckpointRun>,
    retention: Retention,
    /// Publishes of other cores that wait for room in the log's backlog.
    waiting: VecDeque<acks::WaitingProduce>,
    waiting_bytes: usize,
    waiting_bytes_max: usize,
    /// Connections of this core that wait for the same.
    stalled: Vec<ConnectionId>,
    times: times::AppendTimes,
    linger: linger::Linger,
    /// An entry not yet durable, and since when that is so: about the oldest there is.
    undurable: Option<(Lsn, u64)>,
    /// Why the shard takes no writes, once it does not.
    failed: Option<String>,
    /// What an operator should know of it although it serves.
    notice: Option<&'static str>,
    /// The engine is in the middle of a topic change.
    deciding: bool,
    shutting_down: bool,
    /// A backup for which the log's files are kept.
    pin: Option<pin::HeldPin>,
    /// A clean stop's checkpoint has been started.
    final_checkpoint: bool,
}

/// The engine's journal: the log's open group.
pub(crate) struct LogJournal<'a>(&'a mut Wal);

impl Journal for LogJournal<'_> {
    fn append(&mut self, head: &EntryHead, payload: &[&[u8]]) -> Lsn {
        self.0.append(head, payload)
    }

    fn append_covered(
        &mut self,
        head: &EntryHead,
        payload: &[&[u8]],
        covered_bytes: usize,
        crc: u32,
    ) -> Lsn {
        self.0.append_covered(head, payload, covered_bytes, crc)
    }

    fn append_whole_batch(&mut self, head: &EntryHead, start: u128, rest: &[u8], crc: u32) -> Lsn {
        self.0.append_joined::<UNCOVERED_BYTES>(head, start, rest, crc)
    }

    fn room(&self, payload_bytes: usize, space_use: SpaceUse) -> Room {
        engines_room(self.0.room(payload_bytes, space_use))
    }

    fn room_for_run(&self) -> Room {
        engines_room(self.0.room_for_run())
    }
}

fn engines_room(room: wal::Room) -> Room {
    match room {
        wal::Room::Yes => Room::Yes,
        wal::Room::Backlog => Room::Backlog,
        wal::Room::DiskFull => Room::DiskFull,
        wal::Room::Failed => Room::ReadOnly,
    }
}

impl ShardHost {
    /// Takes the end of one of the log's actions in.
    pub fn on_disk(&mut self, ring: &mut Ring, ticket: u64, completion: RingCompletion) {
        self.disk.on_ring(ring, ticket, completion);
        self.tell_log(ring);
    }

    fn tell_log(&mut self, ring: &mut Ring) {
        let mut others = Vec::new();
        while let Some(ended) = self.disk.take_ended() {
            let mut device = RingDevice { ring, disk: &mut self.disk, others: &mut others };
            self.wal.complete(&mut device, ended);
        }
        debug_assert!(others.is_empty());
    }

    /// Calls the log with the device of the moment.
    fn with_log<R>(
        &mut self,
        ring: &mut Ring,
        call: impl FnOnce(&mut Wal, &mut RingDevice<'_>) -> R,
    ) -> R {
        let mut others = Vec::new();
        let mut device = RingDevice { ring, disk: &mut self.disk, others: &mut others };
        let result = call(&mut self.wal, &mut device);
        self.tell_log(ring);
        result
    }

    /// Begins a turn of the core: what comes to be done from now on is due since now.
    pub fn begin_turn(&mut self, clock: &Clock) {
        self.engine.turn_begins(clock.now_ns());
        self.readers.now_ns = clock.now_ns();
    }

    /// Whether publishes, or other changes, have been taken that are not answered yet.
    pub fn has_unanswered(&self) -> bool {
        !self.pending.is_empty() || !self.taken.is_empty() || !self.waiting.is_empty()
    }

    /// Ends a turn: what was appended goes to the disk, what became durable is answered, readers
    /// that can go on do, for a shorter time while publishes wait for this core. Returns whether
    /// there is more to do at once.
    pub fn end_turn(
        &mut self,
        ring: &mut Ring,
        clock: &Clock,
        publishes_wait: bool,
        stages: &mut StageTimes,
        out: &mut Outbox,
    ) -> bool {
        self.time_appends(clock, stages);
        self.write_out(ring, clock);
        self.note_undurable(clock);
        self.pending.seal();
        self.time_durable(clock, stages);
        self.sweep(clock.now_ns(), out);
        self.note_failure(out);
        self.resume_waiting(clock, out);
        let mut more = self.serve_readers(ring, clock, publishes_wait, out);
        more |= self.step_checkpoint(ring);
        if self.step_retention(clock) {
            more = true;
        }
        self.hand_over(ring, clock, stages);
        more
    }

    /// In the middle of a turn: what was appended goes to the disk.
    pub fn hand_over(&mut self, ring: &mut Ring, clock: &Clock, stages: &mut StageTimes) {
        self.time_appends(clock, stages);
        self.write_out(ring, clock);
        self.pending.seal();
    }

    /// Whether a write of the log is under way.
    pub fn is_writing(&self) -> bool {
        self.wal.in_flight() > 0
    }

    /// Every few milliseconds.
    pub fn tick(&mut self, ring: &mut Ring, clock: &Clock, out: &mut Outbox) {
        self.with_log(ring, |wal, device| wal.tick(device, clock.now_ns()));
        self.engine.tick(clock.now_ms());
        self.expire_pending(clock, out);
        self.start_checkpoint(ring, clock);
        self.start_retention(clock);
    }

    /// Sees to it that the log can open files whatever clients do. False: it lacks descriptors.
    pub fn refill_descriptors(&mut self) -> bool {
        self.disk.refill_spares()
    }

    /// Connections that waited for room in the backlog and may now go on.
    pub fn take_unstalled(&mut self) -> Vec<ConnectionId> {
        if self.stalled.is_empty() || self.is_full(model::limits::BATCH_BYTES_MAX as usize) {
            return Vec::new();
        }
        std::mem::take(&mut self.stalled)
    }

    /// The log has failed: what waits for it is told that nothing is known, once.
    fn note_failure(&mut self, out: &mut Outbox) {
        let Some(failure) = self.wal.failure() else { return };
        if self.failed.is_none() {
            let reason = failure.to_string();
            tracing::error!(shard = %self.id, %reason, "the shard's log has failed; it is read-only until a restart");
            self.failed = Some(reason);
        }
        let reason = self.failed.clone().unwrap_or_default();
        self.fail_pending(
            &Rejection::new(
                ErrorCode::OutcomeUnknown,
                format!(
                    "the log of shard {} failed before the write was confirmed: {reason}",
                    self.id
                ),
            ),
            out,
        );
    }

    /// Begins a clean stop: what is appended becomes durable, then a last checkpoint, then the log
    /// is closed.
    pub fn begin_shutdown(&mut self) {
        self.shutting_down = true;
    }

    /// Goes on with a clean stop. Returns whether it is complete.
    pub fn step_shutdown(&mut self, ring: &mut Ring) -> bool {
        if self.wal.failure().is_some() {
            return true;
        }
        if self.wal.is_shut_down() {
            return true;
        }
        if !self.pending.is_empty() || self.wal.appended_lsn() > self.wal.durable_lsn() {
            return false;
        }
        if !self.final_checkpoint && self.checkpoint.is_none() && !self.wal.checkpoint_under_way() {
            self.final_checkpoint = true;
            self.begin_checkpoint(ring);
        }
        if self.checkpoint.is_some() || self.wal.checkpoint_under_way() {
            return false;
        }
        self.with_log(ring, |wal, device| wal.shutdown(device));
        self.wal.is_shut_down()
    }

    /// Whether nothing waits for the log.
    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.waiting.is_empty()
    }

    fn note_undurable(&mut self, clock: &Clock) {
        let durable = self.wal.durable_lsn();
        if self.undurable.is_none_or(|(lsn, _)| lsn <= durable) {
            let newest = self.wal.appended_lsn();
            self.undurable = (newest > durable).then(|| (newest, clock.now_ns()));
        }
    }

    pub fn status(&self, clock: &Clock, core: model::CoreId) -> ShardStatus {
        let stats = self.wal.stats();
        let waited_ns = self.undurable.map_or(0, |(_, since)| clock.now_ns() - since);
        let waited_ns = waited_ns.max(stats.oldest_write_age_ns);
        ShardStatus {
            shard: self.id,
            core,
            health: if self.failed.is_some() {
                ShardHealth::ReadOnly
            } else {
                ShardHealth::Serving
            },
            reason: self.reason(),
            partitions: u32::try_from(self.engine.partition_count()).unwrap_or(u32::MAX),
            durable_lsn: self.wal.durable_lsn().0,
            log_bytes: stats.log_bytes,
            slow: stats.slow_since_ns.is_some(),
            disk_full: stats.disk_full,
            oldest_write_ms: u32::try_from(waited_ns / 1_000_000).unwrap_or(u32::MAX),
        }
    }

    pub fn set_notice(&mut self, notice: &'static str) {
        self.notice = Some(notice);
    }

    /// What an operator should know of the shard; empty when all is well.
    fn reason(&self) -> String {
        match &self.failed {
            Some(reason) => reason.clone(),
            None if self.notice.is_some() => self.notice.unwrap_or_default().to_owned(),
            None if self.volatile => VOLATILE_REASON.to_owned(),
            None => String::new(),
        }
    }
}
