//! The ceilings of the machine, as `bench raw` finds them.

use serde::Serialize;
use tuning::Percentiles;

use super::{Figures, MachineReport, Settings};

#[derive(Clone, Debug, Serialize)]
pub struct RawReport {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// `raw`.
    pub work: &'static str,
    /// Whether the generator kept up with the bare loop.
    pub valid: bool,
    pub invalid_because: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loopback: Option<LoopbackReport>,
    /// The bare append loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<Figures>,
    pub settings: Settings,
    pub machine: MachineReport,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct DiskReport {
    pub write_durable_4k_us: Percentiles,
    pub write_durable_256k_depth4_bytes_per_s: f64,
    pub read_sequential_bytes_per_s: f64,
    /// False where the filesystem refuses O_DIRECT: the reads may then have come from memory.
    pub direct: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct LoopbackReport {
    pub round_trip_64b_us: Percentiles,
    pub stream_64k_bytes_per_s: f64,
    pub eventfd_round_trip_us: Percentiles,
}

impl RawReport {
    /// Whether the generator kept up, and nothing was lost, repeated, out of order or altered.
    pub fn is_good(&self) -> bool {
        self.valid && self.append.as_ref().is_none_or(|append| append.verdict.is_clean())
    }
}
