//! Golden bytes of every request, and what is refused.

use model::{
    AckLevel, ConsumerName, ErrorCode, PartitionHandle, Request, ShardId, StartPosition, StreamId,
    TopicChange, TopicConfig, TopicId, TopicName,
};

use super::*;
use crate::frame::next_frame;
use crate::testing::hex;

const DEADLINE: &str = "e8030000";
/// Topic 0x0102, stream 3, shard 4.
const HANDLE: &str = "0201000000000000 03000000 0400 0000";

fn handle() -> PartitionHandle {
    PartitionHandle { topic: TopicId(0x0102), stream: StreamId(3), shard: ShardId(4) }
}

fn topic(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

fn consumer(text: &str) -> ConsumerName {
    ConsumerName::parse(text).unwrap()
}

/// The request is written as these bytes, and these bytes are read as the request.
#[track_caller]
fn golden(request: Request, kind: u16, body: &str) {
    let mut out = Vec::new();
    put_request(&mut out, 0x0A0B, &request, 1000).unwrap();
    let (header, length) = next_frame(&out).unwrap().expect("a whole frame");
    assert_eq!((header.kind, header.correlation, length), (kind, 0x0A0B, out.len()));
    let expected = hex(&format!("{DEADLINE} {body}"));
    assert_eq!(out[16..], expected, "{request:?}");
    assert_eq!(decode_request(&header, &expected), Ok((request, 1000)));
    for cut in 0..expected.len() {
        assert!(decode_request(&header, &expected[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn golden_plain() {
    golden(Request::Ping, 0x04, "");
    golden(Request::InitProducer, 0x20, "");
    golden(Request::Status, 0x50, "");
    golden(Request::Stages, 0x60, "");
    golden(Request::SetLogFilter { filter: "info".into() }, 0x52, "0400 696e666f");
    let nonce = "000102030405060708090a0b0c0d0e0f";
    golden(Request::BackupBegin { nonce: std::array::from_fn(|i| i as u8) }, 0x5A, nonce);
    golden(Request::BackupKeep { backup: 0x0102 }, 0x5C, "0201000000000000");
    golden(Request::BackupEnd { backup: 0x0102 }, 0x5E, "0201000000000000");
}

#[test]
fn golden_drain() {
    let request = Request::Drain { core: Some(model::CoreId(1)), undo: false, grace_ms: 5 };
    golden(request, 0x54, "0100 00 00 05000000");
    let request = Request::Drain { core: None, undo: true, grace_ms: 0 };
    golden(request, 0x54, "ffff 01 00 00000000");
}

#[test]
fn golden_topics() {
    let request =
        Request::Metadata { topics: vec![topic("a"), topic("bc")], after: None, limit: 7 };
    golden(request, 0x10, "07000000 02000000 0100 61 0200 6263 0000");
    let request = Request::Metadata { topics: vec![], after: Some(topic("a")), limit: 7 };
    golden(request, 0x10, "07000000 00000000 0100 61");

    let config =
        TopicConfig { retention_ms: Some(0x0102), retention_bytes: None, ack: AckLevel::Durable };
    let request = Request::CreateTopic { name: topic("a"), partitions: 3, config };
    golden(request, 0x12, "03000000 0201000000000000 0000000000000000 01 02 0000 0100 61");

    let change = TopicChange {
        retention_ms: Some(None),
        retention_bytes: Some(Some(5)),
        ack: Some(AckLevel::Memory),
    };
    let request = Request::AlterTopic { name: topic("a"), change };
    golden(request, 0x14, "0000000000000000 0500000000000000 1d 01 0000 0100 61");
    let request = Request::AlterTopic { name: topic("a"), change: TopicChange::default() };
    golden(request, 0x14, "0000000000000000 0000000000000000 00 00 0000 0100 61");

    golden(Request::DeleteTopic { name: topic("a") }, 0x16, "0100 61");
    golden(Request::DescribeTopic { name: topic("a") }, 0x18, "0100 61");
}

#[test]
fn golden_reading() {
    let request = Request::Fetch {
        partition: handle(),
        offset: 9,
        min_bytes: 1,
        max_bytes: 0x10000,
        max_wait_ms: 100,
    };
    golden(request, 0x30, &format!("{HANDLE} 0900000000000000 01000000 00000100 64000000"));

    let positions = [
        (StartPosition::First, "00", "0000000000000000", "0000"),
        (StartPosition::Last, "01", "0000000000000000", "0000"),
        (StartPosition::Next, "02", "0000000000000000", "0000"),
        (StartPosition::Offset(8), "03", "0800000000000000", "0000"),
        (StartPosition::Time(-2), "04", "feffffffffffffff", "0000"),
        (StartPosition::Committed(consumer("c")), "05", "0000000000000000", "0100 63"),
    ];
    for (position, which, value, name) in positions {
        let request = Request::LookupOffset { partition: handle(), position: position.clone() };
        golden(request, 0x32, &format!("{HANDLE} {which} 00000000000000 {value} {name}"));
        let request = Request::Subscribe {
            partition: handle(),
            subscription: 6,
            position,
            credit_bytes: 0x10000,
        };
        let fixed = format!("{HANDLE} 06000000 {which} 00000000000000 {value}");
        golden(request, 0x34, &format!("{fixed} 0000010000000000 {name}"));
    }

    golden(Request::Credit { subscription: 6, bytes: 7 }, 0x36, "06000000 0700000000000000");
    golden(Request::Unsubscribe { subscription: 6 }, 0x38, "06000000");
}

#[test]
fn golden_committed_offsets() {
    let request = Request::CommitOffset {
        partition: handle(),
        consumer: consumer("c"),
        offset: 9,
        ack: AckLevel::Durable,
    };
    golden(request, 0x40, &format!("{HANDLE} 0900000000000000 02 000000 0100 63"));
    let request = Request::CommittedOffset { partition: handle(), consumer: consumer("c") };
    golden(request, 0x42, &format!("{HANDLE} 0100 63"));
}

#[track_caller]
fn refused(kind: u16, body: &str, code: ErrorCode, words: &str) {
    let body = hex(body);
    let header = FrameHeader::new(kind, 1, body.len());
    let rejection = decode_request(&header, &body).unwrap_err();
    assert_eq!(rejection.code, code, "{rejection}");
    assert!(rejection.message.contains(words), "{rejection}");
}

#[test]
fn refusals_name_the_field() {
    refused(kind::PING, "00000000 00", ErrorCode::Malformed, "follow the last field");
    refused(kind::PING, "000000", ErrorCode::Malformed, "the deadline");
    refused(0x06, "00000000", ErrorCode::UnknownKind, "0x0006");
    refused(kind::PRODUCE, "00000000", ErrorCode::UnknownKind, "0x0022");
    refused(kind::HELLO, "", ErrorCode::HandshakeRequired, "second time");
    let name = "the topic's name";
    refused(kind::DELETE_TOPIC, "00000000 0000", ErrorCode::InvalidArgument, name);
    refused(kind::DELETE_TOPIC, "00000000 0100 20", ErrorCode::InvalidArgument, name);
    refused(kind::DELETE_TOPIC, "00000000 0100 ff", ErrorCode::Malformed, name);
    refused(kind::DELETE_TOPIC, "00000000 0200 61", ErrorCode::Malformed, name);
    refused(kind::METADATA, "00000000 00000000 ffffffff", ErrorCode::Malformed, "names");
    let reserved = "0201000000000000 03000000 0400 0100";
    let body = format!("00000000 {reserved} 0100 63");
    refused(kind::COMMITTED_OFFSET, &body, ErrorCode::Malformed, "the partition handle");
    let position = |text: &str| format!("00000000 {HANDLE} {text}");
    let body = position("06 00000000000000 0000000000000000 0000");
    refused(kind::LOOKUP_OFFSET, &body, ErrorCode::InvalidArgument, "the start position");
    let body = position("00 00000000000000 0100000000000000 0000");
    refused(kind::LOOKUP_OFFSET, &body, ErrorCode::Malformed, "the start position");
    let body = position("00 00000000000000 0000000000000000 0100 63");
    refused(kind::LOOKUP_OFFSET, &body, ErrorCode::InvalidArgument, "consumer");
    let body = position("0900000000000000 03 000000 0100 63");
    refused(kind::COMMIT_OFFSET, &body, ErrorCode::InvalidArgument, "the ack level");
    let config = "01000000 0100000000000000 0000000000000000 00 02 0000 0100 61";
    refused(kind::CREATE_TOPIC, &format!("00000000 {config}"), ErrorCode::Malformed, "settings");
}

#[test]
fn a_filter_too_long_for_its_length_is_not_written() {
    let mut out = vec![1];
    let request = Request::SetLogFilter { filter: "x".repeat(65_536) };
    assert!(put_request(&mut out, 1, &request, 0).is_err());
    assert_eq!(out, [1]);
}
