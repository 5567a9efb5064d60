//! Network interfaces: their queues, interrupts and node, as sysfs and procfs tell them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cpu_set::CpuSet;
use crate::host::Roots;

/// Interfaces that are looked at.
const NICS_MAX: usize = 64;

/// An interface with a device behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    pub name: String,
    pub is_up: bool,
    /// Megabits per second; `None` where it is not told, as on virtual ones.
    pub speed_mbit: Option<u64>,
    pub node: Option<u32>,
    pub rx_queues: usize,
    pub tx_queues: usize,
    /// The kernel spreads received packets over CPUs in software (RPS).
    pub spreads_in_software: bool,
    /// Interrupts of its queues.
    pub irqs: Vec<Irq>,
}

/// One interrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Irq {
    pub number: u32,
    /// `eth0-TxRx-3`, `virtio2-input.0`.
    pub name: String,
    /// Where it is sent.
    pub cpus: CpuSet,
}

/// The physical interfaces, and virtual ones that a hypervisor gives.
pub fn nics(roots: &Roots) -> Vec<Nic> {
    let class = roots.sys.join("class/net");
    let entries = fs::read_dir(&class).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path()).filter(|path| path.join("device").exists());
    let mut nics: Vec<Nic> = folders.filter_map(|folder| read_nic(&folder, roots)).collect();
    nics.sort_by(|a, b| a.name.cmp(&b.name));
    nics.truncate(NICS_MAX);
    nics
}

fn read_nic(folder: &Path, roots: &Roots) -> Option<Nic> {
    let text = |file: &str| Some(fs::read_to_string(folder.join(file)).ok()?.trim().to_owned());
    let queues: Vec<String> = fs::read_dir(folder.join("queues"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let count = |prefix: &str| queues.iter().filter(|name| name.starts_with(prefix)).count();
    let spread = |name: &String| {
        let mask = text(&format!("queues/{name}/rps_cpus")).unwrap_or_default();
        name.starts_with("rx-") && mask.chars().any(|c| !matches!(c, '0' | ','))
    };
    let device = device_with_interrupts(folder)?;
    let node = fs::read_to_string(device.join("numa_node")).ok();
    Some(Nic {
        name: folder.file_name()?.to_str()?.to_owned(),
        is_up: text("operstate").as_deref() == Some("up"),
        speed_mbit: text("speed").and_then(|text| text.parse().ok()),
        // -1 is "no node".
        node: node.and_then(|text| text.trim().parse().ok()),
        rx_queues: count("rx-"),
        tx_queues: count("tx-"),
        spreads_in_software: queues.iter().any(spread),
        irqs: read_irqs(&device, roots),
    })
}

/// The device, or its parent where that has the interrupts (virtio over PCI).
fn device_with_interrupts(folder: &Path) -> Option<PathBuf> {
    let device = fs::canonicalize(folder.join("device")).ok()?;
    let parent = device
        .parent()
        .filter(|parent| !device.join("msi_irqs").exists() && parent.join("msi_irqs").exists());
    Some(parent.map(Path::to_owned).unwrap_or(device))
}

/// Words in the names of interrupts that carry no packets.
const NOT_QUEUES: &[&str] =
    &["config", "mgmnt", "mgmt", "async", "cmd", "control", "event", "misc"];

fn read_irqs(device: &Path, roots: &Roots) -> Vec<Irq> {
    let entries = fs::read_dir(device.join("msi_irqs")).into_iter().flatten().flatten();
    let numbers: BTreeSet<u32> = entries
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
        .collect();
    let irq = |number: u32| {
        let folder = roots.proc.join(format!("irq/{number}"));
        let name = handler_name(&folder)?;
        let list = ["effective_affinity_list", "smp_affinity_list"]
            .iter()
            .find_map(|file| fs::read_to_string(folder.join(file)).ok())?;
        let is_queue = !NOT_QUEUES.iter().any(|word| name.contains(word));
        is_queue.then(|| Irq { number, name, cpus: list.parse().unwrap_or_default() })
    };
    numbers.into_iter().filter_map(irq).collect()
}

/// The handler of an interrupt is the one folder below it.
fn handler_name(folder: &Path) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut folders = entries.filter(|entry| entry.path().is_dir());
    folders.next()?.file_name().into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn queues_and_interrupts_are_found() {
        let host = Fixture::two_nodes();
        host.nic("eth1", 4, &[0, 1, 2, 3], Some(1));
        host.nic("eth0", 1, &[5], None);
        // No device behind it.
        host.write("sys/class/net/lo/operstate", "unknown\n");
        let found = nics(&host.roots());
        assert_eq!(found.iter().map(|nic| nic.name.as_str()).collect::<Vec<_>>(), ["eth0", "eth1"]);
        let nic = &found[1];
        assert_eq!((nic.rx_queues, nic.tx_queues, nic.node, nic.is_up), (4, 4, Some(1), true));
        let cpus: Vec<String> = nic.irqs.iter().map(|irq| irq.cpus.to_string()).collect();
        assert_eq!(cpus, ["0", "1", "2", "3"], "the one named config is no queue's");
        assert!(!nic.spreads_in_software && found[0].node.is_none());
        host.write("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,0000000c\n");
        assert!(nics(&host.roots())[0].spreads_in_software);
    }
}
