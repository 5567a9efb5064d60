//! The crash scenario: full load, `kill -9` at random moments, and an audit after every restart of
//! what [`crate::traffic`] says is promised.
//!
//! Each audit reads what is new and a stretch of what was read before; the last one reads all that
//! retention has kept. So the length of a run costs neither memory nor time for each round.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::broker::Broker;
use crate::error::ScenarioError;
use crate::process::Launch;
use crate::random::Random;
use crate::scenario;
use crate::traffic::{Plan, Promise, Totals, Traffic};

const PARTITIONS: u32 = 6;
const PRODUCERS: u16 = 4;
/// Kept of each partition: more than any round brings, so that each audit finds all of it.
const RETENTION_BYTES: u64 = 512 << 20;
/// The same for those acknowledged from memory. They are few, and the log gives a segment back when
/// all in it has expired: what is kept of them decides how much is kept of the others.
const MEMORY_RETENTION_BYTES: u64 = 16 << 20;
/// Messages a second acknowledged from memory.
const MEMORY_RATE: u32 = 2_000;
/// A run that has not ended by then has failed.
const ROUND_TIME_MAX: Duration = Duration::from_secs(20);
const REST_TIME_MAX: Duration = Duration::from_secs(240);

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `corelane` binary.
    pub program: PathBuf,
    /// Where the data directory is made, and removed at the end of a good run.
    pub folder: PathBuf,
    pub rounds: u32,
    pub seed: u64,
    /// Messages a second of each producer at most; `None`: as many as the server takes.
    pub rate: Option<u32>,
    /// Longest time between the end of an audit and the next kill.
    pub life_max: Duration,
    /// A line on stderr for each round.
    pub verbose: bool,
}

/// What a good run has done.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub rounds: u32,
    /// Kills before the server was ready.
    pub killed_while_starting: u32,
    pub durable: Totals,
    pub memory: Totals,
    /// The longest start after a kill.
    pub start_max: Duration,
    pub time: Duration,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { durable, memory, .. } = self;
        write!(
            f,
            "good: {} kills ({} more while starting); {} messages acknowledged durable and found \
             once each in order ({:.0} a second), 0 lost, 0 repeated, 0 offsets used again in {} \
             rows of 1024 compared; {} records read by followers that began again {} times from \
             their commits, 0 commits taken back; {} acknowledged from memory, {} sent and not \
             found, 0 repeated; longest start {} ms; {:.1} s; seed {}",
            self.rounds,
            self.killed_while_starting,
            durable.acknowledged,
            durable.acknowledged as f64 / self.time.as_secs_f64(),
            durable.chunks + memory.chunks,
            durable.followed + memory.followed,
            durable.resumed + memory.resumed,
            memory.acknowledged,
            memory.lost,
            self.start_max.as_millis(),
            self.time.as_secs_f64(),
            self.seed
        )
    }
}

/// Makes a run. On an error the data directory is left where standard error says.
pub fn run(options: &Options) -> Result<Report, ScenarioError> {
    let time_max = ROUND_TIME_MAX * options.rounds + REST_TIME_MAX;
    scenario::run(&options.folder, "crash", time_max, async |folder| {
        Run::start(options, &folder).await?.run().await
    })
}

struct Run<'a> {
    options: &'a Options,
    random: Random,
    /// Dropped before the traffic, which outlives any server.
    broker: Broker,
    durable: Traffic,
    memory: Traffic,
    began: Instant,
    report: Report,
}

impl<'a> Run<'a> {
    /// Starts the server for the first time and the load on it.
    async fn start(options: &'a Options, folder: &Path) -> Result<Self, ScenarioError> {
        // Small, so that segments are sealed and checkpoints made while it is killed.
        let settings = [("STORAGE_SEGMENT_BYTES", "16MiB"), ("STORAGE_CACHE_BYTES", "64MiB")];
        let broker = Broker::start(Launch::in_folder(&options.program, folder, settings)?).await?;
        let plan = Plan {
            partitions: PARTITIONS,
            producers: PRODUCERS,
            rate: options.rate,
            retention_bytes: Some(RETENTION_BYTES),
            ..Plan::durable(broker.address(), "crash")
        };
        let durable = Traffic::start(plan.clone()).await?;
        let memory = Plan {
            topic: "crash-memory".to_owned(),
            partitions: 2,
            producers: 1,
            rate: Some(options.rate.unwrap_or(MEMORY_RATE).min(MEMORY_RATE)),
            promise: Promise::Memory,
            retention_bytes: Some(MEMORY_RETENTION_BYTES),
            followers: 1,
            ..plan
        };
        let memory = Traffic::start(memory).await?;
        let report = Report {
            seed: options.seed,
            rounds: 0,
            killed_while_starting: 0,
            durable: Totals::default(),
            memory: Totals::default(),
            start_max: Duration::ZERO,
            time: Duration::ZERO,
        };
        let random = Random::new(options.seed);
        let began = Instant::now();
        Ok(Self { options, random, broker, durable, memory, began, report })
    }

    async fn run(mut self) -> Result<Report, ScenarioError> {
        for round in 1..=self.options.rounds {
            self.live_and_die().await?;
            let (durable, memory) = (self.durable.promised(), self.memory.promised());
            self.start_again().await?;
            self.durable.check(&durable).await?;
            self.memory.check(&memory).await?;
            self.report.rounds = round;
            self.say(&format!(
                "{:>6.1} s round {round}: {} acknowledged before the kill, all there",
                self.began.elapsed().as_secs_f64(),
                durable.acknowledged + memory.acknowledged,
            ));
        }
        self.finish().await
    }

    /// Lets the server live for a random time, then kills it.
    async fn live_and_die(&mut self) -> Result<(), ScenarioError> {
        let life_ms = self.options.life_max.as_millis() as u64;
        sleep(Duration::from_millis(self.random.between(10, life_ms.max(20)))).await;
        self.durable.check_alive().await?;
        self.memory.check_alive().await?;
        self.broker.check()?;
        Ok(self.broker.kill()?)
    }

    /// Starts the server; now and then kills it in the middle of that and starts it once more.
    async fn start_again(&mut self) -> Result<(), ScenarioError> {
        if self.random.between(0, 3) == 0 {
            let server = self.broker.spawn(None)?;
            sleep(Duration::from_millis(self.random.between(0, 150))).await;
            server.kill()?;
            self.report.killed_while_starting += 1;
        }
        let began = Instant::now();
        self.broker.start_again(None).await?;
        self.report.start_max = self.report.start_max.max(began.elapsed());
        Ok(())
    }

    /// Ends the load, checks all that is kept, stops the server and audits its log.
    async fn finish(mut self) -> Result<Report, ScenarioError> {
        self.report.durable = self.durable.finish().await?;
        self.report.memory = self.memory.finish().await?;
        self.report.time = self.began.elapsed();
        let verdict = self.broker.finish().await?;
        if self.options.verbose {
            eprintln!("{verdict}");
        }
        Ok(self.report)
    }

    fn say(&self, line: &str) {
        if self.options.verbose {
            eprintln!("{line}");
        }
    }
}
