//! One core: its ring, its connections, its shards, and the loop that turns them.
//!
//! A turn takes what the kernel and the other cores have brought, parses all whole frames there
//! are, lets each shard write what was appended and answer what became durable, and sends once per
//! connection. Nothing in a turn waits.

mod accept;
mod backup;
mod borders;
mod drain;
mod frames;
mod gather;
mod idle;
mod messages;
mod operators;
mod partial;
mod produce;
mod produce_run;
mod rest;
mod run;
mod shutdown;
mod sockets;
#[cfg(test)]
mod tests;
mod work;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use borders::{PANICKED, panicked_rejection};
pub use idle::SpinConfig;
use model::reply::CoreStatus;
use model::{CoreId, ErrorCode, Rejection, ShardId};
use ring::Ring;
pub use run::{CoreEvent, CoreStart, ShardStart, run_core};
pub use shutdown::ShutdownFlag;

use crate::facts::ServerFacts;

use crate::clock::Clock;
use crate::connection::ConnectionTable;
use crate::memory::MemoryNode;
use crate::message::ConnectionId;
use crate::metadata::Metadata;
use crate::outbox::Outbox;
use crate::placement::ShardMap;
use crate::shard::ShardHost;
use crate::stages::StageTimes;
use backup::BackupRun;
use gather::Gathers;

/// A shard of this core, served or not.
pub enum ShardSlot {
    Open(Box<ShardHost>),
    Unavailable {
        id: ShardId,
        reason: String,
        /// When it was served and has panicked.
        remains: Option<borders::Remains>,
    },
}

/// The bounds and facts of this core that do not change.
#[derive(Debug)]
pub struct CoreConfig {
    pub core: CoreId,
    pub cpu: Option<u32>,
    pub connections_max: usize,
    pub in_flight_bytes_max: usize,
    pub partial_frame_bytes_max: usize,
    /// Of replies not yet sent, over all connections.
    pub output_bytes_max: usize,
    /// Receive buffers that frames not yet whole may hold.
    pub held_buffers_max: usize,
    pub shutdown_timeout_ns: u64,
    /// A connection of an operator that asks nothing for so long is asked to leave.
    pub operator_idle_ns: u64,
    pub spin: SpinConfig,
    /// The kernel has chosen this core for what it accepts: nothing is passed on for balance.
    pub steered: bool,
    pub memory: Option<MemoryNode>,
}

/// Everything one core owns.
pub struct Core {
    config: CoreConfig,
    idle: idle::Idle,
    ring: Ring,
    clock: Clock,
    map: ShardMap,
    connections: ConnectionTable,
    shards: Vec<ShardSlot>,
    out: Outbox,
    metadata: Metadata,
    /// Only on the core of shard 0.
    coordinator: Option<borders::TopicKeeper>,
    gathers: Gathers,
    /// A backup of one of this core's connections.
    backup: Option<BackupRun>,
    listeners: Vec<Listener>,
    /// Connections with something to send.
    dirty: Vec<ConnectionId>,
    /// Connections with frames left to parse.
    parse_queue: work::ParseQueue,
    /// Connections that wait for room on another core, or for memory of frames not yet whole.
    stalled: Vec<ConnectionId>,
    /// Replies not yet sent of all connections, bytes.
    output_bytes: usize,
    held_buffers: usize,
    partial_bytes: usize,
    /// Of these, those of connections that wait for room for their frame.
    partial_waiting_bytes: usize,
    scratch: Vec<u8>,
    counters: Counters,
    stages: StageTimes,
    accept_paused_until_ns: u64,
    drains: drain::Drains,
    /// Connections of operators.
    operators: usize,
    /// Connections that will be refused once they have said Hello.
    refused_greetings: usize,
    /// Connections that have gone since memory was last given back.
    gone: u64,
    /// The same, the oldest first; some may be gone.
    refused_waiting: VecDeque<ConnectionId>,
    shutdown: shutdown::Shutdown,
    facts: Arc<ServerFacts>,
    /// When a publish was last taken or answered, where there has been one.
    publish_ns: Option<u64>,
    /// The clock's timer has run out.
    tick_due: bool,
    /// When silent connections are looked for next.
    reap_at_ns: u64,
    /// There was work since the last tick.
    active: bool,
    /// The last turn took many messages.
    dense: bool,
}

/// A socket that takes connections.
#[derive(Debug)]
pub struct Listener {
    pub socket: OwnedFd,
    /// An accept is under way in the kernel.
    pub accepting: bool,
}

/// What `status` shows of a core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub accepted: u64,
    pub refused: u64,
    pub handed_over: u64,
    pub messages_in: u64,
    pub bytes_in: u64,
    pub messages_out: u64,
    pub bytes_out: u64,
}

impl Core {
    /// The slot of a shard among this core's.
    fn slot_of(&self, shard: ShardId) -> usize {
        usize::from(shard.0) / self.out.mesh.cores()
    }

    fn core_status(&self) -> CoreStatus {
        CoreStatus {
            core: self.config.core,
            cpu: self.config.cpu,
            connections: u32::try_from(self.clients()).unwrap_or(u32::MAX),
            draining: self.drains.is_on(self.config.core),
            accepted: self.counters.accepted,
            refused: self.counters.refused,
            handed_over: self.counters.handed_over,
            messages_in: self.counters.messages_in,
            bytes_in: self.counters.bytes_in,
            messages_out: self.counters.messages_out,
            bytes_out: self.counters.bytes_out,
        }
    }

    /// Puts a connection on the list of those to be flushed.
    fn mark_dirty(&mut self, id: ConnectionId) {
        self.count_output(id);
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Puts a connection on the list of those to be parsed.
    fn queue_parse(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.queued
        {
            connection.queued = true;
            self.parse_queue.push(id);
        }
    }

    /// The same, behind those that ask for less.
    fn queue_parse_behind(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.queued
        {
            connection.queued = true;
            self.parse_queue.push_behind(id);
        }
    }

    /// Counts what a connection has waiting to be sent, of its own: payload lies in the log's cache.
    fn count_output(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            let now = connection.output.own_bytes();
            self.output_bytes = self.output_bytes + now - connection.counted_output;
            connection.counted_output = now;
        }
    }
}

/// The open shard in `slot`, or why there is none.
pub fn open_shard_in(
    slots: &mut [ShardSlot],
    slot: usize,
    shard: ShardId,
) -> Result<&mut ShardHost, Rejection> {
    match slots.get_mut(slot) {
        Some(ShardSlot::Open(host)) => Ok(host),
        Some(ShardSlot::Unavailable { id, reason, .. }) => Err(Rejection::new(
            ErrorCode::ShardUnavailable,
            format!("shard {id} is not served: {reason}"),
        )),
        None => Err(unknown_shard(shard)),
    }
}

pub fn unknown_shard(shard: ShardId) -> Rejection {
    Rejection::new(
        ErrorCode::UnknownPartition,
        format!("there is no shard {shard}; fetch the topic's metadata again"),
    )
}
