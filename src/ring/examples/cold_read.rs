//! Sequential direct reads of one file through this ring and through glommio's `DmaFile`, at the
//! same size and depth. `cargo run --release -p corelane-ring --example cold_read -- FILE`; the
//! file should have at least 1 GiB.

use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;
use std::time::Instant;

use corelane_ring::{AlignedBuffer, Completion, Ring, RingConfig};
use glommio::io::DmaFile;
use glommio::{LocalExecutorBuilder, Placement};

const READ_BYTES: usize = 2 << 20;
const DEPTH: usize = 2;
const TOTAL_BYTES: u64 = 1 << 30;

fn main() {
    let path = std::env::args().nth(1).expect("usage: cold_read FILE");
    for _ in 0..3 {
        report("ring", through_ring(&path));
        report("glommio", through_glommio(&path));
    }
}

fn report(name: &str, seconds: f64) {
    println!("{name:8} {:.2} GB/s", TOTAL_BYTES as f64 / seconds / 1e9);
}

fn through_ring(path: &str) -> f64 {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .expect("open the file");
    let mut ring = Ring::new(&RingConfig::default()).expect("a ring");
    let started = Instant::now();
    let mut next = 0;
    for _ in 0..DEPTH {
        ring.read_at(next, file.as_raw_fd(), next, AlignedBuffer::new(READ_BYTES));
        next += READ_BYTES as u64;
    }
    let mut done = 0;
    while done < TOTAL_BYTES {
        ring.wait(None).expect("wait");
        while let Some(Completion::Read { buffer, result, .. }) = ring.next() {
            done += u64::from(result.expect("read"));
            if next < TOTAL_BYTES {
                let buffer = buffer.into_any().downcast::<AlignedBuffer>().expect("ours");
                ring.read_at(next, file.as_raw_fd(), next, *buffer);
                next += READ_BYTES as u64;
            }
        }
    }
    started.elapsed().as_secs_f64()
}

fn through_glommio(path: &str) -> f64 {
    let path = path.to_owned();
    let run = move || async move {
        let file = Rc::new(DmaFile::open(&path).await.expect("open the file"));
        let started = Instant::now();
        let readers: Vec<_> = (0..DEPTH)
            .map(|first| {
                let file = Rc::clone(&file);
                glommio::spawn_local(async move {
                    let from = (first * READ_BYTES) as u64;
                    for offset in (from..TOTAL_BYTES).step_by(READ_BYTES * DEPTH) {
                        file.read_at_aligned(offset, READ_BYTES).await.expect("read");
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.await;
        }
        started.elapsed().as_secs_f64()
    };
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(16 << 20)
        .spawn(run)
        .expect("an executor")
        .join()
        .expect("a result")
}
