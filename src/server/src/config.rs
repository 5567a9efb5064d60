//! What the server is told at start. Parsed and bounded by the caller; a value here is good.

use std::net::SocketAddr;
use std::path::PathBuf;

use tuning::Placement;

use crate::core::SpinConfig;

/// Everything a server needs to know. Sizes in bytes, times in the unit of the name.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub version: String,
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// One entry per core: the CPU it is pinned to, and why.
    pub placement: Placement,
    /// Shards of a data directory that is made now; `None`: one per core.
    pub shards: Option<u16>,
    pub direct_ports: bool,
    pub steering: Steering,
    /// The CPU of the threads that are no core; one of the affinity mask.
    pub control_cpu: Option<u32>,
    pub advertise_host: Option<String>,
    pub advertise_direct_base_port: Option<u16>,
    pub connections_per_core_max: u32,
    /// 0: no bound.
    pub connections_per_address_max: u32,
    /// An operator's connection that asks nothing for so long is asked to leave.
    pub operator_idle_ms: u64,
    pub in_flight_bytes_per_connection: usize,
    pub partial_frame_bytes_per_core: usize,
    pub mesh_depth: usize,
    pub shutdown_timeout_ms: u64,
    pub storage: StorageConfig,
    pub executor: ExecutorConfig,
}

/// The log's share of the configuration; the same for every shard.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    pub segment_bytes: u64,
    pub pool_segments: u32,
    pub pool_segments_max: u32,
    pub group_bytes: u32,
    pub writes_in_flight: u32,
    /// Of the logs on each device, all together; `None`: as many as come.
    pub device_writes_per_second: Option<u32>,
    pub backlog_bytes: u64,
    /// For the whole process, shared out among the shards.
    pub cache_bytes: u64,
    pub prepare_bytes: u64,
    pub retention_check_ms: u64,
    /// A log write older than this makes the disk slow.
    pub slow_after_ms: u64,
    pub io: IoMode,
    /// Data may lie on a filesystem in memory.
    pub allow_volatile: bool,
}

/// Who decides which core takes a connection to the shared address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// Chance, and then the number of connections that each core has.
    Off,
    /// The CPU that the kernel receives it on: the one that serves its queue of the network card.
    IncomingCpu,
}

/// How the log's files are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoMode {
    /// O_DIRECT, or through the page cache where the filesystem refuses it.
    Auto,
    /// O_DIRECT or not at all.
    Direct,
}

/// The executors' share of the configuration.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    pub spin: SpinConfig,
    pub ring_entries: u32,
    pub receive_buffers: u16,
    pub receive_buffer_bytes: u32,
}
