//! The broker's process: one executor per core, its sockets, its shards, and what goes between.
//!
//! Bytes become requests in `connection` and `core/frames`, requests go to the owning shard
//! directly or through the `mesh`, `shard` lets the engine decide and the log keep, and replies
//! leave when what they promise is true. Nothing here waits for a lock or for another core.

mod address_space;
mod admission;
mod bounds;
mod budgets;
mod clock;
pub mod config;
mod connection;
mod coordinator;
mod core;
mod data;
mod descriptors;
mod facts;
mod listen;
pub mod logging;
mod medium;
mod memory;
mod mesh;
mod message;
mod metadata;
mod outbox;
mod placement;
mod shard;
mod stages;
mod start;
mod steering;
mod test_faults;
mod token;
mod write_budget;

pub use self::core::SpinConfig;
pub use budgets::half_frame_bytes_max;
pub use config::{ExecutorConfig, IoMode, ServerConfig, Steering, StorageConfig};
pub use start::{LOCKED_MEMORY_BYTES, Ready, StartError, run};
