//! The bounds that outside input meets, in one place.

/// Largest frame on the wire, header included, bytes.
pub const FRAME_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Largest record batch, bytes.
pub const BATCH_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// Connections that one core serves at once.
pub const CONNECTIONS_PER_CORE_MAX: u32 = 10_000;
/// Longest topic name, bytes of `[A-Za-z0-9._-]`.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Longest consumer name, bytes.
pub const CONSUMER_NAME_BYTES_MAX: usize = 249;
/// Partitions in a data directory.
pub const PARTITIONS_MAX: u32 = 100_000;
/// Shards in a data directory.
pub const SHARDS_MAX: u16 = 1024;
/// Named consumers with a committed offset in one partition.
pub const CONSUMERS_PER_PARTITION_MAX: usize = 1_000;
/// Producers remembered in one partition; the one idle for longest makes room.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 1_000;
/// Runs of sequence numbers remembered for a producer in one partition.
pub const PRODUCER_RUNS_MAX: usize = 64;
/// Subscriptions that one connection may hold.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 100_000;
/// Credit that one subscription may hold, bytes.
pub const CREDIT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Longest wait of a fetch, milliseconds.
pub const FETCH_WAIT_MS_MAX: u32 = 60_000;
/// Topics in one page of a listing.
pub const TOPICS_PER_PAGE_MAX: u32 = 1_000;
/// Topics that one metadata request may name.
pub const TOPICS_NAMED_MAX: u32 = 1_000;
/// Record batches in one publish.
pub const BATCHES_PER_PUBLISH_MAX: u32 = 4_096;

const _: () = assert!(BATCH_BYTES_MAX < FRAME_BYTES_MAX);
