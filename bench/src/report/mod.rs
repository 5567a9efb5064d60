//! What a run came to: as text for people, as JSON for everything else, as a page to look at.
//!
//! A report says nothing that only one broker has: a harness that drives another broker fills the
//! same fields. `docs/bench.md` describes the JSON.

pub mod html;
mod json;
mod machine;
mod parts;
mod raw;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ledger::Verdict;
use crate::record::{CurvePoint, LatencyUs, Point, Recorder};
use crate::schedule::Arrivals;

pub use json::{ReportError, SCHEMA};
pub use machine::MachineReport;
pub use parts::{Ceiling, Probe, ServerMemory, Stage, Sweep};
pub use raw::{DiskReport, LoopbackReport, RawReport};

/// A run against a broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`] when it was written.
    pub schema: u32,
    /// `produce`, `consume`, `e2e`, `raw`, or what a harness calls it.
    pub work: String,
    /// What tells the run from others of the same work, for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Whether the figures are of the broker: false when the load generator could not keep up.
    pub valid: bool,
    /// Why they are not; a sentence each.
    #[serde(default)]
    pub invalid_because: Vec<String>,
    /// The run was ended early by a signal; what was measured until then is sound.
    pub partial: bool,
    #[serde(flatten)]
    pub figures: Figures,
    pub broker: Broker,
    pub settings: Settings,
    pub machine: MachineReport,
    /// Where the time went, as the broker says; empty when it does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// Where the server's process can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_memory: Option<ServerMemory>,
    /// What the machine was predicted to give; empty when nothing was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ceilings: Vec<Ceiling>,
    /// The search that this run is the end of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    /// What a reader of the figures has to know besides.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Who was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Broker {
    pub name: String,
    pub version: String,
    /// What an acknowledgement means, in a few words.
    pub durability: String,
    /// Its settings that matter for the figures.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// The figures of a run. Rates count what was acknowledged (produce) or received (consume, e2e)
/// in the measured time; bytes are payload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub messages_per_s: f64,
    pub bytes_per_s: f64,
    pub latency_us: LatencyUs,
    /// What the latency is of.
    pub latency_of: String,
    #[serde(flatten)]
    pub verdict: Verdict,
    pub messages: u64,
    pub seconds: f64,
    /// Open loop: what was asked for on average, messages per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_asked: Option<f64>,
    /// Open loop: whether that was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_kept: Option<bool>,
    /// CPU time of the server's process (raw: of the loop's thread), microseconds per message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_message: Option<f64>,
    /// The same as a share of the measured time; 1.0 is one CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cpu_share: Option<f64>,
    #[serde(default)]
    pub generator: GeneratorFigures,
    /// The whole distribution of the latency.
    #[serde(default)]
    pub curve: Vec<CurvePoint>,
    /// Length of an interval of `series`, seconds.
    #[serde(default)]
    pub interval_s: f64,
    #[serde(default)]
    pub series: Vec<Point>,
}

/// How the load generator fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorFigures {
    /// Share of one CPU that it worked (waiting for the next request to be due is not work).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_share: Option<f64>,
    /// Open loop: how late it sent requests that the broker had room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_us: Option<LatencyUs>,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Payload bytes of a message, on average.
    pub size: f64,
    /// How sizes are spread, when they are not all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<String>,
    /// Messages in one request.
    pub batch: usize,
    /// Publishing connections (consume: reading ones).
    pub connections: usize,
    /// e2e: reading connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<usize>,
    /// Requests under way on one connection at most.
    pub in_flight: usize,
    /// `closed loop`, or how arrivals are spread over time.
    pub pace: String,
    /// Open loop: messages per second on average.
    pub rate: Option<f64>,
    pub duration_s: f64,
    pub warmup_s: f64,
    pub ack: String,
    pub topics: usize,
    /// Of each topic.
    pub partitions: usize,
    /// How keys are spread, where messages have any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// Which client published, where it was not the generator itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// What the log's writes land on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// Which core connections speak to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// `embedded` or the server's address.
    pub server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cores: Option<u16>,
    pub generator_cpu: Option<usize>,
    /// Of everything random in the run.
    pub seed: u64,
}

impl Report {
    /// Whether it can be relied on: the generator kept up, and nothing was lost, repeated, out of
    /// order or altered.
    pub fn is_good(&self) -> bool {
        self.valid && self.figures.verdict.is_clean()
    }
}

impl Figures {
    /// What `recorder` has seen up to `to_ns`, or its own end if that is earlier. Rates are of
    /// the messages counted there; the other fields are the caller's to fill.
    pub fn new(recorder: &Recorder, to_ns: u64, latency_of: &str, verdict: Verdict) -> Self {
        let to_ns = to_ns.min(recorder.to_ns());
        let seconds = to_ns.saturating_sub(recorder.from_ns()) as f64 / 1e9;
        let (interval_s, series) = recorder.series().points(to_ns);
        Self {
            messages_per_s: recorder.messages() as f64 / seconds.max(1e-9),
            bytes_per_s: recorder.bytes() as f64 / seconds.max(1e-9),
            latency_us: recorder.latencies().summary(),
            latency_of: latency_of.to_owned(),
            verdict,
            messages: recorder.messages(),
            seconds,
            curve: recorder.latencies().curve(),
            interval_s,
            series,
            ..Self::default()
        }
    }

    /// Adds the CPU time that the measured side took.
    pub fn set_server_cpu(&mut self, cpu: Option<std::time::Duration>) {
        let us = cpu.map(|cpu| cpu.as_secs_f64() * 1e6);
        self.server_cpu_us_per_message = us.map(|us| us / self.messages.max(1) as f64);
        self.server_cpu_share = us.map(|us| us / 1e6 / self.seconds.max(1e-9));
    }

    /// Adds the open loop's rate, messages per second, and judges whether it was kept: within 1%
    /// (or what chance allows), with no more than 1% of the messages (`overdue`) never sent.
    pub fn set_rate_asked(&mut self, asked: f64, overdue: f64, arrivals: Arrivals) {
        let meant = asked * self.seconds;
        let chance = if arrivals == Arrivals::Poisson { 4.0 * meant.sqrt() } else { 0.0 };
        let all = self.messages as f64 >= meant * 0.99 - chance;
        self.rate_asked = Some(asked);
        self.rate_kept = Some(all && overdue <= meant * 0.01 + chance);
    }
}

#[cfg(test)]
pub(crate) mod tests;
