//! What every publish costs before the engine sees it: the frame's header, the produce head, and
//! the batch's check, whose checksum goes over all its bytes.

use std::hint::black_box;

use corelane_protocol as protocol;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{AckLevel, PartitionHandle, ShardId, StreamId, TopicId};
use protocol::{BatchBuilder, FRAME_HEADER_BYTES, PRODUCE_HEAD_BYTES, ProduceAck, ProduceHead};

/// Messages in a batch, and bytes of each.
const SIZES: [(usize, usize); 4] = [(1, 100), (1, 1024), (100, 1024), (1_000, 1024)];

fn publish(messages: usize, payload_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for _ in 0..messages {
        builder.append(1_700_000_000_000, None, Some(&vec![b'x'; payload_bytes]), []).unwrap();
    }
    let batch = builder.finish(None);
    let handle = PartitionHandle { topic: TopicId(7), stream: StreamId(3), shard: ShardId(0) };
    let ack = Some(AckLevel::Durable);
    let head = ProduceHead { handle, ack, deadline_ms: 1_000, batch_count: 1 };
    let mut frame = Vec::new();
    protocol::put_produce_head(&mut frame, 1, &head, batch.len());
    frame.extend(batch);
    frame
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let frame = publish(1, 100);
    group.throughput(Throughput::Elements(1));
    group.bench_function("frame and produce head", |b| {
        b.iter(|| {
            let (header, length) = protocol::next_frame(black_box(&frame)).unwrap().unwrap();
            let head = ProduceHead::parse(&frame[FRAME_HEADER_BYTES..length]).unwrap();
            (header, head)
        });
    });
    group.finish();
}

fn check(c: &mut Criterion) {
    let mut group = c.benchmark_group("check a batch");
    for (messages, payload_bytes) in SIZES {
        let frame = publish(messages, payload_bytes);
        let batch = &frame[FRAME_HEADER_BYTES + PRODUCE_HEAD_BYTES..];
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(format!("{messages} x {payload_bytes} B"), |b| {
            b.iter(|| protocol::check_batch(&[black_box(batch)]).unwrap());
        });
    }
    group.finish();
}

fn acknowledge(c: &mut Criterion) {
    let ack = ProduceAck {
        count: 64,
        level: AckLevel::Durable,
        base_offset: 41,
        offset_step: 1,
        shard: ShardId(0),
        append_time_ms: 1_700_000_000_000,
    };
    let mut out = Vec::with_capacity(64);
    c.bench_function("encode an acknowledgement", |b| {
        b.iter(|| {
            out.clear();
            protocol::put_produce_ack(&mut out, black_box(&ack), 7);
            out.len()
        });
    });
}

criterion_group!(benches, decode, check, acknowledge);
criterion_main!(benches);
