//! Error codes. A code's number and its retryable bit never change once given out.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $retryable:literal;)*) => {
        /// Why a request failed, as it stands on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum ErrorCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl ErrorCode {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code's name in docs and messages.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether the same request, sent again unchanged, may succeed.
            pub fn is_retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }

            /// Reads the wire's number.
            pub fn from_wire(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// The frame or its body does not follow the protocol.
    Malformed = 1, "malformed", false;
    /// No request has this kind.
    UnknownKind = 2, "unknown_kind", false;
    /// The protocol version is not spoken here.
    UnsupportedVersion = 3, "unsupported_version", false;
    /// The frame or batch is over its limit.
    TooLarge = 4, "too_large", false;
    /// A value is outside what is allowed.
    InvalidArgument = 5, "invalid_argument", false;
    /// The batch's checksum does not match its bytes.
    CorruptBatch = 6, "corrupt_batch", false;
    /// `Hello` must come first, once.
    HandshakeRequired = 7, "handshake_required", false;
    /// There is no such topic.
    UnknownTopic = 10, "unknown_topic", false;
    /// The topic exists already.
    TopicExists = 11, "topic_exists", false;
    /// The handle names no partition of this shard: fetch the metadata again.
    UnknownPartition = 12, "unknown_partition", false;
    /// The offset is before the first or after the end.
    OffsetOutOfRange = 13, "offset_out_of_range", false;
    /// The consumer has committed nothing in this partition.
    NoCommittedOffset = 14, "no_committed_offset", false;
    /// The subscription's number is in use or unknown.
    UnknownSubscription = 15, "unknown_subscription", false;
    /// A sequence number leaves a gap.
    OutOfOrderSequence = 20, "out_of_order_sequence", false;
    /// A duplicate older than what is remembered: it was stored, its offset is not known.
    DuplicateSequence = 21, "duplicate_sequence", false;
    /// A newer epoch of this producer has been seen.
    ProducerFenced = 22, "producer_fenced", false;
    /// The producer's id is not known here any more: ask for a new one.
    UnknownProducer = 23, "unknown_producer", false;
    /// A named bound is reached; try again later.
    Busy = 30, "busy", true;
    /// The server is stopping.
    ShuttingDown = 31, "shutting_down", true;
    /// The time allowed for the request ran out; a write may have happened.
    DeadlineExceeded = 32, "deadline_exceeded", true;
    /// The write may or may not have happened.
    OutcomeUnknown = 33, "outcome_unknown", true;
    /// No space on the disk.
    DiskFull = 34, "disk_full", true;
    /// The shard does not accept writes: its log has failed.
    ShardReadOnly = 35, "shard_read_only", false;
    /// The shard is not served: its log is damaged or its engine stopped.
    ShardUnavailable = 36, "shard_unavailable", false;
    /// Stored bytes do not match their checksum; they are not served.
    DamagedData = 37, "damaged_data", false;
    /// A limit on what exists (partitions, consumers) is reached.
    LimitReached = 38, "limit_reached", false;
    /// The core or server is being emptied of its clients: connect again.
    Draining = 39, "draining", true;
    /// A bound on connections is reached.
    TooManyConnections = 40, "too_many_connections", true;
    /// The backup is not under way any more, its files may have changed: begin another.
    BackupBroken = 43, "backup_broken", false;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused request: the code, and one sentence that says what was wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Rejection {
    pub code: ErrorCode,
    pub message: String,
}

impl Rejection {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_round_trip() {
        let mut seen = std::collections::HashSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(*code as u16), "{code} shares its number");
            assert_eq!(ErrorCode::from_wire(*code as u16), Some(*code));
        }
        assert_eq!(ErrorCode::from_wire(0), None);
    }
}
