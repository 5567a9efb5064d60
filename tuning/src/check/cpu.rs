//! Which CPUs there are, which of them the broker may have, and who else wants them.

use std::collections::BTreeMap;

use super::Scene;
use super::finding::{Better, Findings};
use super::look::{Look, Seen};
use crate::caches::{describe_caches, sockets};
use crate::cpu_set::CpuSet;
use crate::placement::choose_cores;

/// Time taken by the host, of all CPU time since the start, that is worth a word.
const STEAL_SHARE_MAX: f64 = 0.01;

pub fn check(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    check_topology(scene, look, findings);
    check_cores(scene, findings);
    check_affinity(scene, findings);
    check_quota(scene, findings);
    check_siblings(scene, findings);
    check_nodes(scene, look, findings);
    check_isolation(scene, look, findings);
    check_steal(scene, look, findings);
    check_clock_source(scene, look, findings);
}

fn check_topology(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    let machine = scene.machine;
    let sockets = sockets(&look.sys, &scene.host.topology.online());
    let threads = if machine.physical_cores > 0 {
        machine.cpus_online as f64 / machine.physical_cores as f64
    } else {
        1.0
    };
    let model = if machine.cpu_model.is_empty() { "unknown model" } else { &machine.cpu_model };
    findings.good(
        "cpu.topology",
        format!(
            "{}, {}, {}, {} ({threads:.0} a core), {model}; caches: {}",
            counted(sockets, "socket"),
            counted(machine.numa_nodes, "NUMA node"),
            counted(machine.physical_cores, "core"),
            counted(machine.cpus_online, "CPU"),
            describe_caches(&look.sys, &scene.host.topology.online()),
        ),
    );
    let kind = if scene.is_virtual() { machine.virtualization.as_str() } else { "none seen" };
    findings.good("cpu.virtualization", format!("hypervisor: {kind}"));
}

fn counted(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

/// Whether the cores asked for can be had, and what the choice itself warns of.
fn check_cores(scene: &Scene<'_>, findings: &mut Findings) {
    let id = "cpu.cores";
    match choose_cores(&scene.subject.cores, scene.host) {
        Err(error) => findings.fails(
            id,
            error.to_string(),
            Better {
                costs: "the broker does not start",
                fix: "corelane serve --cores auto",
                wanted: "",
            },
        ),
        Ok(placement) if placement.warnings.is_empty() => findings.good(id, placement.why),
        Ok(placement) => findings.costs(
            id,
            placement.warnings.join("; "),
            Better {
                wanted: "one core of the broker for each CPU it may use",
                costs: "cores wait for each other: pauses of several milliseconds",
                fix: "corelane serve --cores auto",
            },
        ),
    }
}

fn check_affinity(scene: &Scene<'_>, findings: &mut Findings) {
    let (allowed, online) = (&scene.host.allowed, scene.host.topology.online());
    let id = "cpu.affinity";
    if allowed.len() < online.len() {
        findings.note(
            id,
            format!("only CPUs {allowed} of {online} may be used (affinity mask or cpuset)"),
            Better {
                wanted: "this, if it was meant: CPUs of one's own are good",
                fix: "systemctl set-property corelane AllowedCPUs=  # or taskset, --cpuset-cpus",
                costs: "",
            },
        );
    } else {
        findings.good(id, format!("CPUs {online} may all be used"));
    }
}

fn check_quota(scene: &Scene<'_>, findings: &mut Findings) {
    let id = "cpu.quota";
    let allowed = &scene.host.allowed;
    match scene.host.cpu_quota.filter(|quota| *quota < allowed.len() as f64) {
        None => findings.good(id, "no CPU quota that binds"),
        Some(quota) => {
            let whole = (quota.floor() as usize).max(1);
            let own: CpuSet = allowed.iter().take(whole).collect();
            findings.costs(
                id,
                format!("a CPU quota of {quota:.2} over CPUs {allowed}"),
                Better {
                    wanted: "whole CPUs of one's own, no quota",
                    costs: "when the quota of a period (mostly 100 ms) is used up, every core \
                            stands still until the next one: p99 rises by tens of milliseconds; \
                            cores are not pinned meanwhile",
                    fix: &format!(
                        "systemctl set-property corelane CPUQuota= AllowedCPUs={own}  # Docker: \
                         --cpuset-cpus={own} in place of --cpus"
                    ),
                },
            );
        }
    }
}

/// Two cores of the broker on the two threads of one physical core.
fn check_siblings(scene: &Scene<'_>, findings: &mut Findings) {
    let id = "cpu.smt";
    let topology = &scene.host.topology;
    let pinned = scene.placement.map(|placement| placement.pinned()).unwrap_or_default();
    let mut by_core: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for cpu in pinned.iter().filter_map(|id| topology.cpu(id)) {
        by_core.entry(cpu.physical_core).or_default().push(cpu.id);
    }
    let shared = by_core.values().filter(|cpus| cpus.len() > 1).count();
    let has_threads = topology.online().len() > scene.machine.physical_cores;
    if shared > 0 {
        let firsts: CpuSet = by_core.values().filter_map(|cpus| cpus.first().copied()).collect();
        findings.note(
            id,
            format!("two cores of the broker share each of {}", counted(shared, "physical core")),
            Better {
                wanted: "for the lowest latency one core of the broker for each physical core; for \
                         the highest rate this",
                costs: "two threads of a physical core do about 1.2 to 1.3 times the work of one, \
                        so each is slower than alone",
                fix: &format!("corelane serve --cores {}", list_of(&firsts)),
            },
        );
    } else if has_threads {
        findings.good(
            id,
            "hardware threads are on; each core of the broker has a physical core of its own",
        );
    } else {
        findings.good(id, "one thread a core, or none is shown");
    }
}

/// A list that is not read as a count.
fn list_of(cpus: &CpuSet) -> String {
    let text = cpus.to_string();
    if cpus.len() == 1 { format!("{text}-{text}") } else { text }
}

fn check_nodes(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    let id = "cpu.numa";
    let nodes = scene.host.topology.nodes();
    if nodes.len() < 2 {
        return findings.good(id, "one NUMA node: all memory is equally near");
    }
    let placed = scene.placement.map(|placement| placement.numa_nodes.as_slice()).unwrap_or(&[]);
    let used: CpuSet = placed.iter().flatten().copied().collect();
    if placed.contains(&None) {
        findings.costs(
            id,
            format!("{} NUMA nodes, and the cores are not pinned to CPUs", nodes.len()),
            Better {
                wanted: "cores pinned, so that each one's memory is on its own node",
                costs: "a core that moves to another node reads its memory from afar, often at \
                        half the bandwidth",
                fix: "corelane serve --cores auto  # without a CPU quota",
            },
        );
    } else if used.len() > 1 {
        findings.note(
            id,
            format!("the cores are on NUMA nodes {used}; distances {}", distances(look, &nodes)),
            Better {
                wanted: "clients that use the direct port of the core that owns their partition \
                         (they do by default), or one broker for each node",
                costs: "a request that hops to a core of another node costs more than one within",
                fix: "",
            },
        );
    } else {
        findings.good(id, format!("all cores on NUMA node {used}"));
    }
    if look.proc_number("sys/kernel/numa_balancing").is_some_and(|value| value > 0) {
        findings.costs(
            "memory.numa_balancing",
            "the kernel moves pages between NUMA nodes by itself (kernel.numa_balancing)",
            Better {
                wanted: "off: pinned cores touch their own memory first",
                costs: "pages are unmapped now and then to see who uses them: page faults on the \
                        data path",
                fix: "sysctl -w kernel.numa_balancing=0",
            },
        );
    }
}

/// `10 21; 21 10`, one part for each node.
fn distances(look: &Look, nodes: &[u32]) -> String {
    let row = |node: &u32| look.sys_text(&format!("devices/system/node/node{node}/distance"));
    let rows: Vec<String> = nodes.iter().filter_map(row).collect();
    if rows.is_empty() { "not told".to_owned() } else { rows.join("; ") }
}

fn check_isolation(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    let id = "cpu.isolation";
    let isolated = look.sys_text("devices/system/cpu/isolated").unwrap_or_default();
    let isolated: CpuSet = isolated.parse().unwrap_or_default();
    let pinned = scene.placement.map(|placement| placement.pinned()).unwrap_or_default();
    let own = !pinned.is_empty() && pinned.without(&isolated).is_empty();
    if own || scene.host.cpu_set_exclusive {
        findings.good(id, "the broker's CPUs are kept free of other tasks");
    } else {
        let others = scene.host.topology.online().without(&pinned);
        let fix = if others.is_empty() || pinned.is_empty() {
            String::new()
        } else {
            format!(
                "systemctl set-property --runtime user.slice AllowedCPUs={others}  # and other \
                 slices; or isolcpus={pinned} at boot"
            )
        };
        findings.note(
            id,
            "other tasks may run on the broker's CPUs",
            Better {
                wanted: "for the lowest p99.9: CPUs that nothing else is put on",
                costs: "whatever else runs there delays a core for a scheduler slice, 3 ms or so",
                fix: &fix,
            },
        );
    }
}

fn check_steal(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    let id = "cpu.steal";
    let Seen::Text(stat) = look.proc("stat") else {
        return findings.unknown(id, "there is no stat below /proc");
    };
    match steal_share(&stat) {
        None => findings.unknown(id, "the first line of /proc/stat holds no times"),
        Some(share) if share > STEAL_SHARE_MAX => findings.costs(
            id,
            format!(
                "the host took {:.1}% of this machine's CPU time since its start",
                share * 100.0
            ),
            Better {
                wanted: "under 1%: CPUs that are not shared with other guests",
                costs: "a core stands still while its CPU is away, unseen by anything here: \
                        milliseconds in p99",
                fix: "",
            },
        ),
        Some(share) if scene.is_virtual() => {
            findings.good(id, format!("the host took {:.2}% of the CPU time", share * 100.0));
        }
        Some(_) => findings.good(id, "no CPU time taken by a host"),
    }
}

/// Of the time of all CPUs since the start, what a hypervisor took for others.
fn steal_share(stat: &str) -> Option<f64> {
    let times = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<f64> = times.split_ascii_whitespace().filter_map(|t| t.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest times are part of user.
    let total: f64 = times.iter().take(8).sum();
    (total > 0.0).then(|| times.get(7).copied().unwrap_or(0.0) / total)
}

/// Clock sources that are read without a system call.
const FAST_CLOCKS: &[&str] =
    &["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "xen"];

fn check_clock_source(_scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    let id = "cpu.clock_source";
    let folder = "devices/system/clocksource/clocksource0";
    let Some(current) = look.sys_text(&format!("{folder}/current_clocksource")) else {
        return findings.unknown(id, "the clock source is not to be seen below /sys");
    };
    if FAST_CLOCKS.contains(&current.as_str()) {
        return findings.good(id, format!("clock source {current}, read without a system call"));
    }
    let others = look.sys_text(&format!("{folder}/available_clocksource")).unwrap_or_default();
    let better = FAST_CLOCKS.iter().find(|name| others.split(' ').any(|other| other == **name));
    let fix = better.map_or_else(String::new, |name| {
        format!("echo {name} > /sys/{folder}/current_clocksource")
    });
    findings.costs(
        id,
        format!("clock source {current} (available: {others})"),
        Better {
            wanted: "tsc, kvm-clock, hyperv_clocksource_tsc_page or arch_sys_counter",
            costs: "every look at the clock is a system call of a microsecond or more, several \
                    for each request",
            fix: &fix,
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_a_share_of_all_time() {
        assert_eq!(steal_share("cpu  50 0 20 20 5 0 0 5 9 9\ncpu0 1\n"), Some(0.05));
        assert_eq!(steal_share("cpu  0 0 0 0\n"), None);
        assert_eq!(steal_share("cpu  1 1 1 1\n"), Some(0.0));
        assert_eq!(steal_share("garbage"), None);
    }

    #[test]
    fn one_cpu_alone_is_no_count() {
        assert_eq!(list_of(&"3".parse().unwrap()), "3-3");
        assert_eq!(list_of(&"0-3,8".parse().unwrap()), "0-3,8");
    }
}
