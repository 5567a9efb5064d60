//! What is counted while a run goes on, and what the measured part of it came to.

use std::time::Duration;

use crate::record::{Latencies, Recorder};

/// Which interval counts as latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// From the intended send to the acknowledgement.
    SendToAck,
    /// From the intended send to the receipt by a reader.
    SendToReceipt,
    /// Between two deliveries on one connection.
    BetweenDeliveries,
}

/// Running totals, and the record of the measured part.
#[derive(Debug)]
pub struct Tally {
    pub interval: Interval,
    pub recorder: Recorder,
    pub acknowledged: u64,
    pub received: u64,
    /// The largest latency since the last line of progress, nanoseconds.
    pub recent_max_ns: u64,
}

/// Totals at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    pub at_ns: u64,
    pub acknowledged: u64,
    pub received: u64,
    /// CPU time of the measured side, and of the generator.
    pub cpu: Option<Duration>,
    pub own_cpu: Option<Duration>,
}

/// What the measured part came to.
#[derive(Clone, Debug)]
pub struct Measured {
    pub recorder: Recorder,
    /// When it ended, nanoseconds since the run began.
    pub to_ns: u64,
    /// Messages acknowledged by the end of the run, warm-up included.
    pub acknowledged_total: u64,
    /// CPU time of the measured side.
    pub cpu: Option<Duration>,
    /// Open loop: requests that were due at the end and had not been sent.
    pub overdue: u64,
    /// Open loop: how late requests were sent that there was room for.
    pub lag: Option<Latencies>,
    /// Share of one CPU that the generator worked.
    pub generator_cpu_share: Option<f64>,
    /// A signal ended it early.
    pub partial: bool,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            recorder: Recorder::new(0, 0),
            to_ns: 0,
            acknowledged_total: 0,
            cpu: None,
            overdue: 0,
            lag: None,
            generator_cpu_share: None,
            partial: false,
        }
    }
}

impl Tally {
    pub fn new(interval: Interval, from_ns: u64, to_ns: u64) -> Self {
        let recorder = Recorder::new(from_ns, to_ns);
        Self { interval, recorder, acknowledged: 0, received: 0, recent_max_ns: 0 }
    }

    /// `count` things begun at `begun_ns` ended at `now_ns`.
    #[inline]
    pub fn record(&mut self, begun_ns: u64, now_ns: u64, count: u64) {
        self.recent_max_ns = self.recent_max_ns.max(now_ns.saturating_sub(begun_ns));
        self.recorder.latency(begun_ns, now_ns, count);
    }

    /// `messages` meant to be sent at `intended_ns` were acknowledged, in `requests`.
    #[inline]
    pub fn acknowledged(
        &mut self,
        intended_ns: u64,
        now_ns: u64,
        requests: u64,
        messages: u64,
        bytes: u64,
    ) {
        self.acknowledged += messages;
        if self.interval == Interval::SendToAck {
            self.record(intended_ns, now_ns, requests);
            self.recorder.count(now_ns, messages, bytes);
        }
    }

    /// `messages` meant to be sent at `intended_ns` were received.
    #[inline]
    pub fn received(&mut self, intended_ns: u64, now_ns: u64, messages: u64, bytes: u64) {
        self.received += messages;
        if self.interval != Interval::SendToAck {
            self.recorder.count(now_ns, messages, bytes);
        }
        if self.interval == Interval::SendToReceipt {
            self.record(intended_ns, now_ns, messages);
        }
    }

    pub fn mark(&self, at_ns: u64, cpu: Option<Duration>, own_cpu: Option<Duration>) -> Mark {
        Mark { at_ns, acknowledged: self.acknowledged, received: self.received, cpu, own_cpu }
    }
}
