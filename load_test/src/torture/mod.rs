//! Hostile clients beside normal ones: one attack at a time, then all together. Normal clients must
//! hardly notice, memory must stay under a stated ceiling, and nothing acknowledged may be lost.

mod cases;
mod decoy;
mod normal;
pub(crate) mod payload;
mod seeds;
mod verdict;
pub(crate) mod watch;
mod wire;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use model::{CoreStages, PartitionHandle, PartitionIndex, Reply, Request, TopicConfig, TopicName};

use crate::process::{self, Launch, ProcessError, Server};
use crate::random::Random;
use cases::{Arena, CASES, Case, Tally};
use normal::Normal;
pub use verdict::Line;
use verdict::Window;
use watch::Watch;
use wire::Wire;

/// Partitions of the normal topic, and so normal producers.
const PARTITIONS: u32 = 4;
/// The name of the attack that is all of them at once.
const MIXED: &str = "mixed";
/// Between two windows nothing is measured, so that one does not count into the next.
const SETTLE: Duration = Duration::from_millis(500);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const MIB: u64 = 1024 * 1024;
/// The broker's named buffers as this scenario sets them.
const CACHE_BYTES: u64 = 64 * MIB;
const PARTIAL_BYTES: u64 = 32 * MIB;
const BACKLOG_BYTES: u64 = 32 * MIB;
/// What the broker may have resident under any attack, beside the state that was asked for: those
/// buffers, its bound of replies not yet sent (64 MiB a core), what is in flight of the few
/// connections that use it (64 MiB), and 96 MiB for the receive pool, the ring, the segments'
/// buffers and the program.
const RESIDENT_BYTES_MAX: u64 =
    CACHE_BYTES + PARTIAL_BYTES + BACKLOG_BYTES + 64 * MIB + 64 * MIB + 96 * MIB;

/// How to torture.
#[derive(Clone, Debug)]
pub struct Options {
    pub program: PathBuf,
    /// Where the data directory is made: on a real disk.
    pub folder: PathBuf,
    /// Of each attack.
    pub seconds: u64,
    /// Of each window between two attacks.
    pub quiet_seconds: u64,
    /// What the attackers of a window may send together; `None`: as much as they can.
    pub frames_per_second: Option<NonZeroU64>,
    pub seed: u64,
    /// Names of the attacks to make; empty: all, then all together.
    pub only: Vec<String>,
    /// The broker's CPUs, as its `--cores` takes them.
    pub cores: String,
    /// Where all clients run; `None`: where the scheduler likes.
    pub load_cpu: Option<u32>,
    /// The attackers meet a listener on this CPU that only reads, not the broker.
    pub decoy_cpu: Option<u32>,
    /// How many times the p99 alone an attack may cost.
    pub ratio_max: f64,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub lines: Vec<Line>,
    /// Normal messages: each acknowledged durable, and read back once and in order.
    pub messages: u64,
    pub verify: String,
}

impl Report {
    pub fn failures(&self) -> Vec<String> {
        self.lines.iter().flat_map(Line::failures).collect()
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum TortureError {
    #[error("a normal client was harmed: {0}")]
    Normal(String),
    #[error("{0}")]
    Broken(String),
    #[error("there is no attack {0:?}; there are: {1}")]
    NoCase(String, String),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("it was not good enough:\n{0}")]
    NotGood(String),
    #[error("cannot {doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
}

impl TortureError {
    fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// Makes a run. On an error the data directory and the server's log are kept.
pub fn run(options: &Options) -> Result<Report, TortureError> {
    for name in &options.only {
        if name != MIXED && !CASES.iter().any(|case| case.name == name) {
            let all: Vec<_> = CASES.iter().map(|case| case.name).chain([MIXED]).collect();
            return Err(TortureError::NoCase(name.clone(), all.join(", ")));
        }
    }
    let folder = tempfile::Builder::new()
        .prefix("corelane-torture-")
        .tempdir_in(&options.folder)
        .map_err(TortureError::io("make a folder"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(TortureError::io("start the runtime"))?;
    let result = start(options, folder.path(), &runtime).and_then(|run| run.all(&runtime));
    let result = result.and_then(|report| match report.failures() {
        failures if failures.is_empty() => Ok(report),
        failures => Err(TortureError::NotGood(failures.join("\n"))),
    });
    if result.is_err() {
        eprintln!("the data directory and the log are kept in {}", folder.keep().display());
    }
    result
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verify)?;
        write!(
            f,
            "good: {} attacks, {} normal messages acknowledged durable and read back once each in \
             order, seed {}",
            self.lines.len(),
            self.messages,
            self.seed
        )
    }
}

struct Run<'a> {
    options: &'a Options,
    launch: Launch,
    server: Server,
    watch: Watch,
    /// Asks the broker for its own times.
    control: Wire,
    normal: Normal,
    hostile: PartitionHandle,
    /// Whom the attackers meet.
    target: SocketAddr,
    random: Random,
    lines: Vec<Line>,
    quiet: Window,
}

fn start<'a>(
    options: &'a Options,
    folder: &std::path::Path,
    runtime: &tokio::runtime::Runtime,
) -> Result<Run<'a>, TortureError> {
    let [cache, backlog, partial] =
        [CACHE_BYTES, BACKLOG_BYTES, PARTIAL_BYTES].map(|bytes| bytes.to_string());
    let settings = [
        ("STORAGE_SEGMENT_BYTES", "32MiB"),
        ("STORAGE_CACHE_BYTES", &cache),
        ("STORAGE_BACKLOG_BYTES_MAX", &backlog),
        ("SERVER_PARTIAL_FRAME_BYTES_PER_CORE", &partial),
    ];
    let mut launch = Launch::in_folder(&options.program, folder, settings)?;
    launch.arguments = ["--cores", &options.cores, "--shards", "1"].map(str::to_owned).to_vec();
    let mut server = Server::spawn(&launch)?;
    eprintln!("{}", runtime.block_on(server.ready())?);
    // Nothing here ever sends beyond this machine.
    if launch.address.ip() != IpAddr::from([127, 0, 0, 1]) {
        return Err(TortureError::Broken(format!("{} is not loopback", launch.address)));
    }
    // Every client's thread comes from this one. Not before the broker: it would inherit it.
    if let Some(cpu) = options.load_cpu {
        tuning::pin_current_thread(cpu).map_err(TortureError::io("pin the clients"))?;
    }
    let _ = tuning::raise_open_files();
    let mut wire = Wire::greeted(launch.address).map_err(TortureError::io("connect"))?;
    let handles = make_topic(&mut wire, "normal", PARTITIONS, None)?;
    let hostile = make_topic(&mut wire, "hostile", 1, Some(32 * MIB))?[0];
    let normal = Normal::start(launch.address, &handles)?;
    let watch = Watch::start(server.pid());
    let random = Random::new(options.seed);
    let target = options.decoy_cpu.map_or(Ok(launch.address), decoy::start)?;
    let (lines, quiet) = (Vec::new(), Window::default());
    let control = wire;
    Ok(Run {
        options,
        launch,
        server,
        watch,
        control,
        normal,
        hostile,
        target,
        random,
        lines,
        quiet,
    })
}

fn make_topic(
    wire: &mut Wire,
    name: &str,
    partitions: u32,
    retention_bytes: Option<u64>,
) -> Result<Vec<PartitionHandle>, TortureError> {
    let name = TopicName::parse(name).map_err(|e| TortureError::Broken(e.to_string()))?;
    let config = TopicConfig { retention_bytes, ..TopicConfig::default() };
    match wire.answer(&Request::CreateTopic { name, partitions, config })? {
        Reply::Topic(topic) => {
            Ok((0..partitions).filter_map(|index| topic.handle(PartitionIndex(index))).collect())
        }
        other => Err(TortureError::Broken(format!("creating a topic was answered {other:?}"))),
    }
}

impl Run<'_> {
    fn all(mut self, runtime: &tokio::runtime::Runtime) -> Result<Report, TortureError> {
        // The first second warms caches on both sides.
        std::thread::sleep(Duration::from_secs(1));
        self.quiet = self.window(&[])?.0;
        let only = &self.options.only;
        let wanted = |name: &str| only.is_empty() || only.iter().any(|other| other == name);
        for case in CASES.iter().filter(|case| wanted(case.name)) {
            self.attack(case.name, case.about, &[case])?;
        }
        if wanted(MIXED) {
            let all: Vec<&Case> = CASES.iter().collect();
            self.attack(MIXED, "all of these at once", &all)?;
        }
        self.finish(runtime)
    }

    /// A window of the attack between two quiet ones.
    fn attack(&mut self, name: &str, about: &str, cases: &[&Case]) -> Result<(), TortureError> {
        let (beside, tally) = self.window(cases)?;
        std::thread::sleep(SETTLE);
        let after = self.window(&[])?.0;
        let state: u64 = cases.iter().map(|case| case.state_bytes_max).sum();
        let line = Line {
            name: name.to_owned(),
            about: about.to_owned(),
            alone: Window::better(&self.quiet, &after),
            beside,
            resident_bytes_max: RESIDENT_BYTES_MAX + state,
            ratio_max: self.options.ratio_max,
            connections: tally.connections.load(Ordering::Relaxed),
            connections_refused: tally.connections_refused.load(Ordering::Relaxed),
            frames: tally.frames.load(Ordering::Relaxed),
            replies: tally.replies.load(Ordering::Relaxed),
            errors: tally.errors(),
        };
        eprintln!("{line}");
        self.lines.push(line);
        self.quiet = after;
        Ok(())
    }

    /// Measures the normal clients for a window, beside the attacks.
    fn window(&mut self, cases: &[&Case]) -> Result<(Window, Arc<Tally>), TortureError> {
        let tally = Arc::new(Tally::default());
        let stop = Arc::new(AtomicBool::new(false));
        let quiet = cases.is_empty();
        let seconds = if quiet { self.options.quiet_seconds } else { self.options.seconds };
        let seconds = Duration::from_secs(seconds);
        // What the attackers make ready beforehand is nobody's time.
        let ready = Arc::new(Barrier::new(cases.len() + 1));
        let attackers: Vec<_> = cases
            .iter()
            .map(|case| {
                let mut arena = Arena {
                    address: self.target,
                    handle: self.hostile,
                    random: Random::new(self.random.number()),
                    tally: Arc::clone(&tally),
                    stop: Arc::clone(&stop),
                    next_tick: Instant::now(),
                    began: Instant::now(),
                    frames_per_second: self.options.frames_per_second,
                };
                let (make, ready) = (case.make, Arc::clone(&ready));
                std::thread::spawn(move || {
                    // The measuring clients go first on the CPU they share.
                    let _ = rustix::process::nice(15);
                    let mut attack = make(&mut arena);
                    ready.wait();
                    arena.began = Instant::now();
                    arena.next_tick = arena.began;
                    while !arena.stopped() {
                        attack.step(&mut arena);
                    }
                })
            })
            .collect();
        let before = self.stages()?;
        self.watch.take();
        self.normal.begin_window();
        ready.wait();
        let began = Instant::now();
        let mut result = Ok(());
        while began.elapsed() < seconds && result.is_ok() {
            std::thread::sleep(Duration::from_millis(100));
            result = self.still_well();
        }
        let latency = self.normal.end_window();
        let peak = self.watch.take();
        let stages = self.stages()?.since(&before);
        stop.store(true, Ordering::Relaxed);
        for attacker in attackers {
            if attacker.join().is_err() {
                return Err(TortureError::Broken("an attacker failed by itself".to_owned()));
            }
        }
        result?;
        let after = self.watch.now();
        Ok((Window { latency: Some(latency), peak, after, stages }, tally))
    }

    /// The broker's own times since its start.
    fn stages(&mut self) -> Result<CoreStages, TortureError> {
        match self.control.answer(&Request::Stages)? {
            Reply::Stages(mut cores) if cores.len() == 1 => Ok(cores.remove(0)),
            other => Err(TortureError::Broken(format!("stages were answered {other:?}"))),
        }
    }

    fn still_well(&mut self) -> Result<(), TortureError> {
        if let Some(status) = self.server.ended()? {
            return Err(self.server.failed(&format!("ended with {status}")).into());
        }
        match self.normal.trouble().first() {
            Some(trouble) => Err(TortureError::Normal(trouble.clone())),
            None => Ok(()),
        }
    }

    /// The normal clients' messages are all there, and the stopped server's log is good.
    fn finish(self, runtime: &tokio::runtime::Runtime) -> Result<Report, TortureError> {
        let messages = self.normal.finish()?;
        runtime.block_on(self.server.stop(STOP_TIMEOUT))?;
        let log = std::fs::read_to_string(&self.launch.log_file).unwrap_or_default();
        if log.contains("panicked") {
            return Err(TortureError::Broken("the server's log tells of a panic".to_owned()));
        }
        let verify = process::verify(&self.launch.program, &self.launch.data_dir)?;
        Ok(Report { seed: self.options.seed, lines: self.lines, messages, verify })
    }
}

/// Names and descriptions of the attacks.
pub fn cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    CASES.iter().map(|case| (case.name, case.about))
}
