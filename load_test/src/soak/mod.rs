//! The soak: a day of changing load pressed into minutes, in ten equal cycles, with a row of
//! measurements each second. At the end the trend of each figure is told, the first cycle left out,
//! and growth is a failure.

mod churn;
mod page;
pub(crate) mod probe;
pub(crate) mod samples;
mod slope;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use self::churn::Churn;
use self::probe::Probe;
use self::samples::{HEADING, Latency, Sample, trends};
use self::slope::Trend;
use crate::error::ScenarioError;
use crate::process::{Launch, SHORT_LOG};
use crate::random::Random;
use crate::scenario::{self, Finished, Scene};
use crate::traffic::{PARTITIONS, Plan, Totals};

const TOPIC: &str = "soak";
const CYCLES: u32 = 10;
const PRODUCERS: u16 = 2;
/// Kept of each partition: small, so that segments are recycled all the time and the disk stays
/// bounded, and large enough that each audit comes in time.
const RETENTION_BYTES_MIN: u64 = 16 << 20;
const RETENTION_BYTES_MAX: u64 = 48 << 20;
/// What a message takes in the log, about.
const MESSAGE_BYTES: u64 = 330;
const AUDIT_EVERY_SECONDS: u64 = 5;
const REST_TIME_MAX: Duration = Duration::from_secs(400);

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `corelane` binary.
    pub program: PathBuf,
    /// Where the data directory is made, and removed at the end of a good run.
    pub folder: PathBuf,
    pub seed: u64,
    pub time: Duration,
    /// Messages a second at full load, all producers together.
    pub rate: u32,
    /// Stop the server and start it again at the end of every cycle.
    pub restarts: bool,
    /// Where the measurements go.
    pub csv: Option<PathBuf>,
    /// Where they go as a page to look at.
    pub html: Option<PathBuf>,
    /// A line on stderr for each cycle.
    pub verbose: bool,
}

/// What a run has done.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub totals: Totals,
    pub trends: Vec<Trend>,
    /// What has come and gone beside the load.
    pub churn: String,
    pub time: Duration,
}

impl Report {
    pub fn is_flat(&self) -> bool {
        self.trends.iter().all(Trend::is_flat)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for trend in &self.trends {
            writeln!(f, "{trend}")?;
        }
        write!(
            f,
            "{}: {} messages acknowledged durable and found once each in order, {} records read by \
             followers; {}; {:.0} s; seed {}",
            if self.is_flat() { "good, all flat" } else { "GROWTH" },
            self.totals.acknowledged,
            self.totals.followed,
            self.churn,
            self.time.as_secs_f64(),
            self.seed
        )
    }
}

/// Makes a run. On an error the data directory is left where standard error says.
pub fn run(options: &Options) -> Result<Report, ScenarioError> {
    scenario::run(&options.folder, "soak", options.time + REST_TIME_MAX, async |folder| {
        Run::start(options, &folder).await?.run().await
    })
}

struct Run<'a> {
    options: &'a Options,
    random: Random,
    scene: Scene,
    probe: Probe,
    churn: Churn,
    csv: Option<std::fs::File>,
    samples: Vec<Sample>,
    /// This cycle's full load, as a share of what was asked for.
    height: f64,
}

impl<'a> Run<'a> {
    async fn start(options: &'a Options, folder: &Path) -> Result<Self, ScenarioError> {
        let settings = SHORT_LOG.into_iter().chain([("STORAGE_CACHE_BYTES", "32MiB")]);
        let launch = Launch::in_folder(&options.program, folder, settings)?;
        let plan = |address| Plan {
            producers: PRODUCERS,
            rate: Some(0),
            retention_bytes: Some(retention_bytes(options)),
            ..Plan::durable(address, TOPIC)
        };
        let scene = Scene::start(launch, plan).await?;
        let address = scene.broker.address();
        let mut csv = options
            .csv
            .as_ref()
            .map(std::fs::File::create)
            .transpose()
            .map_err(ScenarioError::io("create the CSV file"))?;
        write_line(&mut csv, HEADING)?;
        Ok(Self {
            options,
            random: Random::new(options.seed),
            churn: Churn::start(address, TOPIC, options.seed),
            probe: Probe::start(address).await?,
            scene,
            csv,
            samples: Vec::new(),
            height: 1.0,
        })
    }

    async fn run(mut self) -> Result<Report, ScenarioError> {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        seconds.tick().await;
        let (mut cycle, mut acknowledged, mut audit_at) = (0, 0, AUDIT_EVERY_SECONDS);
        while self.scene.elapsed() < self.options.time {
            let progress = self.scene.elapsed().as_secs_f64() / self.options.time.as_secs_f64();
            let at = progress * f64::from(CYCLES);
            if at as u32 > cycle {
                cycle = at as u32;
                self.end_cycle(cycle).await?;
            }
            let rate = (shape(at.fract()) * self.height * f64::from(self.options.rate)) as u32;
            self.scene.traffic.set_rate(rate / u32::from(PRODUCERS));
            seconds.tick().await;
            let before = std::mem::replace(&mut acknowledged, self.scene.traffic.acknowledged());
            self.sample(cycle, rate, acknowledged - before)?;
            if self.scene.elapsed().as_secs() >= audit_at {
                audit_at += AUDIT_EVERY_SECONDS;
                self.check().await?;
            }
        }
        self.finish().await
    }

    /// A new cycle is a little higher or lower than the last.
    async fn end_cycle(&mut self, cycle: u32) -> Result<(), ScenarioError> {
        self.height = self.random.between(80, 121) as f64 / 100.0;
        if let Some(sample) = self.samples.last()
            && self.options.verbose
        {
            eprintln!("{HEADING}\n{} (cycle {cycle} of {CYCLES} begins)", sample.row());
        }
        if self.options.restarts {
            self.scene.broker.stop().await?;
            self.scene.broker.start_again(None).await?;
        }
        Ok(())
    }

    fn sample(&mut self, cycle: u32, rate: u32, acknowledged: u64) -> Result<(), ScenarioError> {
        let broker = &mut self.scene.broker;
        broker.check()?;
        let taken = Sample::take(broker.server()?.pid(), broker.data_dir());
        let sample = Sample {
            second: self.scene.elapsed().as_secs_f64(),
            cycle,
            rate,
            acknowledged,
            latency: Latency::of(self.probe.take_times_us()).unwrap_or_default(),
            ..taken.map_err(ScenarioError::io("measure the server"))?
        };
        write_line(&mut self.csv, &sample.row())?;
        self.samples.push(sample);
        Ok(())
    }

    async fn check(&mut self) -> Result<(), ScenarioError> {
        self.probe.check()?;
        self.churn.check().await?;
        self.scene.check().await
    }

    async fn finish(mut self) -> Result<Report, ScenarioError> {
        let counts = &self.churn.counts;
        let count = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        let churn = format!(
            "{} topics made and deleted, {} consumers came and went, {} connections, {} records \
             to a slow reader",
            count(&counts.topics),
            count(&counts.visits),
            count(&counts.reconnects),
            count(&counts.slow_records)
        );
        self.check().await?;
        drop((self.probe, self.churn));
        let Finished { totals, time, verdict } = self.scene.finish().await?;
        if self.options.verbose {
            eprintln!("{verdict}");
        }
        let trends = trends(&self.samples);
        let report = Report { seed: self.options.seed, totals, trends, churn, time };
        if let Some(path) = &self.options.html {
            let written = std::fs::write(path, page::draw(&report, &self.samples));
            written.map_err(ScenarioError::io("write the page"))?;
        }
        Ok(report)
    }
}

/// The half of what a cycle brings at half of full load: reached before the first cycle, which is
/// not measured, is over.
fn retention_bytes(options: &Options) -> u64 {
    let seconds = options.time.as_secs() / u64::from(CYCLES);
    let cycle_bytes = u64::from(options.rate) * MESSAGE_BYTES * seconds / 2;
    (cycle_bytes / 2 / u64::from(PARTITIONS)).clamp(RETENTION_BYTES_MIN, RETENTION_BYTES_MAX)
}

/// The load at a moment of a cycle, as a share of full load: a ramp, a plain, a gap, bursts above
/// full load with pauses between, an evening.
fn shape(at: f64) -> f64 {
    match at {
        at if at < 0.25 => 0.1 + 0.9 * at / 0.25,
        at if at < 0.55 => 1.0,
        at if at < 0.65 => 0.0,
        at if at < 0.85 => match ((at - 0.65) / 0.025) as u32 % 2 {
            0 => 1.5,
            _ => 0.0,
        },
        at => 0.6 - 0.5 * (at - 0.85) / 0.15,
    }
}

fn write_line(csv: &mut Option<std::fs::File>, line: &str) -> Result<(), ScenarioError> {
    let Some(csv) = csv else { return Ok(()) };
    writeln!(csv, "{line}").map_err(ScenarioError::io("write the CSV file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_has_ramps_bursts_and_gaps() {
        let shape: Vec<_> = (0..1000).map(|at| shape(f64::from(at) / 1000.0)).collect();
        assert!(shape.iter().all(|load| (0.0..=1.5).contains(load)));
        assert!(shape.iter().any(|load| *load > 1.4) && shape.contains(&0.0));
    }
}
