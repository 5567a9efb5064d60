//! One client's connection: its socket, what has come in, what goes out, what it has asked for.
//!
//! A connection knows frames and bounds; it does not know what a topic is.

mod input;
mod output;
mod owned;
mod table;

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use ahash::AHashMap;
pub use input::{Input, Parts};
pub use output::Output;
pub use table::ConnectionTable;

use crate::message::{ConnectionId, ReaderKey};
use model::{CoreId, Rejection, ShardId};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for `Hello`.
    Greeting,
    Open,
    /// No more is read; closes when what is queued has been sent.
    Draining,
    /// The socket has failed; closes when the kernel holds nothing of it any more.
    Dead,
}

/// Why a connection is not being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// The log of this shard takes no more at the moment.
    Backlog(ShardId),
    /// Too many requests are under way on this core.
    Mesh(CoreId),
    /// Its requests under way, or its replies not yet sent, are at their bound.
    InFlight,
    /// The core holds too many bytes of frames not yet whole.
    PartialFrames,
    /// Too many questions that many parts of the server answer are under way.
    Gathers,
}

#[derive(Debug)]
pub struct Connection {
    pub id: ConnectionId,
    pub socket: OwnedFd,
    pub peer: Option<SocketAddr>,
    pub phase: Phase,
    pub input: Input,
    pub output: Output,
    pub stall: Option<Stall>,
    /// A multishot receive is under way in the kernel.
    pub receiving: bool,
    /// The peer has closed its sending side.
    pub peer_closed: bool,
    /// The kernel has been asked to end what is under way.
    pub cancelled: bool,
    /// Bytes of requests not yet answered.
    pub in_flight_bytes: usize,
    /// In the list of connections to be flushed at the turn's end.
    pub dirty: bool,
    /// In the list of connections with frames left to parse.
    pub queued: bool,
    /// Buffers of the receive pool its frames not yet whole hold.
    pub held: usize,
    /// Bytes of memory its frame in the making takes outside the receive pool.
    pub partial_bytes: usize,
    /// It waits for room for its frame, and these bytes are counted as waiting.
    pub partial_waits: bool,
    /// Since when a frame has been in the making there, nanoseconds of the core's clock; 0: none is.
    pub partial_since_ns: u64,
    /// Bytes of its replies not yet sent that the core has counted.
    pub counted_output: usize,
    /// Since when a send has been under way; 0: none is.
    pub sending_since_ns: u64,
    /// When something last came.
    pub received_ns: u64,
    /// When the first came of what has not been looked at.
    pub unparsed_since_ns: u64,
    /// When it came, or began to drain.
    pub phase_since_ns: u64,
    /// By when it has to have left, nanoseconds of the core's clock; 0: it may stay.
    pub leave_by_ns: u64,
    /// It asks how the server is and steers it; bounds and drains are not for it.
    pub operator: bool,
    /// When an operator last asked for something.
    pub asked_ns: u64,
    /// Why it will be refused when it has said Hello.
    pub refusal: Option<Box<Rejection>>,
    /// By the client's number.
    pub subscriptions: AHashMap<u32, HeldSubscription>,
    /// Their numbers by the correlation of the request that began each.
    pub subscription_of: AHashMap<u64, u32>,
    /// Shards that hold readers or cursors for this connection.
    pub reader_shards: Vec<ShardId>,
}

/// A subscription as its connection knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSubscription {
    /// Of the request that began it; an error that ends it carries the same.
    pub correlation: u64,
    pub state: Subscription,
    /// Came in before the subscription was running.
    pub credit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    Starting,
    Running(ReaderKey),
}

impl Connection {
    /// It has shaken hands, and not as an operator.
    pub fn may_publish(&self) -> bool {
        self.phase == Phase::Open && !self.operator
    }

    pub fn new(id: ConnectionId, socket: OwnedFd, peer: Option<SocketAddr>, now_ns: u64) -> Self {
        Self {
            id,
            socket,
            peer,
            phase: Phase::Greeting,
            input: Input::default(),
            output: Output::default(),
            stall: None,
            receiving: false,
            peer_closed: false,
            cancelled: false,
            in_flight_bytes: 0,
            dirty: false,
            queued: false,
            held: 0,
            partial_bytes: 0,
            partial_waits: false,
            partial_since_ns: 0,
            phase_since_ns: now_ns,
            leave_by_ns: 0,
            operator: false,
            asked_ns: now_ns,
            refusal: None,
            subscriptions: AHashMap::new(),
            subscription_of: AHashMap::new(),
            counted_output: 0,
            sending_since_ns: 0,
            received_ns: now_ns,
            unparsed_since_ns: now_ns,
            reader_shards: Vec::new(),
        }
    }

    /// Its number is free again.
    pub fn forget_subscription(&mut self, number: u32) {
        if let Some(held) = self.subscriptions.remove(&number)
            && self.subscription_of.get(&held.correlation) == Some(&number)
        {
            self.subscription_of.remove(&held.correlation);
        }
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether frames may be taken from it now.
    pub fn can_parse(&self) -> bool {
        matches!(self.phase, Phase::Greeting | Phase::Open) && self.stall.is_none()
    }

    pub fn note_reader_shard(&mut self, shard: ShardId) {
        if !self.reader_shards.contains(&shard) {
            self.reader_shards.push(shard);
        }
    }

    /// The peer for a log line.
    pub fn peer_text(&self) -> String {
        self.peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string())
    }
}
