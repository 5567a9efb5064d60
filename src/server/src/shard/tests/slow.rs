//! A disk that does not answer: publishes end at their deadline, memory is bounded, the shard is
//! marked, and all goes on when it answers again.

use std::sync::Arc;

use model::reply::ShardHealth;
use model::{
    AckLevel, CoreId, ErrorCode, Lsn, PartitionHandle, PartitionIndex, Reply, Request, ShardId,
    Stage, StartPosition, TopicConfig, TopicId, TopicName,
};
use protocol::BatchBuilder;
use protocol::batch::{BATCH_HEADER_BYTES, BatchHeader};
use ring::{Ring, RingConfig, Waker};
use wal::device::Access;
use wal::{LogDevice, WalConfig};

use crate::clock::Clock;
use crate::mesh::{Mesh, MeshEnd};
use crate::message::{
    CheckedBatch, ConnectionId, Message, Origin, RemoteProduce, ReplyTo, ShardRequest,
};
use crate::outbox::Outbox;
use crate::shard::{OpenShard, RingDevice, ShardHost, open_shard};
use crate::stages::StageTimes;
use crate::token::Token;
use crate::write_budget::WriteBudget;

const MS: u64 = 1_000_000;
const DEADLINE_MS: u32 = 500;

pub(super) struct Bench {
    ring: Ring,
    stages: StageTimes,
    pub(super) host: ShardHost,
    out: Outbox,
    partition: PartitionHandle,
    now_ms: u64,
    correlation: u64,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with_budget(None)
    }

    pub(super) fn with_budget(write_budget: Option<Arc<WriteBudget>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = Ring::new(&RingConfig::default()).unwrap();
        let order = OpenShard {
            id: ShardId(0),
            slot: 0,
            path: folder.path(),
            block_bytes: 4096,
            access: Access::Buffered,
            volatile: false,
            wal: WalConfig {
                segment_bytes: 4 * 1024 * 1024,
                prepare_bytes: 64 * 1024,
                backlog_bytes: 512 * 1024,
                group_bytes: 64 * 1024,
                slow_after_ns: 100 * MS,
                ..WalConfig::default()
            },
            retention_check_ms: 1_000,
            write_budget,
            create: true,
        };
        let mut host = open_shard(&mut ring, order, &mut Vec::new()).unwrap();
        let mesh = Mesh::new(1, 16);
        let out = Outbox::new(MeshEnd::new(mesh, CoreId(0), Waker::new().unwrap()));
        let spec = shards::TopicSpec {
            id: TopicId(1),
            name: TopicName::parse("t").unwrap(),
            config: TopicConfig::default(),
            config_version: 1,
        };
        let (stream, _) = host
            .decide(|engine, journal| engine.create_partition(1, &spec, PartitionIndex(0), journal))
            .unwrap();
        let partition = PartitionHandle { topic: TopicId(1), stream, shard: ShardId(0) };
        let mut bench = Self {
            ring,
            host,
            stages: StageTimes::default(),
            out,
            partition,
            now_ms: 0,
            correlation: 0,
            _folder: folder,
        };
        for _ in 0..20 {
            bench.turn(5);
        }
        bench.answers();
        bench
    }

    /// Lets time pass, and the disk do what it does.
    pub(super) fn turn(&mut self, ms: u64) {
        self.now_ms += ms;
        let clock = Clock::at(self.now_ms * MS);
        self.end_turn(&clock);
        self.host.tick(&mut self.ring, &clock, &mut self.out);
        while self.ring.in_flight() > 0 {
            self.ring.wait(None).unwrap();
            self.take_completions();
        }
        self.end_turn(&clock);
    }

    /// What a core does in one turn, without waiting for the disk.
    pub(super) fn quick_turn(&mut self) {
        self.ring.submit().unwrap();
        self.take_completions();
        self.end_turn(&Clock::driven(self.now_ns(), 0));
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.now_ms * MS
    }

    /// The same, once something that is under way has ended.
    pub(super) fn turn_after_one(&mut self) {
        if self.ring.in_flight() > 0 {
            self.ring.wait(None).unwrap();
        }
        self.quick_turn();
    }

    /// The shard's part of a turn at that time; whether it has more to do.
    pub(super) fn end_turn(&mut self, clock: &Clock) -> bool {
        self.host.begin_turn(clock);
        let publishes_wait = self.host.has_unanswered();
        let Self { ring, stages, out, .. } = self;
        self.host.end_turn(ring, clock, publishes_wait, stages, out)
    }

    fn take_completions(&mut self) {
        while let Some(completion) = self.ring.next() {
            if let Token::Disk { ticket, .. } = Token::decode(completion.token()) {
                self.host.on_disk(&mut self.ring, ticket, completion);
            }
        }
    }

    /// As [`Self::quick_turn`] after the core has slept until there was something to do, and so long.
    pub(super) fn next_turn(&mut self, later_ms: u64) {
        self.ring.wait(None).unwrap();
        self.now_ms += later_ms;
        self.quick_turn();
    }

    pub(super) fn subscribe(&mut self) {
        let clock = Clock::at(self.now_ms * MS);
        let connection = ConnectionId { core: CoreId(0), index: 2, generation: 1 };
        let origin = Origin { connection, correlation: 1, cost: 1 };
        let request = Request::Subscribe {
            partition: self.partition,
            subscription: 1,
            position: StartPosition::Next,
            credit_bytes: 1 << 20,
        };
        let (to, asked) =
            (ReplyTo::Client(origin), ShardRequest::Client { request, deadline_ms: 0 });
        self.host.handle(&mut self.ring, &clock, to, asked, &mut self.out);
    }

    /// The last entry that is durable, and the last that there is.
    pub(super) fn reached(&self) -> (Lsn, Lsn) {
        (self.host.wal.durable_lsn(), self.host.wal.appended_lsn())
    }

    pub(super) fn hold(&mut self) {
        self.host.disk.faults.holds_writes = true;
    }

    fn let_go(&mut self) {
        let mut others = Vec::new();
        let held = self.host.disk.faults.let_go();
        let mut device =
            RingDevice { ring: &mut self.ring, disk: &mut self.host.disk, others: &mut others };
        for (ticket, action) in held {
            device.submit(ticket, action);
        }
    }

    pub(super) fn publish(&mut self, bytes: usize) {
        self.publish_for(bytes, AckLevel::Durable);
    }

    pub(super) fn publish_for(&mut self, bytes: usize, level: AckLevel) {
        let mut builder = BatchBuilder::new();
        builder.append(1, None, Some(&vec![b'x'; bytes]), []).unwrap();
        let batch = builder.finish(None);
        let head: &[u8; BATCH_HEADER_BYTES] = batch.first_chunk().unwrap();
        let header = BatchHeader::parse(head).unwrap();
        self.correlation += 1;
        let connection = ConnectionId { core: CoreId(0), index: 1, generation: 1 };
        let origin = Origin { connection, correlation: self.correlation, cost: 1 };
        let produce = RemoteProduce {
            origin,
            partition: self.partition,
            ack: Some(level),
            deadline_ms: DEADLINE_MS,
            received_ns: self.now_ms * MS,
            batches: [CheckedBatch { header, bytes: [batch.into()].into_iter().collect() }]
                .into_iter()
                .collect(),
        };
        let clock = Clock::at(self.now_ms * MS);
        self.host.produce_remote(&clock, produce, &mut self.out);
    }

    /// Begins a subscription of a connection of its own, at the first offset.
    pub(super) fn subscribe_as(&mut self, index: u32) {
        let connection = ConnectionId { core: CoreId(0), index, generation: 9 };
        let origin = Origin { connection, correlation: 0, cost: 0 };
        let (partition, from) = (self.partition, model::StartPosition::First);
        self.host.subscribe(origin, partition, 0, &from, u64::MAX, &mut self.out);
    }

    /// To which connections something was delivered, and since when that was due.
    pub(super) fn delivered(&mut self) -> Vec<(u32, u64)> {
        let messages = std::iter::from_fn(|| self.out.take_local());
        let deliver = |message| match message {
            Message::Deliver { connection, payload, .. } => {
                Some((connection.index, payload.due_ns))
            }
            _ => None,
        };
        messages.filter_map(deliver).collect()
    }

    /// Acknowledged, and refused with their codes.
    pub(super) fn answers(&mut self) -> (u32, Vec<ErrorCode>) {
        let (mut acknowledged, mut refused) = (0, Vec::new());
        while let Some(message) = self.out.take_local() {
            match message {
                Message::ProduceAck { ack, .. } => acknowledged += ack.count,
                Message::Reply { reply, .. } => match *reply {
                    Reply::Rejected(rejection) => refused.push(rejection.code),
                    other => panic!("{other:?}"),
                },
                _ => {}
            }
        }
        (acknowledged, refused)
    }

    fn is_slow(&self) -> bool {
        let status = self.host.status(&Clock::at(self.now_ms * MS), CoreId(0));
        assert_eq!(status.health, ShardHealth::Serving);
        assert!(!status.slow || status.oldest_write_ms > 0 || self.host.is_quiet());
        status.slow
    }
}

#[test]
fn a_publish_on_a_disk_that_does_not_answer_ends_at_its_deadline() {
    let mut bench = Bench::new();
    bench.publish(100);
    bench.turn(5);
    assert_eq!(bench.answers(), (1, vec![]));
    assert!(!bench.is_slow());

    bench.hold();
    bench.publish(100);
    bench.turn(50);
    assert!(!bench.is_slow(), "50 ms are within what is allowed");
    bench.turn(100);
    assert!(bench.is_slow());
    assert_eq!(bench.answers(), (0, vec![]), "its deadline has not come");
    bench.turn(400);
    assert_eq!(bench.answers(), (0, vec![ErrorCode::OutcomeUnknown]));
    assert!(ErrorCode::OutcomeUnknown.is_retryable());

    bench.let_go();
    bench.turn(10);
    bench.publish(100);
    bench.turn(10);
    assert_eq!(bench.answers(), (1, vec![]), "the late one is not answered twice");
    bench.turn(400);
    assert!(!bench.is_slow(), "it recovers");
}

#[test]
fn what_waits_for_a_slow_disk_is_bounded_and_ends_at_its_deadline() {
    let mut bench = Bench::new();
    bench.hold();
    // Far more than the backlog of 512 KiB and the 64 MiB of publishes that may wait for it.
    let mut sent = 0;
    for _ in 0..1_700 {
        bench.publish(50_000);
        sent += 1;
    }
    bench.turn(5);
    let (acknowledged, refused) = bench.answers();
    assert_eq!(acknowledged, 0);
    let busy = refused.len() as u32;
    assert!(refused.iter().all(|code| *code == ErrorCode::Busy) && busy > 100, "{busy} refused");
    assert!(bench.host.waiting_bytes <= crate::bounds::WAITING_BYTES_MAX);
    bench.turn(u64::from(DEADLINE_MS) + 5);
    let (acknowledged, refused) = bench.answers();
    assert_eq!(acknowledged, 0);
    let of = |code| refused.iter().filter(|other| **other == code).count() as u32;
    let (unknown, late) = (of(ErrorCode::OutcomeUnknown), of(ErrorCode::DeadlineExceeded));
    assert_eq!(busy + unknown + late, sent, "each is answered once");
    assert!(unknown > 5 && late > 100, "{unknown} may be stored, {late} are not");
    assert_eq!((bench.host.waiting_bytes, bench.host.is_quiet()), (0, true));

    bench.let_go();
    for _ in 0..5 {
        bench.turn(5);
    }
    bench.publish(100);
    bench.turn(5);
    assert_eq!(bench.answers(), (1, vec![]));
}

#[test]
fn the_disks_time_is_told_from_the_servers() {
    let mut bench = Bench::new();
    bench.hold();
    bench.publish(100);
    bench.publish(100);
    bench.turn(0);
    bench.turn(70);
    bench.let_go();
    bench.turn(5);
    let of = |stage: Stage| bench.stages.of_core(CoreId(0)).stages[stage as usize].clone();
    let (received, durable) = (of(Stage::ReceiveToAppend), of(Stage::AppendToDurable));
    assert_eq!((received.count, durable.count), (2, 2));
    assert!(durable.max_ns >= 70 * MS, "{durable:?}");
    assert_eq!(bench.answers().0, 2);
}
