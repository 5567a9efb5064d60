//! Sequential direct reads at their best: large, several under way, into memory on huge pages.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use ring::{AlignedBuffer, Completion, Ring, RingConfig};
use rustix::fs::OFlags;

use crate::error::BenchError;

const FILE_BYTES: u64 = 1024 * 1024 * 1024;
/// A huge page: direct reads into smaller ones are split into many segments, at half the rate.
const READ_BYTES: usize = 2 * 1024 * 1024;
const DEPTH: u64 = 2;
/// The best of so many passes is the ceiling.
const PASSES: usize = 3;

/// Bytes per second of one file read from front to back.
pub fn sequential_bytes_per_s(dir: &Path) -> Result<f64, BenchError> {
    let path = dir.join("read-test");
    let measured = prepare(&path).and_then(|file| {
        let passes: Result<Vec<f64>, _> = (0..PASSES).map(|_| pass(&file)).collect();
        passes.map(|rates| rates.into_iter().fold(0.0, f64::max))
    });
    let _ = std::fs::remove_file(&path);
    measured
}

fn prepare(path: &Path) -> Result<File, BenchError> {
    let failed = BenchError::io("writing the file for the read test");
    let write = || {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(OFlags::DIRECT.bits() as i32)
            .open(path)?;
        let mut noise = AlignedBuffer::new(READ_BYTES);
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for word in noise.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.copy_from_slice(&(state ^ state >> 33).to_le_bytes());
        }
        for at in (0..FILE_BYTES).step_by(READ_BYTES) {
            file.write_all_at(&noise, at)?;
        }
        file.sync_all()?;
        Ok(file)
    };
    write().map_err(failed)
}

fn pass(file: &File) -> Result<f64, BenchError> {
    let mut ring =
        Ring::new(&RingConfig::default()).map_err(|e| BenchError::SelfTest(e.to_string()))?;
    let mut buffers: Vec<_> = (0..DEPTH).map(|_| AlignedBuffer::new(READ_BYTES)).collect();
    let (mut next, mut done) = (0, 0);
    let began = Instant::now();
    while done < FILE_BYTES {
        while next < FILE_BYTES
            && let Some(buffer) = buffers.pop()
        {
            ring.read_at(next, file.as_raw_fd(), next, buffer);
            next += READ_BYTES as u64;
        }
        ring.wait(None).map_err(BenchError::io("waiting for a read"))?;
        while let Some(completion) = ring.next() {
            if let Completion::Read { buffer, result, .. } = completion {
                done += u64::from(result.map_err(BenchError::io("reading"))?);
                buffers.extend(buffer.into_any().downcast::<AlignedBuffer>().map(|b| *b));
            }
        }
    }
    Ok(FILE_BYTES as f64 / began.elapsed().as_secs_f64())
}
