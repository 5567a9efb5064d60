//! The process: starts the cores over the open data directory, waits for a signal, stops them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use glommio::{CpuSet, LocalExecutorBuilder, Placement as ExecutorPlacement, PoolPlacement};
use model::{CoreId, ShardId};
use ring::RingConfig;
use tuning::Placement;
use wal::WalConfig;
use wal::device::Access;
use wal::directory::DirectoryError;

use crate::address_space::{self, AddressSpaceError};
use crate::admission::Admission;
use crate::budgets;
use crate::config::ServerConfig;
use crate::core::{CoreConfig, CoreEvent, CoreStart, ShardStart, run_core};
use crate::data::{OpenData, Place};
use crate::descriptors::DescriptorError;
use crate::facts::{Secret, ServerFacts};
use crate::listen::{Bound, ListenError, bind_all};
use crate::medium::MediumError;
use crate::memory::{MemoryNode, MemoryPlace};
use crate::mesh::Mesh;
use crate::placement::ShardMap;
use crate::write_budget::{self, WriteBudget};

/// What the ready line says.
#[derive(Clone, Debug)]
pub struct Ready {
    pub listen: SocketAddr,
    /// Each core's own port; empty when there are none.
    pub direct_ports: Vec<u16>,
    pub cores: usize,
    pub shards: u16,
    /// Which CPUs were chosen and why.
    pub placement: String,
    /// Absolute.
    pub data_dir: PathBuf,
    /// Made by this start.
    pub created: bool,
    /// It lies in memory, or a part of it does.
    pub volatile: bool,
    pub topics: usize,
    /// Shards that are not served, and why.
    pub unavailable: Vec<(ShardId, String)>,
}

/// Why the server could not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Ring(#[from] ring::RingError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Medium(#[from] MediumError),
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    AddressSpace(#[from] AddressSpaceError),
    #[error(
        "the data directory {path} has {found} shards, but --shards {asked} was given; the number \
         is fixed when a directory is made: leave the flag out, or make a new directory"
    )]
    ShardCount { path: PathBuf, found: u16, asked: u16 },
    #[error("core {core} could not start: {error}")]
    Core { core: CoreId, error: String },
    #[error("{doing}: {error}")]
    Io { doing: &'static str, error: std::io::Error },
}

/// Bytes of memory that the process must be allowed to lock: glommio does not start with less.
pub const LOCKED_MEMORY_BYTES: u64 = 512 * 1024;
/// Ring depth of glommio's own rings: they carry timers and the wait for ours.
const GLOMMIO_RING_DEPTH: usize = 128;
const GLOMMIO_IO_MEMORY: usize = 256 * 1024;
/// Threads that an executor keeps for what would block it.
const HELPERS: usize = 2;
/// Longer than any wait. glommio 0.9 parks for ever when this timer runs out between its arming and
/// the first look at the run queue, which a busy machine makes happen; and a core, which is its
/// executor's only task, has nobody to be preempted for.
const GLOMMIO_PREEMPT: Duration = Duration::from_secs(3600);

/// Runs the server until SIGTERM or SIGINT. `on_ready` is called once, when all cores take
/// connections.
///
/// # Errors
/// Whatever keeps it from starting; everything started is stopped again.
pub fn run(mut config: ServerConfig, mut on_ready: impl FnMut(&Ready)) -> Result<(), StartError> {
    crate::logging::log_panics();
    ring::prepare_process();
    ring::probe()?;
    // Whatever keeps the server from starting is found before a data directory is made.
    let place = Place::find(&config)?;
    let shards = place.shards();
    budgets::fit(&mut config, shards);
    address_space::check(&config, shards)?;
    let cores = u16::try_from(config.placement.cores()).unwrap_or(u16::MAX);
    let map = ShardMap::new(shards, cores);
    if cores > shards {
        tracing::warn!(
            cores,
            shards,
            "there are more cores than shards: some cores own nothing and only pass requests on"
        );
    }
    let bound = bind_all(&config, &map)?;
    let listen = bound.address;
    let mut data = place.open(&config)?;
    let facts = Arc::new(ServerFacts::new(
        config.version.clone(),
        data.directory.path().display().to_string(),
        Secret::new(data.directory.secret()),
        data.is_volatile(),
        Admission::new(usize::from(cores), config.connections_per_address_max),
    ));
    let mesh = Mesh::new(usize::from(cores), config.mesh_depth);
    let (events, inbox) = channel();
    watch_signals(events.clone(), config.control_cpu)?;
    let ports = bound.cores.iter().map(|core| core.address.port);
    let mut direct_ports: Vec<u16> = ports.filter(|port| *port != 0).collect();
    let starts = core_starts(&config, &data, map, &mesh, &facts, bound, &events);
    let mut threads = Vec::new();
    for start in starts {
        threads.push(spawn_core(start, config.control_cpu)?);
    }
    // Only now: what this thread starts is where it is.
    pin_control(config.control_cpu)?;
    let outcome = serve(&inbox, usize::from(cores), |step| match step {
        Step::Opened => {
            // Before the first connection: what an unfinished directory holds may be thrown away.
            if !data.directory.is_finished() {
                data.directory.finish()?;
            }
            facts.let_serve();
            for core in map.cores() {
                mesh.wake(core);
            }
            Ok(())
        }
        Step::Serving { topics, unavailable, memory } => {
            let memory = memory.to_string();
            let separator = if memory.is_empty() { "" } else { "; " };
            on_ready(&Ready {
                listen,
                direct_ports: std::mem::take(&mut direct_ports),
                cores: usize::from(cores),
                shards: map.shards(),
                placement: format!("{}{separator}{memory}", config.placement.why),
                data_dir: data.directory.path().to_owned(),
                created: data.created,
                volatile: data.is_volatile(),
                topics,
                unavailable,
            });
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            Ok(())
        }
    });
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    facts.shutdown.ask();
    for core in map.cores() {
        mesh.wake(core);
    }
    let stopped =
        wait_stopped(&inbox, &mesh, &map, outcome.cores_running, config.shutdown_timeout_ms);
    if stopped {
        for thread in threads {
            let _ = thread.join();
        }
    }
    outcome.result
}

fn core_starts(
    config: &ServerConfig,
    data: &OpenData,
    map: ShardMap,
    mesh: &Arc<Mesh>,
    facts: &Arc<ServerFacts>,
    bound: Bound,
    events: &Sender<CoreEvent>,
) -> Vec<CoreStart> {
    let addresses: Arc<[_]> = bound.cores.iter().map(|core| core.address.clone()).collect();
    let devices = data.mediums.iter().map(|medium| medium.map(|medium| medium.device));
    let budgets = write_budget::by_device(config.storage.device_writes_per_second, devices);
    map.cores()
        .zip(bound.cores)
        .map(|(core, listeners)| CoreStart {
            config: CoreConfig {
                core,
                cpu: config.placement.cpus.get(usize::from(core.0)).copied().flatten(),
                connections_max: data.connections_per_core_max,
                in_flight_bytes_max: config.in_flight_bytes_per_connection,
                partial_frame_bytes_max: config.partial_frame_bytes_per_core,
                output_bytes_max: budgets::output_bytes_per_core_max(
                    config.partial_frame_bytes_per_core,
                ),
                held_buffers_max: usize::from(config.executor.receive_buffers) / 2,
                shutdown_timeout_ns: config.shutdown_timeout_ms * 1_000_000,
                operator_idle_ns: config.operator_idle_ms.saturating_mul(1_000_000),
                spin: config.executor.spin,
                steered: bound.steered,
                memory: memory_node(&config.placement, core),
            },
            map,
            mesh: Arc::clone(mesh),
            facts: Arc::clone(facts),
            listeners: listeners.sockets,
            addresses: Arc::clone(&addresses),
            ring: RingConfig {
                entries: config.executor.ring_entries,
                receive_buffers: config.executor.receive_buffers,
                receive_buffer_bytes: config.executor.receive_buffer_bytes,
            },
            shards: map
                .shards_of(core)
                .into_iter()
                .map(|shard| shard_start(config, data, shard, &budgets))
                .collect(),
            events: events.clone(),
        })
        .collect()
}

fn memory_node(placement: &Placement, core: CoreId) -> Option<MemoryNode> {
    let node = placement.numa_nodes.get(usize::from(core.0)).copied().flatten()?;
    Some(MemoryNode { node, bind: placement.bind_memory, several: placement.several_nodes })
}

fn shard_start(
    config: &ServerConfig,
    data: &OpenData,
    shard: ShardId,
    budgets: &[Option<Arc<WriteBudget>>],
) -> ShardStart {
    let write_budget = budgets.get(usize::from(shard.0)).cloned().flatten();
    let medium = data.mediums.get(usize::from(shard.0)).copied().flatten();
    let refused = data.refused.get(usize::from(shard.0)).cloned().flatten();
    let data = &data.directory;
    let storage = &config.storage;
    ShardStart {
        id: shard,
        path: data.shard_path(shard.0),
        block_bytes: data.block_bytes(),
        access: medium.map_or(Access::Direct, |medium| medium.access),
        volatile: medium.is_some_and(|medium| medium.volatile),
        refused,
        wal: WalConfig {
            shard: shard.0,
            secret: data.secret(),
            segment_bytes: storage.segment_bytes,
            group_bytes: storage.group_bytes,
            writes_in_flight: storage.writes_in_flight,
            backlog_bytes: storage.backlog_bytes,
            cache_bytes: storage.cache_bytes / u64::from(data.shards()),
            prepare_bytes: storage.prepare_bytes,
            pool_segments: storage.pool_segments,
            pool_segments_max: storage.pool_segments_max,
            slow_after_ns: storage.slow_after_ms.saturating_mul(1_000_000),
            ..WalConfig::default()
        },
        retention_check_ms: storage.retention_check_ms,
        write_budget,
        create: !data.is_finished(),
    }
}

fn spawn_core(
    start: CoreStart,
    control_cpu: Option<u32>,
) -> Result<glommio::ExecutorJoinHandle<()>, StartError> {
    let core = start.config.core;
    let events = start.events.clone();
    let placement = match start.config.cpu {
        Some(cpu) => ExecutorPlacement::Fixed(cpu as usize),
        None => ExecutorPlacement::Unbound,
    };
    let failed = |error: String| StartError::Core { core, error };
    let pool = helpers(control_cpu).map_err(|error| failed(error.to_string()))?;
    LocalExecutorBuilder::new(placement)
        .name(&format!("core-{core}"))
        .io_memory(GLOMMIO_IO_MEMORY)
        .ring_depth(GLOMMIO_RING_DEPTH)
        .preempt_timer(GLOMMIO_PREEMPT)
        .blocking_thread_pool_placement(pool)
        .spawn(move || async move {
            // A panic ends this core; the others must not wait for it for ever.
            let guard = FailedUnlessDisarmed { core, events: Some(events) };
            run_core(start);
            guard.disarm();
        })
        .map_err(|error| failed(error.to_string()))
}

/// Where the threads are that an executor keeps beside its own.
fn helpers(control_cpu: Option<u32>) -> glommio::Result<PoolPlacement, ()> {
    let Some(cpu) = control_cpu else { return Ok(PoolPlacement::Unbound(HELPERS)) };
    let cpus = CpuSet::online()?.filter(|location| location.cpu == cpu as usize);
    Ok(PoolPlacement::Fenced(HELPERS, cpus))
}

/// Keeps the calling thread off the cores' CPUs.
fn pin_control(cpu: Option<u32>) -> Result<(), StartError> {
    let io =
        |error| StartError::Io { doing: "pin the control threads (server.control_cpu)", error };
    cpu.map_or(Ok(()), |cpu| tuning::pin_current_thread(cpu).map_err(io))
}

/// Tells when a core ends without saying so itself.
struct FailedUnlessDisarmed {
    core: CoreId,
    events: Option<Sender<CoreEvent>>,
}

impl FailedUnlessDisarmed {
    fn disarm(mut self) {
        self.events = None;
    }
}

impl Drop for FailedUnlessDisarmed {
    fn drop(&mut self) {
        if let Some(events) = self.events.take() {
            let error = "the core panicked; see the lines before".to_owned();
            let _ = events.send(CoreEvent::Failed { core: self.core, error });
        }
    }
}

/// How serving ended.
struct Served {
    result: Result<(), StartError>,
    cores_running: usize,
}

/// What all cores have reached.
enum Step {
    /// Their shards are open; none takes connections yet.
    Opened,
    /// All take connections.
    Serving { topics: usize, unavailable: Vec<(ShardId, String)>, memory: MemoryPlace },
}

/// Waits until all cores have opened, then until all serve, telling `reached` of each, then until
/// a signal or a core's failure.
fn serve(
    inbox: &Receiver<CoreEvent>,
    cores: usize,
    mut reached: impl FnMut(Step) -> Result<(), StartError>,
) -> Served {
    let (mut opened, mut serving, mut running) = (0, 0, cores);
    let (mut unavailable, mut memory) = (Vec::new(), MemoryPlace::Anywhere);
    while running > 0 {
        let step = match inbox.recv() {
            Ok(CoreEvent::Opened { unavailable: more, memory: of_core }) => {
                opened += 1;
                memory = memory.and(of_core);
                unavailable.extend(more);
                (opened == cores).then_some(Step::Opened)
            }
            Ok(CoreEvent::Serving { topics }) => {
                serving += 1;
                let all = serving == cores;
                let unavailable = if all { std::mem::take(&mut unavailable) } else { Vec::new() };
                all.then_some(Step::Serving { topics, unavailable, memory })
            }
            Ok(CoreEvent::Failed { core, error }) => {
                let result = Err(StartError::Core { core, error });
                return Served { result, cores_running: running - 1 };
            }
            Ok(CoreEvent::Stopped) => {
                running -= 1;
                None
            }
            Ok(CoreEvent::Signal) | Err(_) => break,
        };
        if let Some(step) = step
            && let Err(error) = reached(step)
        {
            return Served { result: Err(error), cores_running: running };
        }
    }
    Served { result: Ok(()), cores_running: running }
}

/// Waits for the cores, a little longer than they allow themselves. Returns whether all stopped.
fn wait_stopped(
    inbox: &Receiver<CoreEvent>,
    mesh: &Mesh,
    map: &ShardMap,
    mut running: usize,
    timeout_ms: u64,
) -> bool {
    let until = Instant::now() + Duration::from_millis(timeout_ms) + Duration::from_secs(1);
    while running > 0 {
        let left = until.saturating_duration_since(Instant::now());
        match inbox.recv_timeout(left) {
            Ok(CoreEvent::Stopped | CoreEvent::Failed { .. }) => running -= 1,
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                tracing::error!(
                    cores = running,
                    "some cores did not stop in time; leaving without them"
                );
                return false;
            }
        }
        for core in map.cores() {
            mesh.wake(core);
        }
    }
    true
}

fn watch_signals(events: Sender<CoreEvent>, cpu: Option<u32>) -> Result<(), StartError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let io = |error| StartError::Io { doing: "watch for signals", error };
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(io)?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if let Err(error) = pin_control(cpu) {
                tracing::warn!(%error, "signals are watched from any CPU");
            }
            for _ in signals.forever() {
                if events.send(CoreEvent::Signal).is_err() {
                    return;
                }
            }
        })
        .map_err(io)?;
    Ok(())
}
