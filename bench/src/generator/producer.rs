//! One publishing connection: what it sends, and the check of what it is told.

use std::sync::Arc;

use protocol::ProduceAck;
use ring::SendParts;

use crate::error::BenchError;
use crate::generator::mill::{Mill, Patch};
use crate::generator::window::Window;
use crate::payload::Stamp;
use crate::schedule::Schedule;

/// Most bytes handed to one send, unless one frame is larger.
const SEND_BYTES_MAX: usize = 1024 * 1024;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub intended_ns: u64,
    pub requests: u64,
}

/// The state of one publishing connection.
#[derive(Debug)]
pub struct Producer {
    number: u32,
    mill: Arc<Mill>,
    targets: Vec<Target>,
    /// The next target in turn.
    turn: usize,
    window: Window,
    schedule: Schedule,
    /// Requests that may still be sent; `None`: until told to stop.
    left: Option<u64>,
    stopped: bool,
}

impl Producer {
    /// `partitions`: where the targets stand in the mill's list. The first request goes to
    /// number `turn` of them.
    pub fn new(
        number: u32,
        mill: Arc<Mill>,
        partitions: &[u32],
        turn: usize,
        in_flight: usize,
    ) -> Self {
        let target = |partition: &u32| Target { partition: *partition, ..Target::default() };
        Self {
            number,
            mill,
            targets: partitions.iter().map(target).collect(),
            turn: turn % partitions.len().max(1),
            window: Window::new(in_flight),
            schedule: Schedule::Closed,
            left: None,
            stopped: true,
        }
    }

    /// Begins (or goes on) sending by `schedule`, at most `requests` of them.
    pub fn start(&mut self, schedule: Schedule, requests: Option<u64>) {
        (self.schedule, self.left, self.stopped) = (schedule, requests, false);
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
        match self.schedule {
            Schedule::Closed => 0,
            Schedule::Open { .. } => self.schedule.due(now_ns),
        }
    }

    /// Adds the frames that may go now to one send.
    pub fn fill(&mut self, now_ns: u64, parts: &mut SendParts) {
        if self.is_spent() {
            return;
        }
        let frames_max = (SEND_BYTES_MAX / self.mill.frame_bytes()).max(1);
        let mut frames = self.window.room().min(frames_max);
        frames = (frames as u64).min(self.schedule.due(now_ns)) as usize;
        if let Some(left) = &mut self.left {
            frames = (frames as u64).min(*left) as usize;
            *left -= frames as u64;
        }
        let mill = Arc::clone(&self.mill);
        while frames > 0 {
            let take = frames.min(mill.frames_per_chunk());
            let mut chunk = mill.chunk();
            for _ in 0..take {
                let patch = self.next_request(now_ns);
                mill.put(&mut chunk, &patch);
            }
            parts.push(mill.finish(chunk));
            frames -= take;
        }
    }

    fn next_request(&mut self, now_ns: u64) -> Patch {
        let intended_ns = self.schedule.take(now_ns);
        let at = self.turn;
        self.turn = if at + 1 == self.targets.len() { 0 } else { at + 1 };
        let target = &mut self.targets[at];
        let stamp = Stamp { producer: self.number, sequence: target.sequence, intended_ns };
        target.sequence += self.mill.batch() as u64;
        let partition = target.partition;
        let correlation = self.window.send(intended_ns, at as u32);
        Patch { correlation, partition, stamp }
    }

    /// Takes an acknowledgement, which may cover many requests, and reports them in runs.
    /// Anything but one answer to each request, at offsets that rise, is an error.
    pub fn acknowledge(
        &mut self,
        first: u64,
        ack: &ProduceAck,
        mut each: impl FnMut(Acknowledged),
    ) -> Result<(), BenchError> {
        let batch = self.mill.batch() as u64;
        if u64::from(ack.offset_step) != batch && ack.count > 1 {
            return Err(wrong(format!("a step of {} for {batch} records", ack.offset_step)));
        }
        let mut run = Acknowledged { intended_ns: 0, requests: 0 };
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
                run.requests = 0;
            }
            run = Acknowledged { intended_ns: sent.intended_ns, requests: run.requests + 1 };
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
    use model::{AckLevel, PartitionHandle, ShardId};

    fn producer(partitions: usize, in_flight: usize) -> Producer {
        let handles = vec![PartitionHandle::default(); partitions];
        let mill = Mill::new(&handles, AckLevel::Durable, 24, 2, 0).unwrap();
        let all: Vec<u32> = (0..partitions as u32).collect();
        let mut producer = Producer::new(0, Arc::new(mill), &all, 0, in_flight);
        producer.start(Schedule::Closed, None);
        producer
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
        producer.fill(10, &mut parts);
        assert_eq!(producer.under_way(), 4);
        let mut seen = Vec::new();
        producer.acknowledge(1, &ack(2, 0), |a| seen.push(a)).unwrap();
        producer.fill(20, &mut parts);
        producer.acknowledge(3, &ack(4, 4), |a| seen.push(a)).unwrap();
        let run = |intended_ns, requests| Acknowledged { intended_ns, requests };
        assert_eq!(seen, [run(10, 2), run(10, 2), run(20, 2)]);
        assert_eq!(producer.outcome().collect::<Vec<_>>(), [(0, 12, 12)]);
    }

    #[test]
    fn acks_that_lie_are_errors() {
        let mut parts = SendParts::new();
        let mut p = producer(1, 4);
        p.fill(0, &mut parts);
        p.acknowledge(1, &ack(1, 10), |_| {}).unwrap();
        assert!(p.acknowledge(1, &ack(1, 12), |_| {}).is_err(), "twice");
        assert!(p.acknowledge(2, &ack(1, 11), |_| {}).is_err(), "overlapping offsets");
        let mut p = producer(1, 4);
        p.fill(0, &mut parts);
        assert!(p.acknowledge(4, &ack(2, 0), |_| {}).is_err(), "never sent");
        let mut p = producer(2, 4);
        p.fill(0, &mut parts);
        p.acknowledge(1, &ack(1, 10), |_| {}).unwrap();
        p.acknowledge(2, &ack(1, 3), |_| {}).unwrap();
    }

    #[test]
    fn a_producer_stops_at_its_number() {
        let mut producer = producer(1, 100);
        producer.start(Schedule::Closed, Some(3));
        let mut parts = SendParts::new();
        producer.fill(0, &mut parts);
        assert_eq!(producer.under_way(), 3);
        assert!(producer.is_spent());
    }
}
