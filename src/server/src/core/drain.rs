//! Emptying a core of its clients while its shards go on: who is connected is told to leave and
//! has time to, who comes is passed on to other cores, or refused when every core drains.

use model::{CoreId, ErrorCode, Rejection, Reply};

use super::Core;
use super::gather::Question;
use crate::connection::{Phase, Stall, Subscription};
use crate::message::{ConnectionId, DrainOrder, Message, Origin};

/// Which cores are being emptied, as one core knows it.
#[derive(Debug)]
pub struct Drains {
    cores: Vec<bool>,
    /// How long this core's clients may take to leave, nanoseconds.
    grace_ns: u64,
    /// Connections of this core may have been told to leave.
    leaving: bool,
}

impl Drains {
    pub fn new(cores: usize) -> Self {
        Self { cores: vec![false; cores], grace_ns: 0, leaving: false }
    }

    pub fn is_on(&self, core: CoreId) -> bool {
        self.cores.get(usize::from(core.0)).copied().unwrap_or(false)
    }

    pub fn all(&self) -> bool {
        self.cores.iter().all(|draining| *draining)
    }

    /// A connection has been asked to leave; its time is watched.
    pub fn leave(&mut self) {
        self.leaving = true;
    }
}

/// Why a server that is being emptied refuses a connection.
pub fn server_rejection() -> Rejection {
    let text = "the server is being drained; connect to another server, or again when the drain is \
                over (`corelane drain --undo`)";
    Rejection::new(ErrorCode::Draining, text)
}

/// Why a connection that is to leave gets no more subscriptions.
pub fn leaving_rejection() -> Rejection {
    let text = "this connection is to be closed, as GoAway said; subscribe over a new one";
    Rejection::new(ErrorCode::Draining, text)
}

impl Core {
    /// A drain or its end is asked for: every core is told, and the answer is sent when every core
    /// goes by it.
    pub(super) fn on_drain_request(
        &mut self,
        origin: Origin,
        order: DrainOrder,
    ) -> Result<(), Stall> {
        let cores = self.map.cores().count();
        if let Some(core) = order.core.filter(|core| usize::from(core.0) >= cores) {
            let text = format!("there is no core {core}; this server has cores 0 to {}", cores - 1);
            let rejection = Rejection::new(ErrorCode::InvalidArgument, text);
            self.answer_now(origin, &Reply::Rejected(rejection));
            return Ok(());
        }
        self.begin_gather(origin, Question::Drain(order))?;
        let what =
            order.core.map_or_else(|| "every core".to_owned(), |core| format!("core {core}"));
        let peer = self.connections.get_mut(origin.connection).map(|found| found.peer_text());
        let peer = peer.unwrap_or_default();
        if order.undo {
            tracing::info!(peer, what, "drain ended: clients may come again");
        } else {
            tracing::info!(peer, what, grace_ms = order.grace_ms, "drain begun: clients are moved");
        }
        Ok(())
    }

    pub(super) fn on_drain(&mut self, order: DrainOrder) {
        for core in self.map.cores() {
            if order.core.is_none_or(|one| one == core) {
                self.drains.cores[usize::from(core.0)] = !order.undo;
                self.metadata.set_direct(core, order.undo);
            }
        }
        let own = self.config.core;
        if order.core.is_some_and(|core| core != own) {
            return;
        }
        self.drains.grace_ns = u64::from(order.grace_ms) * 1_000_000;
        for id in self.connections.ids() {
            if order.undo {
                self.let_stay(id);
            } else {
                self.ask_to_leave(id);
            }
        }
    }

    /// A client that came while this core drains, or was here before, has to go.
    pub(super) fn ask_to_leave(&mut self, id: ConnectionId) {
        let by_ns = self.clock.now_ns() + self.drains.grace_ns;
        let message = match self.drains.all() {
            true => server_rejection().message,
            false => format!(
                "core {} is being drained; connect again for another core",
                self.config.core
            ),
        };
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.operator || connection.phase != Phase::Open {
            return;
        }
        self.drains.leaving = true;
        if connection.leave_by_ns != 0 {
            // It knows already; a later drain can be in more of a hurry.
            connection.leave_by_ns = connection.leave_by_ns.min(by_ns.max(1));
            return;
        }
        tracing::debug!(peer = connection.peer_text(), %message, "client asked to leave");
        connection.leave_by_ns = by_ns.max(1);
        self.scratch.clear();
        let go_away = protocol::GoAway {
            reason: ErrorCode::Draining,
            close_in_ms: u32::try_from(self.drains.grace_ns / 1_000_000).unwrap_or(u32::MAX),
            message: message.clone(),
        };
        protocol::put_go_away(&mut self.scratch, &go_away);
        // Subscriptions end between two batches; their client goes on elsewhere from there.
        let rejection = Rejection::new(ErrorCode::Draining, message);
        connection.subscription_of.clear();
        for (_, held) in std::mem::take(&mut connection.subscriptions) {
            // One still being set up is told when it is there.
            if let Subscription::Running(key) = held.state {
                self.out.send(self.map.core_of(key.shard), Message::Unsubscribe { key });
                protocol::put_error(&mut self.scratch, held.correlation, &rejection);
            }
        }
        connection.output.push(&self.scratch);
        self.mark_dirty(id);
    }

    fn let_stay(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.leave_by_ns = 0;
        }
    }

    /// Closes the connections whose time to leave has run out, once what they have under way is
    /// answered.
    pub(super) fn end_leaving(&mut self) {
        if !self.drains.leaving {
            return;
        }
        self.drains.leaving = false;
        let now = self.clock.now_ns();
        for id in self.connections.ids() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.leave_by_ns == 0 || connection.phase != Phase::Open {
                continue;
            }
            if now < connection.leave_by_ns {
                self.drains.leaving = true;
                continue;
            }
            connection.phase = Phase::Draining;
            connection.phase_since_ns = now;
            self.close_if_done(id);
        }
    }

    /// A new subscription has no place on a connection that is to leave.
    pub(super) fn is_leaving(&mut self, id: ConnectionId) -> bool {
        self.connections.get_mut(id).is_some_and(|connection| connection.leave_by_ns != 0)
    }
}
