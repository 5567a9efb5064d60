//! Golden bytes of every reply, and what is refused.

use model::limits::FRAME_BYTES_MAX;
use model::reply::{CoreStatus, ServerStatus, ShardHealth, ShardStatus};
use model::{
    AckLevel, BackupPoint, ConsumerName, ErrorCode, Lsn, PartitionPlace, Rejection, SegmentPoint,
    ShardPoint, StreamId, TopicConfig, TopicId, TopicInfo, TopicName,
};

use super::*;
use crate::frame::next_frame;
use crate::testing::hex;

const TOPIC: &str = "0700000000000000 02000000 0900000000000000 0000000000000000 01 02 0000 \
                     0100 61 02000000 01000000 0300 0000 02000000 0400 0000";

fn topic() -> Arc<TopicInfo> {
    let place = |stream, shard| PartitionPlace { stream: StreamId(stream), shard: ShardId(shard) };
    Arc::new(TopicInfo {
        id: TopicId(7),
        name: TopicName::parse("a").unwrap(),
        config: TopicConfig {
            retention_ms: Some(9),
            retention_bytes: None,
            ack: AckLevel::Durable,
        },
        config_version: 2,
        partitions: [place(1, 3), place(2, 4)].into_iter().collect(),
    })
}

/// The reply is written as these bytes, and these bytes are read as the reply.
#[track_caller]
fn golden(reply: Reply, kind: u16, body: &str) {
    let mut out = Vec::new();
    put_reply(&mut out, 0x0A0B, &reply).unwrap();
    let (header, length) = next_frame(&out).unwrap().expect("a whole frame");
    assert_eq!((header.kind, header.correlation, length), (kind, 0x0A0B, out.len()));
    let expected = hex(body);
    assert_eq!(out[16..], expected, "{reply:?}");
    assert_eq!(decode_reply(&header, &expected), Ok(reply));
    for cut in 0..expected.len() {
        assert!(decode_reply(&header, &expected[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn golden_small() {
    golden(Reply::Pong, 0x05, "");
    golden(Reply::TopicDeleted, 0x17, "");
    golden(Reply::OffsetCommitted, 0x41, "");
    golden(Reply::LogFilterSet, 0x53, "");
    golden(Reply::Producer { id: 5, epoch: 6 }, 0x21, "0500000000000000 0600 000000000000");
    golden(Reply::Offset { offset: 5 }, 0x33, "0500000000000000");
    let subscribed = Reply::Subscribed { subscription: 6, offset: 5 };
    golden(subscribed, 0x35, "06000000 00000000 0500000000000000");
    golden(Reply::Unsubscribed { subscription: 6 }, 0x39, "06000000");
    let rejected = Reply::Rejected(Rejection::new(ErrorCode::UnknownTopic, "no"));
    golden(rejected, 0x7F, "0a00 00 00 0200 6e6f");
}

#[test]
fn golden_backup() {
    golden(Reply::BackupKept, 0x5D, "");
    golden(Reply::BackupEnded, 0x5F, "");
    let segment =
        SegmentPoint { number: 1, generation: 2, sealed: true, bytes: 3, data_end: 0x0102 };
    let shard = ShardPoint {
        shard: ShardId(4),
        incarnation: 5,
        durable_lsn: Lsn(6),
        last_sequence: 7,
        checkpoints: vec![(8, 9)],
        segments: vec![segment],
    };
    let point = BackupPoint {
        backup: 10,
        identity: [0xAB; 32],
        data_dir: "/d".into(),
        silent_ms_max: 60_000,
        shards: vec![shard],
    };
    let identity = "ab".repeat(32);
    let head = format!("0a00000000000000 {identity} 60ea0000 00000000 0200 2f64 01000000");
    let shard = "0400 0000 05000000 0600000000000000 0700000000000000";
    let checkpoint = "01000000 0800000000000000 0900000000000000";
    let segment = "01000000 0100000000000000 02000000 01 000000 0300000000000000 0201000000000000";
    let body = format!("{head} {shard} {checkpoint} {segment}");
    golden(Reply::BackupBegun(Box::new(point)), 0x5B, &body);
}

#[test]
fn golden_topics() {
    golden(Reply::Topic(topic()), 0x13, TOPIC);

    let core = CoreAddress {
        core: CoreId(1),
        host: "h".into(),
        port: 7302,
        shards: vec![ShardId(3), ShardId(4)],
    };
    let reply = Reply::Metadata {
        cores: [core].into(),
        topics: vec![topic()],
        unknown: vec![TopicName::parse("b").unwrap()],
        more: true,
    };
    let cores = "01000000 0100 861c 0100 68 02000000 0300 0400";
    let body = format!("01 000000 {cores} 01000000 {TOPIC} 01000000 0100 62");
    golden(reply, 0x11, &body);

    let status = PartitionStatus {
        index: PartitionIndex(1),
        shard: ShardId(3),
        first_offset: 4,
        next_offset: 5,
        bytes: 6,
        consumers: vec![(ConsumerName::parse("c").unwrap(), 8)],
    };
    let reply = Reply::TopicDescription { topic: topic(), partitions: vec![status] };
    let offsets = "0400000000000000 0500000000000000 0600000000000000";
    let consumers = "01000000 0100 63 0800000000000000";
    let body = format!("{TOPIC} 01000000 01000000 0300 0000 {offsets} {consumers}");
    golden(reply, 0x19, &body);
}

#[test]
fn golden_status() {
    let core = |cpu| CoreStatus {
        core: CoreId(1),
        cpu,
        connections: 3,
        draining: true,
        accepted: 14,
        refused: 15,
        handed_over: 16,
        messages_in: 4,
        bytes_in: 5,
        messages_out: 6,
        bytes_out: 7,
    };
    let shard = ShardStatus {
        shard: ShardId(8),
        core: CoreId(1),
        health: ShardHealth::ReadOnly,
        reason: "r".into(),
        partitions: 9,
        durable_lsn: 10,
        log_bytes: 11,
        slow: true,
        disk_full: false,
        oldest_write_ms: 17,
    };
    let status = ServerStatus {
        version: "0.1".into(),
        ready: true,
        draining: false,
        volatile: true,
        uptime_ms: 12,
        data_dir: "/d".into(),
        topics: 13,
        cores: vec![core(Some(2)), core(None)],
        shards: vec![shard],
    };
    let taken = "03000000 0e00000000000000 0f00000000000000 1000000000000000";
    let flow = "0400000000000000 0500000000000000 0600000000000000 0700000000000000";
    let core = |cpu| format!("0100 01 00 {cpu} {taken} {flow}");
    let cores = format!("02000000 {} {}", core("02000000"), core("ffffffff"));
    let shards = "01000000 0800 0100 01 01 00 00 09000000 11000000 0a00000000000000 \
                  0b00000000000000 0100 72";
    let fixed = "01 00 01 00 0d000000 0c00000000000000 0300 302e31 0200 2f64";
    golden(Reply::Status(Box::new(status)), 0x51, &format!("{fixed} {cores} {shards}"));
}

#[test]
fn wrong_bodies_are_refused() {
    let decode = |kind, body: &str| {
        let body = hex(body);
        decode_reply(&FrameHeader::new(kind, 1, body.len()), &body)
    };
    assert_eq!(decode(0x15, ""), Err(FrameError::Kind { kind: 0x15 }));
    let trailing = FrameError::Body(BodyError::Trailing { bytes: 1 });
    assert_eq!(decode(kind::PONG, "00"), Err(trailing));
    assert!(decode(kind::SUBSCRIBED, "06000000 01000000 0500000000000000").is_err());
    assert!(decode(kind::METADATA_REPLY, "02 000000 00000000 00000000 00000000").is_err());
    assert!(decode(kind::METADATA_REPLY, "00 000000 ffffffff").is_err());
}

#[test]
fn a_reply_over_the_frame_limit_is_not_written() {
    let name =
        |index: usize| ConsumerName::parse(&format!("{}{index:09}", "c".repeat(240))).unwrap();
    let count = FRAME_BYTES_MAX as usize / 250;
    let status = PartitionStatus {
        index: PartitionIndex(0),
        shard: ShardId(0),
        first_offset: 0,
        next_offset: 0,
        bytes: 0,
        consumers: (0..count).map(|index| (name(index), 0)).collect(),
    };
    let reply = Reply::TopicDescription { topic: topic(), partitions: vec![status] };
    let mut out = vec![1];
    let error = put_reply(&mut out, 1, &reply).unwrap_err();
    assert_eq!(error.max, FRAME_BYTES_MAX as usize);
    assert_eq!(out, [1]);
}
