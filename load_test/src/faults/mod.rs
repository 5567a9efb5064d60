//! The fault scenario: random faults against a running broker under load, one after another and
//! mixed, and after each of them the audit of [`crate::traffic`].

mod apply;
mod memory;
mod namespace;
pub(crate) mod peers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::namespace::Namespace;
use crate::error::ScenarioError;
use crate::process::{Launch, SMALL_SEGMENTS};
use crate::random::Random;
use crate::scenario::{self, Finished, Scene};
use crate::traffic::{Plan, Totals};

const TOPIC: &str = "faults";
const PRODUCERS: u16 = 3;
const RETENTION_BYTES: u64 = 256 << 20;
/// What runs beyond the time asked for: the last fault, the last audit.
const REST_TIME_MAX: Duration = Duration::from_secs(600);
/// The load has to go on so soon after a fault is over.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// Load between two faults.
const CALM: Duration = Duration::from_millis(500);

/// What can be done to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Kill,
    Pause,
    Resets,
    Vanish,
    Rush,
    Descriptors,
    MemoryGroup,
    AddressSpace,
    Mixed,
}

impl Fault {
    pub const ALL: [Self; 9] = [
        Self::Kill,
        Self::Pause,
        Self::Resets,
        Self::Vanish,
        Self::Rush,
        Self::Descriptors,
        Self::MemoryGroup,
        Self::AddressSpace,
        Self::Mixed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Pause => "SIGSTOP for 1 to 5 s",
            Self::Resets => "resets, with data unread and frames half sent",
            Self::Vanish => "half-open peers",
            Self::Rush => "burst of connections",
            Self::Descriptors => "descriptors exhausted",
            Self::MemoryGroup => "memory limit by cgroup",
            Self::AddressSpace => "memory limit by ulimit -v",
            Self::Mixed => "burst of connections, kill -9 in the middle",
        }
    }
}

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `corelane` binary.
    pub program: PathBuf,
    /// Where the data directory is made, and removed at the end of a good run.
    pub folder: PathBuf,
    pub seed: u64,
    /// Faults go on for so long; each of `faults` is met at least once.
    pub time: Duration,
    pub faults: Vec<Fault>,
    /// Connection attempts in a burst.
    pub attempts: usize,
    /// Messages a second of each producer; `None`: as many as the server takes.
    pub rate: Option<u32>,
    /// A line on stderr for each fault.
    pub verbose: bool,
}

/// What one kind of fault has done.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub times: u32,
    /// Until the next acknowledgement after the fault was over, at most.
    pub recovery_max: Duration,
    /// Counts, by what they count.
    pub seen: BTreeMap<&'static str, u64>,
    /// Why it could not be tried.
    pub skipped: Option<String>,
}

/// What a good run has done.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub rows: BTreeMap<Fault, Row>,
    pub totals: Totals,
    pub time: Duration,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:<46} {:>5} {:>12}  seen", "fault", "times", "back after")?;
        for (fault, row) in &self.rows {
            let back = format!("{} ms", row.recovery_max.as_millis());
            let mut seen: Vec<_> =
                row.seen.iter().map(|(what, count)| format!("{what} {count}")).collect();
            seen.extend(row.skipped.iter().map(|why| format!("not tried: {why}")));
            writeln!(f, "{:<46} {:>5} {back:>12}  {}", fault.name(), row.times, seen.join(", "))?;
        }
        write!(
            f,
            "good: {} faults; {} messages acknowledged durable and found once each in order, {} \
             records read by followers that began again {} times from their commits, {} rows of \
             1024 compared; {:.1} s; seed {}",
            self.rows.values().map(|row| row.times).sum::<u32>(),
            self.totals.acknowledged,
            self.totals.followed,
            self.totals.resumed,
            self.totals.chunks,
            self.time.as_secs_f64(),
            self.seed
        )
    }
}

/// Makes a run. On an error the data directory is left where standard error says.
pub fn run(options: &Options) -> Result<Report, ScenarioError> {
    scenario::run(&options.folder, "faults", options.time + REST_TIME_MAX, async |folder| {
        Run::start(options, &folder).await?.run().await
    })
}

struct Run<'a> {
    options: &'a Options,
    random: Random,
    scene: Scene,
    /// Where nobody may make namespaces: why.
    namespace: Result<Namespace, String>,
    rows: BTreeMap<Fault, Row>,
}

impl<'a> Run<'a> {
    async fn start(options: &'a Options, folder: &Path) -> Result<Self, ScenarioError> {
        let namespace = match options.faults.contains(&Fault::Vanish) {
            true => Namespace::make().map_err(|error| error.to_string()),
            false => Err("not asked for".to_owned()),
        };
        let mut launch = Launch::in_folder(&options.program, folder, SMALL_SEGMENTS)?;
        if let Ok(namespace) = &namespace {
            // Only the namespace's wire and this host reach it there.
            launch.address = SocketAddr::new(namespace.host().into(), launch.address.port());
            launch.arguments.push("--allow-anonymous".to_owned());
        }
        let plan = |address| Plan {
            producers: PRODUCERS,
            rate: options.rate,
            retention_bytes: Some(RETENTION_BYTES),
            ..Plan::durable(address, TOPIC)
        };
        let scene = Scene::start(launch, plan).await?;
        Ok(Self {
            options,
            random: Random::new(options.seed),
            scene,
            namespace,
            rows: BTreeMap::new(),
        })
    }

    async fn run(mut self) -> Result<Report, ScenarioError> {
        let mut deck = self.shuffled();
        let mut rounds = 0;
        while rounds == 0 || self.scene.elapsed() < self.options.time {
            let Some(fault) = deck.pop() else {
                deck = self.shuffled();
                rounds += 1;
                continue;
            };
            sleep(CALM).await;
            self.suffer(fault).await?;
        }
        let Self { options, scene, rows, .. } = self;
        let Finished { totals, time, verdict } = scene.finish().await?;
        if options.verbose {
            eprintln!("{verdict}");
        }
        Ok(Report { seed: options.seed, rows, totals, time })
    }

    /// One fault, and the audit after it.
    async fn suffer(&mut self, fault: Fault) -> Result<(), ScenarioError> {
        self.say(&format!("{:>6.1} s {}", self.scene.elapsed().as_secs_f64(), fault.name()));
        self.rows.entry(fault).or_default();
        self.apply(fault).await?;
        let recovery = self.recovered().await?;
        self.scene.check().await?;
        let row = self.rows.entry(fault).or_default();
        row.recovery_max = row.recovery_max.max(recovery);
        Ok(())
    }

    fn shuffled(&mut self) -> Vec<Fault> {
        let mut deck = self.options.faults.clone();
        for at in (1..deck.len()).rev() {
            deck.swap(at, self.random.between(0, at as u64 + 1) as usize);
        }
        deck
    }

    /// Waits until the load goes on.
    async fn recovered(&mut self) -> Result<Duration, ScenarioError> {
        let (began, before) = (Instant::now(), self.scene.traffic.acknowledged());
        loop {
            self.scene.check_alive().await?;
            if self.scene.traffic.acknowledged() > before {
                return Ok(began.elapsed());
            }
            if began.elapsed() > RECOVERY_MAX {
                let what = "the load's standstill after a fault";
                return Err(ScenarioError::TooLong { what, after: RECOVERY_MAX });
            }
            sleep(POLL).await;
        }
    }

    /// Ends the server with -9 and starts it again, as it was or after words of the shell.
    async fn restart(&mut self, prelude: Option<&str>) -> Result<(), ScenarioError> {
        self.scene.broker.kill()?;
        Ok(self.scene.broker.start_again(prelude).await?)
    }

    fn say(&self, line: &str) {
        if self.options.verbose {
            eprintln!("{line}");
        }
    }
}
