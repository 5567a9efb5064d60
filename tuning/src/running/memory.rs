//! The memory of a process, by NUMA node and kind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};

use serde::Serialize;

use super::RunningError;
use crate::host::Roots;

/// The memory of a process, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub resident_bytes: u64,
    /// On huge pages, of what is not of a file.
    pub huge_page_bytes: u64,
    pub swapped_bytes: u64,
    /// By node; empty where the kernel has no NUMA.
    pub by_node: BTreeMap<u32, u64>,
}

pub fn read(roots: &Roots, pid: u32) -> Result<Memory, RunningError> {
    let mut memory = Memory { by_node: by_node(roots, pid)?, ..Memory::default() };
    let path = roots.proc.join(format!("{pid}/smaps_rollup"));
    let rollup = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(RunningError::Read { path, source }),
    };
    let kib = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
    };
    let bytes = |name: &str| kib(name).unwrap_or(0).saturating_mul(1024);
    memory.resident_bytes = bytes("Rss");
    memory.huge_page_bytes = bytes("AnonHugePages");
    memory.swapped_bytes = bytes("Swap");
    Ok(memory)
}

/// Adds up `N0=123` of every mapping, in pages of `kernelpagesize_kB`.
fn by_node(roots: &Roots, pid: u32) -> Result<BTreeMap<u32, u64>, RunningError> {
    let path = roots.proc.join(format!("{pid}/numa_maps"));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(RunningError::Read { path, source }),
    };
    let mut sums = BTreeMap::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|source| RunningError::Read { path: path.clone(), source })?;
        let words = || line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        let page_kib = words().find(|(name, _)| *name == "kernelpagesize_kB");
        let page_kib: u64 = page_kib.and_then(|(_, kib)| kib.parse().ok()).unwrap_or(4);
        for (name, pages) in words() {
            let node = name.strip_prefix('N').and_then(|node| node.parse::<u32>().ok());
            if let (Some(node), Ok(pages)) = (node, pages.parse::<u64>()) {
                let sum: &mut u64 = sums.entry(node).or_default();
                *sum = sum.saturating_add(pages.saturating_mul(page_kib).saturating_mul(1024));
            }
        }
    }
    Ok(sums)
}
