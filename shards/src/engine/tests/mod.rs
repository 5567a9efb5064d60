//! What the simulator does not reach or does not say plainly: limits, refusals, single rules.

mod produce;
mod reading;
mod replay;
mod topics;

use model::{
    EntryHead, Lsn, PartitionHandle, PartitionIndex, ShardId, SpaceUse, StreamId, TopicConfig,
    TopicId, TopicName,
};
use protocol::batch::BatchHeader;

use crate::{Appended, Engine, EngineConfig, Journal, Room, TopicSpec};

/// A log that is a vector.
struct Log {
    entries: Vec<(EntryHead, Vec<u8>)>,
    room: Room,
}

impl Log {
    fn new() -> Self {
        Self { entries: Vec::new(), room: Room::Yes }
    }

    fn kinds(&self) -> Vec<u8> {
        self.entries.iter().map(|(head, _)| head.kind).collect()
    }

    /// An engine that has applied all of it.
    fn replayed(&self) -> Engine {
        let mut engine = engine();
        for (at, (head, payload)) in self.entries.iter().enumerate() {
            engine.apply(Lsn(at as u64 + 1), head, payload).unwrap();
        }
        engine
    }
}

impl Journal for Log {
    fn append(&mut self, head: &EntryHead, payload: &[&[u8]]) -> Lsn {
        self.entries.push((*head, payload.concat()));
        Lsn(self.entries.len() as u64)
    }

    fn room(&self, _payload_bytes: usize, _space_use: SpaceUse) -> Room {
        self.room
    }
}

fn engine() -> Engine {
    Engine::new(ShardId(0), EngineConfig { read_bytes_max: 1_000 })
}

fn name(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

fn spec(id: u64, config: TopicConfig) -> TopicSpec {
    TopicSpec { id: TopicId(id), name: name("orders"), config, config_version: 1 }
}

/// An engine with one committed partition.
fn with_partition(config: TopicConfig) -> (Engine, Log, PartitionHandle) {
    let (mut engine, mut log) = (engine(), Log::new());
    let created = engine.create_partition(1, &spec(7, config), PartitionIndex(0), &mut log);
    let (stream, lsn) = created.unwrap();
    engine.commit(lsn);
    (engine, log, PartitionHandle { topic: TopicId(7), stream, shard: ShardId(0) })
}

/// The header and bytes of a batch of 100 bytes.
fn batch(records: u32, producer: Option<(i64, i16, i32)>) -> (BatchHeader, Vec<u8>) {
    let (producer_id, producer_epoch, base_sequence) = producer.unwrap_or((-1, -1, -1));
    let header = BatchHeader {
        base_offset: 0,
        batch_length: 100,
        leader_epoch: -1,
        crc: 0,
        attributes: 0,
        last_offset_delta: records - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id,
        producer_epoch,
        base_sequence,
        records_count: records,
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.resize(100, 0xAB);
    (header, bytes)
}

/// Appends a batch that must be taken.
fn append(engine: &mut Engine, log: &mut Log, to: PartitionHandle, records: u32) -> Appended {
    let (header, bytes) = batch(records, None);
    engine.produce(2, to, &header, &[&bytes], log).unwrap()
}

fn stream_1() -> StreamId {
    StreamId(1)
}
