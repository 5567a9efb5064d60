//! Steps of a topic change whose shards are busy, fail, or answer late.

use std::time::Duration;

use model::{CoreId, TopicConfig};
use ring::Waker;

use super::*;
use crate::mesh::{Mesh, MeshEnd};
use crate::message::ConnectionId;

const NAME: &str = "orders";

struct Bench {
    coordinator: Coordinator,
    out: Outbox,
    clock: Clock,
}

impl Bench {
    /// A topic with a partition on each of two shards, asked of both.
    fn creating(deadline_ns: u64) -> Self {
        let mesh = MeshEnd::new(Mesh::new(1, 8), CoreId(0), Waker::new().unwrap());
        let mut bench = Self {
            coordinator: Coordinator::new(ShardMap::new(2, 1)),
            out: Outbox::new(mesh),
            clock: Clock::new(std::time::Instant::now()),
        };
        let connection = ConnectionId { core: CoreId(0), index: 3, generation: 1 };
        let origin = Origin { connection, correlation: 9, cost: 1 };
        let step = Step {
            kind: StepKind::Create,
            asked: Some(TopicAsk { origin, deadline_ns }),
            shards: vec![ShardId(0), ShardId(1)],
            spec: Arc::new(PartitionSpec {
                topic: TopicId(1),
                name: TopicName::parse(NAME).unwrap(),
                config: TopicConfig::default(),
                config_version: 1,
            }),
            streams: vec![StreamId(0); 2],
            awaited: 0,
            failed: None,
            again: Vec::new(),
            unasked: 0..0,
            at_start: false,
        };
        let both = vec![PartitionIndex(0), PartitionIndex(1)];
        bench.coordinator.ask_shards(step, both, &mut bench.out);
        bench
    }

    /// The partitions that shards have been asked for, with the step's number.
    fn asked(&mut self) -> Vec<(u32, PartitionIndex)> {
        let mut asked = Vec::new();
        while let Some(message) = self.out.take_local() {
            match message {
                Message::Request { reply_to: ReplyTo::Coordinator { step, index }, .. } => {
                    asked.push((step, index));
                }
                other => panic!("{other:?}"),
            }
        }
        asked
    }

    fn answer(&mut self, asked: (u32, PartitionIndex), answer: Result<StreamId, ErrorCode>) {
        let answer = answer.map_err(|code| Rejection::new(code, "as the test says"));
        let (clock, out) = (&self.clock, &mut self.out);
        let answer = ShardAnswer::Partition(answer);
        self.coordinator.on_answer(clock, asked.0, asked.1, answer, None, out);
    }

    fn tick(&mut self) {
        self.coordinator.tick(&self.clock, &mut self.out);
    }

    /// What the client is told.
    fn replies(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        while let Some(message) = self.out.take_local() {
            match message {
                Message::Reply { origin, reply } => {
                    assert_eq!(origin.correlation, 9);
                    replies.push(*reply);
                }
                Message::Metadata(_) => {}
                other => panic!("{other:?}"),
            }
        }
        replies
    }
}

#[test]
fn a_busy_shard_is_asked_again_until_it_has_its_part() {
    let mut bench = Bench::creating(u64::MAX);
    let asked = bench.asked();
    assert_eq!(asked.len(), 2);
    bench.answer(asked[0], Ok(StreamId(5)));
    let mut busy = asked[1];
    for code in [ErrorCode::Busy, ErrorCode::DiskFull, ErrorCode::Busy] {
        bench.answer(busy, Err(code));
        assert!(bench.replies().is_empty(), "not yet, after {code}");
        bench.tick();
        let again = bench.asked();
        assert_eq!(again.len(), 1, "only the one that has not done it");
        assert_eq!(again[0].1, PartitionIndex(1));
        busy = again[0];
    }
    bench.answer(busy, Ok(StreamId(6)));
    let replies = bench.replies();
    let [Reply::Topic(topic)] = &replies[..] else { panic!("{replies:?}") };
    let streams: Vec<_> = topic.partitions.iter().map(|place| place.stream).collect();
    assert_eq!(streams, [StreamId(5), StreamId(6)]);
    bench.tick();
    assert!(bench.asked().is_empty());
}

#[test]
fn a_shard_that_cannot_ends_the_change_with_its_reason() {
    let mut bench = Bench::creating(u64::MAX);
    let asked = bench.asked();
    bench.answer(asked[0], Err(ErrorCode::ShardUnavailable));
    assert!(bench.replies().is_empty(), "the other is waited for");
    bench.answer(asked[1], Ok(StreamId(6)));
    let replies = bench.replies();
    let [Reply::Rejected(rejection)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(rejection.code, ErrorCode::ShardUnavailable);
}

#[test]
fn who_waits_no_longer_is_told_once_and_the_change_goes_on() {
    let mut bench = Bench::creating(0);
    bench.coordinator.steps.iter_mut().for_each(|(_, step)| {
        step.asked.as_mut().unwrap().deadline_ns = bench.clock.deadline_ns(1_000);
    });
    let asked = bench.asked();
    bench.answer(asked[0], Ok(StreamId(5)));
    bench.tick();
    assert!(bench.replies().is_empty());
    bench.clock.age(Duration::from_secs(2));
    bench.tick();
    bench.tick();
    let replies = bench.replies();
    let [Reply::Rejected(rejection)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(rejection.code, ErrorCode::DeadlineExceeded);
    assert!(rejection.message.contains(NAME), "{rejection}");
    bench.answer(asked[1], Ok(StreamId(6)));
    assert!(bench.replies().is_empty(), "told already");
    assert!(bench.coordinator.topics.contains_key(&TopicId(1)));
}
