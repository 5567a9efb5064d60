//! Network interfaces: queues, interrupts and their CPUs.

use super::Scene;
use super::finding::{Better, Findings};
use super::look::Look;
use crate::cpu_set::CpuSet;
use crate::host::Roots;
use crate::nic::{Nic, nics};

pub fn check(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    let roots = Roots { sys: look.sys.clone(), proc: look.proc.clone() };
    let up: Vec<Nic> = nics(&roots).into_iter().filter(|nic| nic.is_up).collect();
    if up.is_empty() {
        let id = "net.queues";
        return match scene.subject.serves_network {
            true => findings.unknown(id, "no network interface with a device is up"),
            false => findings
                .good(id, "no network interface is used: the broker listens on the loopback"),
        };
    }
    for nic in &up {
        check_queues(scene, nic, findings);
        check_interrupts(scene, nic, findings);
        check_node(scene, nic, findings);
    }
}

fn check_queues(scene: &Scene<'_>, nic: &Nic, findings: &mut Findings) {
    let id = "net.queues";
    let Nic { name, rx_queues, tx_queues, .. } = nic;
    let speed = nic.speed_mbit.map_or(String::new(), |speed| format!(", {speed} Mbit/s"));
    let software = if nic.spreads_in_software { ", spread in software (RPS)" } else { "" };
    let is = format!("{name}: {rx_queues} receive and {tx_queues} send queue(s){speed}{software}");
    let cpus = scene.host.topology.online().len();
    let cores = scene.cores();
    if *rx_queues >= cores.min(cpus) || nic.spreads_in_software {
        return findings.good(id, is);
    }
    let mask = hex_mask(&scene.host.topology.online());
    let better = Better {
        wanted: "a receive queue for each core of the broker",
        costs: "packets for all cores are taken in by the CPUs of the few queues: these cores \
                serve less, and every other one waits for a wake-up across CPUs",
        fix: &format!(
            "ethtool -L {name} combined {cores}; where it has no more: echo {mask} > \
             /sys/class/net/{name}/queues/rx-0/rps_cpus"
        ),
    };
    judged(scene, id, is, better, findings);
}

/// What concerns clients on other machines costs only where there are such.
fn judged(
    scene: &Scene<'_>,
    id: &'static str,
    is: String,
    better: Better<'_>,
    findings: &mut Findings,
) {
    match scene.subject.serves_network {
        true => findings.costs(id, is, better),
        false => {
            findings.note(id, format!("{is} (the broker listens on the loopback only)"), better)
        }
    }
}

/// The kernel's form of a mask: groups of 32 bits, the highest first.
fn hex_mask(cpus: &CpuSet) -> String {
    let highest = cpus.iter().last().unwrap_or(0);
    let group = |at: u32| {
        cpus.iter().filter(|cpu| cpu / 32 == at).fold(0u32, |mask, cpu| mask | 1 << (cpu % 32))
    };
    let groups: Vec<u32> = (0..=highest / 32).rev().map(group).collect();
    let texts = groups.iter().enumerate().map(|(at, mask)| match at {
        0 => format!("{mask:x}"),
        _ => format!("{mask:08x}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

fn check_interrupts(scene: &Scene<'_>, nic: &Nic, findings: &mut Findings) {
    let id = "net.interrupts";
    let name = &nic.name;
    if nic.irqs.is_empty() {
        return findings
            .unknown(id, format!("{name}: the interrupts of its queues are not to be seen"));
    }
    let cpus: CpuSet = nic.irqs.iter().flat_map(|irq| irq.cpus.iter()).collect();
    let is = format!("{name}: {} interrupt(s) of queues go to CPUs {cpus}", nic.irqs.len());
    let targets: Vec<u32> = scene.host.allowed.iter().collect();
    let spreadable = nic.rx_queues.min(targets.len());
    if nic.rx_queues > 1 && cpus.len() * 2 <= spreadable {
        let commands: Vec<String> = nic
            .irqs
            .iter()
            .zip(targets.iter().cycle())
            .take(COMMANDS_MAX)
            .map(|(irq, cpu)| format!("echo {cpu} > /proc/irq/{}/smp_affinity_list", irq.number))
            .collect();
        let better = Better {
            wanted: "each queue's interrupt on a CPU of its own, best that of a core",
            costs: "the CPUs that get the interrupts do the network work of all queues",
            fix: &format!("{}  # stop irqbalance first", commands.join("; ")),
        };
        return judged(scene, id, is, better, findings);
    }
    findings.good(id, is);
}

/// Longer fixes are no longer read.
const COMMANDS_MAX: usize = 64;

fn check_node(scene: &Scene<'_>, nic: &Nic, findings: &mut Findings) {
    let nodes = scene.host.topology.nodes();
    let Some(node) = nic.node.filter(|_| nodes.len() > 1) else { return };
    let id = "net.node";
    let placed = scene.placement.map(|placement| placement.numa_nodes.as_slice()).unwrap_or(&[]);
    let near = placed.iter().filter(|place| **place == Some(node)).count();
    let is = format!("{}: on NUMA node {node}, as {near} of {} cores are", nic.name, placed.len());
    if near == placed.len() {
        return findings.good(id, is);
    }
    let own: CpuSet = scene
        .host
        .allowed
        .iter()
        .filter(|cpu| scene.host.topology.cpu(*cpu).is_some_and(|cpu| cpu.node == node))
        .collect();
    let fix = if own.is_empty() { String::new() } else { format!("corelane serve --cores {own}") };
    let better = Better {
        wanted: "for the lowest latency the broker on the node of its network interface",
        costs: "packets for the other cores cross nodes: about 100 ns more for each cache line",
        fix: &fix,
    };
    findings.note(id, is, better);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_as_the_kernel_does() {
        assert_eq!(hex_mask(&"0,1".parse().unwrap()), "3");
        assert_eq!(hex_mask(&"4-7,35".parse().unwrap()), "8,000000f0");
        assert_eq!(hex_mask(&CpuSet::default()), "0");
    }
}
