//! A core's start and its loop.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use model::reply::CoreAddress;
use model::{CoreId, ShardId};
use ring::{Completion, Ring, RingConfig, Waker};
use wal::WalConfig;

use super::borders::{TopicKeeper, guarded};
use super::gather::Gathers;
use super::idle::Idle;
use super::{Core, CoreConfig, Counters, Listener, ShardSlot, shutdown::Shutdown};
use crate::bounds::{PUBLISHES_RECENT_NS, TICK_MS};
use crate::clock::Clock;
use crate::connection::ConnectionTable;
use crate::coordinator::Coordinator;
use crate::facts::ServerFacts;
use crate::memory::{MemoryNode, MemoryPlace};
use crate::mesh::{Mesh, MeshEnd};
use crate::message::{Message, ShardReport};
use crate::metadata::Metadata;
use crate::outbox::Outbox;
use crate::placement::ShardMap;
use crate::shard::{OpenShard, ShardHost, open_shard};
use crate::stages::StageTimes;
use crate::token::Token;
use crate::write_budget::WriteBudget;

/// A core with nothing to do looks at its clock this much less often.
const IDLE_TICKS: u64 = 10;
/// How often in a turn the shards are asked again because of what they told each other.
const SHARD_ROUNDS_MAX: u32 = 4;
/// From so many messages in a turn on it is worth a call of the kernel to look for more before they
/// are written: groups grow, and a group costs more than a message.
const DENSE_MESSAGES: u64 = 16;
/// So many clients that have gone are worth giving their memory back at once.
const CROWD: u64 = 64;
/// How often silent connections are looked for.
const REAP_EVERY_NS: u64 = 1_000_000_000;

/// What one core is started with.
#[derive(Debug)]
pub struct CoreStart {
    pub config: CoreConfig,
    pub map: ShardMap,
    pub mesh: Arc<Mesh>,
    pub facts: Arc<ServerFacts>,
    pub listeners: Vec<std::os::fd::OwnedFd>,
    pub addresses: Arc<[CoreAddress]>,
    pub ring: RingConfig,
    pub shards: Vec<ShardStart>,
    pub events: Sender<CoreEvent>,
}

/// One shard this core is to open.
#[derive(Debug)]
pub struct ShardStart {
    pub id: ShardId,
    pub path: PathBuf,
    pub block_bytes: usize,
    pub access: wal::device::Access,
    pub volatile: bool,
    /// Why the shard's disk cannot be used: it is not opened.
    pub refused: Option<String>,
    pub wal: WalConfig,
    pub retention_check_ms: u64,
    pub write_budget: Option<Arc<WriteBudget>>,
    pub create: bool,
}

/// What a core tells the thread that started it.
#[derive(Debug)]
pub enum CoreEvent {
    /// Has opened its shards and knows all topics; waits for leave to serve.
    Opened {
        unavailable: Vec<(ShardId, String)>,
        memory: MemoryPlace,
    },
    /// Takes connections. `topics`: how many there are.
    Serving {
        topics: usize,
    },
    Failed {
        core: CoreId,
        error: String,
    },
    Stopped,
    /// A signal asks for a stop.
    Signal,
}

/// Runs a core until the server stops. Inside its executor, whose only task it is: it never awaits.
pub fn run_core(start: CoreStart) {
    let core = start.config.core;
    let events = start.events.clone();
    let event = match CoreLoop::open(start) {
        Ok(mut core_loop) => match core_loop.run() {
            Ok(()) => CoreEvent::Stopped,
            Err(error) => CoreEvent::Failed { core, error: error.to_string() },
        },
        Err(error) => CoreEvent::Failed { core, error },
    };
    let _ = events.send(event);
}

/// A core that does nothing by itself: the test turns it.
#[cfg(test)]
pub fn open_for_test(start: CoreStart) -> Core {
    CoreLoop::open(start).unwrap().core
}

struct CoreLoop {
    core: Core,
    events: Sender<CoreEvent>,
    stage: Stage,
    memory: MemoryPlace,
}

/// How far a core's start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Opened,
    Serving,
}

impl CoreLoop {
    fn open(start: CoreStart) -> Result<Self, String> {
        // Before anything large is made.
        let memory = MemoryNode::settle(start.config.memory);
        let mut ring = Ring::new(&start.ring).map_err(|error| error.to_string())?;
        let core = start.config.core;
        let cores = start.map.cores().count();
        let waker = Waker::new().map_err(|error| format!("cannot make an eventfd: {error}"))?;
        ring.watch_eventfd(Token::Wake.encode(), waker.as_raw_fd());
        let mut out = Outbox::new(MeshEnd::new(start.mesh, core, waker));
        let mut others = Vec::new();
        let mut shards = Vec::new();
        for (slot, shard) in (0..).zip(start.shards) {
            let opened = open_one(&mut ring, slot, shard, &mut others);
            out.send(start.map.core_of(ShardId(0)), Message::ShardReport(Box::new(opened.1)));
            shards.push(opened.0);
        }
        let mut clock = Clock::new(start.facts.started);
        for slot in &shards {
            if let ShardSlot::Open(host) = slot {
                clock.start_from(host.id, host.engine().newest_time_ms());
            }
        }
        let mut metadata = Metadata::new();
        metadata.set_cores(start.addresses);
        let coordinator = (start.map.core_of(ShardId(0)) == core)
            .then(|| TopicKeeper::Works(Box::new(Coordinator::new(start.map))));
        let idle = Idle::new(start.config.spin, start.config.cpu.is_some());
        let mut core = Core {
            config: start.config,
            idle,
            ring,
            clock,
            map: start.map,
            connections: ConnectionTable::new(core),
            shards,
            out,
            metadata,
            coordinator,
            gathers: Gathers::default(),
            listeners: start
                .listeners
                .into_iter()
                .map(|socket| Listener { socket, accepting: false })
                .collect(),
            dirty: Vec::new(),
            parse_queue: super::work::ParseQueue::default(),
            output_bytes: 0,
            stalled: Vec::new(),
            held_buffers: 0,
            partial_bytes: 0,
            partial_waiting_bytes: 0,
            scratch: Vec::new(),
            counters: Counters::default(),
            stages: StageTimes::default(),
            accept_paused_until_ns: 0,
            drains: super::drain::Drains::new(cores),
            operators: 0,
            refused_greetings: 0,
            gone: 0,
            refused_waiting: VecDeque::new(),
            backup: None,
            shutdown: Shutdown::new(),
            facts: start.facts,
            publish_ns: None,
            tick_due: false,
            reap_at_ns: 0,
            active: true,
            dense: false,
        };
        for completion in others {
            core.on_completion(completion);
        }
        core.arm_tick();
        Ok(Self { core, events: start.events, stage: Stage::Opening, memory })
    }

    fn run(&mut self) -> io::Result<()> {
        // This is the executor's only task: nobody waits for it to yield, and it never does while
        // there is something to do.
        loop {
            let turn = self.core.turn()?;
            if self.stage != Stage::Serving {
                self.step_start();
            }
            if self.core.step_shutdown() {
                break;
            }
            // Starting and stopping take steps of their own after each turn.
            let settled = self.stage == Stage::Serving && !self.core.shutdown.under_way();
            let again = turn.more || turn.worked && !settled;
            if !again {
                self.core.rest()?;
            }
        }
        self.core.last_sends();
        Ok(())
    }

    /// A core serves only once all have opened: a request may concern any shard.
    fn step_start(&mut self) {
        if self.stage == Stage::Opening && self.core.metadata.is_complete() {
            self.stage = Stage::Opened;
            let (unavailable, memory) = (self.unavailable(), self.memory);
            let _ = self.events.send(CoreEvent::Opened { unavailable, memory });
        }
        if self.stage == Stage::Opened && self.core.facts.may_serve() {
            self.stage = Stage::Serving;
            self.core.accept_all();
            let topics = self.core.metadata.len();
            let _ = self.events.send(CoreEvent::Serving { topics });
        }
    }

    fn unavailable(&self) -> Vec<(ShardId, String)> {
        let slots = self.core.shards.iter();
        slots
            .filter_map(|slot| match slot {
                ShardSlot::Open(_) => None,
                ShardSlot::Unavailable { id, reason, .. } => Some((*id, reason.clone())),
            })
            .collect()
    }
}

fn open_one(
    ring: &mut Ring,
    slot: u8,
    shard: ShardStart,
    others: &mut Vec<Completion>,
) -> (ShardSlot, ShardReport) {
    let id = shard.id;
    let order = OpenShard {
        id,
        slot,
        path: &shard.path,
        block_bytes: shard.block_bytes,
        access: shard.access,
        volatile: shard.volatile,
        wal: shard.wal,
        retention_check_ms: shard.retention_check_ms,
        write_budget: shard.write_budget,
        create: shard.create,
    };
    let opened = match shard.refused {
        Some(reason) => Err(reason),
        None => open_shard(ring, order, others).map_err(|error| error.to_string()),
    };
    match opened {
        Ok(host) => {
            let report = ShardReport { shard: id, partitions: host.report(), unavailable: None };
            (ShardSlot::Open(Box::new(host)), report)
        }
        Err(reason) => {
            tracing::error!(shard = %id, %reason, "the shard is not served; the others are");
            let report = ShardReport {
                shard: id,
                partitions: Vec::new(),
                unavailable: Some(reason.clone()),
            };
            (ShardSlot::Unavailable { id, reason, remains: None }, report)
        }
    }
}

/// What a turn has come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turned {
    /// There was something to do.
    pub worked: bool,
    /// There still is, whatever the kernel and the other cores bring.
    pub more: bool,
}

impl Core {
    /// One turn.
    pub(super) fn turn(&mut self) -> io::Result<Turned> {
        self.clock.refresh();
        self.begin_turn_of_shards();
        let published = self.counters.messages_in;
        if self.dense {
            self.ring.poll()?;
        } else {
            self.ring.submit()?;
        }
        let mut worked = false;
        while let Some(completion) = self.ring.next() {
            worked = true;
            self.on_completion(completion);
        }
        worked |= self.drain_messages();
        self.active |= worked && !self.tick_due;
        worked |= self.parse_connections();
        worked |= self.drain_local();
        if self.tick_due {
            self.tick();
        }
        if self.counters.messages_in != published {
            self.publish_ns = Some(self.clock.now_ns());
        }
        let mut more = self.end_turn_of_shards();
        self.resume_stalled();
        self.flush_connections();
        more |= !self.out.mesh.flush();
        more |= !self.parse_queue.is_empty() || self.out.has_local();
        self.dense = self.counters.messages_in - published >= DENSE_MESSAGES;
        Ok(Turned { worked: worked || more, more })
    }

    fn begin_turn_of_shards(&mut self) {
        for slot in &mut self.shards {
            if let ShardSlot::Open(host) = slot {
                host.begin_turn(&self.clock);
            }
        }
    }

    /// Whether publishes wait for this core, at whatever level and whose shard they are for: some
    /// have been taken and not answered, or clients have just been, who may have sent the next.
    pub(super) fn publishes_wait(&self) -> bool {
        let now_ns = self.clock.now_ns();
        let recent = |publish_ns| now_ns < publish_ns + PUBLISHES_RECENT_NS;
        let unanswered =
            |slot: &ShardSlot| matches!(slot, ShardSlot::Open(host) if host.has_unanswered());
        self.publish_ns.is_some_and(recent) || self.shards.iter().any(unanswered)
    }

    /// Returns whether a shard has more to do at once.
    fn end_turn_of_shards(&mut self) -> bool {
        let publishes_wait = self.publishes_wait();
        for _ in 0..SHARD_ROUNDS_MAX {
            let mut more = false;
            for slot in &mut self.shards {
                let ended = guarded(slot, |host| {
                    let (ring, stages) = (&mut self.ring, &mut self.stages);
                    host.end_turn(ring, &self.clock, publishes_wait, stages, &mut self.out)
                });
                more |= ended.unwrap_or(false);
            }
            self.tell_of_panics();
            // What it leads to may be for a shard's log again.
            if !self.drain_local() {
                return more;
            }
        }
        true
    }

    /// Soon again while there is work, less often while there is not.
    fn arm_tick(&mut self) {
        let ticks = if self.active { 1 } else { IDLE_TICKS };
        self.ring.timer(Token::Tick.encode(), Duration::from_millis(TICK_MS * ticks));
    }

    fn tick(&mut self) {
        self.tick_due = false;
        self.arm_tick();
        self.active = false;
        for slot in &mut self.shards {
            guarded(slot, |host| host.tick(&mut self.ring, &self.clock, &mut self.out));
        }
        self.tick_backup();
        self.yield_descriptors();
        self.resume_accept();
        self.end_leaving();
        self.with_coordinator(|coordinator, _, clock, out| coordinator.tick(clock, out));
        if self.clock.now_ns() >= self.reap_at_ns {
            self.reap_at_ns = self.clock.now_ns() + REAP_EVERY_NS;
            self.reap_silent();
            self.return_memory();
            self.end_idle_operators();
        }
    }

    /// After clients have gone, what they needed goes back to the system: by the crowd, or when
    /// the core has nothing else to do.
    fn return_memory(&mut self) {
        if self.gone >= CROWD || self.gone > 0 && !self.active {
            self.gone = 0;
            ring::return_freed_memory();
        }
    }

    fn resume_stalled(&mut self) {
        if !self.stalled.is_empty() {
            self.retry_stalled();
        }
        for slot in 0..self.shards.len() {
            let free = guarded(&mut self.shards[slot], ShardHost::take_unstalled);
            for id in free.unwrap_or_default() {
                self.unstall(id);
            }
        }
    }

    pub(super) fn on_completion(&mut self, completion: Completion) {
        match (Token::decode(completion.token()), completion) {
            (Token::Listener(which), Completion::Accepted { socket, .. }) => {
                self.on_accepted(which, socket);
            }
            (Token::Listener(which), Completion::AcceptFailed { error, .. }) => {
                self.on_accept_failed(which, &error);
            }
            (Token::Receive { index, generation }, completion) => {
                let Some(id) = self.connections.find(index, generation) else { return };
                self.with_connection(id, |core| match completion {
                    Completion::Received { data, .. } => core.on_received(id, data),
                    Completion::ReceiveEnded { error, .. } => {
                        core.on_receive_ended(id, error.as_ref());
                    }
                    _ => {}
                });
            }
            (Token::Send { index, generation }, Completion::Sent { result, bytes, .. }) => {
                if let Some(id) = self.connections.find(index, generation) {
                    self.with_connection(id, |core| core.on_sent(id, result, bytes));
                }
            }
            (Token::Tick, _) => self.tick_due = true,
            (Token::Disk { slot, ticket }, completion) => {
                if let Some(slot) = self.shards.get_mut(usize::from(slot)) {
                    guarded(slot, |host| host.on_disk(&mut self.ring, ticket, completion));
                }
            }
            _ => {}
        }
    }

    /// Replies of the last turn, without waiting for those who do not read.
    fn last_sends(&mut self) {
        self.flush_connections();
        let _ = self.ring.submit();
        while let Some(completion) = self.ring.next() {
            drop(completion);
        }
    }
}
