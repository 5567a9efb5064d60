//! The numbers of the frame kinds. A number is never used again for something else.
//!
//! Requests are even. A reply has the number of its request plus one, except that `ALTER_TOPIC`
//! is answered with `TOPIC` and `COMMITTED_OFFSET` with `OFFSET`: the kind of a reply names the
//! shape of its body. What the server sends unasked is odd as well.

pub const HELLO: u16 = 0x02;
pub const HELLO_REPLY: u16 = 0x03;
pub const PING: u16 = 0x04;
pub const PONG: u16 = 0x05;

pub const METADATA: u16 = 0x10;
pub const METADATA_REPLY: u16 = 0x11;
pub const CREATE_TOPIC: u16 = 0x12;
/// Answers `CREATE_TOPIC` and `ALTER_TOPIC`.
pub const TOPIC: u16 = 0x13;
pub const ALTER_TOPIC: u16 = 0x14;
pub const DELETE_TOPIC: u16 = 0x16;
pub const TOPIC_DELETED: u16 = 0x17;
pub const DESCRIBE_TOPIC: u16 = 0x18;
pub const TOPIC_DESCRIPTION: u16 = 0x19;

pub const INIT_PRODUCER: u16 = 0x20;
pub const PRODUCER: u16 = 0x21;
pub const PRODUCE: u16 = 0x22;
pub const PRODUCE_ACK: u16 = 0x23;

pub const FETCH: u16 = 0x30;
pub const FETCH_REPLY: u16 = 0x31;
pub const LOOKUP_OFFSET: u16 = 0x32;
/// Answers `LOOKUP_OFFSET` and `COMMITTED_OFFSET`.
pub const OFFSET: u16 = 0x33;
pub const SUBSCRIBE: u16 = 0x34;
pub const SUBSCRIBED: u16 = 0x35;
/// Has no reply.
pub const CREDIT: u16 = 0x36;
pub const UNSUBSCRIBE: u16 = 0x38;
pub const UNSUBSCRIBED: u16 = 0x39;
/// Server to client, unasked; its correlation is 0.
pub const DELIVER: u16 = 0x3B;

pub const COMMIT_OFFSET: u16 = 0x40;
pub const OFFSET_COMMITTED: u16 = 0x41;
pub const COMMITTED_OFFSET: u16 = 0x42;

pub const STATUS: u16 = 0x50;
pub const STATUS_REPLY: u16 = 0x51;
pub const SET_LOG_FILTER: u16 = 0x52;
pub const LOG_FILTER_SET: u16 = 0x53;
pub const DRAIN: u16 = 0x54;
pub const DRAIN_SET: u16 = 0x55;

pub const BACKUP_BEGIN: u16 = 0x5A;
pub const BACKUP_BEGUN: u16 = 0x5B;
pub const BACKUP_KEEP: u16 = 0x5C;
pub const BACKUP_KEPT: u16 = 0x5D;
pub const BACKUP_END: u16 = 0x5E;
pub const BACKUP_ENDED: u16 = 0x5F;

pub const STAGES: u16 = 0x60;
pub const STAGES_REPLY: u16 = 0x61;

/// Server to client, unasked; its correlation is 0.
pub const GO_AWAY: u16 = 0x7D;
/// Answers any request.
pub const ERROR: u16 = 0x7F;
