//! Every reply but produce acknowledgements and fetched data: [`Reply`] to bodies and back.

use std::sync::Arc;

use model::reply::{CoreAddress, PartitionStatus};
use model::{CoreId, PartitionIndex, Reply, ShardId};
use rkyv::{Archive, Serialize};

use crate::backup::{put_point, read_point};
use crate::body::{BodyError, Cursor, check_reserved, flag, put_fixed, put_list, put_string};
use crate::error::{put_error, read_error};
use crate::frame::{FrameError, FrameHeader, TooLarge, put_frame};
use crate::kind;
use crate::stages::{put_stages, read_stages};
use crate::status::{put_status, read_status};
use crate::topic::{TOPIC_BYTES_MIN, put_topic, read_topic};

/// Then the lists of cores, of topics and of names not found.
#[derive(Archive, Serialize)]
struct MetadataReplyBody {
    more: u8,
    reserved: [u8; 3],
}

/// Then the host, then the list of shards, u16 each.
#[derive(Archive, Serialize)]
struct WireCoreAddress {
    core: u16,
    port: u16,
}

/// Then the list of consumers: each a name and the u64 offset it has committed.
#[derive(Archive, Serialize)]
struct WirePartitionStatus {
    index: u32,
    shard: u16,
    reserved: u16,
    first_offset: u64,
    next_offset: u64,
    bytes: u64,
}

#[derive(Archive, Serialize)]
struct ProducerBody {
    id: i64,
    epoch: i16,
    reserved: [u8; 6],
}

#[derive(Archive, Serialize)]
struct OffsetBody {
    offset: u64,
}

#[derive(Archive, Serialize)]
struct SubscribedBody {
    subscription: u32,
    reserved: u32,
    offset: u64,
}

#[derive(Archive, Serialize)]
struct UnsubscribedBody {
    subscription: u32,
}

/// Writes a whole reply frame.
///
/// Fails, and writes nothing, when the reply does not fit a frame: answer with an error instead.
pub fn put_reply(out: &mut Vec<u8>, correlation: u64, reply: &Reply) -> Result<(), TooLarge> {
    if let Reply::Rejected(rejection) = reply {
        put_error(out, correlation, rejection);
        return Ok(());
    }
    put_frame(out, kind_of(reply), correlation, |out| put_body(out, reply))
}

fn kind_of(reply: &Reply) -> u16 {
    match reply {
        Reply::Pong => kind::PONG,
        Reply::Metadata { .. } => kind::METADATA_REPLY,
        Reply::Topic(_) => kind::TOPIC,
        Reply::TopicDeleted => kind::TOPIC_DELETED,
        Reply::TopicDescription { .. } => kind::TOPIC_DESCRIPTION,
        Reply::Producer { .. } => kind::PRODUCER,
        Reply::Offset { .. } => kind::OFFSET,
        Reply::Subscribed { .. } => kind::SUBSCRIBED,
        Reply::Unsubscribed { .. } => kind::UNSUBSCRIBED,
        Reply::OffsetCommitted => kind::OFFSET_COMMITTED,
        Reply::Status(_) => kind::STATUS_REPLY,
        Reply::Stages(_) => kind::STAGES_REPLY,
        Reply::BackupBegun(_) => kind::BACKUP_BEGUN,
        Reply::BackupKept => kind::BACKUP_KEPT,
        Reply::BackupEnded => kind::BACKUP_ENDED,
        Reply::LogFilterSet => kind::LOG_FILTER_SET,
        Reply::DrainSet => kind::DRAIN_SET,
        Reply::Rejected(_) => kind::ERROR,
    }
}

fn put_body(out: &mut Vec<u8>, reply: &Reply) -> Result<(), TooLarge> {
    match reply {
        Reply::Metadata { cores, topics, unknown, more } => {
            put_fixed(out, &MetadataReplyBody { more: (*more).into(), reserved: [0; 3] });
            put_list(out, cores, put_core)?;
            put_list(out, topics, |out, topic| put_topic(out, topic))?;
            put_list(out, unknown, |out, name| put_string(out, "a name", name.as_str()))
        }
        Reply::Topic(topic) => put_topic(out, topic),
        Reply::TopicDescription { topic, partitions } => {
            put_topic(out, topic)?;
            put_list(out, partitions, put_partition)
        }
        Reply::Producer { id, epoch } => {
            put_fixed(out, &ProducerBody { id: *id, epoch: *epoch, reserved: [0; 6] });
            Ok(())
        }
        Reply::Offset { offset } => {
            put_fixed(out, &OffsetBody { offset: *offset });
            Ok(())
        }
        Reply::Subscribed { subscription, offset } => {
            let (subscription, offset) = (*subscription, *offset);
            put_fixed(out, &SubscribedBody { subscription, reserved: 0, offset });
            Ok(())
        }
        Reply::Unsubscribed { subscription } => {
            put_fixed(out, &UnsubscribedBody { subscription: *subscription });
            Ok(())
        }
        Reply::Status(status) => put_status(out, status),
        Reply::Stages(cores) => put_stages(out, cores),
        Reply::BackupBegun(point) => put_point(out, point),
        Reply::Pong
        | Reply::TopicDeleted
        | Reply::OffsetCommitted
        | Reply::BackupKept
        | Reply::BackupEnded
        | Reply::LogFilterSet
        | Reply::DrainSet
        | Reply::Rejected(_) => Ok(()),
    }
}

fn put_core(out: &mut Vec<u8>, address: &CoreAddress) -> Result<(), TooLarge> {
    let CoreAddress { core, host, port, shards } = address;
    put_fixed(out, &WireCoreAddress { core: core.0, port: *port });
    put_string(out, "the core's host", host)?;
    put_list(out, shards, |out, shard| {
        put_fixed(out, &shard.0);
        Ok(())
    })
}

fn put_partition(out: &mut Vec<u8>, status: &PartitionStatus) -> Result<(), TooLarge> {
    let fixed = WirePartitionStatus {
        index: status.index.0,
        shard: status.shard.0,
        reserved: 0,
        first_offset: status.first_offset,
        next_offset: status.next_offset,
        bytes: status.bytes,
    };
    put_fixed(out, &fixed);
    put_list(out, &status.consumers, |out, (name, offset)| {
        put_string(out, "the consumer's name", name.as_str())?;
        put_fixed(out, offset);
        Ok(())
    })
}

/// Reads a reply of any kind but a produce acknowledgement, `Deliver`, a fetch reply, the answer to
/// `Hello` and `GoAway`, which have readers of their own.
pub fn decode_reply(header: &FrameHeader, body: &[u8]) -> Result<Reply, FrameError> {
    let mut cursor = Cursor::new(body);
    let reply = match header.kind {
        kind::PONG => Reply::Pong,
        kind::METADATA_REPLY => read_metadata(&mut cursor)?,
        kind::TOPIC => Reply::Topic(Arc::new(read_topic(&mut cursor)?)),
        kind::TOPIC_DELETED => Reply::TopicDeleted,
        kind::TOPIC_DESCRIPTION => Reply::TopicDescription {
            topic: Arc::new(read_topic(&mut cursor)?),
            partitions: cursor.list(
                "the partitions",
                size_of::<ArchivedWirePartitionStatus>() + 4,
                read_partition,
            )?,
        },
        kind::PRODUCER => read_producer(&mut cursor)?,
        kind::OFFSET => {
            let body = cursor.fixed::<ArchivedOffsetBody>("the offset")?;
            Reply::Offset { offset: body.offset.to_native() }
        }
        kind::SUBSCRIBED => read_subscribed(&mut cursor)?,
        kind::UNSUBSCRIBED => {
            let body = cursor.fixed::<ArchivedUnsubscribedBody>("the subscription's number")?;
            Reply::Unsubscribed { subscription: body.subscription.to_native() }
        }
        kind::OFFSET_COMMITTED => Reply::OffsetCommitted,
        kind::STATUS_REPLY => Reply::Status(Box::new(read_status(&mut cursor)?)),
        kind::STAGES_REPLY => Reply::Stages(read_stages(&mut cursor)?),
        kind::BACKUP_BEGUN => Reply::BackupBegun(Box::new(read_point(&mut cursor)?)),
        kind::BACKUP_KEPT => Reply::BackupKept,
        kind::BACKUP_ENDED => Reply::BackupEnded,
        kind::LOG_FILTER_SET => Reply::LogFilterSet,
        kind::DRAIN_SET => Reply::DrainSet,
        kind::ERROR => Reply::Rejected(read_error(&mut cursor)?),
        kind => return Err(FrameError::Kind { kind }),
    };
    cursor.end()?;
    Ok(reply)
}

fn read_metadata(cursor: &mut Cursor) -> Result<Reply, BodyError> {
    let fixed = cursor.fixed::<ArchivedMetadataReplyBody>("the metadata")?;
    check_reserved(fixed.reserved.iter().map(|byte| u64::from(*byte)).sum(), "the metadata")?;
    let more = flag(fixed.more, "the mark that more topics follow")?;
    let core_bytes_min = size_of::<ArchivedWireCoreAddress>() + 2 + 4;
    let cores = cursor.list("the cores", core_bytes_min, read_core)?;
    let topics =
        cursor.list("the topics", TOPIC_BYTES_MIN, |cursor| read_topic(cursor).map(Arc::new))?;
    let unknown =
        cursor.list("the names not found", 2, |cursor| cursor.topic_name("a name not found"))?;
    Ok(Reply::Metadata { cores: cores.into(), topics, unknown, more })
}

fn read_core(cursor: &mut Cursor) -> Result<CoreAddress, BodyError> {
    let fixed = cursor.fixed::<ArchivedWireCoreAddress>("the core's address")?;
    let host = cursor.string("the core's host")?.to_owned();
    let shards = cursor.list("the core's shards", 2, |cursor| {
        let shard = cursor.fixed::<rkyv::rend::unaligned::u16_ule>("the core's shards")?;
        Ok(ShardId(shard.to_native()))
    })?;
    Ok(CoreAddress {
        core: CoreId(fixed.core.to_native()),
        host,
        port: fixed.port.to_native(),
        shards,
    })
}

fn read_partition(cursor: &mut Cursor) -> Result<PartitionStatus, BodyError> {
    let fixed = cursor.fixed::<ArchivedWirePartitionStatus>("the partition")?;
    check_reserved(fixed.reserved.to_native().into(), "the partition")?;
    let consumers = cursor.list("the consumers", 2 + 8, |cursor| {
        let name = cursor.consumer_name("the consumer's name")?;
        let offset = cursor.fixed::<ArchivedOffsetBody>("the consumer's offset")?;
        Ok((name, offset.offset.to_native()))
    })?;
    Ok(PartitionStatus {
        index: PartitionIndex(fixed.index.to_native()),
        shard: ShardId(fixed.shard.to_native()),
        first_offset: fixed.first_offset.to_native(),
        next_offset: fixed.next_offset.to_native(),
        bytes: fixed.bytes.to_native(),
        consumers,
    })
}

fn read_producer(cursor: &mut Cursor) -> Result<Reply, BodyError> {
    let body = cursor.fixed::<ArchivedProducerBody>("the producer")?;
    check_reserved(body.reserved.iter().map(|byte| u64::from(*byte)).sum(), "the producer")?;
    Ok(Reply::Producer { id: body.id.to_native(), epoch: body.epoch.to_native() })
}

fn read_subscribed(cursor: &mut Cursor) -> Result<Reply, BodyError> {
    let body = cursor.fixed::<ArchivedSubscribedBody>("the subscription")?;
    check_reserved(body.reserved.to_native().into(), "the subscription")?;
    let (subscription, offset) = (body.subscription.to_native(), body.offset.to_native());
    Ok(Reply::Subscribed { subscription, offset })
}

#[cfg(test)]
mod tests;
