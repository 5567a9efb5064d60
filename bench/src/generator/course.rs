//! How far a run has come: the marks around its measured part, and its lines of progress.

use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::cpu::Meter;
use crate::generator::Plan;
use crate::generator::tally::{Mark, Measured, Tally};
use crate::progress::{Progress, Second};
use crate::record::Latencies;

const SECOND_NS: u64 = 1_000_000_000;

/// What ends the loop, and when.
pub struct Course {
    pub tally: Tally,
    /// How late requests were sent that there was room for; measured part only.
    pub lag: Latencies,
    pub from: Option<Mark>,
    pub to: Option<Mark>,
    pub overdue: u64,
    pub partial: bool,
    /// Time spent waiting for the next request to be due without sleeping; measured part only.
    pub idle_ns: u64,
    /// When something last came in.
    pub alive_ns: u64,
    pub next_second_ns: u64,
    last_line: Mark,
    meter: Meter,
    own: Meter,
    bell: Option<Sender<()>>,
    progress: Option<Progress>,
}

impl Course {
    pub fn new(plan: &Plan, tally: Tally, now_ns: u64) -> Self {
        let length = plan.duration.map(|duration| plan.warmup + duration);
        Self {
            tally,
            lag: Latencies::new(),
            from: None,
            to: None,
            overdue: 0,
            partial: false,
            idle_ns: 0,
            alive_ns: now_ns,
            next_second_ns: now_ns + SECOND_NS,
            last_line: Mark { at_ns: now_ns, ..Mark::default() },
            meter: plan.meter.clone(),
            own: Meter::this_thread(),
            bell: plan.bell.clone(),
            progress: plan.progress.map(|name| Progress::start(name, now_ns, length)),
        }
    }

    /// The measured part is under way.
    pub fn is_measuring(&self) -> bool {
        self.from.is_some() && self.to.is_none()
    }

    pub fn begin(&mut self, now_ns: u64) {
        self.from = Some(self.tally.mark(now_ns, self.meter.read(), self.own.read()));
        self.ring();
    }

    pub fn end(&mut self, now_ns: u64) {
        self.to = Some(self.tally.mark(now_ns, self.meter.read(), self.own.read()));
        self.tally.recorder.end_at(now_ns);
        self.ring();
    }

    fn ring(&self) {
        // Who listens may have gone: the server did not answer.
        let _ = self.bell.as_ref().map(|bell| bell.send(()));
    }

    /// Shows what the last second was like.
    pub fn second(&mut self, now_ns: u64, payload_bytes: f64) {
        self.next_second_ns = now_ns + SECOND_NS;
        let mark = self.tally.mark(now_ns, None, None);
        let seconds = (now_ns - self.last_line.at_ns) as f64 / 1e9;
        let acknowledged = (mark.acknowledged - self.last_line.acknowledged) as f64 / seconds;
        let received = (mark.received - self.last_line.received) as f64 / seconds;
        let messages_per_s = if received > 0.0 { received } else { acknowledged };
        let (warming_up, slowest_ns) = (self.from.is_none(), self.tally.recent_max_ns);
        if let Some(progress) = &mut self.progress {
            progress.show(&Second {
                now_ns,
                warming_up,
                messages_per_s,
                payload_bytes,
                slowest_ns,
            });
        }
        self.tally.recent_max_ns = 0;
        self.last_line = mark;
    }

    pub fn finish(self, open_loop: bool) -> Measured {
        let (from, to) = (self.from.unwrap_or_default(), self.to.unwrap_or_default());
        let spent = |from: Option<Duration>, to: Option<Duration>| {
            to.zip(from).map(|(to, from)| to.saturating_sub(from))
        };
        let length_ns = to.at_ns.saturating_sub(from.at_ns).max(1) as f64;
        let share = |cpu: Duration| {
            let worked_ns = (cpu.as_nanos() as f64 - self.idle_ns as f64).max(0.0);
            (worked_ns / length_ns).min(1.0)
        };
        Measured {
            to_ns: to.at_ns,
            acknowledged_total: self.tally.acknowledged,
            recorder: self.tally.recorder,
            cpu: spent(from.cpu, to.cpu),
            overdue: self.overdue,
            lag: open_loop.then_some(self.lag),
            generator_cpu_share: spent(from.own_cpu, to.own_cpu).map(share),
            partial: self.partial,
        }
    }
}
