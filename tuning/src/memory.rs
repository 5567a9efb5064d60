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

/// Whether a cache fits beside the rest; the sentences say what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheFit {
    Fits,
    /// The kernel may end the process when all is full.
    Tight(String),
    /// It can never be filled.
    Impossible(String),
}

impl MemoryLimit {
    /// Holds a cache of `cache_bytes` and `other_bytes` of other budgets against the limit. Only a
    /// cache that was `configured` can be impossible.
    pub fn fit_cache(
        &self,
        cache_bytes: u64,
        other_bytes: u64,
        cores: usize,
        configured: bool,
    ) -> CacheFit {
        let whose = match self.source {
            MemorySource::ControlGroup => "the control group's memory limit",
            MemorySource::Machine => "the machine's memory",
        };
        let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(MIB));
        let beside = RESERVED_BYTES + RESERVED_BYTES_PER_CORE * cores as u64 + other_bytes;
        let (cache, limit) = (mib(cache_bytes), mib(self.bytes));
        if configured && cache_bytes >= self.bytes {
            return CacheFit::Impossible(format!(
                "storage.cache_bytes is {cache}, {whose} is {limit}; set it lower, or to 0 for a \
                 quarter of the limit"
            ));
        }
        if cache_bytes.saturating_add(beside) > self.bytes {
            return CacheFit::Tight(format!(
                "{whose} is {limit}; a cache of {cache} and up to {} beside it do not fit, and the \
                 kernel may end the server when both are full: raise the limit to {} or lower \
                 storage.cache_bytes and server.partial_frame_bytes_per_core",
                mib(beside),
                mib(cache_bytes.saturating_add(beside)),
            ));
        }
        CacheFit::Fits
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
    fn a_cache_that_does_not_fit_is_said_or_refused() {
        let limit = MemoryLimit { bytes: 256 * MIB, source: MemorySource::ControlGroup };
        assert_eq!(limit.fit_cache(64 * MIB, 64 * MIB, 1, true), CacheFit::Fits);
        let CacheFit::Tight(sentence) = limit.fit_cache(160 * MIB, 64 * MIB, 1, true) else {
            panic!()
        };
        assert!(sentence.contains("limit is 256 MiB"), "{sentence}");
        assert!(sentence.contains("raise the limit to 304 MiB"), "{sentence}");
        let refused = limit.fit_cache(256 * MIB, 0, 1, true);
        assert!(matches!(&refused, CacheFit::Impossible(text) if text.contains("256 MiB")));
        let most = limit.fit_cache(u64::MAX, u64::MAX / 2, 1, true);
        assert!(matches!(most, CacheFit::Impossible(_)));
        let default = limit.fit_cache(256 * MIB, 0, 1, false);
        assert!(matches!(default, CacheFit::Tight(_)));
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
