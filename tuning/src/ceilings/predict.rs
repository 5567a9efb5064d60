//! From what the machine does without the broker to what the broker does at best.
//!
//! The costs of the broker were measured on one machine (docs/benchmarks.md) and are scaled by how
//! fast the loopback wakes a thread here: an estimate, and labelled as one.

use serde::{Deserialize, Serialize};

use super::Measured;

/// CPU of a core for a message, microseconds, on the machine that the costs were measured on.
const CPU_US_1K: f64 = 1.19;
const CPU_US_100B: f64 = 0.65;
const CPU_US_1K_BATCHED: f64 = 0.42;
/// What the broker adds to the round trip and the write of one message at a time.
const LOCKSTEP_US: f64 = 12.0;
/// The share of a bare stream that consumers of hot messages were measured to get, and of the lower
/// of disk and stream for cold ones.
const HOT_SHARE: f64 = 0.66;
const COLD_SHARE: f64 = 0.71;
/// An eventfd round trip there, microseconds.
const EVENTFD_US: f64 = 10.0;
/// A machine is taken for at most so much faster or slower.
const SCALE_MAX: f64 = 3.0;
/// Log space that a message takes beside its payload when it comes alone: a batch header, an entry
/// and its record.
const OVERHEAD_BYTES: f64 = 140.0;
/// The same in a batch of 100.
const OVERHEAD_BATCHED_BYTES: f64 = 12.0;

/// The broker's figures on this machine, at best. All are durable; the rates are of one connection
/// for each in-flight window that keeps the cores busy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// One message of 1 KiB at a time on one connection.
    pub publish_1k_lockstep_p50_us: f64,
    pub publish_1k_lockstep_per_s: f64,
    /// Log writes of 4 KiB, all shards together.
    pub durable_writes_per_s: f64,
    /// Log writes of the group's size, all shards together.
    pub durable_bytes_per_s: f64,
    /// Single messages, many in flight.
    pub publish_1k_per_s: f64,
    pub publish_100b_per_s: f64,
    /// Messages of 1 KiB in batches of 100; payload.
    pub publish_1k_x100_bytes_per_s: f64,
    pub consume_hot_bytes_per_s: f64,
    pub consume_cold_bytes_per_s: f64,
    /// How many times slower this machine's CPUs were taken to be than those of the costs.
    pub cpu_scale: f64,
}

/// Predicts for so many cores and such groups.
pub fn predict(
    measured: &Measured,
    cores: usize,
    writes_in_flight: usize,
    group_bytes: u64,
) -> Predicted {
    let cores = cores.max(1) as f64;
    let scale = cpu_scale(measured);
    let write_4k = measured.write(4096, 1).map_or(0.0, |point| point.p50_us);
    let lockstep_us = measured.loopback_round_trip_64b_us.p50 + write_4k + LOCKSTEP_US * scale;
    let disk_bytes = measured.write_bytes_per_s(group_bytes, writes_in_flight);
    let small = measured.writes.iter().filter(|point| {
        point.size_bytes == 4096 && point.depth <= writes_in_flight * cores as usize
    });
    let stream = measured.loopback_stream_bytes_per_s;
    let rate = |payload: f64, overhead: f64, cpu_us: f64| {
        let by_cpu = cores * 1e6 / (cpu_us * scale);
        let by_disk = disk_bytes / (payload + overhead);
        let by_network = cores * stream / (payload + overhead);
        by_cpu.min(by_disk).min(by_network)
    };
    Predicted {
        publish_1k_lockstep_p50_us: lockstep_us,
        publish_1k_lockstep_per_s: if lockstep_us > 0.0 { 1e6 / lockstep_us } else { 0.0 },
        durable_writes_per_s: small.map(|point| point.per_s).fold(0.0, f64::max),
        durable_bytes_per_s: disk_bytes,
        publish_1k_per_s: rate(1024.0, OVERHEAD_BYTES, CPU_US_1K),
        publish_100b_per_s: rate(100.0, OVERHEAD_BYTES, CPU_US_100B),
        publish_1k_x100_bytes_per_s: 1024.0
            * rate(1024.0, OVERHEAD_BATCHED_BYTES, CPU_US_1K_BATCHED),
        consume_hot_bytes_per_s: HOT_SHARE * stream * cores,
        consume_cold_bytes_per_s: COLD_SHARE * stream.min(measured.read_sequential_bytes_per_s),
        cpu_scale: scale,
    }
}

/// Waking a thread takes both CPU and the kernel, as the broker does.
fn cpu_scale(measured: &Measured) -> f64 {
    let eventfd = measured.eventfd_round_trip_us.p50;
    if eventfd > 0.0 { (eventfd / EVENTFD_US).clamp(1.0 / SCALE_MAX, SCALE_MAX) } else { 1.0 }
}
