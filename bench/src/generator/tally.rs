//! What is counted while a run goes on, and what the measured part of it came to.

use std::time::Duration;

use crate::latency::{Latencies, LatencyUs};

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

/// Running totals, and the latencies of the measured part.
#[derive(Debug)]
pub struct Tally {
    pub interval: Interval,
    /// Requests meant to be sent from here on are measured, nanoseconds since the run began.
    pub from_ns: u64,
    /// ... and before here.
    pub to_ns: u64,
    pub acknowledged: u64,
    pub received: u64,
    pub latencies: Latencies,
    /// The largest latency since the last line of progress, nanoseconds.
    pub recent_max_ns: u64,
}

/// Totals at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    pub at_ns: u64,
    pub acknowledged: u64,
    pub received: u64,
    pub cpu: Option<Duration>,
}

/// What the measured part came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    pub seconds: f64,
    /// Messages acknowledged in that time.
    pub acknowledged: u64,
    /// Messages received in that time.
    pub received: u64,
    /// Messages acknowledged by the end of the run, warm-up included.
    pub acknowledged_total: u64,
    pub latency: LatencyUs,
    /// CPU time of the measured side.
    pub cpu: Option<Duration>,
    /// Open loop: requests that were due at the end and had not been sent.
    pub overdue: u64,
}

impl Tally {
    pub fn new(interval: Interval, connections: usize, from_ns: u64, to_ns: u64) -> Self {
        Self {
            interval,
            from_ns,
            to_ns,
            acknowledged: 0,
            received: 0,
            latencies: Latencies::new(connections),
            recent_max_ns: 0,
        }
    }

    /// `count` things of `connection`, begun at `begun_ns`, ended at `now_ns`.
    pub fn record(&mut self, connection: usize, begun_ns: u64, now_ns: u64, count: u64) {
        let ns = now_ns.saturating_sub(begun_ns);
        self.recent_max_ns = self.recent_max_ns.max(ns);
        if (self.from_ns..self.to_ns).contains(&begun_ns) {
            self.latencies.record(connection, ns, count);
        }
    }

    pub fn mark(&self, at_ns: u64, cpu: Option<Duration>) -> Mark {
        Mark { at_ns, acknowledged: self.acknowledged, received: self.received, cpu }
    }

    pub fn measured(&self, from: &Mark, to: &Mark, overdue: u64) -> Measured {
        Measured {
            seconds: to.at_ns.saturating_sub(from.at_ns) as f64 / 1e9,
            acknowledged: to.acknowledged - from.acknowledged,
            received: to.received - from.received,
            acknowledged_total: self.acknowledged,
            latency: self.latencies.summary(),
            cpu: to.cpu.zip(from.cpu).map(|(to, from)| to.saturating_sub(from)),
            overdue,
        }
    }
}
