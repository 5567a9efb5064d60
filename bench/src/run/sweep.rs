//! `bench sweep`: runs at many rates against one server, and one more at the best of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::BenchError;
use crate::options::{Options, Work};
use crate::pace::{Pace, Rates};
use crate::report::{Probe, Report, Sweep};
use crate::run::Session;
use crate::search::{Objective, Search};

/// Most payload bytes that a probe reads back; the last run reads back all that any run does.
const PROBE_READ_BACK_BYTES: u64 = 64 * 1024 * 1024;
/// The best rate is tried again lower so many times when it is not kept for the whole time.
const STEPS_BACK: usize = 3;

/// What a sweep looks for.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// All of them are to be kept.
    pub objectives: Vec<Objective>,
    /// Rates between which it looks, messages per second.
    pub min_per_s: f64,
    pub max_per_s: f64,
    /// How near the answer is to be, as a share.
    pub tolerance: f64,
    /// How long each rate is tried.
    pub probe: Duration,
}

impl SweepOptions {
    /// Refuses what cannot be looked for, in one sentence.
    pub fn check(&self, options: &Options) -> Result<(), BenchError> {
        let refuse = |sentence: &str| Err(BenchError::Options(sentence.to_owned()));
        if self.objectives.is_empty() {
            return refuse("a sweep needs an objective; give one such as --slo p99=1ms");
        }
        if !matches!(options.work, Work::Produce | Work::E2e) {
            return refuse("a sweep publishes at rates: its work is produce or e2e");
        }
        if !(self.min_per_s >= 1.0 && self.min_per_s <= self.max_per_s && self.max_per_s <= 1e9) {
            return refuse("--from must be at least 1, at most --to, and that at most 1000000000");
        }
        if !(0.001..=1.0).contains(&self.tolerance) {
            return refuse("--tolerance must be between 0.1 and 100 percent");
        }
        if self.probe.is_zero() || self.probe > crate::options::DURATION_MAX {
            return refuse("--probe must be above 0 and under 24 h");
        }
        Ok(())
    }
}

/// Makes the sweep; the report is of the run at the best rate, with all probes in it.
pub fn sweep(
    options: &Options,
    wanted: &SweepOptions,
    stop: &Arc<AtomicBool>,
) -> Result<Report, BenchError> {
    let mut session = Session::open(options, stop)?;
    let mut sweeper = Sweeper { options, wanted, stop, probes: Vec::new() };
    let report = sweeper.run(&mut session)?;
    session.close()?;
    Ok(report)
}

struct Sweeper<'a> {
    options: &'a Options,
    wanted: &'a SweepOptions,
    stop: &'a Arc<AtomicBool>,
    probes: Vec<Probe>,
}

impl Sweeper<'_> {
    fn run(&mut self, session: &mut Session) -> Result<Report, BenchError> {
        let SweepOptions { min_per_s, max_per_s, tolerance, probe, .. } = *self.wanted;
        let mut search = Search::new(min_per_s, max_per_s, tolerance);
        let mut last = None;
        while let Some(rate) = search.next() {
            let (report, kept) = self.probe(session, rate, probe, PROBE_READ_BACK_BYTES)?;
            search.learn(rate, kept);
            let ended = report.partial;
            last = Some(report);
            if ended {
                return Ok(self.finish(last, None, true));
            }
        }
        let Some(mut rate) = search.best() else { return Ok(self.finish(last, None, false)) };
        for _ in 0..=STEPS_BACK {
            let duration = self.options.duration;
            let (report, kept) = self.probe(session, rate, duration, super::READ_BACK_BYTES)?;
            let ended = report.partial;
            last = Some(report);
            if kept || ended {
                return Ok(self.finish(last, kept.then_some(rate), ended));
            }
            rate /= 1.0 + tolerance;
        }
        Ok(self.finish(last, None, false))
    }

    fn probe(
        &mut self,
        session: &mut Session,
        rate: f64,
        duration: Duration,
        read_back_bytes: u64,
    ) -> Result<(Report, bool), BenchError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(BenchError::Interrupted);
        }
        let arrivals = match self.options.pace {
            Pace::Open { arrivals, .. } => arrivals,
            Pace::Closed => crate::schedule::Arrivals::Constant,
        };
        let pace = Pace::Open { rates: Rates::Constant(rate), arrivals };
        let options = Options { pace, duration, ..self.options.clone() };
        let report = session.measure(&options, read_back_bytes, self.stop)?;
        let because = self.failure(&report);
        let kept = because.is_none();
        if !options.quiet {
            let verdict = because.as_deref().unwrap_or("kept");
            eprintln!("{rate:>12.0} msg/s: {verdict}");
        }
        self.probes.push(Probe {
            rate,
            messages_per_s: report.figures.messages_per_s,
            latency_us: report.figures.latency_us,
            kept,
            because: because.unwrap_or_default(),
        });
        Ok((report, kept))
    }

    /// Why a run does not count as kept.
    fn failure(&self, report: &Report) -> Option<String> {
        let figures = &report.figures;
        if !figures.verdict.is_clean() {
            return Some("messages were lost, repeated, out of order or altered".to_owned());
        }
        let missed = self.wanted.objectives.iter().find_map(|o| o.missed(&figures.latency_us));
        let slow = (figures.rate_kept == Some(false))
            .then(|| format!("{:.0} messages/s reached", figures.messages_per_s));
        // A generator that is late makes latencies worse: it is named before them.
        report.invalid_because.first().cloned().or(slow).or(missed)
    }

    fn finish(&mut self, last: Option<Report>, best: Option<f64>, ended: bool) -> Report {
        let objectives: Vec<_> = self.wanted.objectives.iter().map(ToString::to_string).collect();
        let next = (self.probes.iter())
            .filter(|probe| !probe.kept && best.is_none_or(|best| probe.rate > best))
            .min_by(|a, b| a.rate.total_cmp(&b.rate));
        let limited_by = match next {
            _ if ended => "The sweep was ended early by a signal.".to_owned(),
            Some(probe) => format!("At {:.0}/s: {}.", probe.rate, probe.because),
            None => "No higher rate was to be tried; raise --to.".to_owned(),
        };
        let mut report = last.unwrap_or_else(|| unreachable!("a search tries one rate at least"));
        report.partial |= ended;
        report.work = format!("{} sweep", report.work);
        report.sweep = Some(Sweep {
            objective: objectives.join(" and "),
            best_per_s: best,
            limited_by,
            probes: std::mem::take(&mut self.probes),
        });
        report
    }
}
