//! One cell: threads that write or read until the time is over.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::cells::Spec;
use super::{Cell, MIB, Work};
use crate::aligned::AlignedBuffer;
use crate::samples::{Samples, sample_ns};
use crate::scratch_file::ScratchFile;

/// The measured file is at least this large, whatever the time allows.
const PREPARED_BYTES_MIN: u64 = 16 * MIB;
/// Latencies kept of one thread and cell; later ones count in the rate alone.
const SAMPLES_MAX: usize = 1 << 20;

/// The part of a file that a cell uses.
pub struct Area<'a> {
    pub file: &'a ScratchFile,
    pub start: u64,
    pub bytes: u64,
    /// No place is used twice: the cell ends with the area.
    pub once: bool,
}

/// Writes the file once, as much as time allows, and syncs it. Gives its size.
pub fn prepare(file: &ScratchFile, most: u64, end: Instant, stop: &AtomicBool) -> io::Result<u64> {
    let noise = AlignedBuffer::with_noise(MIB as usize, most | 1)?;
    let mut bytes = 0;
    while bytes < most {
        let over = Instant::now() >= end || stop.load(Ordering::Relaxed);
        if bytes >= PREPARED_BYTES_MIN && over {
            break;
        }
        file.plain.write_all_at(noise.as_ref(), bytes)?;
        bytes += MIB;
    }
    file.plain.sync_all()?;
    Ok(bytes)
}

/// Measures one cell; `None` when the area is too small for one operation.
pub fn measure(
    area: &Area<'_>,
    spec: &Spec,
    time: Duration,
    stop: &AtomicBool,
) -> io::Result<Option<Cell>> {
    if area.bytes < spec.size_bytes {
        return Ok(None);
    }
    let turn = Turn { next: AtomicU64::new(0), began: Instant::now(), time, stop };
    let results: io::Result<Vec<Share>> = std::thread::scope(|scope| {
        let turn = &turn;
        let threads: Vec<_> = (0..spec.depth)
            .map(|thread| scope.spawn(move || run(area, spec, turn, thread as u64)))
            .collect();
        let stopped = |_| Err(io::Error::other("a thread of the disk test panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(stopped)).collect()
    });
    let seconds = turn.began.elapsed().as_secs_f64();
    let shares = results?;
    let count: u64 = shares.iter().map(|share| share.count).sum();
    let latency = Samples::new(shares.into_iter().flat_map(|share| share.latencies_ns).collect());
    Ok(Some(Cell {
        work: spec.work,
        size_bytes: spec.size_bytes,
        depth: spec.depth,
        count,
        per_s: count as f64 / seconds,
        bytes_per_s: count as f64 * spec.size_bytes as f64 / seconds,
        latency_us: latency.percentiles(),
        latency,
    }))
}

/// What the threads of a cell share.
struct Turn<'a> {
    next: AtomicU64,
    began: Instant,
    time: Duration,
    stop: &'a AtomicBool,
}

/// What one thread did.
#[derive(Default)]
struct Share {
    count: u64,
    latencies_ns: Vec<u32>,
}

fn run(area: &Area<'_>, spec: &Spec, turn: &Turn<'_>, thread: u64) -> io::Result<Share> {
    let mut buffer = AlignedBuffer::with_noise(spec.size_bytes as usize, thread + 1)?;
    let places = area.bytes / spec.size_bytes;
    let mut random = 0x9E37_79B9_7F4A_7C15 ^ (thread + 1);
    let mut share = Share::default();
    loop {
        let number = turn.next.fetch_add(1, Ordering::Relaxed);
        let over = turn.began.elapsed() >= turn.time || turn.stop.load(Ordering::Relaxed);
        // The first one is always made, so that there is a figure.
        if (number > 0 && over) || (area.once && number >= places) {
            return Ok(share);
        }
        let place = match spec.work {
            Work::ReadRandom => next_random(&mut random) % places,
            _ => number % places,
        };
        let at = area.start + place * spec.size_bytes;
        let before = Instant::now();
        match spec.work {
            Work::WriteRecycled | Work::WriteFresh => {
                area.file.durable.write_all_at(buffer.as_ref(), at)?;
            }
            Work::ReadSequential | Work::ReadRandom => {
                area.file.plain.read_exact_at(buffer.as_mut(), at)?;
            }
        }
        let latency = before.elapsed();
        share.count += 1;
        if share.latencies_ns.len() < SAMPLES_MAX {
            share.latencies_ns.push(sample_ns(latency));
        }
    }
}

/// xorshift64
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
