//! Good inputs of each target, made by the code that writes what the target reads.

use model::{
    AckLevel, ConsumerName, EntryHead, Lsn, PartitionHandle, PartitionIndex, PartitionPlace, Reply,
    Request, ShardId, StartPosition, StreamId, TopicChange, TopicConfig, TopicId, TopicInfo,
    TopicName,
};
use protocol::{BatchBuilder, Codec, Producer};
use shards::{Journal, Room, TopicSpec};

use crate::engine;

/// The seeds of a target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "requests" => requests(),
        "replies" => replies(),
        "publish" => publishes(),
        "records" => records(),
        "log_blocks" => log_blocks(),
        "log_files" => log_files(),
        "footer" => footers(),
        "engine" => vec![engine_log()],
        "checkpoint" => vec![checkpoint()],
        "settings" => settings(),
        _ => Vec::new(),
    }
}

fn topic_name() -> TopicName {
    TopicName::parse("orders.eu-1").unwrap()
}

fn consumer() -> ConsumerName {
    ConsumerName::parse("billing").unwrap()
}

fn handle() -> PartitionHandle {
    PartitionHandle { topic: TopicId(7), stream: StreamId(3), shard: ShardId(0) }
}

fn config() -> TopicConfig {
    TopicConfig { retention_ms: Some(1), retention_bytes: None, ack: AckLevel::Memory }
}

fn requests() -> Vec<Vec<u8>> {
    let (name, partition, consumer) = (topic_name(), handle(), consumer());
    let change = TopicChange { retention_ms: Some(None), retention_bytes: None, ack: None };
    let position = StartPosition::Committed(consumer.clone());
    let all = [
        Request::Ping,
        Request::Metadata { topics: vec![name.clone()], after: Some(name.clone()), limit: 5 },
        Request::CreateTopic { name: name.clone(), partitions: 3, config: config() },
        Request::AlterTopic { name: name.clone(), change },
        Request::DeleteTopic { name: name.clone() },
        Request::DescribeTopic { name },
        Request::InitProducer,
        Request::Fetch { partition, offset: 1, min_bytes: 2, max_bytes: 3, max_wait_ms: 4 },
        Request::LookupOffset { partition, position: StartPosition::Time(-5) },
        Request::Subscribe { partition, subscription: 9, position, credit_bytes: 10 },
        Request::Credit { subscription: 9, bytes: 11 },
        Request::Unsubscribe { subscription: 9 },
        Request::CommitOffset {
            partition,
            consumer: consumer.clone(),
            offset: 12,
            ack: AckLevel::Durable,
        },
        Request::CommittedOffset { partition, consumer },
        Request::Status,
        Request::Stages,
        Request::SetLogFilter { filter: "info,server=debug".to_owned() },
    ];
    let mut frames: Vec<Vec<u8>> = all
        .iter()
        .map(|request| {
            let mut bytes = Vec::new();
            protocol::put_request(&mut bytes, 5, request, 1_000).unwrap();
            bytes
        })
        .collect();
    let mut hello = Vec::new();
    let greeting = protocol::Hello { version_min: 1, version_max: 1, ..Default::default() };
    protocol::put_hello(&mut hello, 1, &greeting).unwrap();
    frames.push([hello, frames.concat()].concat());
    frames
}

fn replies() -> Vec<Vec<u8>> {
    let topic = std::sync::Arc::new(TopicInfo {
        id: TopicId(7),
        name: topic_name(),
        config: config(),
        config_version: 2,
        partitions: std::iter::repeat_n(
            PartitionPlace { shard: ShardId(0), stream: StreamId(3) },
            3,
        )
        .collect(),
    });
    let all = [
        Reply::Pong,
        Reply::Metadata {
            cores: vec![model::reply::CoreAddress {
                core: model::CoreId(1),
                host: "db.local".to_owned(),
                port: 7_301,
                shards: vec![ShardId(0), ShardId(2)],
            }]
            .into(),
            topics: vec![topic.clone()],
            unknown: vec![topic_name()],
            more: true,
        },
        Reply::Topic(topic.clone()),
        Reply::TopicDescription {
            topic,
            partitions: vec![model::reply::PartitionStatus {
                index: PartitionIndex(1),
                shard: ShardId(0),
                first_offset: 1,
                next_offset: 2,
                bytes: 3,
                consumers: vec![(consumer(), 1)],
            }],
        },
        Reply::Producer { id: 5, epoch: 0 },
        Reply::Offset { offset: 6 },
        Reply::Subscribed { subscription: 9, offset: 7 },
        Reply::Stages(vec![stages()]),
        Reply::Rejected(model::Rejection::new(model::ErrorCode::Busy, "a bound; try again")),
    ];
    let mut frames: Vec<Vec<u8>> = all
        .iter()
        .map(|reply| {
            let mut bytes = Vec::new();
            protocol::put_reply(&mut bytes, 5, reply).unwrap();
            bytes
        })
        .collect();
    let mut ack = Vec::new();
    let run = protocol::ProduceAck {
        count: 3,
        level: AckLevel::Durable,
        base_offset: 41,
        offset_step: 2,
        shard: ShardId(0),
        append_time_ms: 1_700_000_000_000,
    };
    protocol::put_produce_ack(&mut ack, &run, 5);
    frames.push(ack);
    let batch = batch(Codec::None);
    let mut deliver = Vec::new();
    let head = protocol::DeliverHead { subscription: 9, batch_count: 1, ..Default::default() };
    protocol::put_deliver_head(&mut deliver, &head, batch.len());
    frames.push([&deliver[..], &batch].concat());
    let mut fetched = Vec::new();
    protocol::put_fetch_head(&mut fetched, 5, &protocol::FetchHead::default(), batch.len());
    frames.push([&fetched[..], &batch].concat());
    frames
}

fn stages() -> model::CoreStages {
    let buckets = vec![(40, 2), (333, 1)];
    let times = model::StageHistogram { count: 3, sum_ns: 1_000, max_ns: 900, buckets };
    let stages = std::array::from_fn(|_| times.clone());
    model::CoreStages { core: model::CoreId(1), stages }
}

fn batch(codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for value in [&b"one"[..], b"two two two two two two two two", b""] {
        builder.append(1_700_000_000_000, Some(b"key"), Some(value), [("h", Some(value))]).unwrap();
    }
    match codec {
        Codec::None => builder.finish(Some(Producer { id: 5, epoch: 0, sequence: 7 })),
        codec => {
            let packed = client::inside::pack(codec, builder.records());
            builder.finish_compressed(None, codec, &packed)
        }
    }
}

fn publishes() -> Vec<Vec<u8>> {
    let one = batch(Codec::None);
    [1u32, 3]
        .map(|count| {
            let head = protocol::ProduceHead {
                handle: handle(),
                ack: None,
                deadline_ms: 1_000,
                batch_count: count,
            };
            let mut bytes = Vec::new();
            protocol::put_produce_head(&mut bytes, 1, &head, 0);
            bytes.drain(..protocol::FRAME_HEADER_BYTES);
            bytes.extend(one.repeat(count as usize));
            bytes
        })
        .into()
}

fn records() -> Vec<Vec<u8>> {
    let mut all = [Codec::None, Codec::Lz4, Codec::Zstd].map(batch).to_vec();
    // What is no batch of ours but might be another's: gzip and snappy in the attributes.
    for codec in [1, 2] {
        let mut other = batch(Codec::None);
        other[22] = codec;
        all.push(other);
    }
    // Two batches, and a small one that unpacks to much.
    all.push(all.concat());
    let zeros = vec![0; 4 << 20];
    for codec in [Codec::Lz4, Codec::Zstd] {
        let mut bomb = batch(Codec::None);
        bomb.truncate(protocol::batch::BATCH_HEADER_BYTES);
        bomb[22] = codec as u8;
        bomb.extend(client::inside::pack(codec, &zeros));
        let length = bomb.len() as u32 - 12;
        bomb[8..12].copy_from_slice(&length.to_be_bytes());
        all.push(bomb);
    }
    all
}

fn log_blocks() -> Vec<Vec<u8>> {
    use wal::format::block::{BlockHeader, HEADER_BYTES};
    use wal::format::entry::{EntryRecord, RECORD_BYTES};
    let payload = b"payload of an entry";
    let record = EntryRecord {
        head: entry(1, 1, 0, 2),
        payload_bytes: payload.len() as u32,
        payload_crc: wal::crc::crc32c(payload),
    };
    let mut bytes = vec![0; 4_096];
    let table = HEADER_BYTES + payload.len();
    bytes[HEADER_BYTES..table].copy_from_slice(payload);
    bytes[table..table + RECORD_BYTES].copy_from_slice(&record.to_bytes());
    let header = BlockHeader {
        shard: 3,
        generation: 0,
        segment: 1,
        incarnation: 1,
        entries: 1,
        sequence: 1,
        term: 0,
        index: 1,
        first_lsn: 1,
        durable_lsn: 0,
        payload_bytes: payload.len() as u32,
        block_bytes: 4_096,
        body_crc: 0,
        table_crc: 0,
        previous_crc: 0,
    };
    header.encode(&crate::log::SECRET, 4_096, &mut bytes);
    // Without most of the padding, which the target adds.
    bytes.truncate(table + RECORD_BYTES);
    vec![bytes]
}

/// Changes of a log: see [`crate::log::files`].
fn log_files() -> Vec<Vec<u8>> {
    let change = |file: u8, at: u32, put_right: u8, bytes: &[u8]| {
        let mut change = vec![file];
        change.extend(at.to_le_bytes());
        change.extend([put_right, bytes.len() as u8]);
        change.extend_from_slice(bytes);
        change
    };
    let mut all = Vec::new();
    for file in 0..8 {
        all.push(change(file, 4_096 + 72, 1, &u32::MAX.to_le_bytes()));
        all.push(change(file, 8_192 + 28, 1, &[9, 0, 0, 0]));
        all.push([change(file, 12_288, 0xFE, &[1]), change(file, 4_096, 0, &[0; 64])].concat());
    }
    all
}

fn footers() -> Vec<Vec<u8>> {
    use wal::format::footer::{FooterBody, IndexEntry, StreamRecord};
    let body = FooterBody {
        streams: vec![StreamRecord {
            stream: StreamId(3),
            index_start: 0,
            index_entries: 1,
            label_start: 0,
            label_bytes: 5,
            batches: 1,
            first_offset: 0,
            last_offset: 9,
            bytes: 100,
            max_time_ms: 5,
        }],
        index: vec![IndexEntry {
            offset: 0,
            time_before_ms: i64::MIN,
            block: 4_096,
            block_bytes: 4_096,
        }],
        labels: b"label".to_vec(),
    };
    let mut bytes = vec![0; body.encoded_bytes()];
    body.encode(&mut bytes);
    let counts = [1u32, 1, 5].map(u32::to_le_bytes).concat();
    vec![[counts, bytes].concat()]
}

fn entry(kind: u8, stream: u32, base_offset: u64, records: u32) -> EntryHead {
    let (flags, time_ms) = (0, 1_000);
    EntryHead { kind, flags, stream: StreamId(stream), base_offset, time_ms, records }
}

/// Keeps what the engine appends.
struct Kept(Vec<(EntryHead, Vec<u8>)>);

impl Journal for Kept {
    fn append(&mut self, head: &EntryHead, payload: &[&[u8]]) -> Lsn {
        self.0.push((*head, payload.concat()));
        Lsn(self.0.len() as u64)
    }

    fn room(&self, _: usize, _: model::SpaceUse) -> Room {
        Room::Yes
    }
}

/// A short history with one of everything, and the engine after it.
fn history() -> (Kept, shards::Engine) {
    let mut kept = Kept(Vec::new());
    let mut engine = engine::engine();
    let name = topic_name();
    let shards = [ShardId(0), ShardId(0)];
    let (id, _) = engine.create_topic(1_000, &name, &config(), &shards, &mut kept).unwrap();
    let spec = TopicSpec { id, name: name.clone(), config: config(), config_version: 1 };
    let (stream, _) = engine.create_partition(2_000, &spec, PartitionIndex(0), &mut kept).unwrap();
    engine.create_partition(2_000, &spec, PartitionIndex(1), &mut kept).unwrap();
    let lsn = Lsn(kept.0.len() as u64);
    engine.commit(lsn);
    let partition = PartitionHandle { topic: id, stream, shard: ShardId(0) };
    for codec in [Codec::None, Codec::Lz4] {
        let mut bytes = batch(codec);
        if codec == Codec::None {
            let first = Producer { id: 5, epoch: 0, sequence: 0 };
            protocol::records::set_producer(&mut bytes, first);
        }
        let header = protocol::check_batch(&[&bytes]).unwrap();
        engine.produce(3_000, partition, &header, &[&bytes], &mut kept).unwrap();
    }
    engine.commit(Lsn(kept.0.len() as u64));
    engine.commit_offset(4_000, partition, &consumer(), 2, &mut kept).unwrap();
    engine.allocate_producer_id(4_000, &mut kept).unwrap();
    let change = TopicChange { retention_ms: Some(None), ..TopicChange::default() };
    engine.alter_topic(5_000, &name, &change, &mut kept).unwrap();
    let lsn = Lsn(kept.0.len() as u64);
    engine.commit(lsn);
    (kept, engine)
}

/// See [`engine::entries`].
fn engine_log() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (head, payload) in history().0.0 {
        bytes.extend([head.kind, head.stream.0 as u8, head.records as u8]);
        bytes.push((head.time_ms / 1_000) as u8);
        bytes.extend((head.base_offset as u16).to_le_bytes());
        bytes.extend((payload.len() as u16).to_le_bytes());
        bytes.extend(payload);
    }
    bytes
}

fn checkpoint() -> Vec<u8> {
    let mut bytes = vec![40];
    bytes.extend(engine::snapshot(&history().1));
    bytes
}

fn settings() -> Vec<Vec<u8>> {
    let sample = crate::config::sample();
    let environment = b"\0SERVER_CORES=0-3\nSTORAGE_CACHE_BYTES=64MiB\nSEED=7\nLOG_FORMAT=json\n";
    let set: String = sample
        .lines()
        .map(|line| line.trim_start_matches("# ").to_owned() + "\n")
        .take(40)
        .collect();
    vec![
        [sample.as_bytes(), environment].concat(),
        set.into_bytes(),
        b"[server]\ncores = \"3-3\"\nlisten = \"127.0.0.1:1\"\n[storage]\nsegment_bytes = \"16MiB\"\n"
            .to_vec(),
    ]
}
