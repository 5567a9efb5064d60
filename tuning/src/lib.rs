//! What the machine offers and what the process may use of it: CPUs, NUMA nodes, memory, limits,
//! and what its disk and loopback can do at best.
//!
//! It chooses CPUs for cores and sizes budgets; it starts no executor and knows nothing of topics,
//! shards or the log.

pub mod advice;
pub mod block_device;
pub mod caches;
pub mod ceilings;
pub mod cgroup;
pub mod check;
pub mod control;
pub mod cpu_locks;
pub mod cpu_set;
pub mod disk_matrix;
pub mod disk_test;
pub mod filesystem;
pub mod host;
pub mod limits;
pub mod loopback_test;
pub mod machine;
pub mod medium;
pub mod memory;
pub mod mounts;
pub mod nic;
pub mod peer_test;
pub mod pin;
pub mod placement;
pub mod running;
pub mod samples;
pub mod topology;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod fixture_devices;

mod aligned;
mod scratch_file;

pub use ceilings::{Ceilings, CeilingsError};
pub use control::ControlCpuError;
pub use cpu_locks::{CpuLocks, LockDir, place};
pub use cpu_set::CpuSet;
pub use disk_matrix::{MatrixBounds, MatrixFigures, disk_matrix};
pub use disk_test::{DiskBounds, DiskFigures, disk_self_test};
pub use filesystem::{Filesystem, Nature};
pub use host::{Host, HostError, Roots};
pub use limits::{LockedMemoryError, OpenFiles, raise_locked_memory, raise_open_files};
pub use loopback_test::{LoopbackBounds, LoopbackFigures, loopback_self_test};
pub use machine::Machine;
pub use medium::Medium;
pub use memory::{CacheFit, MemoryLimit, MemorySource, cache_budget_bytes, memory_limit};
pub use pin::pin_current_thread;
pub use placement::{CoreRequest, Placement, PlacementError, choose_cores};
pub use samples::{Percentiles, Samples};
pub use topology::Topology;
