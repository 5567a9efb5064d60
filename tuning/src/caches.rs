//! Sockets and caches, as sysfs tells them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::cpu_set::CpuSet;

/// One cache, or all of a kind that look the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cache {
    pub level: u32,
    /// `Data`, `Instruction`, `Unified`.
    pub kind: String,
    /// As sysfs writes it: `32K`.
    pub size: String,
    /// The CPUs that share it.
    pub cpus: String,
}

/// Processor packages among `cpus`; 1 where nothing is told.
pub fn sockets(sys: &Path, cpus: &CpuSet) -> usize {
    let package = |cpu| {
        let file = format!("devices/system/cpu/cpu{cpu}/topology/physical_package_id");
        fs::read_to_string(sys.join(file)).ok().map(|text| text.trim().to_owned())
    };
    cpus.iter().filter_map(package).collect::<BTreeSet<_>>().len().max(1)
}

/// Every cache of `cpus`, each once.
pub fn caches(sys: &Path, cpus: &CpuSet) -> BTreeSet<Cache> {
    let of_cpu = |cpu: u32| {
        let folder = sys.join(format!("devices/system/cpu/cpu{cpu}/cache"));
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| read_cache(&entry.path())).collect::<Vec<_>>()
    };
    cpus.iter().flat_map(of_cpu).collect()
}

fn read_cache(folder: &Path) -> Option<Cache> {
    let text = |name: &str| Some(fs::read_to_string(folder.join(name)).ok()?.trim().to_owned());
    Some(Cache {
        level: text("level")?.parse().ok()?,
        kind: text("type")?,
        size: text("size")?,
        cpus: text("shared_cpu_list")?,
    })
}

/// `L1d 48K, L2 2048K, 2 x L3 300M`: data caches, with how many there are of what is shared.
pub fn describe_caches(sys: &Path, cpus: &CpuSet) -> String {
    let all = caches(sys, cpus);
    let mut parts = Vec::new();
    let levels: BTreeSet<(u32, String, String)> = all
        .iter()
        .filter(|cache| cache.kind != "Instruction")
        .map(|cache| (cache.level, cache.kind.clone(), cache.size.clone()))
        .collect();
    for (level, kind, size) in levels {
        let same =
            |cache: &&Cache| (cache.level, &cache.kind, &cache.size) == (level, &kind, &size);
        let count = all.iter().filter(same).count();
        let letter = if kind == "Data" { "d" } else { "" };
        let times = if count > 1 { format!("{count} x ") } else { String::new() };
        parts.push(format!("{times}L{level}{letter} {size}"));
    }
    if parts.is_empty() { "not told".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn shared_caches_count_once() {
        let host = Fixture::two_nodes();
        host.caches();
        let cpus = host.host().topology.online();
        assert_eq!(sockets(&host.sys(), &cpus), 2);
        assert_eq!(describe_caches(&host.sys(), &cpus), "8 x L1d 48K, 2 x L3 32768K");
    }

    #[test]
    fn nothing_told_is_one_socket() {
        let host = Fixture::flat(2);
        let cpus = host.host().topology.online();
        assert_eq!(sockets(&host.sys(), &cpus), 1);
        assert_eq!(describe_caches(&host.sys(), &cpus), "not told");
    }
}
