//! One workload against one broker: set the stage, drive the load, check what came of it.
//!
//! All runs on one thread: drivers, payload check and recorder share it without a lock. Knows
//! brokers only through `driver`.

mod clock;
mod consume;
mod meter;
mod mill;
mod produce;
mod read_back;
mod stage;
mod task;
#[cfg(test)]
pub mod tests;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bench::ledger::Verdict;
use bench::record::{Latencies, Recorder};
use bench::report::{Figures, GeneratorFigures};
use bench::schedule::{Arrivals, OpenLoop, Pattern, Schedule};

use self::clock::Clock;
use self::consume::{Ended, Expected, Reader, Wanted};
pub use self::meter::Meter;
use self::mill::Mill;
use self::produce::{Sent, Tally, Until, produce};
use self::read_back::read_back;
use self::task::Task;
use crate::driver::{Broker, DriverError, Producer};
use crate::workload::{Kind, Workload};

/// Longest time that is spent on publishing them.
const PRELOAD_TIME_MAX: Duration = Duration::from_secs(20);
/// The generator was late with more than one in a hundred requests by this much: the figures are
/// not the broker's.
const LAG_P99_US_MAX: f64 = 500.0;
/// From here on the load's CPU counts as full.
const CPU_FULL: f64 = 0.95;

/// A run that did not come to figures.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("{done} of {wanted} topics {what} in {within:?}")]
    Topics { done: usize, wanted: usize, what: &'static str, within: Duration },
    #[error("cannot start the thread that keeps the time: {0}")]
    Clock(io::Error),
    #[error("no pace of {0} requests a second can be kept")]
    Pace(f64),
    #[error("a connection's task ended with a panic: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// How long to measure, and with how much.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub warmup: Duration,
    pub duration: Duration,
    /// Payload bytes that are published before a consume run, at most.
    pub preload_bytes: u64,
    /// Longest time for each of making, first using and removing the topics.
    pub stage_time_max: Duration,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    pub figures: Figures,
    /// Why the figures are not the broker's; empty when they are.
    pub invalid_because: Vec<String>,
    pub notes: Vec<String>,
}

/// Runs `workload` on topics of its own whose names begin with `prefix`. Must be called inside a
/// `LocalSet`.
pub async fn run(
    broker: &Rc<dyn Broker>,
    workload: &Workload,
    prefix: &str,
    extent: Extent,
    server: Meter,
) -> Result<Outcome, RunError> {
    let topics = workload.topics_of_connections(prefix);
    let run = Run { broker, workload, extent, server, topics: &topics, clock: Clock::start() };
    let outcome = match stage::make(&**broker, &topics, extent.stage_time_max).await {
        Ok(()) => match workload.kind {
            Kind::Produce => run.produce().await,
            Kind::Consume => run.consume().await,
            Kind::EndToEnd { .. } => run.end_to_end().await,
        },
        Err(error) => Err(error),
    };
    // Also after a failure, so that the next run finds room; the first error is the one to tell.
    let removed = stage::remove(&**broker, &topics, extent.stage_time_max).await;
    let mut outcome = outcome?;
    if !removed? {
        outcome.notes.push("its topics could not be removed in time".into());
    }
    Ok(outcome)
}

struct Run<'a> {
    broker: &'a Rc<dyn Broker>,
    workload: &'a Workload,
    extent: Extent,
    server: Meter,
    /// Those of each connection.
    topics: &'a [Vec<String>],
    clock: Clock,
}

/// CPU time: the broker's and this process's.
#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    server: Option<Duration>,
    load: Option<Duration>,
}

impl Cpu {
    /// Spent so far.
    fn read(server: Meter) -> Self {
        Self { server: server.read(), load: Meter::of(Some(std::process::id())).read() }
    }

    /// Spent since `before`.
    fn since(before: Self, server: Meter) -> Self {
        let now = Self::read(server);
        let between =
            |from: Option<Duration>, to: Option<Duration>| Some(to?.saturating_sub(from?));
        Self { server: between(before.server, now.server), load: between(before.load, now.load) }
    }
}

impl Run<'_> {
    async fn produce(&self) -> Result<Outcome, RunError> {
        let producers = self.producers().await?;
        let tally = self.tally(self.extent.warmup, true);
        let cpu = self.watch(&tally);
        let (start_ns, to_ns) = (self.clock.now_ns(), tally.borrow().recorder.to_ns());
        let until = Until { at_ns: to_ns, requests: u64::MAX };
        let sent = self.send(producers, until, start_ns, &tally).await?;
        let cpu = cpu.await?;
        let (verdict, note) = read_back(self, &sent, &tally).await?;
        let mut outcome = self.outcome(&tally, verdict, cpu, &sent);
        outcome.notes.extend(note);
        Ok(outcome)
    }

    async fn end_to_end(&self) -> Result<Outcome, RunError> {
        let producers = self.producers().await?;
        let mut readers = Vec::with_capacity(self.topics.len());
        for (at, topic) in self.topics.iter().flatten().enumerate() {
            let expected = Rc::new(Expected { producer: at as u32, messages: Cell::new(None) });
            let consumer = self.broker.consumer(topic, self.workload.shape).await?;
            readers.push((Reader::new(consumer, expected.clone(), self.clock), expected));
        }
        let tally = self.tally(self.extent.warmup, false);
        let (start_ns, to_ns) = (self.clock.now_ns(), tally.borrow().recorder.to_ns());
        let (mut reads, mut expectations) = (Vec::new(), Vec::new());
        for (mut reader, expected) in readers {
            let tally = tally.clone();
            reads.push(task::spawn(async move {
                let ended = reader.read(Wanted::Latency, u64::MAX, &tally).await?;
                Ok::<_, RunError>(reader.close(ended))
            }));
            expectations.push(expected);
        }
        let cpu = self.watch(&tally);
        let until = Until { at_ns: to_ns, requests: u64::MAX };
        let sent = self.send(producers, until, start_ns, &tally).await?;
        for (expected, messages) in expectations.iter().zip(messages_of_topics(&sent)) {
            expected.messages.set(Some(messages));
        }
        let cpu = cpu.await?;
        let mut verdict = Verdict::default();
        for read in reads {
            verdict.add(&read.await??);
        }
        Ok(self.outcome(&tally, verdict, cpu, &sent))
    }

    async fn consume(&self) -> Result<Outcome, RunError> {
        let sent = self.preload().await?;
        let replays = self.broker.replays();
        // What can be read only once is not spent on warming up.
        let warmup = if replays { self.extent.warmup } else { Duration::ZERO };
        // A queue's consumer begins to empty it at once, which is part of its figures.
        let mut ready = Vec::new();
        for topic in self.topics.iter().flatten().filter(|_| replays) {
            ready.push(self.broker.consumer(topic, self.workload.shape).await?);
        }
        let mut ready = ready.into_iter();
        let tally = self.tally(warmup, false);
        let to_ns = tally.borrow().recorder.to_ns();
        let (before, cpu) = (Cpu::read(self.server), self.watch(&tally));
        let mut reads = Vec::new();
        let topics = self.topics.iter().flatten().zip(messages_of_topics(&sent));
        for (at, (topic, messages)) in topics.enumerate() {
            let messages = Cell::new(Some(messages));
            let expected = Rc::new(Expected { producer: at as u32, messages });
            let (broker, topic) = (self.broker.clone(), topic.clone());
            let (shape, clock, tally) = (self.workload.shape, self.clock, tally.clone());
            let mut first = ready.next();
            reads.push(task::spawn(async move {
                let mut verdict = Verdict::default();
                loop {
                    let consumer = match first.take() {
                        Some(consumer) => consumer,
                        None => broker.consumer(&topic, shape).await?,
                    };
                    let mut reader = Reader::new(consumer, expected.clone(), clock);
                    let ended = reader.read(Wanted::Rate, to_ns, &tally).await?;
                    verdict.add(&reader.close(ended));
                    if ended == Ended::Late || !replays || !verdict.is_clean() {
                        return Ok::<_, RunError>(verdict);
                    }
                }
            }));
        }
        let mut verdict = Verdict::default();
        for read in reads {
            verdict.add(&read.await??);
        }
        let ended_ns = self.clock.now_ns();
        let (cpu, early) = if ended_ns < to_ns {
            drop(cpu);
            tally.borrow_mut().recorder.end_at(ended_ns);
            (Cpu::since(before, self.server), true)
        } else {
            (cpu.await?, false)
        };
        let mut outcome = self.outcome(&tally, verdict, cpu, &[]);
        let messages: u64 = messages_of_topics(&sent).sum();
        outcome.notes.push(format!("{messages} messages were there to be read"));
        if early {
            outcome.notes.push("read once, until none was left".into());
        }
        Ok(outcome)
    }

    /// Publishes what a consume run reads.
    async fn preload(&self) -> Result<Vec<Sent>, RunError> {
        let shape = self.workload.shape;
        let request_bytes = (shape.size * shape.batch * self.topics.len()) as u64;
        let producers = self.producers().await?;
        let tally = self.tally(Duration::ZERO, false);
        let now_ns = self.clock.now_ns();
        let until = Until {
            at_ns: now_ns + PRELOAD_TIME_MAX.as_nanos() as u64,
            // Each has sent one already.
            requests: (self.extent.preload_bytes / request_bytes).saturating_sub(1),
        };
        self.send(producers, until, now_ns, &tally).await
    }

    async fn producers(&self) -> Result<Vec<(Box<dyn Producer>, Mill)>, RunError> {
        let within = self.extent.stage_time_max;
        stage::producers(&**self.broker, self.workload, self.topics, self.clock, within).await
    }

    /// Sends on all connections at once.
    async fn send(
        &self,
        producers: Vec<(Box<dyn Producer>, Mill)>,
        until: Until,
        start_ns: u64,
        tally: &Rc<RefCell<Tally>>,
    ) -> Result<Vec<Sent>, RunError> {
        let (shape, clock, connections) = (self.workload.shape, self.clock, producers.len());
        let open = self.workload.requests_per_s().map(pace).transpose()?;
        let mut tasks = Vec::new();
        for (at, (producer, mill)) in producers.into_iter().enumerate() {
            let schedule = match &open {
                Some(open) => Schedule::open(open, start_ns, at, connections),
                None => Schedule::closed(),
            };
            let tally = tally.clone();
            tasks.push(task::spawn(async move {
                produce(&*producer, mill, shape, schedule, until, clock, tally).await
            }));
        }
        let mut sent = Vec::with_capacity(connections);
        for task in tasks {
            sent.push(task.await??);
        }
        Ok(sent)
    }

    fn tally(&self, warmup: Duration, records_acks: bool) -> Rc<RefCell<Tally>> {
        let from_ns = self.clock.now_ns() + warmup.as_nanos() as u64;
        let to_ns = from_ns + self.extent.duration.as_nanos() as u64;
        let recorder = Recorder::new(from_ns, to_ns);
        Rc::new(RefCell::new(Tally { recorder, records_acks, lag: Latencies::new() }))
    }

    /// Reads the CPU times at both ends of the measured part.
    fn watch(&self, tally: &Rc<RefCell<Tally>>) -> Task<Cpu> {
        let (clock, server) = (self.clock, self.server);
        let recorder = &tally.borrow().recorder;
        let (from_ns, to_ns) = (recorder.from_ns(), recorder.to_ns());
        task::spawn(async move {
            tokio::time::sleep_until(clock.instant(from_ns)).await;
            let before = Cpu::read(server);
            tokio::time::sleep_until(clock.instant(to_ns)).await;
            Cpu::since(before, server)
        })
    }

    fn outcome(
        &self,
        tally: &Rc<RefCell<Tally>>,
        verdict: Verdict,
        cpu: Cpu,
        sent: &[Sent],
    ) -> Outcome {
        let Tally { recorder, lag, .. } = &*tally.borrow();
        let latency_of = self.workload.latency_of().unwrap_or_default();
        let mut figures = Figures::new(recorder, recorder.to_ns(), latency_of, verdict);
        figures.set_server_cpu(cpu.server);
        let cpu_share = cpu.load.map(|load| load.as_secs_f64() / figures.seconds.max(1e-9));
        figures.generator = GeneratorFigures { cpu_share, ..GeneratorFigures::default() };
        let (mut notes, mut invalid_because) = (Vec::new(), Vec::new());
        if let Some(requests_per_s) = self.workload.requests_per_s() {
            let batch = self.workload.shape.batch as f64;
            let overdue: u64 = sent.iter().map(|sent| sent.overdue).sum();
            figures.set_rate_asked(
                requests_per_s * batch,
                overdue as f64 * batch,
                Arrivals::Constant,
            );
            let lag = lag.summary();
            figures.generator.lag_us = Some(lag);
            if lag.p99 > LAG_P99_US_MAX {
                invalid_because.push(format!(
                    "the load generator sent one request in a hundred {:.0} us late or later",
                    lag.p99
                ));
            }
            if figures.rate_kept == Some(false) {
                notes.push("the broker did not keep the rate".into());
            }
        }
        if cpu_share.is_some_and(|share| share >= CPU_FULL) {
            notes.push("the load's CPU was full: the client is the limit".into());
        }
        Outcome { figures, invalid_because, notes }
    }
}

fn messages_of_topics(sent: &[Sent]) -> impl Iterator<Item = u64> {
    sent.iter().flat_map(|sent| sent.messages.iter().copied())
}

fn pace(requests_per_s: f64) -> Result<OpenLoop, RunError> {
    let pattern = Pattern::constant(requests_per_s).map_err(|_| RunError::Pace(requests_per_s))?;
    Ok(OpenLoop { pattern: Arc::new(pattern), arrivals: Arrivals::Constant, seed: 0 })
}
