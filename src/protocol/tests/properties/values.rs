//! Arbitrary values of everything that has a codec.

use std::sync::Arc;

use corelane_protocol as protocol;
use model::reply::{
    CoreAddress, CoreStatus, PartitionStatus, ServerStatus, ShardHealth, ShardStatus,
};
use model::stages::STAGE_BUCKETS;
use model::{
    AckLevel, BackupPoint, ConsumerName, CoreId, CoreStages, ErrorCode, Lsn, PartitionHandle,
    PartitionIndex, PartitionPlace, Rejection, Reply, Request, SegmentPoint, ShardId, ShardPoint,
    StageHistogram, StartPosition, StreamId, TopicChange, TopicConfig, TopicId, TopicInfo,
    TopicName,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use protocol::{DeliverHead, FetchHead, GoAway, Hello, HelloReply, ProduceAck, ProduceHead};

fn topic_name() -> impl Strategy<Value = TopicName> {
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}".prop_map(|text| TopicName::parse(&text).unwrap())
}

fn consumer_name() -> impl Strategy<Value = ConsumerName> {
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}".prop_map(|text| ConsumerName::parse(&text).unwrap())
}

fn ack() -> impl Strategy<Value = AckLevel> {
    select(vec![AckLevel::None, AckLevel::Memory, AckLevel::Durable])
}

fn shard() -> impl Strategy<Value = ShardId> {
    any::<u16>().prop_map(ShardId)
}

fn handle() -> impl Strategy<Value = PartitionHandle> {
    (any::<u64>(), any::<u32>(), shard()).prop_map(|(topic, stream, shard)| PartitionHandle {
        topic: TopicId(topic),
        stream: StreamId(stream),
        shard,
    })
}

fn position() -> impl Strategy<Value = StartPosition> {
    prop_oneof![
        Just(StartPosition::First),
        Just(StartPosition::Last),
        Just(StartPosition::Next),
        any::<u64>().prop_map(StartPosition::Offset),
        any::<i64>().prop_map(StartPosition::Time),
        consumer_name().prop_map(StartPosition::Committed),
    ]
}

fn config() -> impl Strategy<Value = TopicConfig> {
    (option::of(any::<u64>()), option::of(any::<u64>()), ack()).prop_map(
        |(retention_ms, retention_bytes, ack)| TopicConfig { retention_ms, retention_bytes, ack },
    )
}

fn change() -> impl Strategy<Value = TopicChange> {
    let limit = || option::of(option::of(any::<u64>()));
    (limit(), limit(), option::of(ack())).prop_map(|(retention_ms, retention_bytes, ack)| {
        TopicChange { retention_ms, retention_bytes, ack }
    })
}

pub fn request() -> impl Strategy<Value = Request> {
    prop_oneof![topic_request(), partition_request()]
}

fn topic_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Ping),
        Just(Request::InitProducer),
        Just(Request::Status),
        Just(Request::Stages),
        ".{0,40}".prop_map(|filter| Request::SetLogFilter { filter }),
        (option::of(0..u16::MAX), any::<(bool, u32)>()).prop_map(|(core, (undo, grace_ms))| {
            Request::Drain { core: core.map(CoreId), undo, grace_ms }
        }),
        (vec(topic_name(), 0..5), option::of(topic_name()), any::<u32>())
            .prop_map(|(topics, after, limit)| Request::Metadata { topics, after, limit }),
        (topic_name(), any::<u32>(), config()).prop_map(|(name, partitions, config)| {
            Request::CreateTopic { name, partitions, config }
        }),
        (topic_name(), change()).prop_map(|(name, change)| Request::AlterTopic { name, change }),
        topic_name().prop_map(|name| Request::DeleteTopic { name }),
        topic_name().prop_map(|name| Request::DescribeTopic { name }),
        any::<[u8; 16]>().prop_map(|nonce| Request::BackupBegin { nonce }),
        any::<u64>().prop_map(|backup| Request::BackupKeep { backup }),
        any::<u64>().prop_map(|backup| Request::BackupEnd { backup }),
    ]
}

fn partition_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (handle(), any::<u64>(), any::<[u32; 3]>()).prop_map(|(partition, offset, limits)| {
            let [min_bytes, max_bytes, max_wait_ms] = limits;
            Request::Fetch { partition, offset, min_bytes, max_bytes, max_wait_ms }
        }),
        (handle(), position())
            .prop_map(|(partition, position)| Request::LookupOffset { partition, position }),
        (handle(), any::<u32>(), position(), any::<u64>()).prop_map(
            |(partition, subscription, position, credit_bytes)| Request::Subscribe {
                partition,
                subscription,
                position,
                credit_bytes
            }
        ),
        any::<(u32, u64)>()
            .prop_map(|(subscription, bytes)| Request::Credit { subscription, bytes }),
        any::<u32>().prop_map(|subscription| Request::Unsubscribe { subscription }),
        (handle(), consumer_name(), any::<u64>(), ack()).prop_map(
            |(partition, consumer, offset, ack)| Request::CommitOffset {
                partition,
                consumer,
                offset,
                ack
            }
        ),
        (handle(), consumer_name())
            .prop_map(|(partition, consumer)| Request::CommittedOffset { partition, consumer }),
    ]
}

fn topic() -> impl Strategy<Value = Arc<TopicInfo>> {
    let place = (any::<u32>(), shard())
        .prop_map(|(stream, shard)| PartitionPlace { stream: StreamId(stream), shard });
    (any::<u64>(), topic_name(), config(), any::<u32>(), vec(place, 0..5)).prop_map(
        |(id, name, config, config_version, partitions)| {
            let partitions = partitions.into_iter().collect();
            Arc::new(TopicInfo { id: TopicId(id), name, config, config_version, partitions })
        },
    )
}

fn core_address() -> impl Strategy<Value = CoreAddress> {
    (any::<(u16, u16)>(), "[a-z.]{0,20}", vec(shard(), 0..4)).prop_map(
        |((core, port), host, shards)| CoreAddress { core: CoreId(core), host, port, shards },
    )
}

fn partition_status() -> impl Strategy<Value = PartitionStatus> {
    (any::<u32>(), shard(), any::<[u64; 3]>(), vec((consumer_name(), any::<u64>()), 0..3)).prop_map(
        |(index, shard, [first_offset, next_offset, bytes], consumers)| PartitionStatus {
            index: PartitionIndex(index),
            shard,
            first_offset,
            next_offset,
            bytes,
            consumers,
        },
    )
}

fn core_status() -> impl Strategy<Value = CoreStatus> {
    let counts = any::<([u64; 3], [u64; 4])>();
    (any::<u16>(), option::of(0..u32::MAX), any::<(u32, bool)>(), counts).prop_map(
        |(core, cpu, (connections, draining), (taken, flow))| CoreStatus {
            core: CoreId(core),
            cpu,
            connections,
            draining,
            accepted: taken[0],
            refused: taken[1],
            handed_over: taken[2],
            messages_in: flow[0],
            bytes_in: flow[1],
            messages_out: flow[2],
            bytes_out: flow[3],
        },
    )
}

fn shard_status() -> impl Strategy<Value = ShardStatus> {
    let health =
        select(vec![ShardHealth::Serving, ShardHealth::ReadOnly, ShardHealth::Unavailable]);
    let numbers = any::<(u32, u64, u64)>();
    let marks = any::<(bool, bool, u32)>();
    (shard(), any::<u16>(), health, ".{0,20}", numbers, marks).prop_map(
        |(shard, core, health, reason, numbers, (slow, disk_full, oldest_write_ms))| ShardStatus {
            shard,
            core: CoreId(core),
            health,
            reason,
            partitions: numbers.0,
            durable_lsn: numbers.1,
            log_bytes: numbers.2,
            slow,
            disk_full,
            oldest_write_ms,
        },
    )
}

fn status() -> impl Strategy<Value = ServerStatus> {
    let texts = (".{0,10}", ".{0,20}");
    let numbers = any::<([bool; 3], u64, u32)>();
    (texts, numbers, vec(core_status(), 0..3), vec(shard_status(), 0..3)).prop_map(
        |((version, data_dir), (marks, uptime_ms, topics), cores, shards)| ServerStatus {
            version,
            ready: marks[0],
            draining: marks[1],
            volatile: marks[2],
            uptime_ms,
            data_dir,
            topics,
            cores,
            shards,
        },
    )
}

fn stage_histogram() -> impl Strategy<Value = StageHistogram> {
    let buckets = btree_map(0..STAGE_BUCKETS as u16, 1..u64::MAX / 8, 0..8);
    (any::<(u64, u64)>(), buckets).prop_map(|((sum_ns, max_ns), buckets)| {
        let count = buckets.values().sum();
        StageHistogram { count, sum_ns, max_ns, buckets: buckets.into_iter().collect() }
    })
}

fn core_stages() -> impl Strategy<Value = CoreStages> {
    let stages = || stage_histogram();
    (any::<u16>(), [stages(), stages(), stages(), stages()])
        .prop_map(|(core, stages)| CoreStages { core: CoreId(core), stages })
}

fn segment_point() -> impl Strategy<Value = SegmentPoint> {
    any::<(u64, u32, bool, u64, u64)>().prop_map(|(number, generation, sealed, bytes, data_end)| {
        SegmentPoint { number, generation, sealed, bytes, data_end }
    })
}

fn backup_point() -> impl Strategy<Value = BackupPoint> {
    let checkpoints = vec(any::<(u64, u64)>(), 0..3);
    let shard = (shard(), any::<(u32, u64, u64)>(), checkpoints, vec(segment_point(), 0..4))
        .prop_map(|(shard, (incarnation, durable_lsn, last_sequence), checkpoints, segments)| {
            let durable_lsn = Lsn(durable_lsn);
            ShardPoint { shard, incarnation, durable_lsn, last_sequence, checkpoints, segments }
        });
    (any::<(u64, [u8; 32], u32)>(), ".{0,20}", vec(shard, 0..3)).prop_map(
        |((backup, identity, silent_ms_max), data_dir, shards)| BackupPoint {
            backup,
            identity,
            data_dir,
            silent_ms_max,
            shards,
        },
    )
}

pub fn reply() -> impl Strategy<Value = Reply> {
    let small = prop_oneof![
        Just(Reply::Pong),
        Just(Reply::TopicDeleted),
        Just(Reply::OffsetCommitted),
        Just(Reply::LogFilterSet),
        Just(Reply::DrainSet),
        Just(Reply::BackupKept),
        Just(Reply::BackupEnded),
        any::<(i64, i16)>().prop_map(|(id, epoch)| Reply::Producer { id, epoch }),
        any::<u64>().prop_map(|offset| Reply::Offset { offset }),
        any::<(u32, u64)>()
            .prop_map(|(subscription, offset)| Reply::Subscribed { subscription, offset }),
        any::<u32>().prop_map(|subscription| Reply::Unsubscribed { subscription }),
        (select(ErrorCode::ALL.to_vec()), ".{0,40}")
            .prop_map(|(code, message)| Reply::Rejected(Rejection::new(code, message))),
    ];
    let metadata =
        (vec(core_address(), 0..3), vec(topic(), 0..3), vec(topic_name(), 0..3), any::<bool>());
    prop_oneof![
        small,
        metadata.prop_map(|(cores, topics, unknown, more)| Reply::Metadata {
            cores: cores.into(),
            topics,
            unknown,
            more
        }),
        topic().prop_map(Reply::Topic),
        (topic(), vec(partition_status(), 0..3))
            .prop_map(|(topic, partitions)| Reply::TopicDescription { topic, partitions }),
        status().prop_map(|status| Reply::Status(Box::new(status))),
        vec(core_stages(), 0..3).prop_map(Reply::Stages),
        backup_point().prop_map(|point| Reply::BackupBegun(Box::new(point))),
    ]
}

pub fn heads() -> impl Strategy<Value = (ProduceHead, ProduceAck, DeliverHead, FetchHead)> {
    let produce = (handle(), option::of(ack()), any::<u32>(), 1u32..).prop_map(
        |(handle, ack, deadline_ms, batch_count)| ProduceHead {
            handle,
            ack,
            deadline_ms,
            batch_count,
        },
    );
    let ack = (1u32.., ack(), any::<(u64, u32)>(), shard(), any::<i64>()).prop_map(
        |(count, level, (base_offset, offset_step), shard, append_time_ms)| ProduceAck {
            count,
            level,
            base_offset,
            offset_step,
            shard,
            append_time_ms,
        },
    );
    let deliver =
        any::<(u32, u32, [u64; 3])>().prop_map(
            |(subscription, batch_count, [first_offset, next_offset, high_watermark])| {
                DeliverHead { subscription, batch_count, first_offset, next_offset, high_watermark }
            },
        );
    let fetch = any::<(u32, [u64; 4])>().prop_map(
        |(batch_count, [first_offset, next_offset, high_watermark, log_start])| FetchHead {
            batch_count,
            first_offset,
            next_offset,
            high_watermark,
            log_start,
        },
    );
    (produce, ack, deliver, fetch)
}

pub fn hello() -> impl Strategy<Value = Hello> {
    (any::<(u8, u8, u64)>(), ".{0,20}", ".{0,20}", vec(any::<u8>(), 0..40)).prop_map(
        |((version_min, version_max, features), client_name, mechanism, credentials)| Hello {
            version_min,
            version_max,
            features,
            client_name,
            mechanism,
            credentials,
        },
    )
}

pub fn hello_reply() -> impl Strategy<Value = HelloReply> {
    (any::<(u8, u64, u16)>(), ".{0,20}", ".{0,20}", any::<(u32, u32, u64)>()).prop_map(
        |((version, features, core), server_name, server_version, limits)| HelloReply {
            version,
            features,
            server_name,
            server_version,
            core: CoreId(core),
            frame_bytes_max: limits.0,
            batch_bytes_max: limits.1,
            in_flight_bytes_max: limits.2,
        },
    )
}

pub fn go_away() -> impl Strategy<Value = GoAway> {
    (select(ErrorCode::ALL.to_vec()), any::<u32>(), ".{0,40}")
        .prop_map(|(reason, close_in_ms, message)| GoAway { reason, close_in_ms, message })
}

/// A record as an application has it.
#[derive(Clone, Debug)]
pub struct Record {
    pub time_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    pub fn headers(&self) -> Vec<(&str, Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect()
    }
}

pub fn records() -> impl Strategy<Value = Vec<Record>> {
    let bytes = || option::of(vec(any::<u8>(), 0..80));
    let headers = vec((".{0,10}", bytes()), 0..4);
    let record = (any::<i64>(), bytes(), bytes(), headers)
        .prop_map(|(time_ms, key, value, headers)| Record { time_ms, key, value, headers });
    vec(record, 1..20)
}
