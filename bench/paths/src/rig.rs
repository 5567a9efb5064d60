//! What a core does between receiving and sending, put together from the crates that do it: frames
//! decoded where they lie, batches checked, the engine's step, the log's append and block, the
//! disk's end, acknowledgements in runs, reads of the log's cache.

use bytes::Bytes;
use corelane_wal::{Wal, WalConfig};
use model::{
    AckLevel, EntryHead, Lsn, Offset, PartitionHandle, PartitionIndex, ShardId, SpaceUse,
    StartPosition, StreamId, TopicConfig, TopicId, TopicName,
};
use protocol::{
    BATCHES_AT, BatchBuilder, DeliverHead, FRAME_HEADER_BYTES, FetchHead, ProduceAck, ProduceHead,
    check_batch, check_whole_batch, kind, whole_publish,
};
use shards::{
    Appended, Effect, Engine, EngineConfig, Journal, PlainBatch, ReadVerdict, ReaderId, Room,
    TopicSpec, UNCOVERED_BYTES,
};
use smallvec::SmallVec;

use crate::memory::{MemoryDisk, Nothing};

const NOW_MS: i64 = 1_700_000_000_000;
const READER: ReaderId = ReaderId(1);
const FETCHER: ReaderId = ReaderId(2);
/// As the server takes them together.
const RUN_PUBLISHES_MAX: usize = 64;
const RUN_FRAME_BYTES_MAX: usize = 16 * 1024;
/// Where a frame's correlation lies.
const CORRELATION: std::ops::Range<usize> = 8..16;

pub struct Rig {
    engine: Engine,
    wal: Wal,
    disk: MemoryDisk,
    /// As it would lie in a receive buffer.
    received: Vec<u8>,
    frame_bytes: usize,
    /// What would be sent.
    sent: Vec<u8>,
    payload: Vec<Bytes>,
    offsets: Vec<Offset>,
    cursor: Option<corelane_wal::Cursor>,
    partition: PartitionHandle,
    correlation: u64,
    pub acknowledged: u64,
    pub read: u64,
}

/// The engine's journal: the log's open group.
struct OpenGroup<'a>(&'a mut Wal);

impl Journal for OpenGroup<'_> {
    fn append(&mut self, head: &EntryHead, payload: &[&[u8]]) -> Lsn {
        self.0.append(head, payload)
    }

    fn append_covered(
        &mut self,
        head: &EntryHead,
        payload: &[&[u8]],
        covered_bytes: usize,
        crc: u32,
    ) -> Lsn {
        self.0.append_covered(head, payload, covered_bytes, crc)
    }

    fn append_whole_batch(&mut self, head: &EntryHead, start: u128, rest: &[u8], crc: u32) -> Lsn {
        self.0.append_joined::<UNCOVERED_BYTES>(head, start, rest, crc)
    }

    fn room(&self, payload_bytes: usize, space_use: SpaceUse) -> Room {
        engines_room(self.0.room(payload_bytes, space_use))
    }

    fn room_for_run(&self) -> Room {
        engines_room(self.0.room_for_run())
    }
}

fn engines_room(room: corelane_wal::Room) -> Room {
    match room {
        corelane_wal::Room::Yes => Room::Yes,
        corelane_wal::Room::Backlog => Room::Backlog,
        corelane_wal::Room::DiskFull => Room::DiskFull,
        corelane_wal::Room::Failed => Room::ReadOnly,
    }
}

impl Rig {
    /// Turns of `frames` publishes with `batch` messages each.
    pub fn new(frames: u32, batch: u32, payload_bytes: usize) -> Self {
        let mut disk = MemoryDisk::default();
        let config = WalConfig { prepare_bytes: 0, ..WalConfig::default() };
        Wal::create(&mut disk, &config).expect("a new log");
        let (wal, _) = Wal::open(&mut disk, config, &mut Nothing).expect("a good log");
        disk.forgets = true;
        let engine = Engine::new(ShardId(0), EngineConfig::default());
        let handle = PartitionHandle { topic: TopicId(1), stream: StreamId(0), shard: ShardId(0) };
        let mut rig = Self {
            engine,
            wal,
            disk,
            received: Vec::new(),
            frame_bytes: 0,
            sent: Vec::with_capacity(1 << 20),
            payload: Vec::with_capacity(1 << 10),
            offsets: Vec::new(),
            cursor: None,
            partition: handle,
            correlation: 0,
            acknowledged: 0,
            read: 0,
        };
        rig.create_partition();
        let frame = publish(rig.partition, batch, payload_bytes);
        rig.frame_bytes = frame.len();
        rig.received = frame.repeat(frames as usize);
        rig
    }

    fn create_partition(&mut self) {
        let topic = TopicSpec {
            id: TopicId(1),
            name: TopicName::parse("t").expect("a name"),
            config: TopicConfig::default(),
            config_version: 1,
        };
        let mut journal = OpenGroup(&mut self.wal);
        let created = self.engine.create_partition(NOW_MS, &topic, PartitionIndex(0), &mut journal);
        self.partition.stream = created.expect("a partition").0;
        self.write();
    }

    /// One turn: all frames received at once, written as one block, acknowledged in one run.
    pub fn receive(&mut self) {
        let mut received = std::mem::take(&mut self.received);
        for frame in received.chunks_mut(self.frame_bytes) {
            self.correlation += 1;
            frame[CORRELATION].copy_from_slice(&self.correlation.to_le_bytes());
        }
        let mut run: Option<(u64, ProduceAck)> = None;
        let mut acknowledge = |correlation: u64, base_offset, offset_step, append_time_ms| {
            let first = ProduceAck {
                count: 0,
                level: AckLevel::Durable,
                base_offset,
                offset_step,
                shard: ShardId(0),
                append_time_ms,
            };
            run.get_or_insert((correlation, first)).1.count += 1;
        };
        let mut rest = &received[..];
        while !rest.is_empty() {
            let mut publishes = SmallVec::<[_; RUN_PUBLISHES_MAX]>::new();
            let mut length = 0;
            let mut last = None;
            let several = rest.len() > self.frame_bytes && self.frame_bytes <= RUN_FRAME_BYTES_MAX;
            while several
                && publishes.len() < RUN_PUBLISHES_MAX
                && let Some(publish) = whole_publish(&rest[length..])
            {
                let partition = match last {
                    Some((bytes, partition)) if bytes == publish.head => partition,
                    _ => publish.read_head().expect("a head").handle,
                };
                last = Some((publish.head, partition));
                let header = check_whole_batch(publish.batch).expect("a good batch");
                let batch = PlainBatch::new(partition, &header, publish.batch);
                publishes.push((publish.correlation, batch.expect("no producer numbers it")));
                length += publish.length as usize;
            }
            let mut journal = OpenGroup(&mut self.wal);
            if publishes.len() > 1 {
                let batches = publishes.iter().map(|(_, batch)| batch);
                let appended = self
                    .engine
                    .produce_run(NOW_MS, batches, &mut self.offsets, &mut journal)
                    .expect("taken");
                for ((correlation, batch), offset) in publishes.iter().zip(&self.offsets) {
                    acknowledge(*correlation, *offset, batch.records(), appended.time_ms);
                }
                rest = &rest[length..];
                continue;
            }
            let next = protocol::next_frame(rest).expect("a good frame");
            let (header, length) = next.expect("a whole frame");
            assert_eq!(header.kind, kind::PRODUCE);
            let head = ProduceHead::parse(&rest[FRAME_HEADER_BYTES..length]).expect("a head");
            let batch = &rest[BATCHES_AT..length];
            let batch_header = check_batch(&[batch]).expect("a good batch");
            let appended = self
                .engine
                .produce(NOW_MS, head.handle, &batch_header, &[batch], &mut journal)
                .expect("taken");
            let Appended { base_offset, records, time_ms, .. } = appended;
            acknowledge(header.correlation, base_offset, records, time_ms);
            rest = &rest[length..];
        }
        self.received = received;
        self.write();
        self.sent.clear();
        if let Some((first, ack)) = run {
            protocol::put_produce_ack(&mut self.sent, &ack, first);
            self.acknowledged += u64::from(ack.count) * u64::from(ack.offset_step);
        }
    }

    /// The open group becomes a block, the disk takes it, what it holds is committed.
    fn write(&mut self) {
        self.wal.commit(&mut self.disk);
        while let Some(ended) = self.disk.end_one() {
            self.wal.complete(&mut self.disk, ended);
        }
        self.engine.commit(self.wal.durable_lsn());
    }

    pub fn subscribe(&mut self) {
        let from = StartPosition::First;
        self.engine.subscribe(READER, self.partition, &from).expect("subscribed");
        self.engine.add_credit(READER, 1 << 20);
    }

    /// What the subscription may have is put on its way; its client gives the credit back.
    pub fn deliver(&mut self) {
        while let Some(effect) = self.engine.next_effect() {
            let Some(batches) = self.read(&effect) else { continue };
            let head = DeliverHead {
                subscription: 1,
                batch_count: batches.entries,
                first_offset: batches.first_offset,
                next_offset: batches.next_offset,
                high_watermark: batches.next_offset,
            };
            protocol::put_deliver_head(&mut self.sent, &head, batches.bytes);
            self.engine.add_credit(READER, batches.bytes as u64);
        }
    }

    /// One request for a turn's publishes, and its answer.
    pub fn fetch(&mut self) {
        let bytes = self.received.len() as u32;
        let asked = self.read;
        self.engine.fetch(FETCHER, self.partition, asked, 1, bytes, i64::MAX).expect("a place");
        while let Some(effect) = self.engine.next_effect() {
            let Some(batches) = self.read(&effect) else { continue };
            let head = FetchHead {
                batch_count: batches.entries,
                first_offset: batches.first_offset,
                next_offset: batches.next_offset,
                high_watermark: batches.next_offset,
                log_start: 0,
            };
            protocol::put_fetch_head(&mut self.sent, self.correlation, &head, batches.bytes);
        }
    }

    fn read(&mut self, effect: &Effect) -> Option<corelane_wal::Batches> {
        let Effect::Read { reader, stream, offset, max_bytes, end_offset, .. } = effect else {
            return None;
        };
        let held = self.cursor.take().filter(|cursor| cursor.offset() == *offset);
        let mut cursor = held.unwrap_or_else(|| self.wal.cursor(*stream, *offset));
        let step = self.wal.read(&mut self.disk, &mut cursor, *max_bytes as usize, *end_offset);
        self.cursor = Some(cursor);
        let corelane_wal::ReadStep::Batches(batches) = step else { panic!("{step:?}") };
        let verdict = self.engine.read_done(*reader, batches.next_offset, batches.bytes as u64);
        assert_ne!(verdict, ReadVerdict::Gone);
        self.payload.clear();
        self.payload.extend(batches.slices.iter().cloned());
        self.read = batches.next_offset;
        Some(batches)
    }
}

/// A publish with ack level `durable`.
fn publish(handle: PartitionHandle, batch: u32, payload_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for _ in 0..batch {
        builder.append(NOW_MS, None, Some(&vec![b'x'; payload_bytes]), []).expect("fits");
    }
    let batch = builder.finish(None);
    let ack = Some(AckLevel::Durable);
    let head = ProduceHead { handle, ack, deadline_ms: 0, batch_count: 1 };
    let mut frame = Vec::new();
    protocol::put_produce_head(&mut frame, 0, &head, batch.len());
    frame.extend(batch);
    frame
}
