//! CPUs, physical cores and NUMA nodes, as sysfs tells them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::cpu_set::CpuSet;
use crate::host::HostError;

/// One online logical CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    pub id: u32,
    /// Its NUMA node; 0 where the kernel knows of none.
    pub node: u32,
    /// Its physical core, named by the lowest CPU number of the threads that share it.
    pub physical_core: u32,
}

/// The online CPUs of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    cpus: BTreeMap<u32, Cpu>,
}

impl Topology {
    /// Reads `devices/system` below `sys` (`/sys`).
    ///
    /// Missing sibling or node files are no error (some virtual machines have none): such a CPU
    /// is a physical core of its own on node 0. A missing list of online CPUs is one.
    pub fn read(sys: &Path) -> Result<Self, HostError> {
        let system = sys.join("devices/system");
        let online = read_cpu_set(&system.join("cpu/online"))?;
        let nodes = read_nodes(&system.join("node"))?;
        let cpus = online.iter().map(|id| {
            let folder = system.join(format!("cpu/cpu{id}/topology"));
            let cpu = Cpu {
                id,
                node: nodes.get(&id).copied().unwrap_or(0),
                physical_core: read_physical_core(&folder, id),
            };
            (id, cpu)
        });
        Ok(Self { cpus: cpus.collect() })
    }

    pub fn cpu(&self, id: u32) -> Option<Cpu> {
        self.cpus.get(&id).copied()
    }

    pub fn online(&self) -> CpuSet {
        self.cpus.keys().copied().collect()
    }

    /// The NUMA nodes that have at least one online CPU.
    pub fn nodes(&self) -> Vec<u32> {
        let mut nodes: Vec<u32> = self.cpus.values().map(|cpu| cpu.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The online threads of `cpu`'s physical core, itself included.
    pub fn siblings(&self, cpu: Cpu) -> impl Iterator<Item = u32> + '_ {
        let shared = move |other: &&Cpu| other.physical_core == cpu.physical_core;
        self.cpus.values().filter(shared).map(|other| other.id)
    }
}

fn read_physical_core(folder: &Path, id: u32) -> u32 {
    ["core_cpus_list", "thread_siblings_list"]
        .iter()
        .find_map(|name| fs::read_to_string(folder.join(name)).ok())
        .and_then(|text| text.parse::<CpuSet>().ok())
        .and_then(|siblings| siblings.iter().next())
        .unwrap_or(id)
}

/// The node of each CPU; empty where the kernel has no NUMA.
fn read_nodes(folder: &Path) -> Result<BTreeMap<u32, u32>, HostError> {
    let online = folder.join("online");
    let mut node_of = BTreeMap::new();
    if !online.exists() {
        return Ok(node_of);
    }
    for node in read_cpu_set(&online)?.iter() {
        let cpus = read_cpu_set(&folder.join(format!("node{node}/cpulist")))?;
        node_of.extend(cpus.iter().map(|cpu| (cpu, node)));
    }
    Ok(node_of)
}

fn read_cpu_set(path: &Path) -> Result<CpuSet, HostError> {
    let text = fs::read_to_string(path)
        .map_err(|source| HostError::Read { path: path.to_owned(), source })?;
    text.parse().map_err(|source| HostError::CpuList { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn two_nodes_of_four_cores_with_two_threads() {
        let host = Fixture::two_nodes();
        let topology = Topology::read(&host.sys()).unwrap();
        assert_eq!(topology.online().to_string(), "0-15");
        assert_eq!(topology.nodes(), [0, 1]);
        assert_eq!(topology.cpu(13), Some(Cpu { id: 13, node: 1, physical_core: 5 }));
        let cpu = topology.cpu(13).unwrap();
        assert_eq!(topology.siblings(cpu).collect::<Vec<_>>(), [5, 13]);
    }

    #[test]
    fn a_machine_without_details_is_flat() {
        let host = Fixture::flat(3);
        let topology = Topology::read(&host.sys()).unwrap();
        assert_eq!(topology.nodes(), [0]);
        assert_eq!(topology.cpu(2), Some(Cpu { id: 2, node: 0, physical_core: 2 }));
    }

    #[test]
    fn a_missing_or_garbled_list_names_its_file() {
        let host = Fixture::flat(1);
        host.write("sys/devices/system/cpu/online", "what");
        let error = Topology::read(&host.sys()).unwrap_err().to_string();
        assert!(error.contains("cpu/online") && error.contains("what"), "{error}");
        let error = Topology::read(&host.path("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
    }
}
