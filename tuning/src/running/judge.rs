//! What a live broker's threads and memory say about its placement.

use std::collections::BTreeMap;

use super::{Role, Running, Thread};
use crate::check::{Better, Finding, Findings, Verdict};
use crate::cpu_set::CpuSet;
use crate::topology::Topology;

/// A core that loses its CPU more often shares it with something busy.
const PREEMPTED_PER_S_MAX: f64 = 20.0;
/// Threads that do blocking work of io_uring beside the cores: a few are for opening and removing
/// files, more are on the data path.
const IO_WORKERS_PER_CORE_MAX: usize = 4;
/// Memory on nodes where no core is, of all, that is worth a word.
const FAR_SHARE_MAX: f64 = 0.1;
/// Below this the resident memory tells nothing of huge pages.
const HUGE_BYTES_MIN: u64 = 256 << 20;

/// Judges a broker. `topology` is of the machine it runs on.
pub fn judge(running: &Running, topology: &Topology) -> (Verdict, Vec<Finding>) {
    let mut findings = Findings::default();
    let cores: Vec<&Thread> = running.threads.iter().filter(|thread| thread.is_core()).collect();
    if cores.is_empty() {
        findings.unknown("running.cores", "no thread is named core-N: this is no serving broker");
        return findings.into_sorted();
    }
    judge_pinning(&cores, &mut findings);
    judge_sharing(&cores, topology, &mut findings);
    judge_preemption(&cores, &mut findings);
    judge_others(running, &cores, &mut findings);
    judge_workers(running, cores.len(), &mut findings);
    judge_nodes(running, &cores, topology, &mut findings);
    judge_pages(running, &mut findings);
    findings.into_sorted()
}

fn judge_pinning(cores: &[&Thread], findings: &mut Findings) {
    let id = "running.pinning";
    let loose: Vec<&str> = cores
        .iter()
        .filter(|thread| thread.pinned_to.is_none())
        .map(|thread| thread.name.as_str())
        .collect();
    if loose.is_empty() {
        let cpus: CpuSet = cores.iter().filter_map(|thread| thread.pinned_to).collect();
        return findings.good(id, format!("{} core(s), each pinned, on CPUs {cpus}", cores.len()));
    }
    findings.costs(
        id,
        format!("not pinned: {}", loose.join(", ")),
        Better {
            wanted: "each core pinned to a CPU of its own",
            costs: "a core that is moved finds its caches cold, and its memory on another node \
                    where there are several",
            fix: "corelane serve --cores auto  # on CPUs of its own, without a quota",
        },
    );
}

fn judge_sharing(cores: &[&Thread], topology: &Topology, findings: &mut Findings) {
    let id = "running.shared_cpus";
    let mut by_cpu: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    let mut by_physical: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for thread in cores {
        let Some(cpu) = thread.pinned_to else { continue };
        by_cpu.entry(cpu).or_default().push(&thread.name);
        let physical = topology.cpu(cpu).map_or(cpu, |cpu| cpu.physical_core);
        by_physical.entry(physical).or_default().push(&thread.name);
    }
    let together = |groups: &BTreeMap<u32, Vec<&str>>| {
        let crowded = groups.values().filter(|names| names.len() > 1);
        crowded.map(|names| names.join(" and ")).collect::<Vec<_>>()
    };
    let (same_cpu, same_core) = (together(&by_cpu), together(&by_physical));
    if !same_cpu.is_empty() {
        findings.costs(
            id,
            format!("on one CPU: {}", same_cpu.join("; ")),
            Better {
                wanted: "a CPU for each core",
                costs: "each waits while the other runs",
                fix: "corelane serve --cores auto",
            },
        );
    } else if !same_core.is_empty() {
        findings.note(
            id,
            format!("on two threads of one physical core: {}", same_core.join("; ")),
            Better {
                wanted: "for the lowest latency a physical core for each",
                costs: "each is slower while the other is busy",
                fix: "",
            },
        );
    } else {
        findings.good(id, "no two cores share a CPU or a physical core");
    }
}

fn judge_preemption(cores: &[&Thread], findings: &mut Findings) {
    let id = "running.preempted";
    let worst = cores.iter().max_by(|a, b| a.preempted_per_s.total_cmp(&b.preempted_per_s));
    let Some(worst) = worst else { return };
    let is = format!("{} lost its CPU {:.0} times a second", worst.name, worst.preempted_per_s);
    if worst.preempted_per_s > PREEMPTED_PER_S_MAX {
        let better = Better {
            wanted: "nothing else that is busy on the broker's CPUs",
            costs: "each time the core stands still for a scheduler slice, up to 3 ms",
            fix: "systemctl set-property --runtime user.slice AllowedCPUs=  # the other CPUs",
        };
        return findings.costs(id, is, better);
    }
    findings.good(id, is);
}

/// Threads of the broker that are no cores and were busy on a core's CPU.
fn judge_others(running: &Running, cores: &[&Thread], findings: &mut Findings) {
    let id = "running.other_threads";
    let taken: CpuSet = cores.iter().filter_map(|thread| thread.pinned_to).collect();
    let busy: Vec<String> = running
        .threads
        .iter()
        .filter(|thread| !thread.is_core() && thread.cpu_share > 0.05)
        .filter(|thread| taken.contains(thread.last_on))
        .map(|thread| {
            format!(
                "{} took {:.0}% of CPU {}",
                thread.name,
                thread.cpu_share * 100.0,
                thread.last_on
            )
        })
        .collect();
    if busy.is_empty() {
        return findings.good(id, "no other thread of the broker is busy on a core's CPU");
    }
    let better = Better {
        wanted: "other threads on CPUs that no core has",
        costs: "the core there waits meanwhile",
        fix: "",
    };
    findings.note(id, busy.join("; "), better);
}

fn judge_workers(running: &Running, cores: usize, findings: &mut Findings) {
    let id = "running.io_workers";
    let workers = running.threads.iter().filter(|thread| thread.role == Role::IoWorker).count();
    let is = format!("{workers} kernel worker(s) of io_uring");
    if workers > IO_WORKERS_PER_CORE_MAX * cores {
        let better = Better {
            wanted: "few: direct reads and writes need none",
            costs: "work that a worker does takes two more thread switches; many of them mean that \
                    the filesystem or device cannot take requests without waiting",
            fix: "corelane tune check  # the disk's queue depth and the filesystem",
        };
        return findings.costs(id, is, better);
    }
    findings.good(id, is);
}

fn judge_nodes(running: &Running, cores: &[&Thread], topology: &Topology, findings: &mut Findings) {
    let id = "running.memory_nodes";
    let total: u64 = running.memory.by_node.values().sum();
    if running.memory.by_node.is_empty() || total == 0 {
        return findings.unknown(id, "the kernel tells nothing of nodes (numa_maps)");
    }
    let mut cores_by_node: BTreeMap<u32, usize> = BTreeMap::new();
    for thread in cores {
        let cpu = thread.pinned_to.unwrap_or(thread.last_on);
        let node = topology.cpu(cpu).map_or(0, |cpu| cpu.node);
        *cores_by_node.entry(node).or_default() += 1;
    }
    let shown = |(node, bytes): (&u32, &u64)| {
        let cores = cores_by_node.get(node).copied().unwrap_or(0);
        format!("node {node}: {} MiB, {cores} core(s)", bytes >> 20)
    };
    let is = running.memory.by_node.iter().map(shown).collect::<Vec<_>>().join("; ");
    let far: u64 = running
        .memory
        .by_node
        .iter()
        .filter(|(node, _)| !cores_by_node.contains_key(node))
        .map(|(_, bytes)| bytes)
        .sum();
    if far as f64 > total as f64 * FAR_SHARE_MAX {
        let better = Better {
            wanted: "memory on the nodes of the cores alone",
            costs: "every access to it crosses nodes: about twice the latency, often half the \
                    bandwidth",
            fix: "restart the broker with its cores pinned; raise the memory of their node",
        };
        return findings.costs(id, is, better);
    }
    findings.good(id, is);
}

fn judge_pages(running: &Running, findings: &mut Findings) {
    let memory = &running.memory;
    let mib = |bytes: u64| bytes >> 20;
    if memory.swapped_bytes > 0 {
        findings.costs(
            "running.swap",
            format!("{} MiB of the broker are in swap", mib(memory.swapped_bytes)),
            Better {
                wanted: "none",
                costs: "reading a page back holds the whole core up",
                fix: "swapoff -a; sysctl -w vm.swappiness=1",
            },
        );
    } else {
        findings.good("running.swap", "nothing of the broker is in swap");
    }
    let id = "running.huge_pages";
    let is = format!(
        "{} MiB of {} MiB resident are on huge pages",
        mib(memory.huge_page_bytes),
        mib(memory.resident_bytes)
    );
    if memory.resident_bytes >= HUGE_BYTES_MIN && memory.huge_page_bytes == 0 {
        let better = Better {
            wanted: "blocks and caches on huge pages",
            costs: "direct writes of large blocks are split into parts",
            fix: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        };
        return findings.costs(id, is, better);
    }
    findings.good(id, is);
}
