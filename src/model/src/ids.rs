//! Identifiers. Each is its own type, so that none can be passed for another.

use std::fmt;

/// A record's place in its partition, counted from 0.
pub type Offset = u64;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// One executor pinned to one CPU, counted from 0 in this process.
    CoreId(u16)
);
id!(
    /// The unit of ownership, ordering and durability, counted from 0 in a data directory.
    ShardId(u16)
);
id!(
    /// A topic's number: given by shard 0, from 1 up, never used again.
    TopicId(u64)
);
id!(
    /// A partition's place in its topic, counted from 0.
    PartitionIndex(u32)
);
id!(
    /// A partition's number inside its shard, from 1 up, never used again; 0 is no partition.
    StreamId(u32)
);
id!(
    /// The number of an entry in a shard's log, from 1 up; 0 is "before the first".
    Lsn(u64)
);

impl Lsn {
    /// Before the first entry.
    pub const ZERO: Lsn = Lsn(0);

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

/// What a client names a partition by on the data path.
///
/// It is a hint for routing (shard) and a claim to be checked: the owning shard looks the stream
/// up and refuses when it belongs to another topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionHandle {
    pub topic: TopicId,
    pub stream: StreamId,
    pub shard: ShardId,
}
