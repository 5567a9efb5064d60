//! The bodies about backups.

use model::backup::{
    BACKUP_IDENTITY_BYTES, BACKUP_NONCE_BYTES, BackupPoint, SegmentPoint, ShardPoint,
};
use model::{Lsn, Request, ShardId};
use rkyv::{Archive, Serialize};

use crate::body::{BodyError, Cursor, check_reserved, flag, put_fixed, put_list, put_string};
use crate::frame::TooLarge;

/// `BackupBegin`.
#[derive(Archive, Serialize)]
struct BeginBody {
    deadline_ms: u32,
    nonce: [u8; BACKUP_NONCE_BYTES],
}

/// `BackupKeep` and `BackupEnd`.
#[derive(Archive, Serialize)]
struct BackupBody {
    deadline_ms: u32,
    backup: u64,
}

/// Then the data directory and the list of shards.
#[derive(Archive, Serialize)]
struct BegunBody {
    backup: u64,
    identity: [u8; BACKUP_IDENTITY_BYTES],
    silent_ms_max: u32,
    reserved: u32,
}

/// Then the lists of checkpoints and segments.
#[derive(Archive, Serialize)]
struct WireShardPoint {
    shard: u16,
    reserved: u16,
    incarnation: u32,
    durable_lsn: u64,
    last_sequence: u64,
}

#[derive(Archive, Serialize)]
struct WireCheckpoint {
    start: u64,
    end: u64,
}

#[derive(Archive, Serialize)]
struct WireSegmentPoint {
    number: u64,
    generation: u32,
    sealed: u8,
    reserved: [u8; 3],
    bytes: u64,
    data_end: u64,
}

type Decoded = Result<(Request, u32), BodyError>;

pub(crate) fn read_begin(cursor: &mut Cursor) -> Decoded {
    let body = cursor.fixed::<ArchivedBeginBody>("the backup's nonce")?;
    Ok((Request::BackupBegin { nonce: body.nonce }, body.deadline_ms.to_native()))
}

pub(crate) fn read_backup(cursor: &mut Cursor, request: impl FnOnce(u64) -> Request) -> Decoded {
    let body = cursor.fixed::<ArchivedBackupBody>("the backup's number")?;
    Ok((request(body.backup.to_native()), body.deadline_ms.to_native()))
}

pub(crate) fn put_begin(out: &mut Vec<u8>, deadline_ms: u32, nonce: &[u8; BACKUP_NONCE_BYTES]) {
    put_fixed(out, &BeginBody { deadline_ms, nonce: *nonce });
}

pub(crate) fn put_backup(out: &mut Vec<u8>, deadline_ms: u32, backup: u64) {
    put_fixed(out, &BackupBody { deadline_ms, backup });
}

pub(crate) fn put_point(out: &mut Vec<u8>, point: &BackupPoint) -> Result<(), TooLarge> {
    let fixed = BegunBody {
        backup: point.backup,
        identity: point.identity,
        silent_ms_max: point.silent_ms_max,
        reserved: 0,
    };
    put_fixed(out, &fixed);
    put_string(out, "the data directory", &point.data_dir)?;
    put_list(out, &point.shards, put_shard)
}

fn put_shard(out: &mut Vec<u8>, point: &ShardPoint) -> Result<(), TooLarge> {
    let fixed = WireShardPoint {
        shard: point.shard.0,
        reserved: 0,
        incarnation: point.incarnation,
        durable_lsn: point.durable_lsn.0,
        last_sequence: point.last_sequence,
    };
    put_fixed(out, &fixed);
    put_list(out, &point.checkpoints, |out, (start, end)| {
        put_fixed(out, &WireCheckpoint { start: *start, end: *end });
        Ok(())
    })?;
    put_list(out, &point.segments, |out, segment| {
        let fixed = WireSegmentPoint {
            number: segment.number,
            generation: segment.generation,
            sealed: segment.sealed.into(),
            reserved: [0; 3],
            bytes: segment.bytes,
            data_end: segment.data_end,
        };
        put_fixed(out, &fixed);
        Ok(())
    })
}

pub(crate) fn read_point(cursor: &mut Cursor) -> Result<BackupPoint, BodyError> {
    let fixed = cursor.fixed::<ArchivedBegunBody>("the backup")?;
    check_reserved(fixed.reserved.to_native().into(), "the backup")?;
    let data_dir = cursor.string("the data directory")?.to_owned();
    let shard_bytes_min = size_of::<ArchivedWireShardPoint>() + 4 + 4;
    Ok(BackupPoint {
        backup: fixed.backup.to_native(),
        identity: fixed.identity,
        silent_ms_max: fixed.silent_ms_max.to_native(),
        data_dir,
        shards: cursor.list("the shards", shard_bytes_min, read_shard)?,
    })
}

fn read_shard(cursor: &mut Cursor) -> Result<ShardPoint, BodyError> {
    let fixed = cursor.fixed::<ArchivedWireShardPoint>("the shard")?;
    check_reserved(fixed.reserved.to_native().into(), "the shard")?;
    let checkpoints =
        cursor.list("the checkpoints", size_of::<ArchivedWireCheckpoint>(), |cursor| {
            let fixed = cursor.fixed::<ArchivedWireCheckpoint>("the checkpoint")?;
            Ok((fixed.start.to_native(), fixed.end.to_native()))
        })?;
    let segments =
        cursor.list("the segments", size_of::<ArchivedWireSegmentPoint>(), read_segment)?;
    Ok(ShardPoint {
        shard: ShardId(fixed.shard.to_native()),
        incarnation: fixed.incarnation.to_native(),
        durable_lsn: Lsn(fixed.durable_lsn.to_native()),
        last_sequence: fixed.last_sequence.to_native(),
        checkpoints,
        segments,
    })
}

fn read_segment(cursor: &mut Cursor) -> Result<SegmentPoint, BodyError> {
    let fixed = cursor.fixed::<ArchivedWireSegmentPoint>("the segment")?;
    check_reserved(fixed.reserved.iter().map(|byte| u64::from(*byte)).sum(), "the segment")?;
    Ok(SegmentPoint {
        number: fixed.number.to_native(),
        generation: fixed.generation.to_native(),
        sealed: flag(fixed.sealed, "the mark of a sealed segment")?,
        bytes: fixed.bytes.to_native(),
        data_end: fixed.data_end.to_native(),
    })
}
