//! The kinds of run: publishing, reading, both at once; each ends with its payloads checked.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::error::BenchError;
use crate::generator::{AtEnd, Interval, Measured, Plan, Share};
use crate::ledger::Verdict;
use crate::options::{Options, Source, Work};
use crate::pace::Pace;
use crate::report::ServerMemory;
use crate::run::bed::Bed;
use crate::run::load::{self, Outcome, Reading};
use crate::run::topics::Topics;
use crate::run::{open_loop, space};

/// Payload bytes published before a consume run, unless `--messages` says otherwise.
const PRELOAD_HOT_BYTES: u64 = 256 * 1024 * 1024;
const PRELOAD_ONCE_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// One run on a bed that is made.
pub struct Run<'a> {
    pub options: &'a Options,
    pub stop: &'a Arc<AtomicBool>,
    pub bed: &'a mut Bed,
    /// Most payload bytes read back after a produce run.
    pub read_back_bytes: u64,
    /// Rung when measuring begins and ends.
    pub bell: Option<Sender<()>>,
}

/// What a run came to.
pub struct Done {
    pub topics: Topics,
    pub measured: Measured,
    pub latency_of: &'static str,
    pub verdict: Verdict,
    pub memory: Option<ServerMemory>,
}

impl Run<'_> {
    pub fn produce(&mut self) -> Result<Done, BenchError> {
        let Self { options, stop, .. } = *self;
        let topics = self.create_topics(&space::topic_config(options))?;
        let plan = self.plan(Interval::SendToAck, "produce")?;
        let outcome = load::publish(options, self.bed, &topics, &plan, stop)?;
        let verdict = match options.verify {
            true => self.read_back(&topics, &outcome)?,
            false => Verdict::default(),
        };
        let Outcome { measured, memory, .. } = outcome;
        let latency_of = "publish to acknowledgement";
        Ok(Done { topics, measured, latency_of, verdict, memory })
    }

    pub fn e2e(&mut self) -> Result<Done, BenchError> {
        let Self { options, stop, .. } = *self;
        let topics = self.create_topics(&space::topic_config(options))?;
        let plan = self.plan(Interval::SendToReceipt, "e2e")?;
        let reading = load::publish_and_read(options, self.bed, &topics, &plan, stop)?;
        let verdict = self.judge(&topics, &reading)?;
        let Reading { measured, memory, .. } = reading;
        let latency_of = "publish to receipt";
        Ok(Done { topics, measured, latency_of, verdict, memory })
    }

    pub fn consume(&mut self) -> Result<Done, BenchError> {
        let Self { options, stop, .. } = *self;
        let topics = self.create_topics(&model::TopicConfig::default())?;
        let outcome = self.preload(&topics)?;
        let mut plan = self.plan(Interval::BetweenDeliveries, "consume")?;
        let at_end = match options.source {
            Source::Hot => AtEnd::Again,
            Source::Cold | Source::Backlog => AtEnd::Stop,
        };
        if at_end == AtEnd::Stop {
            (plan.warmup, plan.duration) = (Duration::ZERO, None);
        }
        if options.source == Source::Cold {
            self.bed.restart()?;
            // It watched the server that was.
            plan.bell = None;
            plan.meter = self.bed.meter.clone();
            self.bed.notes.push("cold: read once, after a restart of the server".into());
        } else if options.source == Source::Backlog {
            let messages: u64 = outcome.published.iter().flatten().sum();
            self.bed.notes.push(format!("backlog: {messages} messages read once, to their end"));
        }
        let shares = shares(&topics, &outcome, |_| 0);
        let (bed, published) = (&*self.bed, &outcome.published);
        let reading = load::read(options, bed, &shares, at_end, published, &plan, stop)?;
        let verdict = self.judge(&topics, &reading)?;
        let latency_of = "one delivery to the next on a connection";
        let Reading { measured, memory, .. } = reading;
        Ok(Done { topics, measured, latency_of, verdict, memory })
    }

    /// Publishes what a consume run will read.
    fn preload(&mut self, topics: &Topics) -> Result<Outcome, BenchError> {
        let once = self.options.source != Source::Hot;
        let bytes = if once { PRELOAD_ONCE_BYTES } else { PRELOAD_HOT_BYTES };
        let by_size = (bytes as f64 / self.options.sizes.mean()) as u64;
        let messages = self.options.messages.unwrap_or(by_size).max(1);
        let load = Options {
            in_flight: self.options.in_flight.max(8),
            pace: Pace::Closed,
            ..self.options.clone()
        };
        let requests = messages.div_ceil(load.batch as u64);
        let plan = Plan {
            requests_each: Some(requests.div_ceil(load.connections as u64)),
            ..self.untimed(Interval::SendToAck, "preload")?
        };
        load::publish(&load, self.bed, topics, &plan, self.stop)
    }

    /// Reads what is kept of a produce run and checks it.
    fn read_back(&mut self, topics: &Topics, outcome: &Outcome) -> Result<Verdict, BenchError> {
        let options = self.options;
        let bytes_each = self.read_back_bytes / topics.partitions.len() as u64;
        let each = (bytes_each as f64 / options.sizes.mean()) as u64;
        let firsts = topics.first_offsets(&mut self.bed.control)?;
        let from = |partition: usize| {
            let bounded = outcome.ends[partition].saturating_sub(each);
            // Zero stands for the oldest kept, wherever retention has moved that by then.
            if firsts[partition] >= bounded { 0 } else { bounded }
        };
        let shares = shares(topics, outcome, from);
        if shares.iter().all(Option::is_none) {
            return Ok(Verdict::default());
        }
        let plan = self.untimed(Interval::BetweenDeliveries, "check")?;
        // One reader suffices, and reads each message once.
        let (bed, published) = (&*self.bed, &outcome.published);
        let reading = load::read(options, bed, &shares, AtEnd::Stop, published, &plan, self.stop)?;
        let verdict = self.judge(topics, &reading)?;
        let published: u64 = outcome.published.iter().flatten().sum();
        let checked = verdict.checked;
        if checked < published {
            self.bed.notes.push(format!(
                "checked the last {checked} of {published} messages: the others were removed by \
                 retention or are beyond what is read back"
            ));
        }
        Ok(verdict)
    }

    fn create_topics(&mut self, config: &model::TopicConfig) -> Result<Topics, BenchError> {
        let Options { topics, partitions, .. } = *self.options;
        Topics::create(&mut self.bed.control, "run", topics, partitions, config)
    }

    /// The measured plan.
    fn plan(&self, interval: Interval, name: &'static str) -> Result<Plan, BenchError> {
        let options = self.options;
        Ok(Plan {
            warmup: options.warmup,
            duration: Some(options.duration),
            open: open_loop(options)?,
            requests_each: None,
            interval,
            progress: (!options.quiet).then_some(name),
            payload_bytes: options.sizes.mean(),
            meter: self.bed.meter.clone(),
            bell: self.bell.clone(),
            may_end_early: true,
        })
    }

    /// A plan that goes on until all is done; not measured.
    fn untimed(&self, interval: Interval, name: &'static str) -> Result<Plan, BenchError> {
        let plan = self.plan(interval, name)?;
        let (warmup, duration, may_end_early) = (Duration::ZERO, None, false);
        Ok(Plan { warmup, duration, open: None, bell: None, may_end_early, ..plan })
    }

    /// What a reader passed over was either removed by retention, which the oldest offset kept
    /// tells, or is lost.
    fn judge(&mut self, topics: &Topics, reading: &Reading) -> Result<Verdict, BenchError> {
        let mut verdict = reading.verdict;
        if reading.gaps.is_empty() {
            return Ok(verdict);
        }
        let firsts = topics.first_offsets(&mut self.bed.control)?;
        let mut removed = 0;
        for gap in &reading.gaps {
            let messages = gap.to - gap.from;
            if firsts.get(gap.partition as usize).is_some_and(|first| *first >= gap.to) {
                removed += messages;
            } else {
                verdict.lost += messages;
            }
        }
        if removed > 0 && self.options.work != Work::Produce {
            self.bed.notes.push(format!("{removed} messages were removed before they were read"));
        }
        Ok(verdict)
    }
}

/// What to read of every partition that something was published to, from `from(partition)` on.
fn shares(topics: &Topics, outcome: &Outcome, from: impl Fn(usize) -> u64) -> Vec<Option<Share>> {
    let share = |(at, handle): (usize, &model::PartitionHandle)| {
        let (from, end) = (from(at), outcome.ends[at]);
        let share =
            Share { partition: at as u32, handle: *handle, from: Some(from), end: Some(end) };
        (end > from).then_some(share)
    };
    topics.partitions.iter().enumerate().map(share).collect()
}
