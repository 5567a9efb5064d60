//! What the disk under a folder can do, with plain system calls: the ceilings that the log's
//! figures are held against.
//!
//! The file is written once before anything is measured, because a durable write to written space
//! is much cheaper than one that also has to record where its space is. It has no name while it
//! is used, so nothing is left behind.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::aligned::AlignedBuffer;
use crate::samples::{Percentiles, Samples, sample_ns};
use crate::scratch_file::{ScratchError, ScratchFile};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SMALL_WRITE: u64 = 4 * KIB;
const LARGE_WRITE: u64 = 256 * KIB;
const READ: u64 = MIB;
/// System calls in flight in the throughput tests, one thread each.
const DEPTH: u64 = 4;
/// The measured file is at least this large, whatever the bounds say.
const FILE_BYTES_MIN: u64 = 4 * MIB;

/// How much the test may take. Each of its four phases (prepare, small writes, large writes,
/// reads) ends at the time or the bytes, whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskBounds {
    /// Size of the file; less if preparing it takes longer than a phase may.
    pub file_bytes: u64,
    /// Bytes that each measured phase moves at most.
    pub phase_bytes: u64,
    pub phase_time: Duration,
}

impl Default for DiskBounds {
    /// About 10 s and 1 GiB of disk at most.
    fn default() -> Self {
        Self {
            file_bytes: 1024 * MIB,
            phase_bytes: 8192 * MIB,
            phase_time: Duration::from_millis(2500),
        }
    }
}

/// The disk's figures. A latency is of one system call, from before it to its return.
#[derive(Clone, Debug, Serialize)]
pub struct DiskFigures {
    /// One 4 KiB write at a time, each on disk when it returns.
    pub write_durable_4k_us: Percentiles,
    /// 256 KiB writes, 4 at a time, each on disk when it returns.
    pub write_durable_256k_depth4_bytes_per_s: f64,
    /// 1 MiB reads, 4 at a time, in order of place.
    pub read_sequential_bytes_per_s: f64,
    /// Size of the file that was measured.
    pub file_bytes: u64,
    /// False where the filesystem refuses O_DIRECT: the reads may then have come from memory.
    pub direct: bool,
    /// The latencies behind `write_durable_4k_us`.
    #[serde(skip)]
    pub write_durable_4k: Samples,
}

/// Why the disk was not measured.
#[derive(Debug, thiserror::Error)]
pub enum DiskTestError {
    #[error(transparent)]
    Create(#[from] ScratchError),
    #[error("the disk test in {} failed to {action}: {source}", dir.display())]
    Io { dir: PathBuf, action: &'static str, source: io::Error },
}

/// Measures the disk under `dir`, which must exist. Blocks the calling thread for up to four
/// times `bounds.phase_time`.
pub fn disk_self_test(dir: &Path, bounds: &DiskBounds) -> Result<DiskFigures, DiskTestError> {
    let failed = |action| move |source| DiskTestError::Io { dir: dir.to_owned(), action, source };
    let mut file = TestFile::create(dir)?;
    file.prepare(bounds).map_err(failed("prepare its file"))?;
    let small = file.time_small_writes(bounds).map_err(failed("write 4 KiB"))?;
    let write = file.move_pieces(bounds, LARGE_WRITE, write_at).map_err(failed("write 256 KiB"))?;
    let read = file.move_pieces(bounds, READ, read_at).map_err(failed("read"))?;
    Ok(DiskFigures {
        write_durable_4k_us: small.percentiles(),
        write_durable_256k_depth4_bytes_per_s: write.per_s(),
        read_sequential_bytes_per_s: read.per_s(),
        file_bytes: file.bytes,
        direct: file.file.direct,
        write_durable_4k: small,
    })
}

struct TestFile {
    file: ScratchFile,
    /// Bytes that have been written once and synced.
    bytes: u64,
}

impl TestFile {
    fn create(dir: &Path) -> Result<Self, DiskTestError> {
        Ok(Self { file: ScratchFile::create(dir)?, bytes: 0 })
    }

    /// Writes the file once, as much as time allows, and syncs it.
    fn prepare(&mut self, bounds: &DiskBounds) -> io::Result<()> {
        let most = bounds.file_bytes.max(FILE_BYTES_MIN) / MIB * MIB;
        let noise = AlignedBuffer::with_noise(MIB as usize, most)?;
        let started = Instant::now();
        while self.bytes < most {
            if self.bytes >= FILE_BYTES_MIN && started.elapsed() >= bounds.phase_time {
                break;
            }
            self.file.plain.write_all_at(noise.as_ref(), self.bytes)?;
            self.bytes += MIB;
        }
        self.file.plain.sync_all()
    }

    fn time_small_writes(&self, bounds: &DiskBounds) -> io::Result<Samples> {
        let noise = AlignedBuffer::with_noise(SMALL_WRITE as usize, 1)?;
        let mut latencies_ns = Vec::new();
        let started = Instant::now();
        let mut written = 0;
        while written == 0
            || (written < bounds.phase_bytes && started.elapsed() < bounds.phase_time)
        {
            let before = Instant::now();
            self.file.durable.write_all_at(noise.as_ref(), written % self.bytes)?;
            latencies_ns.push(sample_ns(before.elapsed()));
            written += SMALL_WRITE;
        }
        Ok(Samples::new(latencies_ns))
    }

    /// Makes `call` on pieces of `piece` bytes in order of place, round the file, `DEPTH` at once.
    fn move_pieces(&self, bounds: &DiskBounds, piece: u64, call: Call) -> io::Result<Moved> {
        let next = AtomicU64::new(0);
        let started = Instant::now();
        let work = |seed: u64| -> io::Result<u64> {
            let mut buffer = AlignedBuffer::with_noise(piece as usize, seed)?;
            let mut moved = 0;
            loop {
                let at = next.fetch_add(piece, Ordering::Relaxed);
                let over = at >= bounds.phase_bytes || started.elapsed() >= bounds.phase_time;
                // At least one piece, so that there is a figure.
                if at >= piece && over {
                    return Ok(moved);
                }
                call(&self.file.durable, &mut buffer, at % self.bytes)?;
                moved += piece;
            }
        };
        let moved: io::Result<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=DEPTH).map(|seed| scope.spawn(move || work(seed))).collect();
            let stopped = |_| Err(io::Error::other("a thread of the disk test panicked"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(stopped)).sum()
        });
        Ok(Moved { bytes: moved?, time: started.elapsed() })
    }
}

/// Bytes moved, and the time until the last of them was.
struct Moved {
    bytes: u64,
    time: Duration,
}

impl Moved {
    fn per_s(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64()
    }
}

type Call = fn(&File, &mut AlignedBuffer, u64) -> io::Result<()>;

fn write_at(file: &File, buffer: &mut AlignedBuffer, at: u64) -> io::Result<()> {
    file.write_all_at(buffer.as_ref(), at)
}

fn read_at(file: &File, buffer: &mut AlignedBuffer, at: u64) -> io::Result<()> {
    file.read_exact_at(buffer.as_mut(), at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: DiskBounds = DiskBounds {
        file_bytes: 4 * MIB,
        phase_bytes: 8 * MIB,
        phase_time: Duration::from_secs(60),
    };

    #[test]
    fn figures_come_out_and_nothing_stays() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let bounds = DiskBounds { phase_bytes: 64 * KIB, ..SMALL };
        let figures = disk_self_test(dir.path(), &bounds).unwrap();
        assert_eq!(figures.write_durable_4k.as_ns().len(), 16);
        assert!(figures.write_durable_4k_us.p50 > 0.0);
        assert!(figures.write_durable_256k_depth4_bytes_per_s > 0.0);
        assert!(figures.read_sequential_bytes_per_s > 0.0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_expired_bound_still_gives_one_sample_of_each() {
        let dir = tempfile::tempdir().unwrap();
        let bounds =
            DiskBounds { file_bytes: u64::MAX, phase_bytes: 0, phase_time: Duration::ZERO };
        let figures = disk_self_test(dir.path(), &bounds).unwrap();
        assert_eq!(figures.file_bytes, FILE_BYTES_MIN);
        assert_eq!(figures.write_durable_4k.as_ns().len(), 1);
        assert!(figures.read_sequential_bytes_per_s > 0.0);
    }

    #[test]
    fn the_threads_together_move_what_the_bounds_say() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = TestFile::create(dir.path()).unwrap();
        file.prepare(&SMALL).unwrap();
        let written = file.move_pieces(&SMALL, LARGE_WRITE, write_at).unwrap();
        let read = file.move_pieces(&SMALL, READ, read_at).unwrap();
        assert_eq!((written.bytes, read.bytes), (SMALL.phase_bytes, SMALL.phase_bytes));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = disk_self_test(Path::new("/no/such/folder"), &SMALL).unwrap_err().to_string();
        assert!(error.contains("/no/such/folder"), "{error}");
    }
}
