//! How much memory the process may use, and how much of it the caches get.

use std::fs;
use std::path::Path;

use crate::cgroup::CgroupLimits;
use crate::host::{Host, HostError};

const MIB: u64 = 1 << 20;

/// The caches get at least this, all cores together.
pub const CACHE_BYTES_MIN: u64 = 64 * MIB;
/// More cache than this per core is given only when configured: until a cache has been filled
/// once, every new page of it costs (the kernel clears it), and a small one stays in the CPU's
/// caches.
pub const CACHE_BYTES_PER_CORE_MAX: u64 = 512 * MIB;
/// What the process needs beside its caches.
pub const RESERVED_BYTES: u64 = 64 * MIB;
/// What each core needs beside its cache.
pub const RESERVED_BYTES_PER_CORE: u64 = 16 * MIB;

/// Who sets the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemorySource {
    ControlGroup,
    Machine,
}

/// The memory the process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    pub bytes: u64,
    pub source: MemorySource,
}

impl MemoryLimit {
    /// The smaller of physical memory (`meminfo` below `proc`) and the control groups' limit.
    pub fn read(proc: &Path, groups: &CgroupLimits) -> Result<Self, HostError> {
        let machine = physical_memory_bytes(proc)?;
        Ok(match groups.memory_bytes {
            Some(bytes) if bytes < machine => Self { bytes, source: MemorySource::ControlGroup },
            _ => Self { bytes: machine, source: MemorySource::Machine },
        })
    }

    /// The default cache budget of the whole process in bytes: a quarter of the limit, but at
    /// least 64 MiB, at most 512 MiB per core, and never what the process and its cores need beside
    /// it (64 MiB and 16 MiB per core) unless that would leave less than 64 MiB.
    pub fn cache_budget_bytes(&self, cores: usize) -> u64 {
        let cores = cores.max(1) as u64;
        let reserved = RESERVED_BYTES + RESERVED_BYTES_PER_CORE * cores;
        let most = CACHE_BYTES_PER_CORE_MAX * cores;
        let budget = (self.bytes / 4).min(most).min(self.bytes.saturating_sub(reserved));
        budget.max(CACHE_BYTES_MIN)
    }
}

/// The memory limit of this process.
pub fn memory_limit() -> Result<MemoryLimit, HostError> {
    Ok(Host::read()?.memory)
}

/// The default cache budget of this process on `cores` cores, bytes; see
/// [`MemoryLimit::cache_budget_bytes`].
pub fn cache_budget_bytes(cores: usize) -> Result<u64, HostError> {
    Ok(memory_limit()?.cache_budget_bytes(cores))
}

/// `MemTotal` of `meminfo`, bytes.
pub(crate) fn physical_memory_bytes(proc: &Path) -> Result<u64, HostError> {
    let path = proc.join("meminfo");
    let text = fs::read_to_string(&path)
        .map_err(|source| HostError::Read { path: path.clone(), source })?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or(HostError::Memory { path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn the_control_group_counts_when_it_is_smaller() {
        let fixture = Fixture::flat(2);
        let machine = MemoryLimit { bytes: 8 << 30, source: MemorySource::Machine };
        assert_eq!(fixture.host().memory, machine);
        fixture.cgroup_v2("/", "/");
        fixture.write("cgroup/memory.max", "1073741824\n");
        let group = MemoryLimit { bytes: 1 << 30, source: MemorySource::ControlGroup };
        assert_eq!(fixture.host().memory, group);
        fixture.write("cgroup/memory.max", "99999999999999\n");
        assert_eq!(fixture.host().memory, machine);
    }

    #[test]
    fn the_cache_budget_follows_the_limit() {
        let budget = |mib: u64, cores| {
            let limit = MemoryLimit { bytes: mib * MIB, source: MemorySource::Machine };
            limit.cache_budget_bytes(cores) / MIB
        };
        assert_eq!(budget(4096, 4), 1024);
        assert_eq!(budget(512 * 1024, 2), 1024);
        assert_eq!(budget(256, 1), 64);
        assert_eq!(budget(32, 1), 64);
        // A quarter would be 320 MiB; 64 + 72 x 16 are needed beside the cache.
        assert_eq!(budget(1280, 72), 64);
        assert_eq!(budget(1024, 0), 256);
    }
}
