//! All that placement and budgets are decided from, read once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupLimits;
use crate::cpu_set::{CpuListError, CpuSet};
use crate::memory::MemoryLimit;
use crate::topology::Topology;

/// Where the kernel's files are; other places in tests.
#[derive(Clone, Debug)]
pub struct Roots {
    pub sys: PathBuf,
    pub proc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { sys: PathBuf::from("/sys"), proc: PathBuf::from("/proc") }
    }
}

/// The machine as the calling thread may use it.
#[derive(Clone, Debug)]
pub struct Host {
    pub topology: Topology,
    /// Online CPUs in the affinity mask; a control group's CPU set is part of the mask.
    pub allowed: CpuSet,
    /// CPU time per wall time that the control groups grant; `None` is no limit.
    pub cpu_quota: Option<f64>,
    /// The control group's CPUs are shared with no one outside it.
    pub cpu_set_exclusive: bool,
    pub memory: MemoryLimit,
    /// CPUs that other brokers on this host hold; see [`crate::cpu_locks`].
    pub taken: CpuSet,
    /// The CPU of the threads that are no core; see [`Host::reserve_control`].
    pub control: Option<u32>,
}

/// Why the machine could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("cannot read {}: {source}; is /proc and /sys mounted?", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds no list of CPUs: {source}", path.display())]
    CpuList { path: PathBuf, source: CpuListError },
    #[error("{} does not say how much memory there is", path.display())]
    Memory { path: PathBuf },
}

impl Host {
    /// Reads the machine through `/sys` and `/proc`.
    pub fn read() -> Result<Self, HostError> {
        Self::read_from(&Roots::default())
    }

    pub fn read_from(roots: &Roots) -> Result<Self, HostError> {
        let topology = Topology::read(&roots.sys)?;
        let allowed = read_affinity(&roots.proc)?.intersection(&topology.online());
        let groups = CgroupLimits::read(&roots.proc);
        let memory = MemoryLimit::read(&roots.proc, &groups)?;
        Ok(Self {
            topology,
            allowed,
            cpu_quota: groups.cpu_quota,
            cpu_set_exclusive: groups.cpu_set_exclusive,
            memory,
            taken: CpuSet::default(),
            control: None,
        })
    }
}

/// The mask that `sched_getaffinity` gives, read from procfs: there it has no limit of 1024 CPUs.
fn read_affinity(proc: &Path) -> Result<CpuSet, HostError> {
    let path = proc.join("thread-self/status");
    let status = fs::read_to_string(&path)
        .map_err(|source| HostError::Read { path: path.clone(), source })?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = line.unwrap_or_default().trim();
    list.parse().map_err(|source| HostError::CpuList { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn the_mask_is_cut_to_what_is_online() {
        let fixture = Fixture::flat(4);
        fixture.allow("2-63");
        assert_eq!(fixture.host().allowed.to_string(), "2,3");
    }

    #[test]
    fn this_machine_agrees_with_sched_getaffinity() {
        let host = Host::read().unwrap();
        let mask = rustix::thread::sched_getaffinity(None).unwrap();
        let expected: CpuSet = (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|cpu| mask.is_set(*cpu))
            .map(|cpu| cpu as u32)
            .collect();
        assert_eq!(host.allowed, expected.intersection(&host.topology.online()));
        assert!(host.memory.bytes > 0);
    }
}
