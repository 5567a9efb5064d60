//! Where a panic ends. One in a connection's handling ends that connection; one in a shard's host
//! or engine stops that shard, whose clients get errors; one in the keeper of the topics ends
//! topic changes. What has panicked is never asked again, so that nothing is answered from a state
//! in doubt. All else goes on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use model::{ErrorCode, Rejection};

use super::{Core, ShardSlot};
use crate::clock::Clock;
use crate::connection::Phase;
use crate::coordinator::Coordinator;
use crate::message::{ConnectionId, Message, MetadataChange};
use crate::outbox::Outbox;
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
        stop_panicked(slot);
    }
    result.ok()
}

fn stop_panicked(slot: &mut ShardSlot) {
    let ShardSlot::Open(host) = slot else { return };
    let id = host.id;
    tracing::error!(shard = %id, "the shard's engine panicked; the shard is not served until a restart, the others are");
    let stopped = ShardSlot::Unavailable { id, reason: PANICKED.to_owned(), remains: None };
    if let ShardSlot::Open(host) = std::mem::replace(slot, stopped)
        && let ShardSlot::Unavailable { remains, .. } = slot
    {
        *remains = Some(Remains { host, told: false });
    }
}

impl ShardSlot {
    /// Whether the engine was in the middle of a topic change.
    fn is_deciding(&self) -> bool {
        matches!(self, Self::Open(host) if host.is_deciding())
    }
}

/// What is left of a shard that has panicked. Kept, as the kernel may still write from it.
pub struct Remains {
    host: Box<ShardHost>,
    /// Its clients know.
    told: bool,
}

/// Who keeps the topics, on the core of shard 0.
#[derive(Debug)]
pub enum TopicKeeper {
    Works(Box<Coordinator>),
    /// It has panicked, perhaps half way through a change: its memory is not relied on again.
    Stopped,
}

/// What the status of shard 0 says once topics cannot be changed.
const TOPICS_FIXED: &str = "topics cannot be created, altered or deleted: a fault of the server \
                            stopped that; messages are served, and what was decided is in the \
                            log: restart the server, and report the log line that says `panicked`";

/// What becomes of a topic change asked for after that.
pub fn topics_fixed_rejection() -> Rejection {
    Rejection::new(ErrorCode::ShardUnavailable, TOPICS_FIXED)
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

    /// Calls the keeper of the topics with shard 0, where that is served. When it panics, topics
    /// stay as they are until a restart. Returns false when that was so before.
    pub(super) fn with_coordinator(
        &mut self,
        call: impl FnOnce(&mut Coordinator, Option<&mut ShardHost>, &Clock, &mut Outbox),
    ) -> bool {
        let coordinator = match &mut self.coordinator {
            None => return true,
            Some(TopicKeeper::Stopped) => return false,
            Some(TopicKeeper::Works(coordinator)) => coordinator,
        };
        let host = match self.shards.first_mut() {
            Some(ShardSlot::Open(host)) => Some(&mut **host),
            _ => None,
        };
        let (clock, out) = (&self.clock, &mut self.out);
        // Unwind safe: neither the keeper nor a shard it was changing is asked again.
        let ended = catch_unwind(AssertUnwindSafe(|| call(coordinator, host, clock, out)));
        if let Err(panic) = ended {
            self.stop_topic_changes(panic);
        }
        true
    }

    fn stop_topic_changes(&mut self, panic: Box<dyn Any + Send>) {
        if !self.metadata.is_complete() {
            // There is nothing to serve yet: the start has failed.
            resume_unwind(panic);
        }
        tracing::error!(
            "the keeping of topics panicked; none is created, altered or deleted until a restart, messages are served"
        );
        let kept = self.coordinator.replace(TopicKeeper::Stopped);
        if let Some(TopicKeeper::Works(mut coordinator)) = kept {
            let out = &mut self.out;
            // Its tables may be what panicked; then clients learn by their deadlines.
            let _ = catch_unwind(AssertUnwindSafe(|| coordinator.fail_clients(out)));
        }
        match self.shards.first_mut() {
            Some(slot @ ShardSlot::Open(_)) if slot.is_deciding() => stop_panicked(slot),
            Some(ShardSlot::Open(host)) => host.set_notice(TOPICS_FIXED),
            _ => {}
        }
        for core in self.map.cores() {
            self.out.send(core, Message::Metadata(MetadataChange::Fixed));
        }
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
