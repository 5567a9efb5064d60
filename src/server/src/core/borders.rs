//! Where a panic ends. One in a connection's handling ends that connection; one in a shard's host
//! or engine stops that shard, whose clients get errors: it is never asked again, so that it
//! answers nothing from a state it doubts. All else goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use model::{ErrorCode, Rejection};

use super::{Core, ShardSlot};
use crate::connection::Phase;
use crate::message::{ConnectionId, Message};
use crate::shard::ShardHost;

/// What clients and status are told of a shard that has panicked.
pub const PANICKED: &str = "a fault of the server stopped it; all that was acknowledged is in its \
                            log: restart the server, and report the log line that says `panicked`";

/// Calls an open shard. `None`: it is not served, or has panicked now and is stopped.
///
/// What the call was to answer has then no answer: the caller sees to that.
pub fn guarded<R>(slot: &mut ShardSlot, call: impl FnOnce(&mut ShardHost) -> R) -> Option<R> {
    let ShardSlot::Open(host) = slot else { return None };
    // Unwind safe: the host is not used again beyond telling its clients.
    let result = catch_unwind(AssertUnwindSafe(|| call(host)));
    if result.is_err() {
        let id = host.id;
        tracing::error!(shard = %id, "the shard's engine panicked; the shard is not served until a restart, the others are");
        let stopped = ShardSlot::Unavailable { id, reason: PANICKED.to_owned(), remains: None };
        if let ShardSlot::Open(host) = std::mem::replace(slot, stopped)
            && let ShardSlot::Unavailable { remains, .. } = slot
        {
            *remains = Some(Remains { host, told: false });
        }
    }
    result.ok()
}

/// What is left of a shard that has panicked. Kept, as the kernel may still write from it.
pub struct Remains {
    host: Box<ShardHost>,
    /// Its clients know.
    told: bool,
}

/// What becomes of a request during which its shard panicked.
pub fn panicked_rejection() -> Rejection {
    let text = "the shard was stopped by a fault of the server while it had this request; a write \
                may have happened";
    Rejection::new(ErrorCode::OutcomeUnknown, text)
}

impl Core {
    /// Runs what concerns one connection. When it panics, the connection ends.
    pub(super) fn with_connection(&mut self, id: ConnectionId, work: impl FnOnce(&mut Self)) {
        // Unwind safe: the connection is not served again; what the core itself keeps is changed in
        // steps that each leave it whole.
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.scratch.clear();
            self.end_panicked(id);
        }
    }

    fn end_panicked(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let peer = connection.peer_text();
        tracing::error!(
            peer,
            "the handling of a connection panicked; it was closed, the others go on"
        );
        connection.phase = Phase::Dead;
        self.close_if_done(id);
    }

    /// Whom a message concerns alone, if it is a connection of this core.
    pub(super) fn concerned(message: &Message) -> Option<ConnectionId> {
        match message {
            Message::ProduceAck { connection, .. }
            | Message::Taken { connection, .. }
            | Message::Deliver { connection, .. } => Some(*connection),
            Message::Reply { origin, .. }
            | Message::Fetched { origin, .. }
            | Message::Subscribed { origin, .. } => Some(origin.connection),
            _ => None,
        }
    }

    /// Tells the clients of shards that have panicked since the last turn.
    pub(super) fn tell_of_panics(&mut self) {
        let mut stalled = Vec::new();
        for slot in &mut self.shards {
            if let ShardSlot::Unavailable { remains: Some(remains), .. } = slot
                && !remains.told
            {
                remains.told = true;
                let (host, out) = (&mut remains.host, &mut self.out);
                // Its tables may be what panicked; then clients learn by their deadlines.
                if let Ok(waited) = catch_unwind(AssertUnwindSafe(|| host.fail_clients(out))) {
                    stalled.extend(waited);
                }
            }
        }
        for id in stalled {
            self.unstall(id);
        }
    }
}
