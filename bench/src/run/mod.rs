//! Runs against a broker: set the stage, drive the load, check what came of it.

mod bed;
#[cfg(test)]
mod fake;
mod load;
mod plan;
mod space;
#[cfg(test)]
mod tests;
mod topics;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::error::BenchError;
use crate::generator::{AtEnd, Interval, Plan, Share};
use crate::ledger::Verdict;
use crate::options::{Options, Work};
use crate::report::{Figures, MachineReport, RunReport, Settings};
use bed::Bed;
use load::{Outcome, Reading};
use topics::Topics;

/// Most payload bytes read back after a produce run.
const READ_BACK_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Payload bytes published before a consume run, unless `--messages` says otherwise.
const PRELOAD_HOT_BYTES: u64 = 256 * 1024 * 1024;
const PRELOAD_COLD_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Runs `produce`, `consume` or `e2e`.
pub fn run(options: &Options, stop: &Arc<AtomicBool>) -> Result<RunReport, BenchError> {
    let mut bed = Bed::make(options)?;
    let mut run = Run { options, stop, bed: &mut bed };
    let (topics, figures, space) = match options.work {
        Work::Consume => run.consume()?,
        Work::E2e => run.e2e()?,
        Work::Produce | Work::Raw => run.produce()?,
    };
    if !bed.is_embedded() {
        bed.control.delete_topics(&topics.names)?;
    }
    let mut notes = std::mem::take(&mut bed.notes);
    if figures.rate_kept == Some(false) {
        notes.push("the rate was not kept: latencies count from when requests were due".into());
    }
    let asked = Options { server_cores: Some(bed.cores.len() as u16), space, ..options.clone() };
    let settings = Settings::new(&asked, bed.cpus.generator);
    let machine = MachineReport::read(bed.data_dir.as_deref(), options.commit.as_deref());
    bed.close()?;
    Ok(RunReport { work: options.work, figures, settings, machine, notes })
}

struct Run<'a> {
    options: &'a Options,
    stop: &'a Arc<AtomicBool>,
    bed: &'a mut Bed,
}

type Done = (Topics, Figures, crate::Space);

impl Run<'_> {
    fn produce(&mut self) -> Result<Done, BenchError> {
        let Self { options, stop, .. } = *self;
        let space = space::prepare(options, self.bed, stop)?;
        let topics = self.create_topics(&space::topic_config(options))?;
        let plan = self.plan(Interval::SendToAck, "produce");
        let outcome = load::publish(options, self.bed, &topics, &plan, stop)?;
        let verdict = if options.verify { self.read_back(&topics, &outcome)? } else { unchecked() };
        let (measured, of) = (&outcome.measured, "publish to acknowledgement");
        let figures = Figures::new(measured, measured.acknowledged, options, of, verdict);
        Ok((topics, figures, space))
    }

    fn e2e(&mut self) -> Result<Done, BenchError> {
        let Self { options, stop, .. } = *self;
        let space = space::prepare(options, self.bed, stop)?;
        let topics = self.create_topics(&space::topic_config(options))?;
        let plan = self.plan(Interval::SendToReceipt, "e2e");
        let (_, reading) = load::publish_and_read(options, self.bed, &topics, &plan, stop)?;
        let verdict = self.judge(&topics, &reading)?;
        let (measured, of) = (&reading.measured, "publish to receipt");
        let figures = Figures::new(measured, measured.received, options, of, verdict);
        Ok((topics, figures, space))
    }

    fn consume(&mut self) -> Result<Done, BenchError> {
        let Self { options, stop, .. } = *self;
        let topics = self.create_topics(&model::TopicConfig::default())?;
        let outcome = self.preload(&topics)?;
        if options.cold {
            self.bed.restart()?;
        }
        let (at_end, mut plan) = if options.cold {
            (AtEnd::Stop, self.plan(Interval::BetweenDeliveries, "consume"))
        } else {
            (AtEnd::Again, self.plan(Interval::BetweenDeliveries, "consume"))
        };
        if options.cold {
            (plan.warmup, plan.duration) = (Duration::ZERO, None);
            self.bed.notes.push("cold: read once, after a restart of the server".into());
        }
        plan.requests_per_s = None;
        let shares = shares(&topics, &outcome, |_| 0);
        let (bed, published) = (&*self.bed, &outcome.published);
        let reading = load::read(options, bed, &shares, at_end, published, &plan, stop)?;
        let verdict = self.judge(&topics, &reading)?;
        let (measured, of) = (&reading.measured, "one delivery to the next on a connection");
        let figures = Figures::new(measured, measured.received, options, of, verdict);
        Ok((topics, figures, crate::Space::Fresh))
    }

    /// Publishes what a consume run will read.
    fn preload(&mut self, topics: &Topics) -> Result<Outcome, BenchError> {
        let bytes = if self.options.cold { PRELOAD_COLD_BYTES } else { PRELOAD_HOT_BYTES };
        let messages = self.options.messages.unwrap_or(bytes / self.options.size as u64).max(1);
        let load = Options { in_flight: self.options.in_flight.max(8), ..self.options.clone() };
        let requests = messages.div_ceil(load.batch as u64);
        let plan = Plan {
            warmup: Duration::ZERO,
            duration: None,
            requests_per_s: None,
            requests_each: Some(requests.div_ceil(load.connections as u64)),
            ..self.plan(Interval::SendToAck, "preload")
        };
        load::publish(&load, self.bed, topics, &plan, self.stop)
    }

    /// Reads what is kept of a produce run and checks it.
    fn read_back(&mut self, topics: &Topics, outcome: &Outcome) -> Result<Verdict, BenchError> {
        let options = self.options;
        let each = READ_BACK_BYTES / (topics.partitions.len() * options.size) as u64;
        let firsts = topics.first_offsets(&mut self.bed.control)?;
        let from = |partition: usize| {
            let bounded = outcome.ends[partition].saturating_sub(each);
            // Zero stands for the oldest kept, wherever retention has moved that by then.
            if firsts[partition] >= bounded { 0 } else { bounded }
        };
        let shares = shares(topics, outcome, from);
        let plan = Plan {
            warmup: Duration::ZERO,
            duration: None,
            requests_per_s: None,
            ..self.plan(Interval::BetweenDeliveries, "check")
        };
        if shares.iter().all(Option::is_none) {
            return Ok(unchecked());
        }
        // One reader suffices, and reads each message once.
        let reader = Options { rate: None, ..options.clone() };
        let (bed, published) = (&*self.bed, &outcome.published);
        let reading = load::read(&reader, bed, &shares, AtEnd::Stop, published, &plan, self.stop)?;
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

    fn plan(&self, interval: Interval, name: &'static str) -> Plan {
        let options = self.options;
        Plan {
            warmup: options.warmup,
            duration: Some(options.duration),
            requests_per_s: options.rate.map(|rate| rate / options.batch as f64),
            requests_each: None,
            interval,
            progress: (!options.quiet).then_some(name),
            size: options.size,
            meter: self.bed.meter.clone(),
        }
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

fn unchecked() -> Verdict {
    Verdict::default()
}
