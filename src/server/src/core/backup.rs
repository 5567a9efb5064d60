//! A backup under way, on the core of the connection that asked for it: every shard's log is
//! pinned, shard 0's last, until the client says that it is done or is gone.
//!
//! Shard 0 comes last because it holds what the others refer to: a topic, a deletion or a producer
//! id that a later point knows and an earlier one does not is completed when the copy is opened,
//! as after a crash. The other way round it would be lost.

use model::{BackupPoint, ErrorCode, Rejection, Reply, ShardId, ShardPoint};
use wal::directory::identity;

use super::Core;
use super::borders::guarded;
use crate::bounds::BACKUP_SILENT_SECONDS_MAX;
use crate::message::{ConnectionId, Message, Origin, ReplyTo, ShardAnswer, ShardRequest};

/// The one backup of this core.
#[derive(Debug)]
pub struct BackupRun {
    backup: u64,
    /// The request that is to be answered, or the last that was.
    origin: Origin,
    stage: Stage,
    /// Shards that have not answered.
    awaited: usize,
    points: Vec<ShardPoint>,
    refused: Option<Rejection>,
    nonce: [u8; model::backup::BACKUP_NONCE_BYTES],
    /// When it is given up unless a sign of life comes before.
    silent_until_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    PinningOthers,
    PinningShard0,
    /// The client copies.
    Held,
    /// The shards are asked whether they still keep everything.
    Asking,
    Ending,
}

impl Core {
    pub(super) fn on_backup_begin(
        &mut self,
        origin: Origin,
        nonce: [u8; model::backup::BACKUP_NONCE_BYTES],
    ) {
        let Some(backup) = self.facts.begin_backup() else {
            let text = "another backup is under way, and one at a time is possible; begin again \
                        when it has ended";
            let rejection = Rejection::new(ErrorCode::LimitReached, text);
            return self.answer_now(origin, &Reply::Rejected(rejection));
        };
        self.count_in_flight(origin);
        self.backup = Some(BackupRun {
            backup,
            origin,
            stage: Stage::PinningOthers,
            awaited: 0,
            points: Vec::new(),
            refused: None,
            nonce,
            silent_until_ns: u64::MAX,
        });
        if self.map.shards() == 1 {
            return self.pin_shard_0();
        }
        self.ask_all(1, || ShardRequest::PinLog { backup });
    }

    pub(super) fn on_backup_keep(&mut self, origin: Origin, backup: u64) {
        if self.take_up(origin, backup, Stage::Asking) {
            self.ask_all(0, || ShardRequest::KeepLog { backup });
        }
    }

    pub(super) fn on_backup_end(&mut self, origin: Origin, backup: u64) {
        if self.take_up(origin, backup, Stage::Ending) {
            self.ask_all(0, || ShardRequest::UnpinLog { backup });
        }
    }

    /// Whether this connection has this backup and may go on with it; refuses otherwise.
    fn take_up(&mut self, origin: Origin, backup: u64, stage: Stage) -> bool {
        let refused = match &mut self.backup {
            Some(run) if run.backup == backup && run.origin.connection == origin.connection => {
                if run.stage == Stage::Held {
                    run.stage = stage;
                    run.origin = origin;
                    run.silent_until_ns = u64::MAX;
                    self.count_in_flight(origin);
                    return true;
                }
                Rejection::new(ErrorCode::Busy, "the backup's last request is not answered yet")
            }
            _ => broken(format!(
                "backup {backup} is not under way on this connection: it has ended, or nothing \
                 was heard of it for {BACKUP_SILENT_SECONDS_MAX} seconds; begin another"
            )),
        };
        self.answer_now(origin, &Reply::Rejected(refused));
        false
    }

    fn count_in_flight(&mut self, origin: Origin) {
        if let Some(connection) = self.connections.get_mut(origin.connection) {
            connection.in_flight_bytes += origin.cost as usize;
        }
    }

    fn ask_all(&mut self, first: u16, request: impl Fn() -> ShardRequest) {
        let Some(run) = &mut self.backup else { return };
        let reply_to = ReplyTo::Backup { core: self.out.core(), backup: run.backup };
        run.awaited = usize::from(self.map.shards() - first);
        for shard in (first..self.map.shards()).map(ShardId) {
            let request = Box::new(request());
            self.out.send(self.map.core_of(shard), Message::Request { shard, reply_to, request });
        }
    }

    fn pin_shard_0(&mut self) {
        let Some(run) = &mut self.backup else { return };
        run.stage = Stage::PinningShard0;
        run.awaited = 1;
        let (backup, shard) = (run.backup, ShardId(0));
        let reply_to = ReplyTo::Backup { core: self.out.core(), backup };
        let request = Box::new(ShardRequest::PinLog { backup });
        self.out.send(self.map.core_of(shard), Message::Request { shard, reply_to, request });
    }

    /// One shard has answered.
    pub(super) fn on_backup_answer(&mut self, backup: u64, answer: ShardAnswer) {
        let Some(run) = self.backup.as_mut().filter(|run| run.backup == backup) else { return };
        match answer {
            ShardAnswer::Pinned(point) => run.points.push(point),
            ShardAnswer::LogKept(true) => {}
            ShardAnswer::LogKept(false) => {
                run.refused.get_or_insert_with(|| {
                    broken(
                        "the disk of the data directory ran full while the backup was made, and \
                         the log took back the files kept for it; free some space and begin again"
                            .to_owned(),
                    )
                });
            }
            ShardAnswer::Partition(Err(rejection)) => {
                run.refused.get_or_insert(rejection);
            }
            _ => {}
        }
        run.awaited -= 1;
        if run.awaited > 0 {
            return;
        }
        if run.stage == Stage::PinningOthers && run.refused.is_none() {
            return self.pin_shard_0();
        }
        self.answer_backup();
    }

    /// All have answered: so is the client.
    fn answer_backup(&mut self) {
        let Some(run) = &mut self.backup else { return };
        let origin = run.origin;
        let reply = match (run.refused.take(), run.stage) {
            (Some(rejection), _) => Reply::Rejected(rejection),
            (None, Stage::Asking) => Reply::BackupKept,
            (None, Stage::Ending) => Reply::BackupEnded,
            (None, _) => {
                let mut shards = std::mem::take(&mut run.points);
                shards.sort_by_key(|point| point.shard);
                Reply::BackupBegun(Box::new(BackupPoint {
                    backup: run.backup,
                    identity: identity(self.facts.secret.bytes(), &run.nonce),
                    data_dir: self.facts.data_dir.clone(),
                    silent_ms_max: BACKUP_SILENT_SECONDS_MAX as u32 * 1000,
                    shards,
                }))
            }
        };
        let ended = run.stage == Stage::Ending || matches!(reply, Reply::Rejected(_));
        run.stage = Stage::Held;
        run.silent_until_ns = self.clock.now_ns() + BACKUP_SILENT_SECONDS_MAX * 1_000_000_000;
        match &reply {
            Reply::BackupBegun(point) => {
                tracing::info!(backup = point.backup, "a backup has begun; its files are kept");
            }
            Reply::BackupEnded => tracing::info!(backup = run.backup, "the backup has ended"),
            _ => {}
        }
        if ended || !self.is_open(origin.connection) {
            self.give_backup_up();
        }
        self.push_reply(origin.connection, origin.correlation, &reply);
        self.release(origin.connection, origin.cost);
    }

    /// The connection is gone, and with it the backup it may have begun.
    pub(super) fn has_backup(&self, connection: ConnectionId) -> bool {
        self.backup.as_ref().is_some_and(|run| run.origin.connection == connection)
    }

    pub(super) fn end_backup_of(&mut self, connection: ConnectionId) {
        if self.has_backup(connection) {
            tracing::warn!("the client of a backup is gone; its files are no longer kept");
            self.give_backup_up();
        }
    }

    fn give_backup_up(&mut self) {
        let Some(run) = self.backup.take() else { return };
        self.facts.end_backup(run.backup);
        for core in self.map.cores() {
            self.out.send(core, Message::ReleaseLogs { backup: run.backup });
        }
    }

    pub(super) fn release_logs(&mut self, backup: u64) {
        for slot in &mut self.shards {
            guarded(slot, |host| host.unpin_log(&mut self.ring, backup));
        }
    }

    /// Gives up what is silent or stands in the way of publishes.
    pub(super) fn tick_backup(&mut self) {
        if self.backup.as_ref().is_some_and(|run| self.clock.now_ns() >= run.silent_until_ns) {
            tracing::warn!(
                "nothing was heard of a backup for {BACKUP_SILENT_SECONDS_MAX} s; its files are \
                 no longer kept"
            );
            self.give_backup_up();
        }
        if self.facts.backup_under_way() == 0 {
            return;
        }
        for slot in &mut self.shards {
            if let Some(backup) = guarded(slot, |host| host.backup_in_the_way()).flatten() {
                self.facts.break_backup(backup);
            }
        }
        if let Some(backup) = self.facts.broken_backup() {
            self.release_logs(backup);
        }
    }
}

fn broken(text: String) -> Rejection {
    Rejection::new(ErrorCode::BackupBroken, text)
}
