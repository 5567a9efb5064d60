//! Clients that are broken or mean no good: each gets an error with a code and a sentence, or its
//! connection closed; no other client notices; memory stays bounded.

use model::{AckLevel, ErrorCode, PartitionHandle, Request, ShardId, StartPosition, StreamId};
use protocol::batch::{BATCH_HEADER_BYTES, BatchHeader, crc32c};
use protocol::{
    BatchBuilder, DELIVER_HEAD_BYTES, DeliverHead, FetchHead, FrameHeader, PROTOCOL_VERSION, kind,
};
use tempfile::TempDir;

use crate::harness::{Launch, Server, folder};
use crate::random::Random;
use crate::wire::{Frame, Wire, batch, hello, produce_frame};

const MIB: u64 = 1024 * 1024;
/// What a broker of one core may have resident whatever its clients do, under [`start`]'s
/// settings: 64 MiB and 16 MiB for the core, 16 MiB of cache, and the named bounds: 64 MiB of
/// half frames, 64 MiB of backlog, and 32 MiB in flight of the one or two connections that use it.
const RESIDENT_BYTES_MAX: u64 = (64 + 16 + 16 + 64 + 64 + 64) * MIB;

/// A broker with one topic, a connection that behaves, and the partition.
fn start() -> (TempDir, Server, Wire, PartitionHandle) {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(1).start();
    server.create("t", 1);
    let mut other = Wire::open(server.address);
    let handle = other.handle("t", 0);
    (folder, server, other, handle)
}

/// The behaving client is served, and the server is within its bounds.
#[track_caller]
fn check(server: &mut Server, other: &mut Wire, handle: PartitionHandle) {
    assert!(server.is_alive(), "{}", server.log());
    other.check_alive();
    other.produce(handle, AckLevel::Durable, &batch(&["good"])).ack();
    let resident = server.resident_bytes();
    assert!(resident < RESIDENT_BYTES_MAX, "{} MiB resident", resident / MIB);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// The frames before the close end in this error.
#[track_caller]
fn closed_with(wire: &mut Wire, code: ErrorCode) {
    let frames = wire.until_closed();
    let rejection = frames.last().expect("an error before the close").rejection();
    assert_eq!(rejection.code, code, "{rejection}");
    assert!(rejection.message.len() > 10, "{rejection}");
}

#[track_caller]
fn refused(frame: &Frame, code: ErrorCode) {
    let rejection = frame.rejection();
    assert_eq!(rejection.code, code, "{rejection}");
    assert!(rejection.message.len() > 10, "{rejection}");
}

/// A frame header without its checks.
fn header(length: u32, version: u8, flags: u8, kind: u16) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend([version, flags]);
    bytes.extend(kind.to_le_bytes());
    bytes.extend(77u64.to_le_bytes());
    bytes
}

#[test]
fn garbage_is_answered_or_closed() {
    let (_folder, mut server, mut other, handle) = start();
    let mut random = Random::of_this_run();
    for round in 0..200 {
        let greeted = round % 2 == 0;
        let mut wire =
            if greeted { Wire::open(server.address) } else { Wire::silent(server.address) };
        let length = 1 + (random.next() % 5_000) as usize;
        let mut garbage = random.bytes(length);
        if round % 4 < 2 {
            // Frames as they should be, with bodies that should not.
            let kind = (random.next() % 0x60) as u16 & !1;
            let mut frame = header(16 + length as u32, PROTOCOL_VERSION, 0, kind);
            frame.append(&mut garbage);
            garbage = frame;
        }
        wire.send_anyway(&garbage);
        wire.stop_sending();
        for frame in wire.until_closed() {
            if frame.header.kind == kind::ERROR {
                assert!(frame.rejection().message.len() > 10);
            }
        }
    }
    check(&mut server, &mut other, handle);
}

#[test]
fn frames_that_break_the_rules_say_which() {
    let (_folder, mut server, mut other, handle) = start();
    let address = server.address;
    let open = |bytes: &[u8]| {
        let mut wire = Wire::open(address);
        wire.send(bytes);
        wire
    };
    let over = model::limits::FRAME_BYTES_MAX + 1;
    closed_with(&mut open(&header(over, 1, 0, kind::PRODUCE)), ErrorCode::TooLarge);
    closed_with(&mut open(&header(15, 1, 0, kind::PING)), ErrorCode::Malformed);
    closed_with(&mut open(&header(20, 9, 0, kind::PING)), ErrorCode::UnsupportedVersion);
    closed_with(&mut open(&hello()), ErrorCode::Malformed);

    let mut unasked = Wire::silent(address);
    unasked.send(&header(20, 1, 0, kind::PING));
    unasked.send(&[0; 4]);
    closed_with(&mut unasked, ErrorCode::HandshakeRequired);

    // Where the frame's end is known, the connection goes on.
    for (bytes, code) in [
        (header(16, 1, 0, 0x66), ErrorCode::UnknownKind),
        (header(16, 1, 0, kind::PING), ErrorCode::Malformed),
        (header(16, 1, 0, kind::PRODUCE), ErrorCode::Malformed),
        (header(16, 1, 3, kind::PING), ErrorCode::Malformed),
    ] {
        let mut wire = open(&bytes);
        refused(&wire.frame(), code);
        wire.check_alive();
    }
    check(&mut server, &mut other, handle);
}

#[test]
fn frames_may_come_byte_by_byte() {
    let (_folder, mut server, mut other, handle) = start();
    let mut slow = Wire::silent(server.address);
    for byte in hello() {
        slow.send(&[byte]);
    }
    assert_eq!(slow.frame().header.kind, kind::HELLO_REPLY);
    for byte in produce_frame(handle, Some(AckLevel::Durable), 5, &batch(&["slow"])) {
        slow.send(&[byte]);
        other.check_alive();
    }
    assert_eq!(slow.frame().ack().base_offset, 0);
    check(&mut server, &mut other, handle);
}

/// A batch whose header was changed, with the checksum that belongs to the change.
fn changed(values: &[&str], change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
    let mut bytes = batch(values);
    let mut head = BatchHeader::parse(bytes.first_chunk().unwrap()).unwrap();
    change(&mut head);
    bytes[..BATCH_HEADER_BYTES].copy_from_slice(&head.to_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn batches_that_lie_are_not_stored() {
    let (_folder, mut server, mut other, handle) = start();
    let mut wire = Wire::open(server.address);
    let durable = AckLevel::Durable;

    let mut wrong_crc = batch(&["altered"]);
    *wrong_crc.last_mut().unwrap() ^= 1;
    refused(&wire.produce(handle, durable, &wrong_crc), ErrorCode::CorruptBatch);

    let count_only = changed(&["a"], |head| head.records_count = 1_000_000);
    refused(&wire.produce(handle, durable, &count_only), ErrorCode::Malformed);
    let both = changed(&["a"], |head| {
        head.records_count = 1_000_000;
        head.last_offset_delta = 999_999;
    });
    refused(&wire.produce(handle, durable, &both), ErrorCode::Malformed);
    let none = changed(&["a"], |head| head.records_count = 0);
    refused(&wire.produce(handle, durable, &none), ErrorCode::Malformed);

    let good = batch(&["a"]);
    refused(&wire.produce(handle, durable, &good[..good.len() - 1]), ErrorCode::Malformed);
    let longer = [&good[..], b"and more"].concat();
    refused(&wire.produce(handle, durable, &longer), ErrorCode::Malformed);
    refused(&wire.produce(handle, durable, b""), ErrorCode::Malformed);

    let mut too_many = produce_frame(handle, None, 900, &good);
    too_many[16 + 24..16 + 28].copy_from_slice(&7u32.to_le_bytes());
    wire.send(&too_many);
    refused(&wire.frame(), ErrorCode::Malformed);

    let mut big = BatchBuilder::new();
    big.append(0, None, Some(&vec![0; 8 * MIB as usize - 200]), []).unwrap();
    let big = big.finish(None);
    assert_eq!(wire.produce(handle, durable, &big).ack().base_offset, 0);
    let mut too_big = big.clone();
    too_big.resize(8 * MIB as usize + 12, 0);
    let length = too_big.len() as u32 - 12;
    too_big[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&too_big[21..]);
    too_big[17..21].copy_from_slice(&crc.to_be_bytes());
    refused(&wire.produce(handle, durable, &too_big), ErrorCode::TooLarge);
    wire.check_alive();

    check(&mut server, &mut other, handle);
    assert_eq!(wire.produce(handle, durable, &good).ack().base_offset, 2, "nothing else is there");
}

#[test]
fn what_is_not_there_is_an_error() {
    let (_folder, mut server, mut other, handle) = start();
    let mut wire = Wire::open(server.address);
    let one = batch(&["a"]);
    for unknown in [
        PartitionHandle { stream: StreamId(999), ..handle },
        PartitionHandle { topic: model::TopicId(999), ..handle },
        PartitionHandle { shard: ShardId(999), ..handle },
        PartitionHandle::default(),
    ] {
        refused(&wire.produce(unknown, AckLevel::Durable, &one), ErrorCode::UnknownPartition);
        refused(&wire.request(&fetch(unknown, 0)), ErrorCode::UnknownPartition);
        refused(&wire.request(&subscribe(unknown, 1, 1)), ErrorCode::UnknownPartition);
    }
    for offset in [1, 1 << 40, u64::MAX] {
        refused(&wire.request(&fetch(handle, offset)), ErrorCode::OffsetOutOfRange);
        let partition = handle;
        let position = StartPosition::Offset(offset);
        let lookup = Request::LookupOffset { partition, position: position.clone() };
        refused(&wire.request(&lookup), ErrorCode::OffsetOutOfRange);
        let subscribe =
            Request::Subscribe { partition, subscription: 1, position, credit_bytes: 1 };
        refused(&wire.request(&subscribe), ErrorCode::OffsetOutOfRange);
    }
    let gone = wire.request(&Request::Unsubscribe { subscription: 5 });
    refused(&gone, ErrorCode::UnknownSubscription);
    check(&mut server, &mut other, handle);
}

fn fetch(partition: PartitionHandle, offset: u64) -> Request {
    let (min_bytes, max_bytes, max_wait_ms) = (1, u32::MAX, 0);
    Request::Fetch { partition, offset, min_bytes, max_bytes, max_wait_ms }
}

fn subscribe(partition: PartitionHandle, subscription: u32, credit_bytes: u64) -> Request {
    let position = StartPosition::First;
    Request::Subscribe { partition, subscription, position, credit_bytes }
}

#[test]
fn clients_that_die_inside_a_frame_leave_nothing() {
    let (_folder, mut server, mut other, handle) = start();
    let big = batch(&[vec![7; 4 * MIB as usize]]);
    let frame = produce_frame(handle, None, 1, &big);
    for round in 0..40 {
        let mut wire = Wire::open(server.address);
        wire.send(&frame[..frame.len() - 1 - round]);
    }
    check(&mut server, &mut other, handle);
    let reply = other.produce(handle, AckLevel::Durable, &batch(&["next"]));
    assert_eq!(reply.ack().base_offset, 1, "no half frame was stored");
}

#[test]
fn half_frames_of_many_clients_are_bounded() {
    let (_folder, mut server, mut other, handle) = start();
    let big = batch(&[vec![7; 2 * MIB as usize]]);
    let frame = produce_frame(handle, Some(AckLevel::Memory), 1, &big);
    // 128 MiB of half frames in all: twice what a core holds. Those past the bound are not read,
    // so their senders would wait; each has a thread of its own.
    let senders: Vec<_> = (0..64)
        .map(|_| {
            let (address, frame) = (server.address, frame.clone());
            std::thread::spawn(move || {
                let mut wire = Wire::open(address);
                wire.send(&frame);
                wire.frame().ack();
            })
        })
        .collect();
    while senders.iter().any(|sender| !sender.is_finished()) {
        check(&mut server, &mut other, handle);
    }
    // All of them came through in the end.
    for sender in senders {
        sender.join().unwrap();
    }
    check(&mut server, &mut other, handle);
}

#[test]
fn a_slow_reader_holds_up_no_one_and_little_memory() {
    let (_folder, mut server, mut other, handle) = start();
    let mut slow = Wire::open(server.address);
    let subscribed = slow.request(&subscribe(handle, 1, model::limits::CREDIT_BYTES_MAX));
    assert_eq!(subscribed.header.kind, kind::SUBSCRIBED);
    // It asks for everything many times over as well, and reads none of it.
    for correlation in 1_000..1_200 {
        let mut bytes = Vec::new();
        protocol::put_request(&mut bytes, correlation, &fetch(handle, 0), 0).unwrap();
        slow.send(&bytes);
    }
    let payload = vec![b'x'; MIB as usize];
    let count = 96;
    for _ in 0..count {
        other.produce(handle, AckLevel::Durable, &batch(&[&payload])).ack();
    }
    check(&mut server, &mut other, handle);
    // Then it reads: everything comes, in order.
    let (mut next, mut fetches) = (0, 0);
    while next < count + 1 || fetches < 200 {
        let frame = slow.frame();
        match frame.header.kind {
            kind::DELIVER => {
                let head = DeliverHead::parse(&frame.body).unwrap();
                assert_eq!(head.first_offset, next);
                assert!(frame.body.len() > DELIVER_HEAD_BYTES);
                next = head.next_offset;
            }
            kind::FETCH_REPLY => {
                assert!(FetchHead::parse(&frame.body).is_ok());
                fetches += 1;
            }
            // Too many at once may be refused.
            _ => {
                assert!(frame.rejection().code.is_retryable(), "{frame:?}");
                fetches += 1;
            }
        }
    }
    check(&mut server, &mut other, handle);
}

#[test]
fn a_sender_that_reads_no_answer_is_read_no_further() {
    let (_folder, mut server, mut other, handle) = start();
    let (address, frame) = {
        let values: Vec<_> = (0..4).map(|_| vec![b'y'; 64 * 1024]).collect();
        (server.address, produce_frame(handle, Some(AckLevel::Durable), 1, &batch(&values)))
    };
    let sender = std::thread::spawn(move || {
        let mut wire = Wire::open(address);
        for _ in 0..400 {
            wire.send(&frame);
        }
        // 100 MiB have gone out; now the answers.
        let mut answered = 0;
        while answered < 400 {
            answered += wire.frame().ack().count;
        }
    });
    while !sender.is_finished() {
        check(&mut server, &mut other, handle);
    }
    sender.join().unwrap();
}

#[test]
fn headers_are_what_this_file_thinks() {
    let expected = FrameHeader::parse(header(20, 1, 0, kind::PING).first_chunk().unwrap()).unwrap();
    assert_eq!((expected.length, expected.kind, expected.correlation), (20, kind::PING, 77));
}
