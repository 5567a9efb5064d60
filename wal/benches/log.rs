//! The log's own work, over a disk that costs nothing: blocks filled and closed, and the place of
//! an offset found again.

mod memory;

use std::hint::black_box;

use corelane_wal::{ReadStep, Wal, WalConfig};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use memory::{MemoryDisk, Nothing};
use model::{EntryHead, StreamId};

/// Entries of a block, and bytes of each.
const BLOCKS: [(usize, usize); 4] = [(1, 1_100), (64, 170), (64, 1_100), (4, 103_000)];
/// Streams and blocks of the log that is read.
const STREAMS: u32 = 64;
const ROUNDS: u64 = 2_000;

struct Log {
    wal: Wal,
    disk: MemoryDisk,
    next_offset: u64,
}

impl Log {
    fn new() -> Self {
        let mut disk = MemoryDisk::default();
        let config = WalConfig { prepare_bytes: 0, ..WalConfig::default() };
        Wal::create(&mut disk, &config).unwrap();
        let (wal, _) = Wal::open(&mut disk, config, &mut Nothing).unwrap();
        disk.forgets = true;
        Self { wal, disk, next_offset: 0 }
    }

    fn append(&mut self, stream: u32, payload: &[u8]) {
        let head = EntryHead {
            kind: 1,
            flags: 0,
            stream: StreamId(stream),
            base_offset: self.next_offset,
            records: 1,
            time_ms: 1_000,
        };
        self.wal.append(&head, &[payload]);
    }

    fn write(&mut self) {
        self.wal.commit(&mut self.disk);
        while let Some(ended) = self.disk.end_one() {
            self.wal.complete(&mut self.disk, ended);
        }
    }
}

fn blocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("append a block");
    for (entries, bytes) in BLOCKS {
        let mut log = Log::new();
        let payload = vec![b'x'; bytes];
        group.throughput(Throughput::Bytes((entries * bytes) as u64));
        group.bench_function(format!("{entries} x {bytes} B"), |b| {
            b.iter(|| {
                for _ in 0..entries {
                    log.append(1, black_box(&payload));
                    log.next_offset += 1;
                }
                log.write();
            });
        });
    }
    group.finish();
}

/// Offsets far apart: each is looked up in the index, then in the blocks behind the place found.
fn look_up(c: &mut Criterion) {
    let mut log = Log::new();
    let payload = [b'x'; 170];
    for _ in 0..ROUNDS {
        for stream in 1..=STREAMS {
            log.append(stream, &payload);
        }
        log.next_offset += 1;
        log.write();
    }
    let mut at = 0u64;
    c.bench_function("find an offset in memory", |b| {
        b.iter_batched(
            || {
                at = (at + 7_919) % ROUNDS;
                (StreamId(at as u32 % STREAMS + 1), at)
            },
            |(stream, offset)| {
                let mut cursor = log.wal.cursor(stream, offset);
                let step = log.wal.read(&mut log.disk, &mut cursor, 1, u64::MAX);
                log.wal.close_cursor(cursor);
                let ReadStep::Batches(batches) = step else { panic!("{step:?}") };
                assert_eq!(batches.first_offset, offset);
                batches
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, blocks, look_up);
criterion_main!(benches);
