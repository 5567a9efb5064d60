//! Connections of a core over real sockets, most without shards, with a clock that can be set on.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use model::{CoreId, ErrorCode, PartitionHandle, Rejection, Reply, Request, ShardId};
use protocol::{FRAME_HEADER_BYTES, FrameHeader, Hello, kind};
use ring::RingConfig;

use super::run::{CoreStart, ShardStart, open_for_test};
use super::*;
use crate::admission::Admission;
use crate::bounds::{
    DRAINING_SECONDS_MAX, GREETING_SECONDS_MAX, OPERATOR_LEAVES_SECONDS, OUTPUT_BYTES_MAX,
    PARTIAL_FRAME_SECONDS_MAX, PUBLISHES_RECENT_NS,
};
use crate::mesh::Mesh;
use crate::message::{Message, Origin};

const PARTIAL_BYTES_MAX: usize = 100_000;
const OPERATOR_IDLE_SECONDS: u64 = 60;

fn core() -> Core {
    core_of(Vec::new())
}

fn core_of(shards: Vec<ShardStart>) -> Core {
    let map = ShardMap::new(1, 1);
    let admission = Admission::new(1, 0);
    let (events, _) = mpsc::channel();
    open_for_test(CoreStart {
        config: CoreConfig {
            core: CoreId(0),
            cpu: None,
            connections_max: 100,
            in_flight_bytes_max: 1 << 20,
            partial_frame_bytes_max: PARTIAL_BYTES_MAX,
            output_bytes_max: crate::bounds::OUTPUT_BYTES_PER_CORE_MAX,
            // Every frame not yet whole is copied out of the receive pool.
            held_buffers_max: 0,
            shutdown_timeout_ns: 1_000_000_000,
            operator_idle_ns: OPERATOR_IDLE_SECONDS * 1_000_000_000,
            spin: SpinConfig::default(),
            steered: false,
            memory: None,
        },
        map,
        mesh: Mesh::new(1, 8),
        facts: Arc::new(ServerFacts::new(
            "test".into(),
            "/nowhere".into(),
            crate::facts::Secret::new([0; 16]),
            false,
            admission,
        )),
        listeners: Vec::new(),
        addresses: Arc::from([]),
        ring: RingConfig { entries: 64, receive_buffers: 16, receive_buffer_bytes: 4096 },
        shards,
        events,
    })
}

/// Both ends of a connection.
fn sockets() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nonblocking(true).unwrap();
    client.set_nodelay(true).unwrap();
    (client, listener.accept().unwrap().0.into())
}

/// A client whose server is the core of the test.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    closed: bool,
}

impl Client {
    fn connect(core: &mut Core) -> Self {
        let (stream, socket) = sockets();
        core.facts.admission.enter_core(CoreId(0));
        core.take_in(socket, stream.local_addr().ok());
        Self { stream, received: Vec::new(), closed: false }
    }

    fn greeted(core: &mut Core) -> Self {
        Self::greeted_as(core, 0)
    }

    fn greeted_as(core: &mut Core, features: u64) -> Self {
        let mut client = Self::connect(core);
        let mut bytes = Vec::new();
        let hello = Hello { version_min: 1, version_max: 1, features, ..Hello::default() };
        protocol::put_hello(&mut bytes, 1, &hello).unwrap();
        client.send(&bytes);
        assert_eq!(client.frame(core).0.kind, kind::HELLO_REPLY);
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn try_frame(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        let mut chunk = [0; 65_536];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.closed = true,
            Ok(count) => self.received.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.closed = true,
        }
        let (header, length) = protocol::next_frame(&self.received).unwrap()?;
        let body = self.received[FRAME_HEADER_BYTES..length].to_vec();
        self.received.drain(..length);
        Some((header, body))
    }

    #[track_caller]
    fn frame(&mut self, core: &mut Core) -> (FrameHeader, Vec<u8>) {
        turn_until(core, || self.try_frame())
    }

    #[track_caller]
    fn rejection(&mut self, core: &mut Core) -> Rejection {
        let (header, body) = self.frame(core);
        match protocol::decode_reply(&header, &body).unwrap() {
            Reply::Rejected(rejection) => rejection,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check_closed(&mut self, core: &mut Core) {
        turn_until(core, || {
            assert!(self.try_frame().is_none());
            self.closed.then_some(())
        });
    }
}

/// Turns the core until `done` gives a value.
#[track_caller]
fn turn_until<T>(core: &mut Core, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        core.turn().unwrap();
        if let Some(value) = done() {
            return value;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Lets time pass, as the core sees it, and has it look at its clocks.
fn pass(core: &mut Core, seconds: u64) {
    core.clock.age(Duration::from_secs(seconds));
    core.reap_at_ns = 0;
    core.tick_due = true;
    core.turn().unwrap();
}

fn ping(correlation: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    protocol::put_request(&mut bytes, correlation, &Request::Ping, 0).unwrap();
    bytes
}

/// A frame of this length whose kind no one knows: answered with an error once it is whole.
fn large_frame(bytes: usize, correlation: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes());
    frame.extend_from_slice(&[1, 0]);
    frame.extend_from_slice(&0x7000u16.to_le_bytes());
    frame.extend_from_slice(&correlation.to_le_bytes());
    frame.resize(bytes, 0);
    frame
}

#[test]
fn who_does_not_greet_in_time_is_closed() {
    let mut core = core();
    let mut silent = Client::connect(&mut core);
    let mut polite = Client::greeted(&mut core);
    pass(&mut core, GREETING_SECONDS_MAX - 1);
    assert!(silent.try_frame().is_none() && !silent.closed);
    pass(&mut core, 2);
    assert_eq!(silent.rejection(&mut core).code, ErrorCode::HandshakeRequired);
    silent.check_closed(&mut core);
    polite.send(&ping(2));
    assert_eq!(polite.frame(&mut core).0.kind, kind::PONG);
    settle(&mut core);
    assert_eq!(core.connections.len(), 1);
    assert_eq!(core.facts.admission.connections_of(CoreId(0)), 1);
}

#[test]
fn frames_not_yet_whole_share_the_memory_there_is_and_come_through_one_after_the_other() {
    let mut core = core();
    let mut first = Client::greeted(&mut core);
    let mut second = Client::greeted(&mut core);
    let frame = large_frame(PARTIAL_BYTES_MAX * 3 / 4, 7);
    let (head, rest) = frame.split_at(5_000);
    first.send(head);
    settle(&mut core);
    second.send(head);
    settle(&mut core);
    assert_eq!(core.stalled.len(), 1, "the second waits for room");
    assert!(core.partial_bytes <= PARTIAL_BYTES_MAX, "{}", core.partial_bytes);
    // More of it changes nothing: it is not read.
    second.stream.write_all(rest).ok();
    settle(&mut core);
    assert!(core.partial_bytes <= PARTIAL_BYTES_MAX, "{}", core.partial_bytes);
    first.send(rest);
    assert_eq!(first.rejection(&mut core).code, ErrorCode::UnknownKind);
    assert_eq!(second.rejection(&mut core).code, ErrorCode::UnknownKind);
    for client in [&mut first, &mut second] {
        client.send(&ping(9));
        assert_eq!(client.frame(&mut core).0.kind, kind::PONG);
    }
    assert_eq!((core.partial_bytes, core.held_buffers, core.stalled.len()), (0, 0, 0));
}

/// When room comes back, one that waits gets it, not all at once to be refused again.
#[test]
fn room_for_a_frame_is_given_to_one_after_the_other() {
    let mut core = core();
    let frame = large_frame(PARTIAL_BYTES_MAX * 3 / 4, 7);
    let (head, rest) = frame.split_at(5_000);
    let mut clients: Vec<_> = (0..4).map(|_| Client::greeted(&mut core)).collect();
    for client in &mut clients {
        client.send(head);
        settle(&mut core);
    }
    for waiting in (0..4).rev() {
        assert_eq!(core.stalled.len(), waiting);
        assert!(core.partial_waiting_bytes <= waiting * head.len(), "{waiting} wait");
        let room = core.partial_bytes - core.partial_waiting_bytes;
        assert_eq!(room, frame.len(), "room for exactly one, {waiting} wait");
        let mut next = clients.remove(0);
        next.send(rest);
        assert_eq!(next.rejection(&mut core).code, ErrorCode::UnknownKind);
        settle(&mut core);
    }
    assert_eq!((core.partial_bytes, core.partial_waiting_bytes), (0, 0));
}

#[test]
fn who_comes_when_too_many_wait_for_room_is_sent_away_and_holds_nothing() {
    let mut core = core();
    let frame = large_frame(PARTIAL_BYTES_MAX, 7);
    let head = &frame[..4_000];
    let mut clients: Vec<_> = (0..=PARTIAL_BYTES_MAX / head.len() + 1)
        .map(|_| {
            let mut client = Client::greeted(&mut core);
            client.send(head);
            settle(&mut core);
            client
        })
        .collect();
    let mut last = clients.pop().unwrap();
    assert_eq!(last.rejection(&mut core).code, ErrorCode::Busy);
    last.check_closed(&mut core);
    assert_eq!(core.stalled.len(), clients.len() - 1, "all but the first wait");
    assert!(core.partial_waiting_bytes <= PARTIAL_BYTES_MAX);
    clients[0].send(&frame[head.len()..]);
    assert_eq!(clients[0].rejection(&mut core).code, ErrorCode::UnknownKind);
    drop(clients);
    settle(&mut core);
    let left = (core.partial_bytes, core.partial_waiting_bytes, core.held_buffers);
    assert_eq!(left, (0, 0, 0));
}

#[test]
fn a_frame_that_does_not_come_whole_in_time_costs_its_connection() {
    let mut core = core();
    let mut slow = Client::greeted(&mut core);
    slow.send(&large_frame(50_000, 7)[..1_000]);
    settle(&mut core);
    assert!(core.partial_bytes > 0);
    pass(&mut core, PARTIAL_FRAME_SECONDS_MAX - 1);
    assert!(slow.try_frame().is_none());
    pass(&mut core, 2);
    assert_eq!(slow.rejection(&mut core).code, ErrorCode::Busy);
    slow.check_closed(&mut core);
    assert_eq!((core.partial_bytes, core.held_buffers), (0, 0));
}

#[test]
fn a_closing_connection_that_takes_nothing_is_cut() {
    let mut core = core();
    let mut client = Client::greeted(&mut core);
    let id = core.connections.ids()[0];
    // More than the sockets hold, and a client that reads none of it.
    let connection = core.connections.get_mut(id).unwrap();
    connection.output.push(&vec![0; 16 << 20]);
    core.mark_dirty(id);
    settle(&mut core);
    core.close_with(id, 5, &Rejection::new(ErrorCode::Malformed, "the test's reason"));
    settle(&mut core);
    assert_eq!(core.connections.len(), 1, "its last replies are still to go");
    pass(&mut core, DRAINING_SECONDS_MAX + 1);
    let began = Instant::now();
    while core.connections.len() > 0 {
        core.turn().unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    client.stream.set_nonblocking(false).unwrap();
    let mut rest = Vec::new();
    // The end comes as a reset or as an end; either way it comes.
    let _ = client.stream.read_to_end(&mut rest);
    assert!(rest.len() < 16 << 20);
}

/// A client that sends requests and reads no replies is not read either.
#[test]
fn unread_replies_stop_the_reading() {
    let mut core = core();
    let mut client = Client::greeted(&mut core);
    let id = core.connections.ids()[0];
    // So that the kernel holds little of what is not read.
    let small = 16 * 1024;
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, small).unwrap();
    let server = &core.connections.get_mut(id).unwrap().socket;
    rustix::net::sockopt::set_socket_send_buffer_size(server, small).unwrap();
    let pings: Vec<u8> = (0..4_000).flat_map(ping).collect();
    while core.connections.get_mut(id).unwrap().stall.is_none() {
        let _ = client.stream.write(&pings);
        core.turn().unwrap();
        let taken = core.counters.bytes_in as usize;
        assert!(taken < 3 * OUTPUT_BYTES_MAX, "{taken} bytes of requests taken, and no end");
    }
    let pending = core.connections.get_mut(id).unwrap().output.pending_bytes();
    // One turn's frames may still be answered when the bound is met.
    assert!(pending < OUTPUT_BYTES_MAX + (1 << 20), "{pending}");
}

#[test]
fn an_operator_that_asks_nothing_is_asked_to_leave_and_a_client_is_not() {
    let mut core = core();
    let mut client = Client::greeted(&mut core);
    let mut idle = Client::greeted_as(&mut core, protocol::FEATURE_OPERATOR);
    let mut busy = Client::greeted_as(&mut core, protocol::FEATURE_OPERATOR);
    assert_eq!(core.operators, 2);
    pass(&mut core, OPERATOR_IDLE_SECONDS - 1);
    assert!(idle.try_frame().is_none() && busy.try_frame().is_none());
    // A sign of life is no question.
    idle.send(&ping(2));
    assert_eq!(idle.frame(&mut core).0.kind, kind::PONG);
    let mut bytes = Vec::new();
    let question = Request::Metadata { topics: Vec::new(), after: None, limit: 1 };
    protocol::put_request(&mut bytes, 3, &question, 0).unwrap();
    busy.send(&bytes);
    assert_eq!(busy.frame(&mut core).0.kind, kind::METADATA_REPLY);
    pass(&mut core, 1);
    let (header, body) = idle.frame(&mut core);
    assert_eq!(header.kind, kind::GO_AWAY);
    let go_away = protocol::parse_go_away(&body).unwrap();
    assert_eq!(go_away.reason, ErrorCode::Busy);
    assert!(go_away.message.contains("server.operator_idle_timeout"), "{}", go_away.message);
    pass(&mut core, OPERATOR_LEAVES_SECONDS);
    idle.check_closed(&mut core);
    pass(&mut core, 1);
    assert!(busy.try_frame().is_none() && !busy.closed);
    assert!(client.try_frame().is_none() && !client.closed, "clients may be silent");
    assert_eq!((core.operators, core.connections.len()), (1, 2));
}

/// A core with a shard, which holds one topic.
fn core_with_shard(folder: &std::path::Path) -> (Core, PartitionHandle) {
    let mut core = core_of(vec![ShardStart {
        id: ShardId(0),
        path: folder.to_owned(),
        block_bytes: 4096,
        access: wal::device::Access::Buffered,
        volatile: false,
        refused: None,
        wal: wal::WalConfig {
            segment_bytes: 4 * 1024 * 1024,
            prepare_bytes: 64 * 1024,
            ..wal::WalConfig::default()
        },
        retention_check_ms: 1_000,
        write_budget: None,
        create: true,
    }]);
    let spec = shards::TopicSpec {
        id: model::TopicId(1),
        name: model::TopicName::parse("t").unwrap(),
        config: model::TopicConfig::default(),
        config_version: 1,
    };
    let host = open_shard_in(&mut core.shards, 0, ShardId(0)).unwrap();
    let (stream, _) = host
        .decide(|engine, journal| {
            engine.create_partition(1, &spec, model::PartitionIndex(0), journal)
        })
        .unwrap();
    (core, PartitionHandle { topic: spec.id, stream, shard: ShardId(0) })
}

/// Where clients wait for answers the core reads for less time in a turn: also when the answer is
/// no matter of this core's disk.
#[test]
fn publishes_of_any_level_and_any_core_count_as_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let (mut core, handle) = core_with_shard(folder.path());
    // Time stands still, but for what the test says.
    core.clock = Clock::driven(1_000_000_000, 1);
    let mut client = Client::greeted(&mut core);
    settle(&mut core);
    assert!(!core.publishes_wait(), "nobody has published");

    let mut builder = protocol::BatchBuilder::new();
    builder.append(1, None, Some(b"x"), []).unwrap();
    let batch = builder.finish(None);
    let ack = Some(model::AckLevel::Memory);
    let head = protocol::ProduceHead { handle, ack, deadline_ms: 0, batch_count: 1 };
    let mut frame = Vec::new();
    protocol::put_produce_head(&mut frame, 7, &head, batch.len());
    frame.extend_from_slice(&batch);
    client.send(&frame);
    assert_eq!(client.frame(&mut core).0.kind, kind::PRODUCE_ACK);
    assert!(core.publishes_wait(), "acknowledged from memory, and the next may be on its way");
    quiet(&mut core);

    let id = core.connections.ids()[0];
    let ack = protocol::ProduceAck {
        count: 1,
        level: model::AckLevel::Durable,
        base_offset: 0,
        offset_step: 1,
        shard: ShardId(1),
        append_time_ms: 1,
    };
    let acknowledged = Message::ProduceAck {
        connection: id,
        first_correlation: 8,
        ack,
        cost: 0,
        due_ns: core.clock.now_ns(),
    };
    core.out.send(CoreId(0), acknowledged);
    core.drain_local();
    assert!(core.publishes_wait(), "another core's answer waits to be sent");
    quiet(&mut core);

    let header: &[u8; protocol::batch::BATCH_HEADER_BYTES] = batch.first_chunk().unwrap();
    let batch = crate::message::CheckedBatch {
        header: protocol::batch::BatchHeader::parse(header).unwrap(),
        bytes: [batch.into()].into_iter().collect(),
    };
    core.out.send(
        CoreId(0),
        Message::Produce(crate::message::RemoteProduce {
            origin: Origin { connection: id, correlation: 9, cost: 0 },
            partition: handle,
            ack: Some(model::AckLevel::Memory),
            deadline_ms: 0,
            received_ns: core.clock.now_ns(),
            batches: [batch].into_iter().collect(),
        }),
    );
    core.drain_local();
    assert!(core.publishes_wait(), "one from another core waits for its answer");
    quiet(&mut core);
}

/// Lets time pass until no publish counts as waiting any more, which it must come to.
fn quiet(core: &mut Core) {
    settle(core);
    core.clock.age(Duration::from_nanos(PUBLISHES_RECENT_NS));
    settle(core);
    assert!(!core.publishes_wait(), "all is answered, and some time ago");
}

/// Turns until nothing comes any more.
fn settle(core: &mut Core) {
    let mut quiet = 0;
    while quiet < 20 {
        let busy = core.turn().unwrap().worked || core.ring.has_queued();
        quiet = if busy { 0 } else { quiet + 1 };
        std::thread::sleep(Duration::from_micros(200));
    }
}
