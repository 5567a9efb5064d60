//! The server's own bounds, in one place, with their relations checked when compiled.

/// Most bytes that one read of the log hands to one reader.
pub const READ_BYTES_MAX: usize = 512 * 1024;
/// The same once readers that do not take what they asked for fill the log's cache.
pub const READ_BYTES_PRESSED: usize = 256 * 1024;
/// The time for reading in one turn of a core's shard before sockets and disk are looked at, while
/// publishes wait: each waits for it up to three times, to be seen, to be known durable, and to be
/// acknowledged. One read always fits.
pub const READ_NS_BESIDE_PUBLISHES: u64 = 100_000;
/// The same in bytes, as the kernel copies them when they are sent. The last read may pass it.
pub const READ_BYTES_BESIDE_PUBLISHES: usize = 256 * 1024;
/// The time while no publish waits...
pub const READ_NS_ALONE: u64 = 1_000_000;
/// ...and the bytes.
pub const READ_BYTES_ALONE: usize = 4 * 1024 * 1024;
/// Once reads are more than that time holds they are sorted by their connections, for this part of
/// it beside it: sorting one is far less than reading it.
pub const SORT_SHARE: u64 = 4;
/// The clock is looked at for that after so many of them.
pub const SORTED_PER_LOOK: usize = 16;
/// For so long after a publish was taken or answered the next counts as waiting: whoever sends one
/// after the other has it on its way.
pub const PUBLISHES_RECENT_NS: u64 = 2_000_000;
/// Bytes handed to one reader that its connection has not sent yet: past this it waits, so a slow
/// reader pins at most this plus one read of the cache.
pub const READER_UNSENT_BYTES_MAX: u64 = 1024 * 1024;
/// Requests of one core under way on another; past this the connections that feed it wait.
pub const MESH_REQUESTS_MAX: u32 = 65_536;
/// Messages in one batch between cores.
pub const MESH_BATCH_MAX: usize = 1_024;
/// Bytes handed to one connection by one shard and not yet sent, over all its readers; past this
/// they wait.
pub const CONNECTION_UNSENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of publishes from other cores that wait in one shard for room in the log's backlog.
pub const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A connection that has not said `Hello` by then is closed, seconds.
pub const GREETING_SECONDS_MAX: u64 = 10;
/// A core with fewer connections keeps those it accepts, however few the others have.
pub const BALANCE_CONNECTIONS_MIN: u32 = 8;
/// Connections of operators on one core: beyond all other bounds, but no way around them.
pub const OPERATORS_PER_CORE_MAX: usize = 16;
/// A connection of an operator that is asked to leave is closed after so long, seconds.
pub const OPERATOR_LEAVES_SECONDS: u64 = 5;
/// Refused connections of a core that wait to say Hello and be told why; past this the oldest is
/// told and closed at once.
pub const REFUSED_GREETINGS_MAX: usize = 64;
/// A frame that has not come whole by then, while memory is short, costs its connection, seconds.
pub const PARTIAL_FRAME_SECONDS_MAX: u64 = 60;
/// A closing connection that does not take its last replies by then is cut, seconds.
pub const DRAINING_SECONDS_MAX: u64 = 10;
/// Bytes sent and not acknowledged by the peer's machine for so long end the connection, seconds.
pub const PEER_SILENT_SECONDS_MAX: u32 = 60;
/// A peer that says nothing for so long is asked whether its machine is still there, seconds.
pub const PEER_IDLE_SECONDS_MAX: u32 = 60;
/// Descriptors of the process beside its cores: signals, what it opens for a moment.
pub const DESCRIPTORS_PER_PROCESS: u64 = 8;
/// Descriptors of a core beside its connections: 4 rings, 3 eventfds, 2 listeners, and what it
/// opens for a moment.
pub const DESCRIPTORS_PER_CORE: u64 = 12;
/// Descriptors of a shard beside its segments: its directory, 2 manifests, the spare ones, and what
/// it opens for a moment (checkpoint, reserve).
pub const DESCRIPTORS_PER_SHARD: u64 = 7 + DESCRIPTORS_SPARE_PER_SHARD as u64;
/// Descriptors kept for the segments a shard makes while it runs, where the limit allows.
pub const DESCRIPTORS_TO_GROW_PER_SHARD: u64 = 16;
/// Descriptors a shard holds, to be closed when its log needs one and there is no other.
pub const DESCRIPTORS_SPARE_PER_SHARD: usize = 8;
/// Fetch cursors kept open in a shard between fetches.
pub const FETCH_CURSORS_MAX: usize = 256;
/// Readers (subscriptions and waiting fetches) in one shard.
pub const READERS_PER_SHARD_MAX: usize = 200_000;
/// The same of one connection: a few cannot take the whole shard.
pub const READERS_OF_CONNECTION_MAX: usize = READERS_PER_SHARD_MAX / 4;
/// Fetches of one connection that wait in one shard: each is read for once at least.
pub const FETCHES_OF_CONNECTION_MAX: usize = 4_096;
/// Replies waiting for durability in one shard.
pub const PENDING_REPLIES_MAX: usize = 1_000_000;
/// Objects in one slice of a checkpoint; keeps a slice under 200 us.
pub const CHECKPOINT_SLICE_OBJECTS: usize = 256;
/// Streams looked at for retention in one turn of the core.
pub const RETENTION_STREAMS_PER_TURN: usize = 256;
/// Publishes taken at once, at most.
pub const RUN_PUBLISHES_MAX: usize = 64;
/// A larger frame, in bytes, is taken alone: what it costs is its bytes.
pub const RUN_FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Work taken from a connection that asks for little, ahead of those that have asked for more than
/// this: publishes' worth, about 100 ns each.
pub const WORK_FIRST: u32 = 512;
/// Work taken from one of the others before the next gets its turn.
pub const WORK_PER_CONNECTION: u32 = 4_096;
/// Work of those others in one turn of the core; then sockets and disk are looked at.
pub const WORK_PER_TURN: u32 = 16_384;
/// The time for requests of those that ask for little in one turn, and of the others: what they cost is
/// only guessed when they are counted as work. The rest waits for the next turn.
pub const PARSE_NS_PER_TURN: u64 = 300_000;
/// The clock is looked at for that after so much work.
pub const WORK_PER_LOOK: u32 = WORK_FIRST;
/// What is left of a turn for those that ask for much, however many ask for little.
pub const WORK_LEFT_MIN: u32 = WORK_PER_CONNECTION;
/// Questions that many parts of the server answer (status, a topic's description), under way on one
/// core; further ones wait.
pub const GATHERS_PER_CORE_MAX: usize = 4;
/// The same of operators, beside those.
pub const GATHERS_OF_OPERATORS_MAX: usize = 4;
/// After a question about a topic of more partitions than this, a core rests from such questions...
pub const GATHER_PARTITIONS_FREE: usize = 256;
/// ...for so long for each of the others: several times what answering takes.
pub const GATHER_REST_NS_PER_PARTITION: u64 = 1_000;
/// What a request that is no publish counts in flight at least, bytes: what is kept for it.
pub const REQUEST_COST_MIN: u32 = 1_024;
/// Topic changes under way; further ones are refused as `busy`.
pub const TOPIC_CHANGES_MAX: usize = 1_024;
/// Partitions of one topic change asked for at once; the others follow as these are done.
pub const PARTITIONS_ASKED_AT_ONCE: usize = 256;
/// How often a core looks at its clocks, milliseconds.
pub const TICK_MS: u64 = 5;
/// Bytes of replies a connection may have waiting to be sent before it is no longer read.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same over all connections of a core: past it none is read further that has more than
/// [`OUTPUT_BYTES_SPARED`] waiting, and those that take nothing are closed.
pub const OUTPUT_BYTES_PER_CORE_MAX: usize = 64 * 1024 * 1024;
/// What each connection may have waiting even then.
pub const OUTPUT_BYTES_SPARED: usize = 16 * 1024;
/// A connection that takes none of its replies for so long is closed while they are at that bound,
/// seconds.
pub const OUTPUT_STUCK_SECONDS_MAX: u64 = 5;
/// A frame of which nothing more comes for so long costs its connection while others wait for its
/// memory, seconds.
pub const PARTIAL_FRAME_STUCK_SECONDS_MAX: u64 = 5;
/// What was appended and nobody waits for gathers so long before it is written, nanoseconds.
pub const UNAWAITED_WRITE_NS: u64 = 1_000_000;
/// A producer idle for this long is forgotten, milliseconds.
pub const PRODUCER_IDLE_MS: u64 = 24 * 60 * 60 * 1000;
/// A backup whose client gives no sign of life for so long is given up, seconds.
pub const BACKUP_SILENT_SECONDS_MAX: u64 = 60;

const _: () = assert!(WORK_FIRST <= WORK_PER_CONNECTION && WORK_PER_CONNECTION <= WORK_PER_TURN);
const _: () = assert!(OUTPUT_BYTES_SPARED < OUTPUT_BYTES_MAX);
const _: () = assert!(OUTPUT_BYTES_MAX < OUTPUT_BYTES_PER_CORE_MAX);
const _: () = assert!(READ_NS_BESIDE_PUBLISHES <= READ_NS_ALONE);
const _: () = assert!(READ_BYTES_BESIDE_PUBLISHES <= READ_BYTES_ALONE);
const _: () = assert!(READ_NS_ALONE <= PUBLISHES_RECENT_NS);
const _: () = assert!(READ_BYTES_MAX as u64 <= READER_UNSENT_BYTES_MAX);
const _: () = assert!(DESCRIPTORS_SPARE_PER_SHARD as u64 <= DESCRIPTORS_TO_GROW_PER_SHARD);
const _: () = assert!(READ_BYTES_MAX < model::limits::FRAME_BYTES_MAX as usize);
