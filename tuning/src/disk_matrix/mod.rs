//! What the disk under a folder can do, by size and depth: durable writes to recycled and to fresh
//! space, direct reads in order and at random.
//!
//! Blocking system calls, one thread for each write under way; the log itself uses io_uring and
//! has the same number under way from one thread. Nothing is left behind in any outcome: the files
//! have no names.

mod cells;
mod work;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::block_device::BlockDevice;
use crate::filesystem::Filesystem;
use crate::mounts;
use crate::samples::{Percentiles, Samples};
use crate::scratch_file::{ScratchError, ScratchFile};
use work::Area;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The test leaves at least this much of the filesystem free.
pub const FREE_BYTES_LEFT: u64 = GIB;
/// Less than this measures the drive's cache alone.
pub const BYTES_MIN: u64 = 64 * MIB;
/// More takes too long to prepare.
pub const BYTES_MAX: u64 = 256 * GIB;
/// The sizes and depths of durable writes to recycled space.
pub const WRITE_SIZES: [u64; 5] = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB];
pub const WRITE_DEPTHS: [usize; 4] = [1, 2, 4, 8];
/// Preparing the recycled space takes at most this part of the time.
const PREPARE_SHARE: f64 = 0.3;

/// How much the test may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixBounds {
    /// Disk space at most: half for recycled, half for fresh space.
    pub bytes: u64,
    /// All of it together, about.
    pub time: Duration,
}

impl Default for MatrixBounds {
    fn default() -> Self {
        Self { bytes: 2 * GIB, time: Duration::from_secs(25) }
    }
}

/// What is done in one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Durable writes over space that has been written before, in order of place.
    WriteRecycled,
    /// Durable writes to space that is reserved (fallocate) and was never written.
    WriteFresh,
    /// Direct reads in order of place.
    ReadSequential,
    /// Direct reads anywhere.
    ReadRandom,
}

/// One size at one depth.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub work: Work,
    pub size_bytes: u64,
    /// How many are under way at once.
    pub depth: usize,
    /// How many were made.
    pub count: u64,
    pub per_s: f64,
    pub bytes_per_s: f64,
    /// Of one, from before the system call to its return.
    pub latency_us: Percentiles,
    #[serde(skip)]
    pub latency: Samples,
}

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct MatrixFigures {
    pub folder: PathBuf,
    pub filesystem: String,
    /// The disk below, such as `nvme0n1`; empty where it cannot be told.
    pub device: String,
    /// False where the filesystem refuses O_DIRECT: reads may then come from memory.
    pub direct: bool,
    /// Space that was overwritten and read.
    pub recycled_bytes: u64,
    /// Space that was written for the first time.
    pub fresh_bytes: u64,
    pub seconds: f64,
    /// It was asked to end early; what is there is whole.
    pub interrupted: bool,
    pub cells: Vec<Cell>,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Of `total` steps, the ones that are done.
    pub done: usize,
    pub total: usize,
    /// What is done next; empty at the end.
    pub next: String,
}

/// Why the disk was not measured.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    #[error("cannot look at {}: {source}; give an existing folder with --folder", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error(
        "{} has {free_mib} MiB free; the test takes {needed_mib} MiB and leaves 1024 MiB: make \
         room, or give less with --size",
        folder.display()
    )]
    NoSpace { folder: PathBuf, free_mib: u64, needed_mib: u64 },
    #[error("the test takes {} MiB to {} GiB of disk; give such a --size", BYTES_MIN / MIB, BYTES_MAX / GIB)]
    Size,
    #[error(transparent)]
    Create(#[from] ScratchError),
    #[error("the disk test in {} failed to {action}: {source}", folder.display())]
    Io { folder: PathBuf, action: String, source: io::Error },
}

/// Measures the disk under `folder`. Ends early, with what it has, once `stop` is set.
pub fn disk_matrix(
    folder: &Path,
    bounds: &MatrixBounds,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&Progress),
) -> Result<MatrixFigures, MatrixError> {
    let began = Instant::now();
    let filesystem = check_space(folder, bounds)?;
    let recycled = ScratchFile::create(folder)?;
    let fresh = ScratchFile::create(folder)?;
    let plan = cells::plan();
    let total = plan.len() + 1;
    let failed = |action: String| {
        move |source| MatrixError::Io { folder: folder.to_owned(), action, source }
    };

    tell(&Progress { done: 0, total, next: "write the space once".to_owned() });
    let half = bounds.bytes / 2 / MIB * MIB;
    let prepare_end = began + bounds.time.mul_f64(PREPARE_SHARE);
    let recycled_bytes = work::prepare(&recycled, half, prepare_end, stop)
        .map_err(failed("write its file".to_owned()))?;
    let fresh_bytes = reserve(&fresh, half).map_err(failed("reserve space".to_owned()))?;

    let mut measured = Vec::new();
    let mut fresh_from = 0;
    for (at, spec) in plan.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        tell(&Progress { done: at + 1, total, next: spec.to_string() });
        let left = bounds.time.saturating_sub(began.elapsed());
        let time = left / u32::try_from(plan.len() - at).unwrap_or(u32::MAX);
        let area = match spec.work {
            Work::WriteFresh => {
                let share = fresh_bytes / cells::FRESH_CELLS as u64 / MIB * MIB;
                let area = Area { file: &fresh, start: fresh_from, bytes: share, once: true };
                fresh_from += share;
                area
            }
            _ => Area { file: &recycled, start: 0, bytes: recycled_bytes, once: false },
        };
        let cell = work::measure(&area, spec, time, stop).map_err(failed(spec.to_string()))?;
        measured.extend(cell);
    }
    tell(&Progress { done: total, total, next: String::new() });
    Ok(MatrixFigures {
        folder: folder.to_owned(),
        filesystem,
        device: device_name(folder),
        direct: recycled.direct,
        recycled_bytes,
        fresh_bytes: fresh_from,
        seconds: began.elapsed().as_secs_f64(),
        interrupted: stop.load(Ordering::Relaxed),
        cells: measured,
    })
}

/// Gives the filesystem's name.
fn check_space(folder: &Path, bounds: &MatrixBounds) -> Result<String, MatrixError> {
    if !(BYTES_MIN..=BYTES_MAX).contains(&bounds.bytes) {
        return Err(MatrixError::Size);
    }
    let found = Filesystem::of(folder)
        .map_err(|source| MatrixError::Folder { folder: folder.to_owned(), source })?;
    if found.free_bytes < bounds.bytes.saturating_add(FREE_BYTES_LEFT) {
        return Err(MatrixError::NoSpace {
            folder: folder.to_owned(),
            free_mib: found.free_bytes / MIB,
            needed_mib: bounds.bytes / MIB,
        });
    }
    Ok(found.kind)
}

/// Space that is there and was never written. Where the filesystem cannot, the file grows.
fn reserve(file: &ScratchFile, bytes: u64) -> io::Result<u64> {
    match rustix::fs::fallocate(&file.plain, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(bytes),
        Err(errno) => Err(errno.into()),
    }
}

fn device_name(folder: &Path) -> String {
    let device =
        mounts::holding(folder).and_then(|mount| BlockDevice::of_mount(Path::new("/sys"), &mount));
    device.map(|device| device.name).unwrap_or_default()
}

impl MatrixFigures {
    pub fn cell(&self, work: Work, size_bytes: u64, depth: usize) -> Option<&Cell> {
        let same =
            |cell: &&Cell| (cell.work, cell.size_bytes, cell.depth) == (work, size_bytes, depth);
        self.cells.iter().find(same)
    }

    /// The cells of a kind with the most bytes a second.
    pub fn best(&self, work: Work) -> Option<&Cell> {
        let cells = self.cells.iter().filter(|cell| cell.work == work);
        cells.max_by(|a, b| a.bytes_per_s.total_cmp(&b.bytes_per_s))
    }
}
