//! What a window of measuring found, and whether that is good enough.

use std::fmt;

use hdrhistogram::Histogram;
use model::{CoreStages, Stage};

use super::watch::Peak;

const MIB: u64 = 1024 * 1024;
/// Below this a p99 is good whatever it was alone, microseconds: the difference is the scheduler's.
const P99_US_NOTICEABLE: u64 = 2_000;

/// One window.
#[derive(Clone, Debug, Default)]
pub struct Window {
    pub latency: Option<Histogram<u64>>,
    pub peak: Peak,
    /// Once the attackers are gone.
    pub after: Peak,
    /// The broker's own times of the window.
    pub stages: CoreStages,
}

impl Window {
    /// Microseconds at a percentile.
    pub fn us(&self, percentile: f64) -> u64 {
        self.latency.as_ref().map_or(0, |latency| latency.value_at_percentile(percentile))
    }

    /// What 99% of the publishes took in the broker at most, microseconds: until they were appended,
    /// then durable, then acknowledged.
    fn broker_us(&self) -> [u64; 3] {
        [Stage::ReceiveToAppend, Stage::AppendToDurable, Stage::DurableToReply]
            .map(|stage| self.stages.stages[stage as usize].quantile_ns(0.99) / 1_000)
    }

    /// The better of the windows before and after an attack: what lingers of one is no excuse for
    /// the next.
    pub fn better(before: &Self, after: &Self) -> Self {
        let best = if after.us(99.0) < before.us(99.0) { after } else { before };
        let stages = best.stages.clone();
        Self { latency: best.latency.clone(), peak: before.peak, after: after.after, stages }
    }
}

/// One attack.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub about: String,
    pub alone: Window,
    pub beside: Window,
    pub resident_bytes_max: u64,
    pub ratio_max: f64,
    pub connections: u64,
    pub connections_refused: u64,
    pub frames: u64,
    pub replies: u64,
    pub errors: Vec<(&'static str, u64)>,
}

impl Line {
    pub fn ratio(&self) -> f64 {
        self.beside.us(99.0) as f64 / self.alone.us(99.0).max(1) as f64
    }

    /// What is not good enough.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let beside = self.beside.us(99.0);
        if self.ratio() > self.ratio_max && beside > P99_US_NOTICEABLE {
            failures.push(format!(
                "{}: the normal clients' p99 went from {} to {beside} us",
                self.name,
                self.alone.us(99.0)
            ));
        }
        let resident = self.beside.peak.resident_bytes;
        if resident > self.resident_bytes_max {
            failures.push(format!(
                "{}: {} MiB resident, and {} MiB is the ceiling",
                self.name,
                resident / MIB,
                self.resident_bytes_max / MIB
            ));
        }
        failures
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (alone, beside) = (&self.alone, &self.beside);
        let count = beside.latency.as_ref().map_or(0, |latency| latency.len());
        write!(
            f,
            "{:13} p50 {} -> {} us, p99 {} -> {} us ({:.2}x), max {} us, {count} messages; resident \
             {} MiB of {} MiB, after {} MiB; descriptors {} -> {}; hostile: {} frames, {} replies, \
             {} connections ({} refused)",
            self.name,
            alone.us(50.0),
            beside.us(50.0),
            alone.us(99.0),
            beside.us(99.0),
            self.ratio(),
            beside.us(100.0),
            beside.peak.resident_bytes / MIB,
            self.resident_bytes_max / MIB,
            alone.after.resident_bytes / MIB,
            beside.peak.descriptors,
            alone.after.descriptors,
            self.frames,
            self.replies,
            self.connections,
            self.connections_refused,
        )?;
        let (alone, beside) = (alone.broker_us(), beside.broker_us());
        write!(
            f,
            "; in the broker p99 to append {} -> {}, to durable {} -> {}, to reply {} -> {} us",
            alone[0], beside[0], alone[1], beside[1], alone[2], beside[2]
        )?;
        if !self.errors.is_empty() {
            write!(f, "; errors")?;
            for (code, count) in &self.errors {
                write!(f, " {code} {count}")?;
            }
        }
        for failure in self.failures() {
            write!(f, "\n    NOT GOOD: {failure}")?;
        }
        Ok(())
    }
}
