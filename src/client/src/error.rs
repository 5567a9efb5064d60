//! Everything that can go wrong in a client, in one type that says what to do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use model::{ErrorCode, NameError, Rejection};
use protocol::{BatchError, Codec, FrameError, RecordError};

/// Why a call, a delivery or a stream failed. Cheap to clone: one failure may be told to many.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot connect to {address}: {source}; is the server running there?")]
    Connect { address: String, source: Arc<io::Error> },
    #[error("the connection to {address} was lost: {reason}")]
    ConnectionLost { address: String, reason: String },
    #[error("{address} does not follow the protocol: {source}")]
    Protocol { address: String, source: FrameError },
    #[error("{what} took longer than {after:?}; raise the timeout or look at the server's load")]
    Timeout { what: &'static str, after: Duration },
    /// The server refused; its code and its sentence.
    #[error("{0}")]
    Server(#[from] Rejection),
    /// The message may be stored or not: an attempt went unanswered, and then this happened.
    #[error("it is not known whether the message was stored: {source}")]
    OutcomeUnknown { source: Box<Error> },
    #[error(
        "a message has {bytes} bytes; at most {max} fit a batch: raise batch_bytes or send less"
    )]
    MessageTooLarge { bytes: usize, max: usize },
    #[error("topic {topic} has {partitions} partitions; there is no partition {partition}")]
    NoSuchPartition { topic: String, partition: u32, partitions: u32 },
    /// A batch that is none, or not what was published. What follows it in the same delivery cannot
    /// be found either.
    #[error(
        "partition {partition} at offset {offset}: {source}; after it comes offset {next_offset}"
    )]
    BadBatch { partition: u32, offset: u64, next_offset: u64, source: BatchError },
    #[error(
        "partition {partition} at offset {offset}: {source}; after it comes offset {next_offset}"
    )]
    BadRecord { partition: u32, offset: u64, next_offset: u64, source: RecordError },
    #[error(
        "partition {partition} at offset {offset}: {source}; after it comes offset {next_offset}"
    )]
    BadCompression { partition: u32, offset: u64, next_offset: u64, source: CompressionError },
    /// A batch was not sent.
    #[error("a batch for partition {partition} could not be compressed: {source}")]
    NotCompressed { partition: u32, source: CompressionError },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{option}: {problem}")]
    InvalidOption { option: &'static str, problem: &'static str },
    #[error("the consumer has no name; give it one with `name` to commit offsets")]
    NoConsumerName,
    #[error("this producer or client is closed")]
    Closed,
}

/// Why a record section could not be compressed or unpacked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    #[error("the codec {0:?} is not supported here; use none, lz4 or zstd")]
    Unsupported(Codec),
    #[error("{codec:?} failed: {source}")]
    Codec { codec: Codec, source: Arc<io::Error> },
    #[error(
        "its Zstandard frame asks for a window of {window} bytes, and {max} are allowed; raise \
         window_bytes_max to read it"
    )]
    WindowTooLarge { window: u64, max: u64 },
    #[error("the records unpack to more than {max} bytes; raise unpacked_bytes_max to read them")]
    TooLarge { max: usize },
    #[error(
        "{packed} bytes of records unpack to more than {ratio} times that, which no sender does in \
         good faith; find out who publishes to this partition"
    )]
    TooDense { packed: usize, ratio: usize },
}

impl Error {
    /// The server's code, when the server refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Server(rejection) => Some(rejection.code),
            Self::OutcomeUnknown { source } => source.code(),
            _ => None,
        }
    }

    /// The partition and the offset to go on from without the batch that this error is about; `None`
    /// where it is about no batch.
    pub fn after_bad_batch(&self) -> Option<(u32, u64)> {
        match self {
            Self::BadBatch { partition, next_offset, .. }
            | Self::BadRecord { partition, next_offset, .. }
            | Self::BadCompression { partition, next_offset, .. } => {
                Some((*partition, *next_offset))
            }
            _ => None,
        }
    }

    /// Whether the same call may succeed later. After [`Error::OutcomeUnknown`] a second try may
    /// store a message twice, so that counts as no.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::ConnectionLost { .. } | Self::Timeout { .. } => true,
            Self::Server(rejection) => rejection.code.is_retryable(),
            _ => false,
        }
    }

    /// Whether the request may have been carried out although it failed.
    pub(crate) fn is_ambiguous(&self) -> bool {
        match self {
            Self::ConnectionLost { .. } | Self::Timeout { .. } | Self::Protocol { .. } => true,
            Self::Server(rejection) => {
                matches!(rejection.code, ErrorCode::OutcomeUnknown | ErrorCode::DeadlineExceeded)
            }
            _ => false,
        }
    }

    /// The connection ended although no one asked for it.
    pub(crate) fn lost(address: &str, reason: impl ToString) -> Self {
        Self::ConnectionLost { address: address.to_owned(), reason: reason.to_string() }
    }

    /// What the client itself says when the metadata lacks a topic.
    pub(crate) fn unknown_topic(name: &str) -> Self {
        let message =
            format!("there is no topic {name}; create it with: corelane topic create {name}");
        Self::Server(Rejection::new(ErrorCode::UnknownTopic, message))
    }
}
