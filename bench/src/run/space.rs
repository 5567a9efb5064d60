//! Brings a server's log to the state that a run is to meet: gone round at least once, so that
//! writes land on extents written before.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use model::{AckLevel, TopicConfig};

use crate::error::BenchError;
use crate::generator::{Interval, Plan};
use crate::options::{Options, Route, Space};
use crate::run::bed::Bed;
use crate::run::load;
use crate::run::topics::Topics;
use crate::workload::Sizes;

/// Payload bytes of what is written here.
const SIZE_BYTES: usize = 4096;
/// Recycled segments that count as "gone round", per shard.
const SEGMENTS: u64 = 4;
/// So many segments later, per shard, what a deleted topic had is free: two checkpoints.
const SEGMENTS_UNTIL_FREE: u64 = 3;
/// Given up after this many times [`SEGMENTS`] segments per shard.
const ROUNDS_MAX: u64 = 24;
/// What is kept of a measured run's messages, over all partitions, bytes.
const RUN_KEPT_BYTES: u64 = 512 * 1024 * 1024;

/// Settings of the topics of a run: recycling needs something to be removed.
pub fn topic_config(options: &Options) -> TopicConfig {
    let kept = RUN_KEPT_BYTES / options.partitions_total().max(1) as u64;
    TopicConfig {
        retention_bytes: (options.space == Space::Recycled).then_some(kept),
        ack: options.ack,
        ..TopicConfig::default()
    }
}

/// Writes until the log has gone round with as much kept as the run keeps, when that is asked
/// for, and frees it all. Returns what was reached.
pub fn prepare(
    options: &Options,
    bed: &mut Bed,
    stop: &Arc<AtomicBool>,
) -> Result<Space, BenchError> {
    if options.space != Space::Recycled {
        return Ok(options.space);
    }
    let shards = bed.control.status()?.shards.len().max(1);
    let goal_bytes = SEGMENTS * bed.segment_bytes * shards as u64;
    let topics = topics(bed, "prepare", shards)?;
    let mut written = 0;
    let mut reached = Space::Fresh;
    for _ in 0..ROUNDS_MAX {
        written += write(options, bed, &topics, goal_bytes, stop)?;
        let in_use: u64 = bed.control.status()?.shards.iter().map(|s| s.log_bytes).sum();
        if written >= in_use + goal_bytes {
            reached = Space::Recycled;
            break;
        }
    }
    bed.control.delete_topics(&topics.names)?;
    if reached == Space::Fresh {
        bed.notes.push(format!(
            "{} MiB were written and the log has not gone round: space is fresh",
            written >> 20
        ));
        return Ok(reached);
    }
    let topics = self::topics(bed, "prepare-free", shards)?;
    let until_free = SEGMENTS_UNTIL_FREE * bed.segment_bytes * shards as u64;
    write(options, bed, &topics, until_free, stop)?;
    bed.control.delete_topics(&topics.names)?;
    Ok(reached)
}

fn topics(bed: &mut Bed, name: &str, shards: usize) -> Result<Topics, BenchError> {
    let kept = RUN_KEPT_BYTES / shards as u64;
    let config = TopicConfig { retention_bytes: Some(kept), ..TopicConfig::default() };
    Topics::create(&mut bed.control, name, 1, shards, &config)
}

/// Publishes so many bytes over all connections. Returns how many were acknowledged.
fn write(
    options: &Options,
    bed: &mut Bed,
    topics: &Topics,
    bytes: u64,
    stop: &Arc<AtomicBool>,
) -> Result<u64, BenchError> {
    let load = Options {
        sizes: Sizes::Fixed(SIZE_BYTES),
        keys: None,
        client: None,
        batch: 32,
        connections: bed.cores.len().max(1) * 2,
        in_flight: 4,
        ack: AckLevel::Durable,
        route: Route::Any,
        ..options.clone()
    };
    let request_bytes = (SIZE_BYTES * load.batch) as u64;
    let requests_each = bytes.div_ceil(request_bytes * load.connections as u64);
    let plan = Plan {
        warmup: std::time::Duration::ZERO,
        duration: None,
        open: None,
        requests_each: Some(requests_each),
        interval: Interval::SendToAck,
        progress: (!options.quiet).then_some("prepare"),
        payload_bytes: SIZE_BYTES as f64,
        meter: crate::cpu::Meter::None,
        bell: None,
        may_end_early: false,
    };
    let published = load::publish(&load, bed, topics, &plan, stop)?;
    Ok(published.measured.acknowledged_total * SIZE_BYTES as u64)
}
