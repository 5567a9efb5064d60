//! Every request but `Hello` and `Produce`: bodies to [`Request`] and back.
//!
//! Checks that a body has the shape of its kind and that names are names; what a request may do
//! is for others.

use model::limits::{FRAME_BYTES_MAX, TOPICS_NAMED_MAX};
use model::{CoreId, ErrorCode, Rejection, Request};
use rkyv::{Archive, Serialize};

use crate::backup;
use crate::body::{BodyError, Cursor, check_reserved, flag, put_fixed, put_list, put_string};
use crate::frame::{FrameHeader, TooLarge, put_frame};
use crate::kind;
use crate::topic::{WireChange, WireConfig, WireHandle, WirePosition, position_consumer, read_ack};

const _: () = assert!(FRAME_BYTES_MAX >= 1024, "every request without a list fits a frame");

/// `Ping`, `InitProducer`, `Status`, `Stages`; before a name in `DeleteTopic` and `DescribeTopic`, before the
/// filter in `SetLogFilter`.
#[derive(Archive, Serialize)]
struct PlainBody {
    deadline_ms: u32,
}

/// Then the list of names, then `after` (empty: from the first).
#[derive(Archive, Serialize)]
struct MetadataBody {
    deadline_ms: u32,
    limit: u32,
}

/// Then the name.
#[derive(Archive, Serialize)]
struct CreateTopicBody {
    deadline_ms: u32,
    partitions: u32,
    config: WireConfig,
}

/// Then the name.
#[derive(Archive, Serialize)]
struct AlterTopicBody {
    deadline_ms: u32,
    change: WireChange,
}

#[derive(Archive, Serialize)]
struct FetchBody {
    deadline_ms: u32,
    handle: WireHandle,
    offset: u64,
    min_bytes: u32,
    max_bytes: u32,
    max_wait_ms: u32,
}

/// Then the consumer's name, empty unless the position needs it.
#[derive(Archive, Serialize)]
struct LookupOffsetBody {
    deadline_ms: u32,
    handle: WireHandle,
    position: WirePosition,
}

/// Then the consumer's name, empty unless the position needs it.
#[derive(Archive, Serialize)]
struct SubscribeBody {
    deadline_ms: u32,
    handle: WireHandle,
    subscription: u32,
    position: WirePosition,
    credit_bytes: u64,
}

#[derive(Archive, Serialize)]
struct CreditBody {
    deadline_ms: u32,
    subscription: u32,
    bytes: u64,
}

#[derive(Archive, Serialize)]
struct UnsubscribeBody {
    deadline_ms: u32,
    subscription: u32,
}

/// Then the consumer's name.
#[derive(Archive, Serialize)]
struct CommitOffsetBody {
    deadline_ms: u32,
    handle: WireHandle,
    offset: u64,
    ack: u8,
    reserved: [u8; 3],
}

/// Then the consumer's name.
#[derive(Archive, Serialize)]
struct CommittedOffsetBody {
    deadline_ms: u32,
    handle: WireHandle,
}

/// Stands for "every core".
const CORE_ALL: u16 = u16::MAX;

#[derive(Archive, Serialize)]
struct DrainBody {
    deadline_ms: u32,
    core: u16,
    undo: u8,
    reserved: u8,
    grace_ms: u32,
}

/// Reads a request and how long its client waits, milliseconds from now (0: no limit).
///
/// `Hello` and `Produce` have readers of their own: a `Hello` here comes too late, and a `Produce`
/// must not come here.
pub fn decode_request(header: &FrameHeader, body: &[u8]) -> Result<(Request, u32), Rejection> {
    if header.kind == kind::HELLO {
        let message = "Hello was sent a second time; send it once, first";
        return Err(Rejection::new(ErrorCode::HandshakeRequired, message));
    }
    let mut cursor = Cursor::new(body);
    match read_body(header.kind, &mut cursor)? {
        Some(decoded) => {
            cursor.end()?;
            Ok(decoded)
        }
        None => {
            let message = format!("no request has the kind {:#06x}", header.kind);
            Err(Rejection::new(ErrorCode::UnknownKind, message))
        }
    }
}

fn read_body(kind: u16, cursor: &mut Cursor) -> Result<Option<(Request, u32)>, BodyError> {
    let decoded = match kind {
        kind::PING => plain(cursor, |_| Ok(Request::Ping))?,
        kind::METADATA => metadata(cursor)?,
        kind::CREATE_TOPIC => create_topic(cursor)?,
        kind::ALTER_TOPIC => alter_topic(cursor)?,
        kind::DELETE_TOPIC => {
            plain(cursor, |c| Ok(Request::DeleteTopic { name: c.topic_name(TOPIC_NAME)? }))?
        }
        kind::DESCRIBE_TOPIC => {
            plain(cursor, |c| Ok(Request::DescribeTopic { name: c.topic_name(TOPIC_NAME)? }))?
        }
        kind::INIT_PRODUCER => plain(cursor, |_| Ok(Request::InitProducer))?,
        kind::FETCH => fetch(cursor)?,
        kind::LOOKUP_OFFSET => lookup_offset(cursor)?,
        kind::SUBSCRIBE => subscribe(cursor)?,
        kind::CREDIT => credit(cursor)?,
        kind::UNSUBSCRIBE => unsubscribe(cursor)?,
        kind::COMMIT_OFFSET => commit_offset(cursor)?,
        kind::COMMITTED_OFFSET => committed_offset(cursor)?,
        kind::STATUS => plain(cursor, |_| Ok(Request::Status))?,
        kind::STAGES => plain(cursor, |_| Ok(Request::Stages))?,
        kind::SET_LOG_FILTER => plain(cursor, |c| {
            Ok(Request::SetLogFilter { filter: c.string("the log filter")?.to_owned() })
        })?,
        kind::DRAIN => drain(cursor)?,
        kind::BACKUP_BEGIN => backup::read_begin(cursor)?,
        kind::BACKUP_KEEP => backup::read_backup(cursor, |backup| Request::BackupKeep { backup })?,
        kind::BACKUP_END => backup::read_backup(cursor, |backup| Request::BackupEnd { backup })?,
        _ => return Ok(None),
    };
    Ok(Some(decoded))
}

type Decoded = Result<(Request, u32), BodyError>;

const TOPIC_NAME: &str = "the topic's name";
const CONSUMER_NAME: &str = "the consumer's name";

fn plain(
    cursor: &mut Cursor,
    rest: impl FnOnce(&mut Cursor) -> Result<Request, BodyError>,
) -> Decoded {
    let deadline_ms = cursor.fixed::<ArchivedPlainBody>("the deadline")?.deadline_ms.to_native();
    Ok((rest(cursor)?, deadline_ms))
}

fn metadata(cursor: &mut Cursor) -> Decoded {
    let fixed = cursor.fixed::<ArchivedMetadataBody>("the metadata request")?;
    let topics =
        cursor.short_list("the topics' names", TOPICS_NAMED_MAX, |c| c.topic_name(TOPIC_NAME))?;
    let mut ahead = *cursor;
    let after = match ahead.string("the name to go on after")? {
        "" => {
            *cursor = ahead;
            None
        }
        _ => Some(cursor.topic_name("the name to go on after")?),
    };
    let limit = fixed.limit.to_native();
    Ok((Request::Metadata { topics, after, limit }, fixed.deadline_ms.to_native()))
}

fn create_topic(cursor: &mut Cursor) -> Decoded {
    let fixed = cursor.fixed::<ArchivedCreateTopicBody>("the topic to create")?;
    let (partitions, config) = (fixed.partitions.to_native(), fixed.config.read()?);
    let name = cursor.topic_name(TOPIC_NAME)?;
    Ok((Request::CreateTopic { name, partitions, config }, fixed.deadline_ms.to_native()))
}

fn alter_topic(cursor: &mut Cursor) -> Decoded {
    let fixed = cursor.fixed::<ArchivedAlterTopicBody>("the change of settings")?;
    let change = fixed.change.read()?;
    let name = cursor.topic_name(TOPIC_NAME)?;
    Ok((Request::AlterTopic { name, change }, fixed.deadline_ms.to_native()))
}

fn fetch(cursor: &mut Cursor) -> Decoded {
    let fixed = cursor.fixed::<ArchivedFetchBody>("the fetch")?;
    let request = Request::Fetch {
        partition: fixed.handle.read()?,
        offset: fixed.offset.to_native(),
        min_bytes: fixed.min_bytes.to_native(),
        max_bytes: fixed.max_bytes.to_native(),
        max_wait_ms: fixed.max_wait_ms.to_native(),
    };
    Ok((request, fixed.deadline_ms.to_native()))
}

fn lookup_offset(cursor: &mut Cursor) -> Decoded {
    let fixed = cursor.fixed::<ArchivedLookupOffsetBody>("the lookup")?;
    let partition = fixed.handle.read()?;
    let position = fixed.position.read(cursor.string(CONSUMER_NAME)?)?;
    Ok((Request::LookupOffset { partition, position }, fixed.deadline_ms.to_native()))
}

fn subscribe(cursor: &mut Cursor) -> Decoded {
    let fixed = cursor.fixed::<ArchivedSubscribeBody>("the subscription")?;
    let request = Request::Subscribe {
        partition: fixed.handle.read()?,
        subscription: fixed.subscription.to_native(),
        position: fixed.position.read(cursor.string(CONSUMER_NAME)?)?,
        credit_bytes: fixed.credit_bytes.to_native(),
    };
    Ok((request, fixed.deadline_ms.to_native()))
}

fn credit(cursor: &mut Cursor) -> Decoded {
    let fixed = cursor.fixed::<ArchivedCreditBody>("the credit")?;
    let (subscription, bytes) = (fixed.subscription.to_native(), fixed.bytes.to_native());
    Ok((Request::Credit { subscription, bytes }, fixed.deadline_ms.to_native()))
}

fn unsubscribe(cursor: &mut Cursor) -> Decoded {
    let fixed = cursor.fixed::<ArchivedUnsubscribeBody>("the subscription's number")?;
    let subscription = fixed.subscription.to_native();
    Ok((Request::Unsubscribe { subscription }, fixed.deadline_ms.to_native()))
}

fn commit_offset(cursor: &mut Cursor) -> Decoded {
    let fixed = cursor.fixed::<ArchivedCommitOffsetBody>("the commit")?;
    check_reserved(fixed.reserved.iter().map(|byte| u64::from(*byte)).sum(), "the commit")?;
    let request = Request::CommitOffset {
        partition: fixed.handle.read()?,
        consumer: cursor.consumer_name(CONSUMER_NAME)?,
        offset: fixed.offset.to_native(),
        ack: read_ack(fixed.ack)?,
    };
    Ok((request, fixed.deadline_ms.to_native()))
}

fn committed_offset(cursor: &mut Cursor) -> Decoded {
    let fixed = cursor.fixed::<ArchivedCommittedOffsetBody>("the partition handle")?;
    let request = Request::CommittedOffset {
        partition: fixed.handle.read()?,
        consumer: cursor.consumer_name(CONSUMER_NAME)?,
    };
    Ok((request, fixed.deadline_ms.to_native()))
}

fn drain(cursor: &mut Cursor) -> Decoded {
    let fixed = cursor.fixed::<ArchivedDrainBody>("the drain")?;
    check_reserved(fixed.reserved.into(), "the drain")?;
    let core = fixed.core.to_native();
    let request = Request::Drain {
        core: (core != CORE_ALL).then_some(CoreId(core)),
        undo: flag(fixed.undo, "the undo mark")?,
        grace_ms: fixed.grace_ms.to_native(),
    };
    Ok((request, fixed.deadline_ms.to_native()))
}

/// Writes a whole request frame. `deadline_ms` is how long the client waits; 0: no limit.
///
/// Fails, and writes nothing, when a list is too long for a frame or a string over 65,535 bytes.
pub fn put_request(
    out: &mut Vec<u8>,
    correlation: u64,
    request: &Request,
    deadline_ms: u32,
) -> Result<(), TooLarge> {
    put_frame(out, kind_of(request), correlation, |out| put_body(out, request, deadline_ms))
}

fn kind_of(request: &Request) -> u16 {
    match request {
        Request::Ping => kind::PING,
        Request::Metadata { .. } => kind::METADATA,
        Request::CreateTopic { .. } => kind::CREATE_TOPIC,
        Request::AlterTopic { .. } => kind::ALTER_TOPIC,
        Request::DeleteTopic { .. } => kind::DELETE_TOPIC,
        Request::DescribeTopic { .. } => kind::DESCRIBE_TOPIC,
        Request::InitProducer => kind::INIT_PRODUCER,
        Request::Fetch { .. } => kind::FETCH,
        Request::LookupOffset { .. } => kind::LOOKUP_OFFSET,
        Request::Subscribe { .. } => kind::SUBSCRIBE,
        Request::Credit { .. } => kind::CREDIT,
        Request::Unsubscribe { .. } => kind::UNSUBSCRIBE,
        Request::CommitOffset { .. } => kind::COMMIT_OFFSET,
        Request::CommittedOffset { .. } => kind::COMMITTED_OFFSET,
        Request::Status => kind::STATUS,
        Request::Stages => kind::STAGES,
        Request::SetLogFilter { .. } => kind::SET_LOG_FILTER,
        Request::Drain { .. } => kind::DRAIN,
        Request::BackupBegin { .. } => kind::BACKUP_BEGIN,
        Request::BackupKeep { .. } => kind::BACKUP_KEEP,
        Request::BackupEnd { .. } => kind::BACKUP_END,
    }
}

fn put_body(out: &mut Vec<u8>, request: &Request, deadline_ms: u32) -> Result<(), TooLarge> {
    match request {
        Request::Ping | Request::InitProducer | Request::Status | Request::Stages => {
            put_fixed(out, &PlainBody { deadline_ms });
        }
        Request::Metadata { topics, after, limit } => {
            put_fixed(out, &MetadataBody { deadline_ms, limit: *limit });
            put_list(out, topics, |out, name| put_string(out, TOPIC_NAME, name.as_str()))?;
            put_string(out, TOPIC_NAME, after.as_ref().map_or("", |name| name.as_str()))?;
        }
        Request::CreateTopic { name, partitions, config } => {
            let (partitions, config) = (*partitions, config.into());
            put_fixed(out, &CreateTopicBody { deadline_ms, partitions, config });
            put_string(out, TOPIC_NAME, name.as_str())?;
        }
        Request::AlterTopic { name, change } => {
            put_fixed(out, &AlterTopicBody { deadline_ms, change: change.into() });
            put_string(out, TOPIC_NAME, name.as_str())?;
        }
        Request::DeleteTopic { name } | Request::DescribeTopic { name } => {
            put_fixed(out, &PlainBody { deadline_ms });
            put_string(out, TOPIC_NAME, name.as_str())?;
        }
        Request::SetLogFilter { filter } => {
            put_fixed(out, &PlainBody { deadline_ms });
            put_string(out, "the log filter", filter)?;
        }
        Request::Drain { core, undo, grace_ms } => {
            let body = DrainBody {
                deadline_ms,
                core: core.map_or(CORE_ALL, |core| core.0),
                undo: (*undo).into(),
                reserved: 0,
                grace_ms: *grace_ms,
            };
            put_fixed(out, &body);
        }
        Request::BackupBegin { nonce } => backup::put_begin(out, deadline_ms, nonce),
        Request::BackupKeep { backup } | Request::BackupEnd { backup } => {
            backup::put_backup(out, deadline_ms, *backup);
        }
        _ => put_partition_body(out, request, deadline_ms)?,
    }
    Ok(())
}

/// The requests about one partition or one subscription.
fn put_partition_body(
    out: &mut Vec<u8>,
    request: &Request,
    deadline_ms: u32,
) -> Result<(), TooLarge> {
    match request {
        Request::Fetch { partition, offset, min_bytes, max_bytes, max_wait_ms } => {
            let body = FetchBody {
                deadline_ms,
                handle: (*partition).into(),
                offset: *offset,
                min_bytes: *min_bytes,
                max_bytes: *max_bytes,
                max_wait_ms: *max_wait_ms,
            };
            put_fixed(out, &body);
        }
        Request::LookupOffset { partition, position } => {
            let handle = (*partition).into();
            put_fixed(out, &LookupOffsetBody { deadline_ms, handle, position: position.into() });
            put_string(out, CONSUMER_NAME, position_consumer(position))?;
        }
        Request::Subscribe { partition, subscription, position, credit_bytes } => {
            let body = SubscribeBody {
                deadline_ms,
                handle: (*partition).into(),
                subscription: *subscription,
                position: position.into(),
                credit_bytes: *credit_bytes,
            };
            put_fixed(out, &body);
            put_string(out, CONSUMER_NAME, position_consumer(position))?;
        }
        Request::Credit { subscription, bytes } => {
            let (subscription, bytes) = (*subscription, *bytes);
            put_fixed(out, &CreditBody { deadline_ms, subscription, bytes });
        }
        Request::Unsubscribe { subscription } => {
            put_fixed(out, &UnsubscribeBody { deadline_ms, subscription: *subscription });
        }
        Request::CommitOffset { partition, consumer, offset, ack } => {
            let body = CommitOffsetBody {
                deadline_ms,
                handle: (*partition).into(),
                offset: *offset,
                ack: *ack as u8,
                reserved: [0; 3],
            };
            put_fixed(out, &body);
            put_string(out, CONSUMER_NAME, consumer.as_str())?;
        }
        Request::CommittedOffset { partition, consumer } => {
            put_fixed(out, &CommittedOffsetBody { deadline_ms, handle: (*partition).into() });
            put_string(out, CONSUMER_NAME, consumer.as_str())?;
        }
        _ => unreachable!("put_body has written the other kinds"),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
