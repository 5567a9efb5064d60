//! Parts that some reports have: where the time went in the broker, what was expected of the
//! machine, the probes of a sweep.

use serde::{Deserialize, Serialize};

use crate::record::LatencyUs;

/// A stage of a request's way through the broker, as the broker itself measured it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    /// How often it was measured in the run.
    pub count: u64,
    pub mean_us: f64,
    pub latency_us: LatencyUs,
}

/// What the machine was predicted to give at most, beside what was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    pub name: String,
    pub predicted: f64,
    pub measured: f64,
    /// Of both numbers.
    pub unit: String,
}

/// Resident memory of the server's process around a load, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMemory {
    /// Before the load's connections were made.
    pub before_bytes: u64,
    /// With all of them made, and nothing sent.
    pub connected_bytes: u64,
    /// At the end of the load, with all of them still there.
    pub loaded_bytes: u64,
}

/// The search for the highest rate that keeps an objective.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Such as `p99 of 1 ms`.
    pub objective: String,
    /// The highest rate that kept it, messages per second; `None` when none did.
    pub best_per_s: Option<f64>,
    /// What the next higher rate failed by, or why there was none.
    pub limited_by: String,
    /// In the order they were made.
    pub probes: Vec<Probe>,
}

/// One rate that was tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Messages per second asked for, and reached.
    pub rate: f64,
    pub messages_per_s: f64,
    pub latency_us: LatencyUs,
    pub kept: bool,
    /// Why it was not kept; empty when it was.
    pub because: String,
}
