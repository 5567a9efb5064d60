//! New connections: which core takes them, and whether they are let in at all.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use model::{CoreId, ErrorCode, Rejection};

use super::Core;
use crate::bounds::{BALANCE_CONNECTIONS_MIN, OPERATORS_PER_CORE_MAX, REFUSED_GREETINGS_MAX};
use crate::connection::Phase;
use crate::message::{ConnectionId, Message};

/// The listener of the address that all cores share; the other one is a core's own.
const SHARED: u8 = 0;

impl Core {
    /// The kernel has accepted a connection on one of this core's listeners.
    pub(super) fn on_accepted(&mut self, which: u8, socket: OwnedFd) {
        if self.shutdown.under_way() {
            return;
        }
        let peer = rustix::net::getpeername(&socket)
            .ok()
            .flatten()
            .and_then(|address| SocketAddr::try_from(address).ok());
        let own = self.config.core;
        let to = self.best_core(which);
        self.facts.admission.enter_core(to);
        if to == own {
            self.take_in(socket, peer);
        } else {
            self.counters.handed_over += 1;
            self.out.send(to, Message::HandOver { socket, peer });
        }
    }

    /// A connection is this core's from now on, or is refused.
    pub(super) fn take_in(&mut self, socket: OwnedFd, peer: Option<SocketAddr>) {
        let own = self.config.core;
        if self.shutdown.under_way() {
            return self.facts.admission.leave_core(own);
        }
        let refusal = self.refusal(peer);
        if refusal.is_some() && self.refused_greetings >= REFUSED_GREETINGS_MAX {
            self.end_oldest_refused();
        }
        if let Some(rejection) = &refusal
            && self.refused_greetings >= REFUSED_GREETINGS_MAX
        {
            self.counters.refused += 1;
            log_refused(peer, rejection);
            say_and_close(&socket, rejection);
            self.facts.admission.leave_core(own);
            return self.leave_address(peer);
        }
        let id = self.connections.insert(socket, peer, self.clock.now_ns());
        if let Some(rejection) = refusal
            && let Some(connection) = self.connections.get_mut(id)
        {
            self.refused_greetings += 1;
            connection.refusal = Some(Box::new(rejection));
            self.note_refused(id);
        }
        let peer = peer_text(peer);
        tracing::debug!(peer, core = %own, "connected");
        self.start_receive(id);
    }

    /// Those that have said Hello since or are gone are dropped where they add up.
    fn note_refused(&mut self, id: ConnectionId) {
        self.refused_waiting.push_back(id);
        if self.refused_waiting.len() > 2 * REFUSED_GREETINGS_MAX {
            let connections = &mut self.connections;
            self.refused_waiting.retain(|id| {
                connections.get_mut(*id).is_some_and(|connection| connection.refusal.is_some())
            });
        }
    }

    /// Whoever has had longest to say Hello and has not makes room for one that may be an operator.
    fn end_oldest_refused(&mut self) {
        while let Some(id) = self.refused_waiting.pop_front() {
            let waits = self.connections.get_mut(id).is_some_and(|c| c.phase == Phase::Greeting);
            if waits && self.refuse_greeting(id, 0) {
                return;
            }
        }
    }

    /// What keeps a new connection out, unless it is an operator's. Counts it for its address.
    fn refusal(&mut self, peer: Option<SocketAddr>) -> Option<Rejection> {
        let admission = &self.facts.admission;
        let from_address = peer.map_or(1, |peer| admission.enter(peer.ip()));
        let max = admission.per_address_max;
        if self.drains.all() {
            return Some(super::drain::server_rejection());
        }
        if max > 0 && from_address > max {
            let text = format!(
                "this client address has {max} connections, the most one may have \
                 (server.connections_per_address_max); close some and try again"
            );
            return Some(Rejection::new(ErrorCode::TooManyConnections, text));
        }
        let max = self.config.connections_max;
        (self.clients() >= max).then(|| {
            let text = format!(
                "core {} has {max} connections, the most it takes \
                 (server.connections_per_core_max); try again later",
                self.config.core
            );
            Rejection::new(ErrorCode::TooManyConnections, text)
        })
    }

    /// Where a new connection is served. A client that asked for this core gets it, unless the core
    /// is being emptied.
    fn best_core(&self, which: u8) -> CoreId {
        let own = self.config.core;
        let admission = &self.facts.admission;
        let others = self.map.cores().filter(|core| *core != own && !self.drains.is_on(*core));
        let least = others.map(|core| (admission.connections_of(core), core)).min();
        match least {
            Some((_, core)) if self.drains.is_on(own) => core,
            Some((least, core))
                if which == SHARED
                    && !self.config.steered
                    && is_overloaded(admission.connections_of(own), least) =>
            {
                core
            }
            _ => own,
        }
    }

    /// Connections of clients: neither operators nor those that wait to be told that they are
    /// refused.
    pub(super) fn clients(&self) -> usize {
        self.connections.len().saturating_sub(self.operators + self.refused_greetings)
    }

    /// The connection has shown itself to be an operator's: no bound keeps it out but that of
    /// operators. Returns false, with the connection refused, at that one.
    pub(super) fn let_operator_in(&mut self, id: ConnectionId, correlation: u64) -> bool {
        let full = self.operators >= OPERATORS_PER_CORE_MAX;
        let Some(connection) = self.connections.get_mut(id) else { return false };
        if full {
            let text = format!(
                "core {} has {OPERATORS_PER_CORE_MAX} connections of operators, the most it takes; \
                 close some and try again",
                self.config.core
            );
            let rejection = Rejection::new(ErrorCode::TooManyConnections, text);
            let waited = connection.refusal.replace(Box::new(rejection)).is_some();
            self.refused_greetings += usize::from(!waited);
            self.refuse_greeting(id, correlation);
            return false;
        }
        connection.operator = true;
        connection.asked_ns = self.clock.now_ns();
        self.operators += 1;
        if connection.refusal.take().is_some() {
            self.refused_greetings -= 1;
        }
        true
    }

    /// Tells a refused client why, now that it has said Hello. Returns false when it is not refused.
    pub(super) fn refuse_greeting(&mut self, id: ConnectionId, correlation: u64) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let Some(rejection) = connection.refusal.take() else { return false };
        self.refused_greetings -= 1;
        self.counters.refused += 1;
        log_refused(connection.peer, &rejection);
        self.end_with(id, correlation, &rejection);
        true
    }

    /// What a connection counted for is free again.
    pub(super) fn uncount(&mut self, connection: &crate::connection::Connection) {
        self.facts.admission.leave_core(self.config.core);
        self.leave_address(connection.peer);
        self.operators -= usize::from(connection.operator);
        self.refused_greetings -= usize::from(connection.refusal.is_some());
    }

    fn leave_address(&self, peer: Option<SocketAddr>) {
        if let Some(peer) = peer {
            self.facts.admission.leave(peer.ip());
        }
    }
}

/// Whether a core with `own` connections passes a new one on to a core with `least`.
fn is_overloaded(own: u32, least: u32) -> bool {
    own >= BALANCE_CONNECTIONS_MIN && u64::from(own) * 4 > u64::from(least) * 5
}

fn peer_text(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string())
}

fn log_refused(peer: Option<SocketAddr>, rejection: &Rejection) {
    let peer = peer_text(peer);
    if rejection.code == ErrorCode::Draining {
        return tracing::info!(peer, reason = %rejection.message, "connection refused");
    }
    tracing::warn!(peer, reason = %rejection.message, "connection refused");
}

/// One try to say why: whoever comes at a bound gets no memory of ours.
fn say_and_close(socket: &OwnedFd, rejection: &Rejection) {
    let mut frame = Vec::new();
    protocol::put_error(&mut frame, 0, rejection);
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    // Its end is close enough as it is.
    let _ = rustix::net::send(socket, &frame, flags);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_core_with_a_quarter_more_passes_on() {
        assert!(!is_overloaded(BALANCE_CONNECTIONS_MIN - 1, 0), "few are not worth a move");
        assert!(is_overloaded(BALANCE_CONNECTIONS_MIN, 0));
        assert!(!is_overloaded(100, 80));
        assert!(is_overloaded(101, 80));
        assert!(!is_overloaded(u32::MAX, u32::MAX));
    }
}
