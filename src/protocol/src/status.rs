//! The body of the reply to `Status`.

use model::reply::{CoreStatus, ServerStatus, ShardHealth, ShardStatus};
use model::{CoreId, ShardId};
use rkyv::{Archive, Serialize};

use crate::body::{BodyError, Cursor, check_reserved, flag, put_fixed, put_list, put_string};
use crate::frame::TooLarge;

/// Stands for "pinned to no CPU".
const CPU_NONE: u32 = u32::MAX;

/// Then version, data directory, the list of cores and the list of shards.
#[derive(Archive, Serialize)]
struct StatusBody {
    ready: u8,
    draining: u8,
    volatile: u8,
    reserved: u8,
    topics: u32,
    uptime_ms: u64,
}

#[derive(Archive, Serialize)]
struct WireCoreStatus {
    core: u16,
    draining: u8,
    reserved: u8,
    cpu: u32,
    connections: u32,
    accepted: u64,
    refused: u64,
    handed_over: u64,
    messages_in: u64,
    bytes_in: u64,
    messages_out: u64,
    bytes_out: u64,
}

/// Then the reason.
#[derive(Archive, Serialize)]
struct WireShardStatus {
    shard: u16,
    core: u16,
    health: u8,
    slow: u8,
    disk_full: u8,
    reserved: u8,
    partitions: u32,
    oldest_write_ms: u32,
    durable_lsn: u64,
    log_bytes: u64,
}

pub(crate) fn put_status(out: &mut Vec<u8>, status: &ServerStatus) -> Result<(), TooLarge> {
    let fixed = StatusBody {
        ready: status.ready.into(),
        draining: status.draining.into(),
        volatile: status.volatile.into(),
        reserved: 0,
        topics: status.topics,
        uptime_ms: status.uptime_ms,
    };
    put_fixed(out, &fixed);
    put_string(out, "the version", &status.version)?;
    put_string(out, "the data directory", &status.data_dir)?;
    put_list(out, &status.cores, put_core)?;
    put_list(out, &status.shards, put_shard)
}

fn put_core(out: &mut Vec<u8>, core: &CoreStatus) -> Result<(), TooLarge> {
    let fixed = WireCoreStatus {
        core: core.core.0,
        draining: core.draining.into(),
        reserved: 0,
        cpu: core.cpu.unwrap_or(CPU_NONE),
        connections: core.connections,
        accepted: core.accepted,
        refused: core.refused,
        handed_over: core.handed_over,
        messages_in: core.messages_in,
        bytes_in: core.bytes_in,
        messages_out: core.messages_out,
        bytes_out: core.bytes_out,
    };
    put_fixed(out, &fixed);
    Ok(())
}

fn put_shard(out: &mut Vec<u8>, shard: &ShardStatus) -> Result<(), TooLarge> {
    let fixed = WireShardStatus {
        shard: shard.shard.0,
        core: shard.core.0,
        health: shard.health as u8,
        slow: shard.slow.into(),
        disk_full: shard.disk_full.into(),
        reserved: 0,
        partitions: shard.partitions,
        oldest_write_ms: shard.oldest_write_ms,
        durable_lsn: shard.durable_lsn,
        log_bytes: shard.log_bytes,
    };
    put_fixed(out, &fixed);
    put_string(out, "the shard's reason", &shard.reason)
}

pub(crate) fn read_status(cursor: &mut Cursor) -> Result<ServerStatus, BodyError> {
    let fixed = cursor.fixed::<ArchivedStatusBody>("the status")?;
    check_reserved(fixed.reserved.into(), "the status")?;
    Ok(ServerStatus {
        ready: flag(fixed.ready, "the ready mark")?,
        draining: flag(fixed.draining, "the draining mark")?,
        volatile: flag(fixed.volatile, "the volatile mark")?,
        uptime_ms: fixed.uptime_ms.to_native(),
        topics: fixed.topics.to_native(),
        version: cursor.string("the version")?.to_owned(),
        data_dir: cursor.string("the data directory")?.to_owned(),
        cores: cursor.list("the cores", size_of::<ArchivedWireCoreStatus>(), read_core)?,
        shards: cursor.list("the shards", size_of::<ArchivedWireShardStatus>() + 2, read_shard)?,
    })
}

fn read_core(cursor: &mut Cursor) -> Result<CoreStatus, BodyError> {
    let fixed = cursor.fixed::<ArchivedWireCoreStatus>("the core")?;
    check_reserved(fixed.reserved.into(), "the core")?;
    let cpu = fixed.cpu.to_native();
    Ok(CoreStatus {
        core: CoreId(fixed.core.to_native()),
        cpu: (cpu != CPU_NONE).then_some(cpu),
        connections: fixed.connections.to_native(),
        draining: flag(fixed.draining, "the core's draining mark")?,
        accepted: fixed.accepted.to_native(),
        refused: fixed.refused.to_native(),
        handed_over: fixed.handed_over.to_native(),
        messages_in: fixed.messages_in.to_native(),
        bytes_in: fixed.bytes_in.to_native(),
        messages_out: fixed.messages_out.to_native(),
        bytes_out: fixed.bytes_out.to_native(),
    })
}

fn read_shard(cursor: &mut Cursor) -> Result<ShardStatus, BodyError> {
    let fixed = cursor.fixed::<ArchivedWireShardStatus>("the shard")?;
    check_reserved(fixed.reserved.into(), "the shard")?;
    let health = match fixed.health {
        0 => ShardHealth::Serving,
        1 => ShardHealth::ReadOnly,
        2 => ShardHealth::Unavailable,
        value => return Err(BodyError::Value { field: "the shard's health", value: value.into() }),
    };
    Ok(ShardStatus {
        shard: ShardId(fixed.shard.to_native()),
        core: CoreId(fixed.core.to_native()),
        health,
        slow: flag(fixed.slow, "the slow mark")?,
        disk_full: flag(fixed.disk_full, "the mark of a full disk")?,
        oldest_write_ms: fixed.oldest_write_ms.to_native(),
        reason: cursor.string("the shard's reason")?.to_owned(),
        partitions: fixed.partitions.to_native(),
        durable_lsn: fixed.durable_lsn.to_native(),
        log_bytes: fixed.log_bytes.to_native(),
    })
}
