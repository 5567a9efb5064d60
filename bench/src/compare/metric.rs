//! What is compared, how far it spreads over repeated runs, and when a change is more than that.

use crate::report::Report;

/// Smaller changes say nothing, whatever the spread, percent.
const PERCENT_MIN: f64 = 1.0;

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// One figure of a report.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub better: Better,
    /// Its value as people read it.
    pub show: fn(f64) -> String,
    value: fn(&Report) -> Option<f64>,
}

/// A figure over the runs of one group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub runs: usize,
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// How a figure has changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// It is the one compared with.
    Base,
    /// One of the two was run once.
    Unknown { percent: f64 },
    /// The runs of the two overlap, or lie closer than 1%.
    Noise { percent: f64 },
    /// No run of one lies among those of the other.
    Beyond { percent: f64, better: bool },
}

impl Metric {
    /// All figures that are compared, the weightiest first.
    pub fn all() -> Vec<Self> {
        let higher = |name, show, value| Self { name, better: Better::Higher, show, value };
        let lower = |name, show, value| Self { name, better: Better::Lower, show, value };
        let us = crate::report::html::axis::latency as fn(f64) -> String;
        vec![
            higher("messages/s", |v| format!("{v:.0}"), |r| Some(r.figures.messages_per_s)),
            higher("MB/s", |v| format!("{:.1}", v / 1e6), |r| Some(r.figures.bytes_per_s)),
            lower("p50", us, |r| latency(r, r.figures.latency_us.p50)),
            lower("p90", us, |r| latency(r, r.figures.latency_us.p90)),
            lower("p99", us, |r| latency(r, r.figures.latency_us.p99)),
            lower("p99.9", us, |r| latency(r, r.figures.latency_us.p99_9)),
            lower("p99.99", us, |r| latency(r, r.figures.latency_us.p99_99)),
            lower("slowest", us, |r| latency(r, r.figures.latency_us.max)),
            lower("broker CPU a message", us, |r| r.figures.server_cpu_us_per_message),
        ]
    }

    /// `None` when a run has no such figure.
    pub fn spread(&self, runs: &[Report]) -> Option<Spread> {
        let mut values: Vec<f64> = runs.iter().map(self.value).collect::<Option<_>>()?;
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Spread { runs: values.len(), median, min, max })
    }

    pub fn change(&self, base: &Spread, now: &Spread) -> Change {
        if base == now {
            return Change::Base;
        }
        let percent = (now.median / base.median.max(f64::MIN_POSITIVE) - 1.0) * 100.0;
        if base.runs < 2 || now.runs < 2 {
            return Change::Unknown { percent };
        }
        let apart = now.min > base.max || now.max < base.min;
        if !apart || percent.abs() < PERCENT_MIN {
            return Change::Noise { percent };
        }
        Change::Beyond { percent, better: (percent > 0.0) == (self.better == Better::Higher) }
    }
}

fn latency(report: &Report, us: f64) -> Option<f64> {
    (report.figures.latency_us.max > 0.0).then_some(us)
}

impl Change {
    /// In few words; empty for what is compared with.
    pub fn words(&self) -> String {
        match self {
            Self::Base => String::new(),
            Self::Unknown { percent } => format!("{percent:+.1}% (noise not known)"),
            Self::Noise { percent } => format!("{percent:+.1}% within noise"),
            Self::Beyond { percent, better: true } => format!("{percent:+.1}% better"),
            Self::Beyond { percent, better: false } => format!("{percent:+.1}% WORSE"),
        }
    }
}
