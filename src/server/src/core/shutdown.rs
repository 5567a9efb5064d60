//! A graceful stop: clients are told, what is in flight is finished, the logs are closed.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use model::ErrorCode;

use super::borders::guarded;
use super::{Core, ShardSlot};
use crate::connection::Phase;

/// Shared by all cores: whether to stop, and how far they are.
#[derive(Debug, Default)]
pub struct ShutdownFlag {
    asked: AtomicBool,
    /// Cores whose connections have nothing left in flight.
    drained: AtomicU16,
}

impl ShutdownFlag {
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

/// How far this core is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Running,
    /// Clients have been told; requests under way are finished.
    Draining,
    /// Every core has drained, or had its time: the logs are being closed.
    Closing,
    Closed,
}

#[derive(Debug)]
pub struct Shutdown {
    stage: Stage,
    began_ns: u64,
}

impl Shutdown {
    pub fn new() -> Self {
        Self { stage: Stage::Running, began_ns: 0 }
    }

    pub fn under_way(&self) -> bool {
        self.stage != Stage::Running
    }
}

impl Core {
    /// Goes on with a stop that has been asked for. Returns true when the core is done.
    pub(super) fn step_shutdown(&mut self) -> bool {
        match self.shutdown.stage {
            Stage::Running if self.facts.shutdown.is_asked() => self.begin_draining(),
            Stage::Running => return false,
            Stage::Draining => self.step_draining(),
            Stage::Closing => self.step_closing(),
            Stage::Closed => return true,
        }
        self.shutdown.stage == Stage::Closed
    }

    fn begin_draining(&mut self) {
        self.shutdown.stage = Stage::Draining;
        self.shutdown.began_ns = self.clock.now_ns();
        for listener in std::mem::take(&mut self.listeners) {
            use std::os::fd::AsRawFd;
            self.ring.cancel_socket(listener.socket.as_raw_fd());
        }
        let mut frame = Vec::new();
        protocol::put_go_away(
            &mut frame,
            &protocol::GoAway {
                reason: ErrorCode::ShuttingDown,
                close_in_ms: u32::try_from(self.drain_ns() / 1_000_000).unwrap_or(u32::MAX),
                message: "the server is stopping; connect again later or to another server"
                    .to_owned(),
            },
        );
        for id in self.connections.ids() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.output.push(&frame);
            if connection.receiving {
                connection.receiving = false;
                self.ring.pause_receive(connection.fd());
            }
            self.mark_dirty(id);
        }
    }

    /// Most of the time allowed goes to clients, the rest to the logs.
    fn drain_ns(&self) -> u64 {
        self.config.shutdown_timeout_ns / 2
    }

    fn step_draining(&mut self) {
        let waited = self.clock.now_ns() - self.shutdown.began_ns;
        let late = waited >= self.drain_ns();
        if !late && !self.is_drained() {
            return;
        }
        if late {
            tracing::warn!(core = %self.config.core, "some requests were still under way when the time for stopping ran out");
        }
        self.facts.shutdown.drained.fetch_add(1, Ordering::AcqRel);
        self.shutdown.stage = Stage::Closing;
        for core in self.map.cores() {
            self.out.mesh.wake(core);
        }
    }

    fn is_drained(&mut self) -> bool {
        let quiet_shards = self.shards.iter().all(|slot| match slot {
            ShardSlot::Open(host) => host.is_quiet(),
            ShardSlot::Unavailable { .. } => true,
        });
        quiet_shards
            && self.parse_queue.is_empty()
            && self.connections.ids().into_iter().all(|id| {
                self.connections.get_mut(id).is_none_or(|connection| {
                    connection.phase == Phase::Dead
                        || (connection.in_flight_bytes == 0 && !connection.output.is_sending())
                })
            })
    }

    fn step_closing(&mut self) {
        let waited = self.clock.now_ns() - self.shutdown.began_ns;
        let all_drained = usize::from(self.facts.shutdown.drained.load(Ordering::Acquire))
            == self.map.cores().count();
        if !all_drained && waited < self.config.shutdown_timeout_ns * 3 / 4 {
            return;
        }
        let mut done = true;
        for slot in &mut self.shards {
            let closed = guarded(slot, |host| {
                host.begin_shutdown();
                host.step_shutdown(&mut self.ring)
            });
            done &= closed.unwrap_or(true);
        }
        if done {
            self.shutdown.stage = Stage::Closed;
        } else if waited >= self.config.shutdown_timeout_ns {
            tracing::warn!(core = %self.config.core, "the logs could not be closed in time; the next start will replay them");
            self.shutdown.stage = Stage::Closed;
        }
    }
}
