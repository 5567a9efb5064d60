//! Requests that follow the protocol and ask for too much: each meets a named bound, and a client
//! beside them is served all the while.

use std::time::{Duration, Instant};

use model::{AckLevel, ErrorCode, PartitionHandle, Reply, Request, StartPosition, TopicName};
use protocol::kind;
use tempfile::TempDir;

use crate::harness::{Launch, Server, folder};
use crate::wire::{Wire, batch, produce_frame};

const MIB: u64 = 1024 * 1024;
/// Far above what a publish takes on the slowest machine, far below what the backlogs here would
/// take one after the other.
const SERVED_WITHIN: Duration = Duration::from_secs(20);

fn start(cores: u16) -> (TempDir, Server, Wire, PartitionHandle) {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(cores).start();
    server.create("t", 1);
    let mut other = Wire::open(server.address);
    let handle = other.handle("t", 0);
    (folder, server, other, handle)
}

fn frame_of(correlation: u64, request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    protocol::put_request(&mut bytes, correlation, request, 0).unwrap();
    bytes
}

#[track_caller]
fn served(server: &mut Server, other: &mut Wire, handle: PartitionHandle) {
    assert!(server.is_alive(), "{}", server.log());
    let began = Instant::now();
    other.produce(handle, AckLevel::Durable, &batch(&["good"])).ack();
    assert!(began.elapsed() < SERVED_WITHIN, "{:?}", began.elapsed());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn a_backlog_of_wide_questions_holds_up_no_one() {
    let (_folder, mut server, mut other, handle) = start(1);
    server.create("wide", 1_000);
    let question = Request::DescribeTopic { name: TopicName::parse("wide").unwrap() };
    // Minutes of work, were it all done before anything else.
    let frames = frame_of(7, &question).repeat(20_000);
    let mut greedy: Vec<_> = (0..4).map(|_| Wire::open(server.address)).collect();
    for wire in &mut greedy {
        wire.send(&frames);
    }
    for _ in 0..5 {
        served(&mut server, &mut other, handle);
    }
    // Those who asked are answered, in time.
    assert!(matches!(greedy[0].frame().reply(), Reply::TopicDescription { .. }));
}

#[test]
fn answers_that_no_one_reads_are_bounded_over_all_connections() {
    let (_folder, mut server, mut other, handle) = start(1);
    for number in 0..20 {
        server.create(&format!("topic-{number}"), 100);
    }
    let before = server.resident_bytes();
    let list = frame_of(1, &Request::Metadata { topics: Vec::new(), after: None, limit: 1_000 });
    let ping = frame_of(2, &Request::Ping);
    let mut unread: Vec<_> = (0..100).map(|_| Wire::open(server.address)).collect();
    // 4 MiB for each connection would be allowed, were it alone; together that is 400 MiB.
    for wire in &mut unread {
        wire.send(&list.repeat(400));
        wire.send(&ping.repeat(1_000));
    }
    for _ in 0..5 {
        served(&mut server, &mut other, handle);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 200 * MIB, "{} MiB more", grown / MIB);
    // Nothing is lost for one that begins to read.
    let mut answers = 0;
    while answers < 1_400 {
        let frame = unread[0].frame();
        let refused = frame.header.kind == kind::ERROR;
        assert!(!refused || frame.rejection().code == ErrorCode::Busy, "{frame:?}");
        answers += 1;
    }
    served(&mut server, &mut other, handle);
}

#[test]
fn lists_of_names_and_of_batches_have_an_end() {
    let (_folder, mut server, mut other, handle) = start(1);
    let mut wire = Wire::open(server.address);
    let names = |count: usize| {
        let topics = (0..count).map(|i| TopicName::parse(&format!("n{i}")).unwrap()).collect();
        Request::Metadata { topics, after: None, limit: 1 }
    };
    match wire.request(&names(1_000)).reply() {
        Reply::Metadata { unknown, .. } => assert_eq!(unknown.len(), 1_000),
        other => panic!("{other:?}"),
    }
    let refused = wire.request(&names(1_001)).rejection();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    assert!(refused.message.contains("at most 1000"), "{refused}");

    let publish = |count: u32| {
        let one = batch(&[""]).repeat(count as usize);
        let mut frame = produce_frame(handle, Some(AckLevel::Memory), 9, &one);
        frame[40..44].copy_from_slice(&count.to_le_bytes());
        frame
    };
    wire.send(&publish(4_096));
    assert_eq!(wire.frame().ack().offset_step, 4_096);
    wire.send(&publish(4_097));
    let refused = wire.frame().rejection();
    assert_eq!(refused.code, ErrorCode::TooLarge, "{refused}");
    served(&mut server, &mut other, handle);
}

#[test]
fn a_log_filter_is_short_and_simple() {
    let (_folder, mut server, mut other, handle) = start(1);
    for filter in ["info,[x{f=((((a{99}){99}){99}){99})}]=info".to_owned(), "a=info,".repeat(9_000)]
    {
        let refused = other.request(&Request::SetLogFilter { filter }).rejection();
        assert_eq!(refused.code, ErrorCode::InvalidArgument, "{refused}");
        assert!(refused.message.len() < 300, "{refused}");
    }
    served(&mut server, &mut other, handle);
}

/// Credit of the largest numbers, and for nothing, on both sides of a hop between cores.
#[test]
fn credit_without_measure_is_harmless() {
    let (_folder, mut server, mut other, _) = start(2);
    server.create("far", 2);
    let handles = [other.handle("far", 0), other.handle("far", 1)];
    let mut greedy = Wire::open(server.address);
    for (subscription, partition) in (0..).zip(handles) {
        let position = StartPosition::First;
        let credit_bytes = u64::MAX;
        let subscribe = Request::Subscribe { partition, subscription, position, credit_bytes };
        assert_eq!(greedy.request(&subscribe).header.kind, kind::SUBSCRIBED);
    }
    let before = server.resident_bytes();
    let credits: Vec<u8> = [u64::MAX, 1 << 63, i64::MAX as u64, 0]
        .iter()
        .flat_map(|bytes| (0..3).map(move |subscription| (subscription, *bytes)))
        .flat_map(|(subscription, bytes)| frame_of(0, &Request::Credit { subscription, bytes }))
        .collect();
    greedy.send(&credits.repeat(10_000));
    for partition in handles {
        served(&mut server, &mut other, partition);
    }
    let mut delivered = 0;
    while delivered < 2 {
        delivered += usize::from(greedy.frame().header.kind == kind::DELIVER);
    }
    greedy.check_alive();
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB more", grown / MIB);
}

/// As many subscriptions as a connection may have, ended again, with refusals in between: none of
/// it is a search through all of them.
#[test]
fn tens_of_thousands_of_subscriptions_come_and_go() {
    let (_folder, mut server, mut other, handle) = start(1);
    let mut wire = Wire::open(server.address);
    let count = 20_000;
    let mut begun = Vec::new();
    let mut ended = Vec::new();
    for subscription in 0..count {
        for position in [StartPosition::Next, StartPosition::Offset(u64::MAX)] {
            let number = if position == StartPosition::Next { subscription } else { u32::MAX };
            let subscribe = Request::Subscribe {
                partition: handle,
                subscription: number,
                position,
                credit_bytes: 1,
            };
            begun.extend(frame_of(u64::from(number) + 1, &subscribe));
        }
        ended.extend(frame_of(1, &Request::Unsubscribe { subscription }));
    }
    wire.send(&begun);
    let (mut good, mut refused) = (0, 0);
    while good + refused < 2 * count {
        match wire.frame().reply() {
            Reply::Subscribed { .. } => good += 1,
            // One number for all of these: it may still be in use by the one before.
            Reply::Rejected(_) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((good, refused), (count, count));
    served(&mut server, &mut other, handle);
    wire.send(&ended);
    let mut gone = 0;
    while gone < count {
        // What was delivered before stands before the answers.
        match wire.frame().header.kind {
            kind::UNSUBSCRIBED => gone += 1,
            other => assert_eq!(other, kind::DELIVER),
        }
    }
    served(&mut server, &mut other, handle);
}

/// A topic of many partitions is made in portions, beside which others are served.
#[test]
fn a_huge_topic_is_made_and_deleted_beside_others() {
    let (_folder, mut server, mut other, handle) = start(1);
    let mut wire = Wire::open(server.address);
    let name = TopicName::parse("huge").unwrap();
    let config = model::TopicConfig::default();
    let create = |partitions| Request::CreateTopic {
        name: name.clone(),
        partitions,
        config: config.clone(),
    };
    for partitions in [0, 100_001, u32::MAX] {
        let refused = wire.request(&create(partitions)).rejection();
        assert!(!refused.code.is_retryable(), "{refused}");
    }
    wire.send(&frame_of(50, &create(20_000)));
    served(&mut server, &mut other, handle);
    match wire.frame().reply() {
        Reply::Topic(topic) => assert_eq!(topic.partitions.len(), 20_000),
        other => panic!("{other:?}"),
    }
    wire.send(&frame_of(51, &Request::DeleteTopic { name: name.clone() }));
    served(&mut server, &mut other, handle);
    assert_eq!(wire.frame().header.kind, kind::TOPIC_DELETED);
}

/// Many clients stop in the middle of large frames and go away. Whoever waited for their memory is
/// served then, at once: what those who wait have sent must not keep all of them waiting.
#[test]
fn whoever_waits_for_memory_of_half_frames_is_served_in_the_end() {
    let (_folder, mut server, mut other, handle) = start(1);
    let large = produce_frame(handle, Some(AckLevel::Memory), 3, &batch(&[vec![7; 7 << 20]]));
    let mut stuck: Vec<_> = (0..24).map(|_| Wire::open(server.address)).collect();
    for wire in &mut stuck {
        // Fills the room there is, and then what the sockets take.
        wire.send(&large[..2 << 20]);
    }
    // These wait: each with a part of a frame of its own.
    let small = produce_frame(handle, Some(AckLevel::Memory), 4, &batch(&[vec![7; 300 << 10]]));
    let mut waiting: Vec<_> = (0..40).map(|_| Wire::open(server.address)).collect();
    for wire in &mut waiting {
        wire.send(&small[..small.len() - 1]);
    }
    served(&mut server, &mut other, handle);
    drop(stuck);
    let began = Instant::now();
    for wire in &mut waiting {
        wire.send(&small[small.len() - 1..]);
        assert_eq!(wire.frame().ack().count, 1);
    }
    assert!(began.elapsed() < SERVED_WITHIN, "{:?}", began.elapsed());
    served(&mut server, &mut other, handle);
}
