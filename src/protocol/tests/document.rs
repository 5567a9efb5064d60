//! `docs/protocol.md` tells the truth: its example bytes, its error codes and its kinds.

use corelane_protocol as protocol;
use model::{AckLevel, ErrorCode, PartitionHandle, ShardId, StreamId, TopicId};
use protocol::{BatchBuilder, Hello, ProduceAck, ProduceHead, kind};

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

/// The bytes of each example: of every line, what comes before the explanation.
fn examples() -> Vec<Vec<u8>> {
    let session = DOCUMENT.split("## A session in bytes").nth(1).expect("the session");
    let blocks = session.split("```").skip(1).step_by(2);
    blocks.map(|block| block.lines().flat_map(line_bytes).collect()).collect()
}

fn line_bytes(line: &str) -> Vec<u8> {
    let hex = line.split("     ").next().unwrap_or_default();
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn the_session_is_what_the_code_writes() {
    let examples = examples();
    let [hello, produce, ack] = &examples[..] else { panic!("{} examples", examples.len()) };

    let mut out = Vec::new();
    let client =
        Hello { version_min: 1, version_max: 1, client_name: "py".into(), ..Hello::default() };
    protocol::put_hello(&mut out, 1, &client).unwrap();
    assert_eq!(out, *hello);

    let mut builder = BatchBuilder::new();
    builder.append(1_700_000_000_000, None, Some(b"hi"), []).unwrap();
    let batch = builder.finish(None);
    let handle = PartitionHandle { topic: TopicId(7), stream: StreamId(3), shard: ShardId(0) };
    let ack_level = Some(AckLevel::Durable);
    let head = ProduceHead { handle, ack: ack_level, deadline_ms: 1000, batch_count: 1 };
    out.clear();
    protocol::put_produce_head(&mut out, 2, &head, batch.len());
    out.extend(batch);
    assert_eq!(out, *produce);

    let reply = ProduceAck {
        count: 1,
        level: AckLevel::Durable,
        base_offset: 41,
        offset_step: 1,
        shard: ShardId(0),
        append_time_ms: 1_700_000_000_005,
    };
    out.clear();
    protocol::put_produce_ack(&mut out, &reply, 2);
    assert_eq!(out, *ack);
}

#[test]
fn every_error_code_has_its_row() {
    for code in ErrorCode::ALL {
        let retryable = if code.is_retryable() { "yes" } else { "no" };
        let row = format!("| {} | {code} | {retryable} |", *code as u16);
        assert!(DOCUMENT.contains(&row), "no row {row:?}");
    }
    let errors = DOCUMENT.split("## Errors").nth(1).unwrap().split("## Limits").next().unwrap();
    let rows = errors.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| code"));
    assert_eq!(rows.count(), ErrorCode::ALL.len());
}

#[test]
fn every_kind_has_its_number() {
    let named = [
        (kind::HELLO, "Hello"),
        (kind::HELLO_REPLY, "HelloReply"),
        (kind::PING, "Ping"),
        (kind::PONG, "Pong"),
        (kind::METADATA, "Metadata"),
        (kind::METADATA_REPLY, "MetadataReply"),
        (kind::CREATE_TOPIC, "CreateTopic"),
        (kind::TOPIC, "Topic"),
        (kind::ALTER_TOPIC, "AlterTopic"),
        (kind::DELETE_TOPIC, "DeleteTopic"),
        (kind::TOPIC_DELETED, "TopicDeleted"),
        (kind::DESCRIBE_TOPIC, "DescribeTopic"),
        (kind::TOPIC_DESCRIPTION, "TopicDescription"),
        (kind::INIT_PRODUCER, "InitProducer"),
        (kind::PRODUCER, "Producer"),
        (kind::PRODUCE, "Produce"),
        (kind::PRODUCE_ACK, "ProduceAck"),
        (kind::FETCH, "Fetch"),
        (kind::FETCH_REPLY, "FetchReply"),
        (kind::LOOKUP_OFFSET, "LookupOffset"),
        (kind::OFFSET, "Offset"),
        (kind::SUBSCRIBE, "Subscribe"),
        (kind::SUBSCRIBED, "Subscribed"),
        (kind::CREDIT, "Credit"),
        (kind::UNSUBSCRIBE, "Unsubscribe"),
        (kind::UNSUBSCRIBED, "Unsubscribed"),
        (kind::DELIVER, "Deliver"),
        (kind::COMMIT_OFFSET, "CommitOffset"),
        (kind::OFFSET_COMMITTED, "OffsetCommitted"),
        (kind::COMMITTED_OFFSET, "CommittedOffset"),
        (kind::STATUS, "Status"),
        (kind::STATUS_REPLY, "StatusReply"),
        (kind::SET_LOG_FILTER, "SetLogFilter"),
        (kind::LOG_FILTER_SET, "LogFilterSet"),
        (kind::DRAIN, "Drain"),
        (kind::DRAIN_SET, "DrainSet"),
        (kind::BACKUP_BEGIN, "BackupBegin"),
        (kind::BACKUP_BEGUN, "BackupBegun"),
        (kind::BACKUP_KEEP, "BackupKeep"),
        (kind::BACKUP_KEPT, "BackupKept"),
        (kind::BACKUP_END, "BackupEnd"),
        (kind::BACKUP_ENDED, "BackupEnded"),
        (kind::STAGES, "Stages"),
        (kind::STAGES_REPLY, "StagesReply"),
        (kind::GO_AWAY, "GoAway"),
        (kind::ERROR, "Error"),
    ];
    let frames = DOCUMENT.split("## Frames").nth(1).unwrap();
    let frames = frames.split("## Rules of a connection").next().unwrap();
    for (number, name) in named {
        let (request, reply) =
            (format!("| {number:#04X} | {name} |"), format!("{number:#04X} {name}"));
        let (request, reply) = (request.replace("0X", "0x"), reply.replace("0X", "0x"));
        assert!(frames.contains(&request) || frames.contains(&reply), "no {request:?}");
        assert!(DOCUMENT.contains(&format!("**{name}**")), "no description of {name}");
    }
}
