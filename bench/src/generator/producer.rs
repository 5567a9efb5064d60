//! One publishing connection: what it sends, and the check of what it is told.

use std::sync::Arc;

use fastrand::Rng;
use protocol::ProduceAck;
use ring::SendParts;

use crate::error::BenchError;
use crate::generator::mill::{Chunk, Mill, Mills, Patch};
use crate::generator::window::Window;
use crate::payload::Stamp;
use crate::record::Latencies;
use crate::schedule::Schedule;
use crate::workload::{Table, partition_of};

/// Most bytes handed to one send, unless one frame is larger.
const SEND_BYTES_MAX: usize = 1024 * 1024;
/// Most pieces of one send.
const SEND_PARTS_MAX: usize = 64;

/// One of the partitions that a producer writes to.
#[derive(Clone, Copy, Debug, Default)]
struct Target {
    /// Where it stands in the run's list.
    partition: u32,
    /// The sequence of the next message sent.
    sequence: u64,
    /// Messages acknowledged.
    acknowledged: u64,
    /// One past the last offset acknowledged.
    offset_end: u64,
}

/// A run of requests acknowledged together that were meant to be sent together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    pub intended_ns: u64,
    pub requests: u64,
    pub messages: u64,
    /// Their payload bytes.
    pub bytes: u64,
}

/// What the messages of one producer are picked by.
#[derive(Clone, Debug)]
pub struct Dice {
    pub rng: Rng,
    /// Of the run's sizes.
    pub sizes: Table,
    /// Of its keys; `None`: no keys, partitions take turns.
    pub keys: Option<Table>,
}

#[cfg(test)]
impl Dice {
    /// All of one size, no keys.
    pub fn none() -> Self {
        Self { rng: Rng::with_seed(0), sizes: Table::new([1.0]), keys: None }
    }
}

/// The state of one publishing connection.
#[derive(Debug)]
pub struct Producer {
    number: u32,
    mills: Arc<Mills>,
    dice: Dice,
    /// Which size the next request has.
    class: usize,
    targets: Vec<Target>,
    /// The next target in turn.
    turn: usize,
    window: Window,
    schedule: Schedule,
    /// Requests that may still be sent; `None`: until told to stop.
    left: Option<u64>,
    stopped: bool,
    /// Since when there was room for another request, nanoseconds since the run began.
    free_ns: u64,
}

impl Producer {
    /// `partitions`: where the targets stand in the mills' lists. Without keys the first request
    /// goes to number `turn` of them.
    pub fn new(
        number: u32,
        mills: Arc<Mills>,
        mut dice: Dice,
        partitions: &[u32],
        turn: usize,
        in_flight: usize,
    ) -> Self {
        let target = |partition: &u32| Target { partition: *partition, ..Target::default() };
        Self {
            number,
            mills,
            class: dice.sizes.pick(&mut dice.rng),
            dice,
            targets: partitions.iter().map(target).collect(),
            turn: turn % partitions.len().max(1),
            window: Window::new(in_flight),
            schedule: Schedule::closed(),
            left: None,
            stopped: true,
            free_ns: 0,
        }
    }

    /// Begins (or goes on) sending by `schedule`, at most `requests` of them.
    pub fn start(&mut self, schedule: Schedule, requests: Option<u64>, now_ns: u64) {
        (self.schedule, self.left, self.stopped) = (schedule, requests, false);
        self.free_ns = now_ns;
    }

    /// Sends nothing more; what is under way goes on.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether all that will be sent has been sent.
    pub fn is_spent(&self) -> bool {
        self.stopped || self.left == Some(0)
    }

    pub fn under_way(&self) -> usize {
        self.window.under_way()
    }

    /// When the next request is due; `None` when there is no room, or no time to wait for.
    pub fn next_ns(&self) -> Option<u64> {
        if self.is_spent() || self.window.room() == 0 { None } else { self.schedule.next_ns() }
    }

    /// Requests that were due at `now_ns` and could not be sent.
    pub fn overdue(&self, now_ns: u64) -> u64 {
        self.schedule.overdue(now_ns)
    }

    /// The connection can take another send from now on.
    pub fn freed(&mut self, now_ns: u64) {
        self.free_ns = now_ns;
    }

    /// Adds the frames that may go now to one send. `lag` takes how late those with a time of
    /// their own are, counted from when there was room for them.
    pub fn fill(&mut self, now_ns: u64, parts: &mut SendParts, mut lag: Option<&mut Latencies>) {
        let mills = Arc::clone(&self.mills);
        let mut chunk: Option<(&Mill, usize, Chunk)> = None;
        let (mut sent_bytes, mut pieces) = (0, 0);
        while self.may_send(now_ns) {
            let class = self.class;
            let mill = &mills[class];
            if sent_bytes > 0 && sent_bytes + mill.frame_bytes() > SEND_BYTES_MAX {
                break;
            }
            if let Some((of, was, full)) =
                chunk.take_if(|(of, was, chunk)| *was != class || !of.has_room(chunk))
            {
                debug_assert!(was < mills.len());
                parts.push(of.finish(full));
                pieces += 1;
                if pieces == SEND_PARTS_MAX {
                    return;
                }
            }
            let (_, _, frames) = chunk.get_or_insert_with(|| (mill, class, mill.chunk()));
            let patch = self.next_request(now_ns, &mut lag);
            mill.put(frames, &patch);
            sent_bytes += mill.frame_bytes();
        }
        if let Some((mill, _, frames)) = chunk {
            parts.push(mill.finish(frames));
        }
    }

    fn may_send(&self, now_ns: u64) -> bool {
        !self.is_spent() && self.window.room() > 0 && self.schedule.is_due(now_ns)
    }

    fn next_request(&mut self, now_ns: u64, lag: &mut Option<&mut Latencies>) -> Patch {
        let has_time = self.schedule.next_ns().is_some();
        let intended_ns = self.schedule.take(now_ns);
        if let Some(lag) = lag.as_deref_mut().filter(|_| has_time) {
            lag.record(now_ns.saturating_sub(intended_ns.max(self.free_ns)), 1);
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        let (at, key) = self.next_target();
        let class = self.class;
        self.class = self.dice.sizes.pick(&mut self.dice.rng);
        let target = &mut self.targets[at];
        let stamp = Stamp { producer: self.number, sequence: target.sequence, intended_ns };
        target.sequence += self.mills[class].batch() as u64;
        let partition = target.partition;
        let correlation = self.window.send(intended_ns, at as u32, class as u16);
        Patch { correlation, partition, key, stamp }
    }

    /// The place of the next request's partition in the list of targets, and its key.
    fn next_target(&mut self) -> (usize, u64) {
        if let Some(keys) = &self.dice.keys {
            let key = keys.pick(&mut self.dice.rng) as u64;
            return (partition_of(key, self.targets.len()), key);
        }
        let at = self.turn;
        self.turn = if at + 1 == self.targets.len() { 0 } else { at + 1 };
        (at, 0)
    }

    /// Takes an acknowledgement, which may cover many requests, and reports them in runs.
    /// Anything but one answer to each request, at offsets that rise, is an error.
    pub fn acknowledge(
        &mut self,
        first: u64,
        ack: &ProduceAck,
        now_ns: u64,
        mut each: impl FnMut(Acknowledged),
    ) -> Result<(), BenchError> {
        if self.window.room() == 0 {
            self.free_ns = now_ns;
        }
        let batch = self.mills[0].batch() as u64;
        if u64::from(ack.offset_step) != batch && ack.count > 1 {
            return Err(wrong(format!("a step of {} for {batch} records", ack.offset_step)));
        }
        let mut run = Acknowledged::default();
        for k in 0..u64::from(ack.count) {
            let correlation = first.wrapping_add(k);
            let sent = self.window.answered(correlation).map_err(|e| wrong(e.to_string()))?;
            let offset = ack.base_offset + k * u64::from(ack.offset_step);
            let target = &mut self.targets[sent.partition as usize];
            if offset < target.offset_end {
                let end = target.offset_end;
                return Err(wrong(format!("offset {offset} was given out before (up to {end})")));
            }
            target.offset_end = offset + batch;
            target.acknowledged += batch;
            if sent.intended_ns != run.intended_ns && run.requests > 0 {
                each(run);
                run = Acknowledged::default();
            }
            run.intended_ns = sent.intended_ns;
            run.requests += 1;
            run.messages += batch;
            run.bytes += self.mills[usize::from(sent.class)].payload_bytes() as u64;
        }
        if run.requests > 0 {
            each(run);
        }
        Ok(())
    }

    /// What each partition was given: its place in the run's list, messages acknowledged, and one
    /// past the last offset.
    pub fn outcome(&self) -> impl Iterator<Item = (u32, u64, u64)> + '_ {
        self.targets.iter().map(|t| (t.partition, t.acknowledged, t.offset_end))
    }
}

fn wrong(what: String) -> BenchError {
    BenchError::Protocol(format!("an acknowledgement with {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Arrivals, OpenLoop, Pattern};
    use crate::workload::Keys;
    use model::{AckLevel, PartitionHandle, ShardId};

    fn producer_of(sizes: &[usize], dice: Dice, partitions: usize, in_flight: usize) -> Producer {
        let handles = vec![PartitionHandle::default(); partitions];
        let mills: Vec<_> = sizes
            .iter()
            .map(|size| Mill::sample(&handles, *size, 2, dice.keys.is_some()))
            .collect();
        let all: Vec<u32> = (0..partitions as u32).collect();
        let mut producer = Producer::new(0, mills.into(), dice, &all, 0, in_flight);
        producer.start(Schedule::closed(), None, 0);
        producer
    }

    fn producer(partitions: usize, in_flight: usize) -> Producer {
        producer_of(&[24], Dice::none(), partitions, in_flight)
    }

    fn ack(count: u32, base_offset: u64) -> ProduceAck {
        let level = AckLevel::Durable;
        let (offset_step, shard, append_time_ms) = (2, ShardId(0), 0);
        ProduceAck { count, level, base_offset, offset_step, shard, append_time_ms }
    }

    #[test]
    fn a_run_of_acks_is_reported_by_the_time_of_sending() {
        let mut producer = producer(1, 4);
        let mut parts = SendParts::new();
        producer.fill(10, &mut parts, None);
        assert_eq!(producer.under_way(), 4);
        let mut seen = Vec::new();
        producer.acknowledge(1, &ack(2, 0), 15, |a| seen.push(a)).unwrap();
        producer.fill(20, &mut parts, None);
        producer.acknowledge(3, &ack(4, 4), 25, |a| seen.push(a)).unwrap();
        let run = |intended_ns, requests| Acknowledged {
            intended_ns,
            requests,
            messages: requests * 2,
            bytes: requests * 48,
        };
        assert_eq!(seen, [run(10, 2), run(10, 2), run(20, 2)]);
        assert_eq!(producer.outcome().collect::<Vec<_>>(), [(0, 12, 12)]);
    }

    #[test]
    fn acks_that_lie_are_errors() {
        let mut parts = SendParts::new();
        let mut filled = |partitions| {
            let mut p = producer(partitions, 4);
            p.fill(0, &mut parts, None);
            p
        };
        let mut p = filled(1);
        p.acknowledge(1, &ack(1, 10), 0, |_| {}).unwrap();
        assert!(p.acknowledge(1, &ack(1, 12), 0, |_| {}).is_err(), "twice");
        assert!(p.acknowledge(2, &ack(1, 11), 0, |_| {}).is_err(), "overlapping offsets");
        assert!(filled(1).acknowledge(4, &ack(2, 0), 0, |_| {}).is_err(), "never sent");
        let mut p = filled(2);
        p.acknowledge(1, &ack(1, 10), 0, |_| {}).unwrap();
        p.acknowledge(2, &ack(1, 3), 0, |_| {}).unwrap();
    }

    #[test]
    fn a_producer_stops_at_its_number() {
        let mut producer = producer(1, 100);
        producer.start(Schedule::closed(), Some(3), 0);
        let mut parts = SendParts::new();
        producer.fill(0, &mut parts, None);
        assert_eq!(producer.under_way(), 3);
        assert!(producer.is_spent());
    }

    /// 1 ms between requests. What waits for room is late by the broker's fault.
    #[test]
    fn only_what_there_was_room_for_counts_as_lag() {
        const MS: u64 = 1_000_000;
        let pattern = Arc::new(Pattern::constant(1_000.0).unwrap());
        let open = OpenLoop { pattern, arrivals: Arrivals::Constant, seed: 0 };
        let mut producer = producer(1, 2);
        producer.start(Schedule::open(&open, 0, 0, 1), None, 0);
        let lag_of = |producer: &mut Producer, now_ns| {
            let (mut lag, mut parts) = (Latencies::new(), SendParts::new());
            producer.fill(now_ns, &mut parts, Some(&mut lag));
            (lag.count(), lag.summary().max)
        };
        // Those of 0 and 1 ms, the first of them late.
        assert_eq!(lag_of(&mut producer, MS), (2, 1_000.4));
        assert_eq!(lag_of(&mut producer, 5 * MS), (0, 0.0));
        producer.acknowledge(1, &ack(2, 0), 9 * MS, |_| {}).unwrap();
        let (requests, max_us) = lag_of(&mut producer, 9 * MS + 1_000);
        assert!(requests == 2 && (max_us - 1.0).abs() < 0.1, "{requests} {max_us}");
        assert_eq!(producer.overdue(9 * MS + 1_000), 6);
    }

    #[test]
    fn sizes_differ_and_their_bytes_are_counted() {
        let dice = Dice { sizes: Table::new([0.5, 0.5]), ..Dice::none() };
        let mut producer = producer_of(&[24, 1000], dice, 1, 100);
        let mut parts = SendParts::new();
        producer.fill(0, &mut parts, None);
        let mut bytes = 0;
        producer.acknowledge(1, &ack(100, 0), 0, |a| bytes += a.bytes).unwrap();
        assert!(bytes > 100 * 48 + 20 * 1952 && bytes < 100 * 48 + 80 * 1952, "{bytes}");
    }

    #[test]
    fn a_key_always_goes_to_the_same_partition_and_common_ones_more_often() {
        let keys = Table::zipf(Keys { count: 100, zipf: 1.2 });
        let dice = Dice { keys: Some(keys), ..Dice::none() };
        let mut producer = producer_of(&[24], dice, 8, 1000);
        producer.fill(0, &mut SendParts::new(), None);
        let counts: Vec<u64> = producer.targets.iter().map(|t| t.sequence / 2).collect();
        assert_eq!(counts.iter().sum::<u64>(), 1000);
        let most = partition_of(0, 8);
        assert!(counts[most] > 250, "{counts:?}");
    }
}
