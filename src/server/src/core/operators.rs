//! Connections of operators: few, let in where clients are refused, and so not kept by those who
//! ask nothing.

use model::{ErrorCode, Request};

use super::Core;
use crate::bounds::OPERATOR_LEAVES_SECONDS;
use crate::connection::Phase;
use crate::message::ConnectionId;

impl Core {
    pub(super) fn is_operator(&mut self, id: ConnectionId) -> bool {
        self.connections.get_mut(id).is_some_and(|connection| connection.operator)
    }

    /// An operator has asked for something. A sign of life alone does not count: a client that is
    /// only kept open gives those, too.
    pub(super) fn note_operator_asks(&mut self, id: ConnectionId, request: &Request) {
        let now_ns = self.clock.now_ns();
        if let Some(connection) = self.connections.get_mut(id)
            && connection.operator
            && !matches!(request, Request::Ping)
        {
            connection.asked_ns = now_ns;
        }
    }

    /// Asks operators to leave that have asked nothing for long and have nothing under way. They
    /// come again when they need to.
    pub(super) fn end_idle_operators(&mut self) {
        if self.operators == 0 {
            return;
        }
        let now_ns = self.clock.now_ns();
        for id in self.connections.ids() {
            let keeps_logs = self.has_backup(id);
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let idle_ns = now_ns.saturating_sub(connection.asked_ns);
            if !connection.operator
                || connection.phase != Phase::Open
                || connection.leave_by_ns != 0
                || connection.in_flight_bytes > 0
                || keeps_logs
                || idle_ns < self.config.operator_idle_ns
            {
                continue;
            }
            tracing::info!(
                peer = connection.peer_text(),
                idle_s = idle_ns / 1_000_000_000,
                "an operator's connection has asked nothing for long and is asked to leave"
            );
            connection.leave_by_ns = now_ns + OPERATOR_LEAVES_SECONDS * 1_000_000_000;
            self.drains.leave();
            self.scratch.clear();
            let go_away = protocol::GoAway {
                reason: ErrorCode::Busy,
                close_in_ms: OPERATOR_LEAVES_SECONDS as u32 * 1_000,
                message: format!(
                    "this operator's connection has asked nothing for {} s \
                     (server.operator_idle_timeout), and a core has room for few; connect again \
                     when there is something to ask",
                    self.config.operator_idle_ns / 1_000_000_000
                ),
            };
            protocol::put_go_away(&mut self.scratch, &go_away);
            connection.output.push(&self.scratch);
            self.mark_dirty(id);
        }
    }
}
