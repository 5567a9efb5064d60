//! A step of the engine: a batch decided and applied, committed, and read.

use std::hint::black_box;

use corelane_shards::{Effect, Engine, EngineConfig, Journal, ReaderId, Room, TopicSpec};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{
    EntryHead, Lsn, PartitionHandle, PartitionIndex, ShardId, SpaceUse, StartPosition, TopicConfig,
    TopicId, TopicName,
};
use protocol::batch::BATCH_HEADER_BYTES;
use protocol::{BatchBuilder, BatchHeader, Producer};

const NOW_MS: i64 = 1_700_000_000_000;
/// Batches appended before they are committed together.
const GROUP: u64 = 64;

/// A log that only counts.
#[derive(Default)]
struct Count(u64);

impl Journal for Count {
    fn append(&mut self, _: &EntryHead, payload: &[&[u8]]) -> Lsn {
        black_box(payload);
        self.0 += 1;
        Lsn(self.0)
    }

    fn room(&self, _: usize, _: SpaceUse) -> Room {
        Room::Yes
    }
}

fn engine(journal: &mut Count) -> (Engine, PartitionHandle) {
    let mut engine = Engine::new(ShardId(0), EngineConfig::default());
    let topic = TopicSpec {
        id: TopicId(1),
        name: TopicName::parse("t").unwrap(),
        config: TopicConfig::default(),
        config_version: 1,
    };
    let created = engine.create_partition(NOW_MS, &topic, PartitionIndex(0), journal);
    let (stream, lsn) = created.unwrap();
    engine.commit(lsn);
    (engine, PartitionHandle { topic: TopicId(1), stream, shard: ShardId(0) })
}

fn batch(producer: Option<Producer>) -> (BatchHeader, Vec<u8>) {
    let mut builder = BatchBuilder::new();
    builder.append(NOW_MS, None, Some(&[b'x'; 1024]), []).unwrap();
    let bytes = builder.finish(producer);
    let head: &[u8; BATCH_HEADER_BYTES] = bytes.first_chunk().unwrap();
    (BatchHeader::parse(head).unwrap(), bytes)
}

fn produce(c: &mut Criterion) {
    let mut group = c.benchmark_group("step");
    group.throughput(Throughput::Elements(GROUP));
    let mut journal = Count::default();
    let (mut engine, partition) = engine(&mut journal);
    let (header, bytes) = batch(None);
    group.bench_function("64 publishes and their commit", |b| {
        b.iter(|| {
            for _ in 0..GROUP {
                let batch = black_box(&header);
                engine.produce(NOW_MS, partition, batch, &[&bytes], &mut journal).unwrap();
            }
            engine.commit(Lsn(journal.0));
        });
    });
    let mut sequence = 0u32;
    group.bench_function("the same of an idempotent producer", |b| {
        b.iter(|| {
            for _ in 0..GROUP {
                let header = BatchHeader {
                    producer_id: 1,
                    producer_epoch: 0,
                    base_sequence: sequence as i32,
                    ..header
                };
                sequence = (sequence + 1) & 0x7FFF_FFFF;
                engine.produce(NOW_MS, partition, &header, &[&bytes], &mut journal).unwrap();
            }
            engine.commit(Lsn(journal.0));
        });
    });
    group.finish();
}

fn deliver(c: &mut Criterion) {
    let mut journal = Count::default();
    let (mut engine, partition) = engine(&mut journal);
    let (header, bytes) = batch(None);
    engine.subscribe(ReaderId(1), partition, &StartPosition::First).unwrap();
    engine.add_credit(ReaderId(1), 1 << 20);
    let mut group = c.benchmark_group("step");
    group.throughput(Throughput::Elements(1));
    group.bench_function("a publish, its commit and its delivery", |b| {
        b.iter(|| {
            engine.produce(NOW_MS, partition, &header, &[&bytes], &mut journal).unwrap();
            engine.commit(Lsn(journal.0));
            while let Some(effect) = engine.next_effect() {
                let Effect::Read { reader, end_offset, .. } = effect else { continue };
                engine.read_done(reader, end_offset, bytes.len() as u64);
                engine.add_credit(reader, bytes.len() as u64);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, produce, deliver);
criterion_main!(benches);
