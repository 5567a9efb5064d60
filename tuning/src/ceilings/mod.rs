//! What this machine's disk and loopback were measured to do, and what the broker can therefore do
//! at best: written beside a configuration, read by whoever holds a measurement against it.
//!
//! `docs/tuning.md` gives every field and formula.

mod predict;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use predict::{Predicted, predict};

use crate::disk_matrix::{MatrixFigures, Work};
use crate::loopback_test::LoopbackFigures;
use crate::machine::Machine;
use crate::samples::Percentiles;

/// The format of the file; raised when a field changes its meaning or goes away.
pub const FORMAT: u32 = 1;
/// No file of ours is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    pub format: u32,
    /// When it was measured, Unix seconds.
    pub made_unix_s: u64,
    pub machine: Machine,
    /// The folder whose disk was measured.
    pub folder: PathBuf,
    /// What the figures are predicted for.
    pub cores: usize,
    pub writes_in_flight: usize,
    pub group_bytes: u64,
    pub measured: Measured,
    pub predicted: Predicted,
}

/// What was measured without the broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Durable writes over recycled space, and to fresh space.
    pub writes: Vec<WritePoint>,
    pub fresh_writes: Vec<WritePoint>,
    pub read_sequential_bytes_per_s: f64,
    pub read_random_4k_us: Percentiles,
    pub loopback_round_trip_64b_us: Percentiles,
    pub loopback_stream_bytes_per_s: f64,
    pub eventfd_round_trip_us: Percentiles,
}

/// Durable writes of one size at one depth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WritePoint {
    pub size_bytes: u64,
    pub depth: usize,
    pub per_s: f64,
    pub bytes_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Why a file of ceilings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CeilingsError {
    #[error("cannot read {}: {source}; `corelane tune write` makes one", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no file of ceilings ({why}); make one with `corelane tune write`", path.display())]
    Garbled { path: PathBuf, why: String },
    #[error(
        "{} is of format {found}, this version reads {FORMAT}; make a new one with `corelane tune \
         write`",
        path.display()
    )]
    Format { path: PathBuf, found: u64 },
}

impl Ceilings {
    /// Where the ceilings of a configuration file lie: `corelane.toml` has
    /// `corelane.ceilings.json` beside it.
    pub fn path_beside(config: &Path) -> PathBuf {
        config.with_extension("ceilings.json")
    }

    pub fn read(path: &Path) -> Result<Self, CeilingsError> {
        let failed = |source| CeilingsError::Read { path: path.to_owned(), source };
        let size = fs::metadata(path).map_err(failed)?.len();
        if size > FILE_BYTES_MAX {
            let why = format!("it has {size} bytes");
            return Err(CeilingsError::Garbled { path: path.to_owned(), why });
        }
        Self::parse(&fs::read_to_string(path).map_err(failed)?, path)
    }

    /// `path` is for the error's sentence.
    pub fn parse(text: &str, path: &Path) -> Result<Self, CeilingsError> {
        let garbled = |error: serde_json::Error| CeilingsError::Garbled {
            path: path.to_owned(),
            why: error.to_string(),
        };
        // Another format may have other fields, so that its number goes first.
        let whole: serde_json::Value = serde_json::from_str(text).map_err(garbled)?;
        let found = whole.get("format").and_then(serde_json::Value::as_u64);
        match found {
            Some(found) if found != u64::from(FORMAT) => {
                Err(CeilingsError::Format { path: path.to_owned(), found })
            }
            _ => serde_json::from_value(whole).map_err(garbled),
        }
    }

    pub fn to_json(&self) -> String {
        // Only maps with keys that are no text can fail, and there is none.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl Measured {
    pub fn new(disk: &MatrixFigures, loopback: &LoopbackFigures) -> Self {
        let points = |work: Work| {
            let cells = disk.cells.iter().filter(move |cell| cell.work == work);
            cells
                .map(|cell| WritePoint {
                    size_bytes: cell.size_bytes,
                    depth: cell.depth,
                    per_s: cell.per_s,
                    bytes_per_s: cell.bytes_per_s,
                    p50_us: cell.latency_us.p50,
                    p99_us: cell.latency_us.p99,
                })
                .collect()
        };
        let read = disk.best(Work::ReadSequential).map_or(0.0, |cell| cell.bytes_per_s);
        let random = disk.cell(Work::ReadRandom, 4096, 1).map(|cell| cell.latency_us);
        Self {
            writes: points(Work::WriteRecycled),
            fresh_writes: points(Work::WriteFresh),
            read_sequential_bytes_per_s: read,
            read_random_4k_us: random.unwrap_or_default(),
            loopback_round_trip_64b_us: loopback.round_trip_64b_us,
            loopback_stream_bytes_per_s: loopback.stream_64k_bytes_per_s,
            eventfd_round_trip_us: loopback.eventfd_round_trip_us,
        }
    }

    pub fn write(&self, size_bytes: u64, depth: usize) -> Option<&WritePoint> {
        let same = |point: &&WritePoint| (point.size_bytes, point.depth) == (size_bytes, depth);
        self.writes.iter().find(same)
    }

    /// The most bytes a second of durable writes up to a size and depth.
    pub fn write_bytes_per_s(&self, size_bytes_max: u64, depth_max: usize) -> f64 {
        let points = self
            .writes
            .iter()
            .filter(|point| point.size_bytes <= size_bytes_max && point.depth <= depth_max);
        points.map(|point| point.bytes_per_s).fold(0.0, f64::max)
    }
}
