//! The settings that suit this machine, each with its reason. Keys and values are those of the
//! server's configuration; this module does not know what they do.

use crate::ceilings::Measured;
use crate::check::{Report, Severity, Subject};
use crate::cpu_set::CpuSet;
use crate::host::Host;
use crate::nic::{Nic, nics};
use crate::placement::{CoreRequest, Placement, choose_cores};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// As good as the best: a smaller setting that comes so near is taken.
const NEAR: f64 = 0.95;
/// Bounds of the depth and of a group that are advised.
const DEPTH_MIN: usize = 4;
const GROUP_BYTES_MIN: u64 = 256 * KIB;
const GROUP_BYTES_MAX: u64 = MIB;
/// Connections that a limit of open files leaves beside the logs.
const DESCRIPTORS_BESIDE: u64 = 4096;
/// A budget stays so far below a bound of the device, so that the kernel never holds writes back.
const BUDGET_SHARE: f64 = 0.95;

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// `storage.writes_in_flight`
    pub key: &'static str,
    /// In the option's own text form.
    pub value: String,
    pub why: String,
}

/// What the choice is made from.
#[derive(Clone, Copy, Debug)]
pub struct Grounds<'a> {
    pub subject: &'a Subject,
    pub report: &'a Report,
    pub host: &'a Host,
    pub placement: &'a Placement,
    pub measured: &'a Measured,
    /// The hard limit of open files; `None` is no limit.
    pub open_files: Option<u64>,
    /// Log writes a second that a control group allows on the device.
    pub writes_per_s_max: Option<u64>,
}

/// Everything that is worth setting, in the order of the sample.
pub fn advise(grounds: &Grounds<'_>) -> Vec<Advice> {
    let mut advice = vec![cores(grounds)];
    advice.extend(connections(grounds));
    advice.extend(steering(grounds));
    advice.extend(control_cpu(grounds));
    advice.extend(adaptive_spin(grounds));
    advice.push(group_bytes(grounds));
    advice.push(writes_in_flight(grounds));
    advice.extend(write_budget(grounds));
    advice.push(cache(grounds));
    advice
}

fn cores(grounds: &Grounds<'_>) -> Advice {
    let placement = grounds.placement;
    let pinned = placement.pinned();
    let nodes: CpuSet = placement.numa_nodes.iter().flatten().copied().collect();
    let alike = choose_cores(&CoreRequest::PerNumaNode, grounds.host)
        .is_ok_and(|per_node| per_node.warnings.is_empty() && per_node.cpus == placement.cpus);
    let value = if pinned.is_empty() {
        placement.cores().to_string()
    } else if nodes.len() > 1 && alike {
        "per-numa-node".to_owned()
    } else {
        list_of(placement)
    };
    let where_ = match (grounds.host.topology.nodes().len(), nodes.len()) {
        (0 | 1, _) => "the machine has one NUMA node".to_owned(),
        (_, 0) => "not pinned, so on any NUMA node".to_owned(),
        (all, _) => format!("on NUMA node {nodes} of {all}; each core's memory comes from its own"),
    };
    Advice { key: "server.cores", value, why: format!("{}; {where_}", placement.why) }
}

/// The CPUs in the order of the cores, in the text form of a list.
fn list_of(placement: &Placement) -> String {
    let cpus: Vec<u32> = placement.cpus.iter().flatten().copied().collect();
    match cpus.as_slice() {
        [only] => format!("{only}-{only}"),
        _ => cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    }
}

fn connections(grounds: &Grounds<'_>) -> Option<Advice> {
    let limit = grounds.open_files?;
    let cores = grounds.placement.cores().max(1) as u64;
    let room = limit.saturating_sub(DESCRIPTORS_BESIDE) / cores;
    if room >= grounds.subject.connections_per_core_max || room == 0 {
        return None;
    }
    Some(Advice {
        key: "server.connections_per_core_max",
        value: room.to_string(),
        why: format!(
            "the limit of open files is {limit}; raise it (LimitNOFILE=1048576) to have more"
        ),
    })
}

/// Only where every core has a queue whose interrupt comes to its CPU.
fn steering(grounds: &Grounds<'_>) -> Option<Advice> {
    let pinned = grounds.placement.pinned();
    if !grounds.subject.serves_network || pinned.is_empty() {
        return None;
    }
    let fits = |nic: &Nic| {
        let cpus: CpuSet = nic.irqs.iter().flat_map(|irq| irq.cpus.iter()).collect();
        nic.is_up && pinned.without(&cpus).is_empty()
    };
    let nic = nics(&grounds.subject.roots).into_iter().find(fits)?;
    Some(Advice {
        key: "server.steering",
        value: "incoming-cpu".to_owned(),
        why: format!("{} has a queue that interrupts the CPU of each core", nic.name),
    })
}

/// A CPU that may be used and runs no core.
fn control_cpu(grounds: &Grounds<'_>) -> Option<Advice> {
    let pinned = grounds.placement.pinned();
    let left = grounds.host.allowed.without(&pinned);
    let cpu = left.iter().next().filter(|_| !pinned.is_empty())?;
    Some(Advice {
        key: "server.control_cpu",
        value: cpu.to_string(),
        why: format!("CPUs {left} may be used and run no core"),
    })
}

/// Looking for work takes CPU time, so only where no one else wants it.
fn adaptive_spin(grounds: &Grounds<'_>) -> Option<Advice> {
    let own = grounds
        .report
        .findings
        .iter()
        .any(|finding| finding.id == "cpu.isolation" && finding.severity == Severity::Good);
    let pinned = !grounds.placement.pinned().is_empty();
    (own && pinned).then(|| Advice {
        key: "server.adaptive_spin",
        value: "true".to_owned(),
        why: "the cores' CPUs are kept free of other tasks, so that looking for work takes time \
              from no one; a wake-up costs more"
            .to_owned(),
    })
}

/// The group that `writes_in_flight` is chosen for as well.
pub fn chosen_group_bytes(measured: &Measured) -> u64 {
    let most = measured.write_bytes_per_s(GROUP_BYTES_MAX, usize::MAX);
    let near = |size: &u64| measured.write_bytes_per_s(*size, usize::MAX) >= most * NEAR;
    let mut sizes: Vec<u64> = measured.writes.iter().map(|point| point.size_bytes).collect();
    sizes.sort_unstable();
    let least = sizes.into_iter().find(near).unwrap_or(GROUP_BYTES_MAX);
    least.clamp(GROUP_BYTES_MIN, GROUP_BYTES_MAX)
}

fn group_bytes(grounds: &Grounds<'_>) -> Advice {
    let measured = grounds.measured;
    let bytes = chosen_group_bytes(measured);
    Advice {
        key: "storage.group_bytes_max",
        value: format!("{}KiB", bytes / KIB),
        why: format!(
            "durable writes of up to {} KiB reach {:.0} MB/s here, larger ones {:.0} MB/s",
            bytes / KIB,
            measured.write_bytes_per_s(bytes, usize::MAX) / 1e6,
            measured.write_bytes_per_s(u64::MAX, usize::MAX) / 1e6,
        ),
    }
}

/// The smallest depth that comes near the best rate of writes of the group's size.
pub fn chosen_depth(measured: &Measured) -> usize {
    let group = chosen_group_bytes(measured);
    let mut depths: Vec<usize> = measured.writes.iter().map(|point| point.depth).collect();
    depths.sort_unstable();
    let most = measured.write_bytes_per_s(group, usize::MAX);
    let near = |depth: &usize| measured.write_bytes_per_s(group, *depth) >= most * NEAR;
    depths.into_iter().find(near).unwrap_or(4).max(DEPTH_MIN)
}

fn writes_in_flight(grounds: &Grounds<'_>) -> Advice {
    let measured = grounds.measured;
    let depth = chosen_depth(measured);
    let group = chosen_group_bytes(measured);
    Advice {
        key: "storage.writes_in_flight",
        value: depth.to_string(),
        why: format!(
            "with {depth} under way the disk reaches {:.0} MB/s, with more {:.0} MB/s",
            measured.write_bytes_per_s(group, depth) / 1e6,
            measured.write_bytes_per_s(group, usize::MAX) / 1e6,
        ),
    }
}

fn write_budget(grounds: &Grounds<'_>) -> Option<Advice> {
    let most = grounds.writes_per_s_max?;
    let budget = ((most as f64 * BUDGET_SHARE) as u64).max(1);
    Some(Advice {
        key: "storage.device_writes_per_second",
        value: budget.to_string(),
        why: format!(
            "a control group allows {most} log writes/s on this device (where it needs a flush after \
             each, half of what it says); a little less, so that the \
             kernel never holds them back"
        ),
    })
}

fn cache(grounds: &Grounds<'_>) -> Advice {
    let memory = grounds.host.memory;
    let bytes = memory.cache_budget_bytes(grounds.placement.cores());
    Advice {
        key: "storage.cache_bytes",
        value: format!("{}MiB", bytes / MIB),
        why: format!(
            "a quarter of the {} MiB that may be used, at most 512 MiB a core",
            memory.bytes / MIB
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::ceilings::WritePoint;
    use crate::check::{Place, check};
    use crate::fixture::Fixture;

    fn point(size_kib: u64, depth: usize, bytes_per_s: f64) -> WritePoint {
        WritePoint {
            size_bytes: size_kib * KIB,
            depth,
            per_s: bytes_per_s / (size_kib * KIB) as f64,
            bytes_per_s,
            p50_us: 50.0,
            p99_us: 90.0,
        }
    }

    fn measured(points: &[WritePoint]) -> Measured {
        Measured { writes: points.to_vec(), ..Measured::default() }
    }

    fn advised(host: &Fixture, open_files: Option<u64>, bound: Option<u64>) -> Vec<Advice> {
        let data_dir = PathBuf::from("/data");
        let subject = Subject {
            roots: host.roots(),
            place: Place::below(&host.proc(), &data_dir),
            data_dir,
            cores: "auto".parse().unwrap(),
            control_cpu: None,
            serves_network: true,
            connections_per_core_max: 10_000,
            locked_memory_needed: 0,
            writes_in_flight: 4,
            device_writes_per_second: None,
            cache_bytes: 0,
            io_uring: None,
        };
        let (report, machine) = (check(&subject).unwrap(), host.host());
        advise(&Grounds {
            subject: &subject,
            report: &report,
            host: &machine,
            placement: &choose_cores(&subject.cores, &machine).unwrap(),
            measured: &measured(&[point(4, 1, 1e8), point(512, 2, 9.9e8), point(1024, 8, 1e9)]),
            open_files,
            writes_per_s_max: bound,
        })
    }

    fn value<'a>(advice: &'a [Advice], key: &str) -> Option<&'a str> {
        advice.iter().find(|advice| advice.key == key).map(|advice| advice.value.as_str())
    }

    #[test]
    fn the_smallest_that_comes_near_the_best_is_taken() {
        let fast_at_once = measured(&[point(64, 1, 1e9), point(1024, 8, 1e9)]);
        assert_eq!(chosen_group_bytes(&fast_at_once), GROUP_BYTES_MIN);
        assert_eq!(chosen_depth(&fast_at_once), DEPTH_MIN);
        let slow = measured(&[point(64, 1, 1e8), point(512, 4, 9e8), point(1024, 8, 1e9)]);
        assert_eq!((chosen_group_bytes(&slow), chosen_depth(&slow)), (MIB, 8));
        let nothing = Measured::default();
        assert_eq!((chosen_group_bytes(&nothing), chosen_depth(&nothing)), (MIB, 4));
    }

    #[test]
    fn two_nodes_get_a_list_that_goes_round_them() {
        let advice = advised(&Fixture::well_kept(), None, Some(3000));
        let cores = advice.iter().find(|advice| advice.key == "server.cores").unwrap();
        assert_eq!(cores.value, "per-numa-node");
        assert!(cores.why.contains("NUMA node 0,1 of 2"), "{cores:?}");
        assert_eq!(value(&advice, "storage.group_bytes_max"), Some("512KiB"));
        assert_eq!(value(&advice, "storage.writes_in_flight"), Some("4"));
        assert_eq!(value(&advice, "server.steering"), Some("incoming-cpu"));
        assert_eq!(value(&advice, "server.adaptive_spin"), Some("true"));
        assert_eq!(value(&advice, "server.control_cpu"), None);
        assert_eq!(value(&advice, "storage.device_writes_per_second"), Some("2850"));
        assert_eq!(value(&advice, "server.connections_per_core_max"), None);
        assert_eq!(value(&advice, "storage.cache_bytes"), Some("2048MiB"));
    }

    #[test]
    fn limits_are_kept() {
        let host = Fixture::well_kept();
        host.quota(150);
        let advice = advised(&host, Some(20_000), None);
        assert_eq!(value(&advice, "server.cores"), Some("1"), "a count: cores are not pinned");
        assert_eq!(value(&advice, "storage.device_writes_per_second"), None);
        let advice = advised(&Fixture::well_kept(), Some(20_000), None);
        assert_eq!(value(&advice, "server.connections_per_core_max"), Some("994"));
        let one = Fixture::flat(1);
        let advice = advised(&one, None, None);
        assert_eq!(value(&advice, "server.cores"), Some("0-0"));
        assert_eq!(value(&advice, "server.steering"), None);
        assert_eq!(value(&advice, "server.adaptive_spin"), None);
    }
}
