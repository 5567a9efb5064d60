//! The native protocol: frames, bodies and record batches, as bytes and back.
//!
//! Shared by the server, the client and the bench. Nothing here does I/O, reads a clock or
//! allocates beyond what it was given; every length from outside is checked before it is used.
//! `docs/protocol.md` gives the same bytes in prose, and the tests beside each structure hold them.

mod backup;
pub mod batch;
mod body;
mod deliver;
mod error;
mod frame;
mod hello;
pub mod kind;
mod murmur2;
mod produce;
mod produce_run;
pub mod records;
mod reply;
mod request;
mod stages;
mod status;
#[cfg(test)]
mod testing;
mod topic;

pub use batch::{
    BatchError, BatchHeader, BatchSpan, check_batch, check_whole_batch, split_batches,
};
pub use body::BodyError;
pub use deliver::{
    DELIVER_HEAD_BYTES, DeliverHead, FETCH_HEAD_BYTES, FetchHead, put_deliver_head, put_fetch_head,
};
pub use error::{GoAway, parse_go_away, put_error, put_go_away};
pub use frame::{
    FRAME_HEADER_BYTES, FrameError, FrameHeader, PROTOCOL_VERSION, TooLarge, next_frame,
};
pub use hello::{
    FEATURE_OPERATOR, Hello, HelloReply, parse_hello, parse_hello_reply, put_hello, put_hello_reply,
};
pub use murmur2::{murmur2, partition_of_key};
pub use produce::{
    BATCHES_AT, PRODUCE_ACK_BYTES, PRODUCE_HEAD_BYTES, ProduceAck, ProduceHead, put_produce_ack,
    put_produce_head,
};
pub use produce_run::{WholePublish, whole_publish};
pub use records::{
    BatchBuilder, Codec, Headers, Producer, RecordCursor, RecordError, RecordIter, RecordRef,
};
pub use reply::{decode_reply, put_reply};
pub use request::{decode_request, put_request};
