//! The storm: rounds of everything that comes and goes at once (crowds of connections, readers that
//! do not read or read slowly, bursts, clients that leave with their messages under way) beside
//! clients that go on as ever. Afterwards the server's memory and descriptors are what they were
//! before, and every message of everyone is accounted for.

mod bursts;
mod guests;
mod readings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::guests::Guests;
pub use self::guests::Seen;
pub use self::readings::Reading;
use crate::broker::Broker;
use crate::error::{ScenarioError, violated};
use crate::process::{Launch, SHORT_LOG};
use crate::random::Random;
use crate::scenario::{self, Finished, Scene};
use crate::soak::probe::Probe;
use crate::soak::samples::Latency;
use crate::torture::watch::{Peak, Watch};
use crate::traffic::{Plan, Totals, connect};

const TOPIC: &str = "normal";
const PRODUCERS: u16 = 2;
/// Of each partition: enough for the longest time between two audits.
const RETENTION_BYTES: u64 = 48 << 20;
const CACHE_BYTES: u64 = 16 << 20;
/// The calm before is a share of the whole, within bounds.
const CALM_SHARE: u32 = 8;
const CALM_MIN: Duration = Duration::from_secs(2);
const CALM_MAX: Duration = Duration::from_secs(15);
/// How long the server may take afterwards to be what it was.
const REST_MAX: Duration = Duration::from_secs(60);
/// The log grows to what retention keeps of four partitions, in segments of 16 MiB, and some are
/// ahead and behind; sockets do not grow.
const FILES_MORE_MAX: u64 = 24;
/// What memory may stay above what it was: a share of that, and an amount.
const RESIDENT_SHARE: f64 = 0.05;
const RESIDENT_AMOUNT: u64 = 16 << 20;
const TIME_BESIDE: Duration = Duration::from_secs(300);

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `corelane` binary.
    pub program: PathBuf,
    /// Where the data directory is made, and removed at the end of a good run.
    pub folder: PathBuf,
    pub seed: u64,
    /// Rounds begin until then.
    pub time: Duration,
    /// Connections of the crowd of each round.
    pub connections: usize,
    /// Messages a second of the normal clients, together; bursts are above that.
    pub rate: u32,
    /// A line on stderr for each round.
    pub verbose: bool,
}

/// What a run has seen.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub rounds: u32,
    pub seen: Seen,
    pub totals: Totals,
    /// Of a client of its own, from the intended time of sending.
    pub calm: Latency,
    pub storm: Latency,
    pub start: Reading,
    pub peak: Peak,
    pub end: Reading,
    /// From the end of the last round until the server was what it had been.
    pub rest: Duration,
    pub time: Duration,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Self { calm, storm, start, peak, end, totals, .. } = self;
        writeln!(f, "{}", self.seen)?;
        writeln!(
            f,
            "publish beside it: p50 {:.0} -> {:.0} us, p99 {:.0} -> {:.0} us, slowest {:.0} -> {:.0} us",
            calm.p50_us, storm.p50_us, calm.p99_us, storm.p99_us, calm.max_us, storm.max_us
        )?;
        writeln!(
            f,
            "resident {:.1} MiB, at most {:.1}, at the end {:.1}; sockets {}, at the end {}; \
             descriptors {}, at most {}, at the end {}; {:.1} s after the last round",
            mib(start.resident_bytes),
            mib(peak.resident_bytes),
            mib(end.resident_bytes),
            start.sockets,
            end.sockets,
            start.descriptors,
            peak.descriptors,
            end.descriptors,
            self.rest.as_secs_f64()
        )?;
        write!(
            f,
            "good: {} rounds; {} messages acknowledged durable and found once each in order, {} \
             records read by followers; {:.0} s; seed {}",
            self.rounds,
            totals.acknowledged,
            totals.followed,
            self.time.as_secs_f64(),
            self.seed
        )
    }
}

/// Makes a run. On an error the data directory is left where standard error says.
pub fn run(options: &Options) -> Result<Report, ScenarioError> {
    scenario::run(&options.folder, "storm", options.time + TIME_BESIDE, async |folder| {
        Run::start(options, &folder).await?.run().await
    })
}

struct Run<'a> {
    options: &'a Options,
    random: Random,
    scene: Scene,
    watch: Watch,
    probe: Probe,
    seen: Seen,
}

impl<'a> Run<'a> {
    async fn start(options: &'a Options, folder: &Path) -> Result<Self, ScenarioError> {
        let cache_bytes = CACHE_BYTES.to_string();
        let settings = SHORT_LOG.into_iter().chain([("STORAGE_CACHE_BYTES", &cache_bytes[..])]);
        let broker = Broker::start(Launch::in_folder(&options.program, folder, settings)?).await?;
        let address = broker.address();
        // So that the log's memory is what it will be.
        bursts::fill(address, 3 * CACHE_BYTES).await?;
        let plan = |address| Plan {
            producers: PRODUCERS,
            rate: Some(options.rate / u32::from(PRODUCERS)),
            retention_bytes: Some(RETENTION_BYTES),
            ..Plan::durable(address, TOPIC)
        };
        let scene = Scene::set(broker, plan).await?;
        Ok(Self {
            options,
            random: Random::new(options.seed),
            watch: Watch::start(scene.broker.server()?.pid()),
            probe: Probe::start(address).await?,
            scene,
            seen: Seen::default(),
        })
    }

    async fn run(mut self) -> Result<Report, ScenarioError> {
        let calm = (self.options.time / CALM_SHARE).clamp(CALM_MIN, CALM_MAX);
        sleep(calm).await;
        self.check().await?;
        let (calm, start) = (self.latency(), self.reading()?);
        self.watch.take();
        let mut rounds = 0;
        while rounds == 0 || self.scene.elapsed() < self.options.time {
            self.round(rounds).await?;
            rounds += 1;
        }
        let (storm, peak) = (self.latency(), self.watch.take());
        let over = Instant::now();
        let end = self.rest(&start).await?;
        let (rest, time) = (over.elapsed(), self.scene.elapsed());
        drop(self.probe);
        let Finished { totals, .. } = self.scene.finish().await?;
        let (seed, seen) = (self.options.seed, self.seen);
        Ok(Report { seed, rounds, seen, totals, calm, storm, start, peak, end, rest, time })
    }

    /// One round: all that comes has gone at its end, and what it published was checked.
    async fn round(&mut self, number: u32) -> Result<(), ScenarioError> {
        let client = connect(self.scene.broker.address()).await?;
        let topic = format!("round-{number}");
        let created = client.create_topic(&topic).send().await;
        let handle = created.map_err(ScenarioError::client("create a round's topic"))?;
        let handle = handle.handle(model::PartitionIndex(0)).ok_or(ScenarioError::Ended {
            who: "a round's topic",
            how: "it has no partition".to_owned(),
        })?;
        let guests = Guests {
            address: self.scene.broker.address(),
            topic: topic.clone(),
            normal: TOPIC.to_owned(),
            handle,
            connections: self.options.connections,
        };
        let seed = self.random.number();
        let seen = guests.come_and_go(seed, &self.scene.traffic, self.options.rate).await?;
        if self.options.verbose {
            let now = self.watch.now();
            eprintln!(
                "round {number}: {} MiB resident, {} descriptors; {seen}",
                now.resident_bytes >> 20,
                now.descriptors
            );
        }
        self.seen.add(&seen);
        let deleted = client.delete_topic(&topic).await;
        deleted.map_err(ScenarioError::client("delete a round's topic"))?;
        self.check().await
    }

    async fn check(&mut self) -> Result<(), ScenarioError> {
        self.probe.check()?;
        self.scene.check().await
    }

    fn reading(&self) -> Result<Reading, ScenarioError> {
        Reading::take(self.scene.broker.server()?.pid())
    }

    fn latency(&self) -> Latency {
        Latency::of(self.probe.take_times_us()).unwrap_or_default()
    }

    /// Waits until the server holds no more than at `start`.
    async fn rest(&mut self, start: &Reading) -> Result<Reading, ScenarioError> {
        let began = Instant::now();
        let resident_max = start.resident_bytes
            + (start.resident_bytes as f64 * RESIDENT_SHARE) as u64
            + RESIDENT_AMOUNT;
        loop {
            let now = self.reading()?;
            let is_back = now.sockets <= start.sockets
                && now.descriptors <= start.descriptors + FILES_MORE_MAX
                && now.resident_bytes <= resident_max;
            if is_back {
                return Ok(now);
            }
            if began.elapsed() > REST_MAX {
                return violated(format!(
                    "{REST_MAX:?} after the storm the server holds more than before: {now:?}, it \
                     began with {start:?} and may have {resident_max} bytes resident"
                ));
            }
            self.check().await?;
            sleep(Duration::from_millis(200)).await;
        }
    }
}
