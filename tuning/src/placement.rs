//! Which CPU each core runs on. A pure decision: the same request and host give the same answer.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::cpu_set::CpuSet;
use crate::host::Host;

/// Cores that one process may have, whatever the machine.
pub const CORES_MAX: usize = 1024;
/// Cores that may share a CPU when a count is asked for that the machine has not got.
pub const CORES_PER_CPU_MAX: usize = 4;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CoreRequest {
    /// A core on every CPU that the affinity mask and the CPU quota allow.
    #[default]
    Auto,
    /// So many cores, on the CPUs that suit best.
    Count(usize),
    /// A core on each of these CPUs, in this order.
    List(Vec<u32>),
    /// The same number of cores on every NUMA node, each with its memory there.
    PerNumaNode,
}

/// Where the cores run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The CPU of each core; `None` where the core is not pinned.
    pub cpus: Vec<Option<u32>>,
    /// The NUMA node of each core; `None` where the core is not pinned.
    pub numa_nodes: Vec<Option<u32>>,
    /// Each core is to take its memory from its node, whatever the process was started with.
    pub bind_memory: bool,
    /// The machine has more than one NUMA node.
    pub several_nodes: bool,
    /// One clause for the ready line, such as "2 cores pinned to CPUs 0,1: every CPU allowed".
    pub why: String,
    /// What the operator should know; whole sentences.
    pub warnings: Vec<String>,
}

/// Why the request cannot be met. Each says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    #[error("no online CPU is in the affinity mask; widen it (taskset, AllowedCPUs=, cpuset)")]
    NoCpu,
    #[error("0 cores asked for; ask for at least 1, or for auto")]
    NoCore,
    #[error("CPU {0} is listed twice; a CPU runs one core")]
    ListedTwice(u32),
    #[error("CPU {missing} is not online; online are {online}")]
    Offline { missing: CpuSet, online: CpuSet },
    #[error(
        "CPU {outside} is outside the affinity mask {mask}; choose from {mask}, or widen the mask \
         (taskset -c, CPUAffinity= or AllowedCPUs= of the systemd unit, --cpuset-cpus of the \
         container)"
    )]
    OutsideMask { outside: CpuSet, mask: CpuSet },
    #[error(
        "{asked} cores asked for, but CPUs {mask} carry at most {most}; ask for at most {most}, \
         best for auto"
    )]
    TooMany { asked: usize, mask: CpuSet, most: usize },
}

impl Placement {
    pub fn cores(&self) -> usize {
        self.cpus.len()
    }

    /// The CPUs that cores are pinned to.
    pub fn pinned(&self) -> CpuSet {
        self.cpus.iter().flatten().copied().collect()
    }
}

/// Chooses a CPU for each core.
///
/// `Auto` and `Count` go round the NUMA nodes and take each physical core once before a second
/// thread of any. CPUs that other brokers hold are passed over while others are free. Cores are
/// pinned, except where a CPU quota grants less than the CPUs allowed and these are not ours
/// alone: there a pinned core would wait for its own CPU while the quota runs out elsewhere. A
/// list is always pinned as given.
pub fn choose_cores(request: &CoreRequest, host: &Host) -> Result<Placement, PlacementError> {
    if host.allowed.is_empty() {
        return Err(PlacementError::NoCpu);
    }
    let beside_control = host.beside_control(request);
    let host = beside_control.as_ref().unwrap_or(host);
    let mut placement = match request {
        CoreRequest::Auto => choose_auto(host),
        CoreRequest::Count(count) => choose_count(*count, host)?,
        CoreRequest::List(cpus) => choose_list(cpus, host)?,
        CoreRequest::PerNumaNode => choose_per_node(host),
    };
    if let Some(control) = host.control.filter(|cpu| placement.pinned().contains(*cpu)) {
        placement.warnings.push(format!(
            "CPU {control} runs a core and the control threads (server.control_cpu); these \
             interrupt the core, give them a CPU of their own"
        ));
    }
    Ok(placement)
}

fn choose_auto(host: &Host) -> Placement {
    if let Some(quota) = binding_quota(host) {
        let cores = (quota.floor() as usize).clamp(1, CORES_MAX);
        return placed_under_quota(cores, quota, host, Vec::new());
    }
    let free = host.allowed.without(&host.taken);
    let skipped = host.allowed.intersection(&host.taken);
    if free.is_empty() {
        let why = format!("every CPU allowed ({}), all shared with another broker", host.allowed);
        let warning = format!(
            "another broker on this host holds CPUs {skipped}; both will be slower, give each its \
             own with --cores"
        );
        return pinned(spread(&host.allowed, host), host, &why, vec![warning]);
    }
    let why = if let Some(control) = host.control.filter(|cpu| !host.allowed.contains(*cpu)) {
        format!("every CPU allowed but {control}, which the control threads have")
    } else if !skipped.is_empty() {
        format!("every CPU allowed but {skipped}, which another broker holds")
    } else if host.allowed.len() < host.topology.online().len() {
        format!("every CPU of the affinity mask {}", host.allowed)
    } else {
        "every CPU of the machine".to_owned()
    };
    pinned(spread(&free, host), host, &why, Vec::new())
}

fn choose_count(count: usize, host: &Host) -> Result<Placement, PlacementError> {
    let most = (host.allowed.len() * CORES_PER_CPU_MAX).min(CORES_MAX);
    if count == 0 {
        return Err(PlacementError::NoCore);
    }
    if count > most {
        return Err(PlacementError::TooMany { asked: count, mask: host.allowed.clone(), most });
    }
    if count > host.allowed.len() {
        let warning = format!(
            "{count} cores share {}; expect pauses, one core per CPU is best",
            cpus_named(&host.allowed)
        );
        let why = "more cores asked for than CPUs allowed";
        return Ok(unpinned(count, why, vec![warning]));
    }
    if let Some(quota) = binding_quota(host) {
        let over = count as f64 > quota;
        let warning = format!("the CPU quota of {quota} is less than the {count} cores need");
        let warnings = if over { vec![warning] } else { Vec::new() };
        return Ok(placed_under_quota(count, quota, host, warnings));
    }
    let free = host.allowed.without(&host.taken);
    let skipped = host.allowed.intersection(&host.taken);
    let mut cpus = spread(&free, host);
    if cpus.len() >= count {
        cpus.truncate(count);
        let beside = if skipped.is_empty() {
            String::new()
        } else {
            format!(", beside another broker on {skipped}")
        };
        return Ok(pinned(cpus, host, &format!("the count asked for{beside}"), Vec::new()));
    }
    let shared: Vec<u32> = spread(&skipped, host).into_iter().take(count - cpus.len()).collect();
    let named = cpus_named(&shared.iter().copied().collect());
    cpus.extend(shared);
    let why = format!("the count asked for, {named} shared with another broker");
    let warning = format!("another broker on this host holds {named}; both will be slower");
    Ok(pinned(cpus, host, &why, vec![warning]))
}

fn choose_list(cpus: &[u32], host: &Host) -> Result<Placement, PlacementError> {
    let mut listed = CpuSet::default();
    for cpu in cpus {
        if listed.contains(*cpu) {
            return Err(PlacementError::ListedTwice(*cpu));
        }
        listed.insert(*cpu);
    }
    if listed.is_empty() {
        return Err(PlacementError::NoCore);
    }
    if listed.len() > CORES_MAX {
        let mask = host.allowed.clone();
        return Err(PlacementError::TooMany { asked: listed.len(), mask, most: CORES_MAX });
    }
    let missing = listed.without(&host.topology.online());
    if !missing.is_empty() {
        return Err(PlacementError::Offline { missing, online: host.topology.online() });
    }
    let outside = listed.without(&host.allowed);
    if !outside.is_empty() {
        return Err(PlacementError::OutsideMask { outside, mask: host.allowed.clone() });
    }
    let mut warnings = Vec::new();
    let shared = listed.intersection(&host.taken);
    if !shared.is_empty() {
        let named = cpus_named(&shared);
        warnings.push(format!("another broker on this host holds {named}; both will be slower"));
    }
    if let Some(quota) = binding_quota(host).filter(|quota| (listed.len() as f64) > *quota) {
        let count = listed.len();
        warnings.push(format!("the CPU quota of {quota} is less than the {count} cores need"));
    }
    Ok(pinned(cpus.to_vec(), host, "the list asked for", warnings))
}

/// As `auto`, with as many CPUs of every node as the one with the fewest has.
fn choose_per_node(host: &Host) -> Placement {
    if binding_quota(host).is_some() {
        let mut placement = choose_auto(host);
        placement.warnings.push(
            "server.cores is \"per-numa-node\", but under a CPU quota cores are placed as with \
             \"auto\"; lift the quota"
                .to_owned(),
        );
        return placement;
    }
    let free = host.allowed.without(&host.taken);
    let (usable, shared) = if free.is_empty() { (&host.allowed, true) } else { (&free, false) };
    let mut by_node: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for id in spread(usable, host) {
        let node = host.topology.cpu(id).map_or(0, |cpu| cpu.node);
        by_node.entry(node).or_default().push(id);
    }
    let each = by_node.values().map(Vec::len).min().unwrap_or(0);
    let left_over: CpuSet = by_node.values().flat_map(|cpus| &cpus[each..]).copied().collect();
    let chosen: CpuSet = by_node.values().flat_map(|cpus| &cpus[..each]).copied().collect();
    let mut warnings = Vec::new();
    if shared {
        warnings.push(format!(
            "another broker on this host holds {}; both will be slower",
            cpus_named(usable)
        ));
    }
    if !left_over.is_empty() {
        warnings.push(format!(
            "{} stay unused: every NUMA node runs as many cores as the smallest one can",
            cpus_named(&left_over)
        ));
    }
    let without: Vec<u32> =
        host.topology.nodes().into_iter().filter(|node| !by_node.contains_key(node)).collect();
    if !without.is_empty() {
        let nodes: CpuSet = without.into_iter().collect();
        warnings.push(format!(
            "no core runs on NUMA {} {nodes}: no CPU there is allowed and free",
            if nodes.len() == 1 { "node" } else { "nodes" }
        ));
    }
    let why = format!("{each} on each NUMA node");
    let placement = pinned(spread(&chosen, host), host, &why, warnings);
    Placement { bind_memory: true, ..placement }
}

/// The quota, where it grants less than the allowed CPUs have and these are not ours alone.
fn binding_quota(host: &Host) -> Option<f64> {
    host.cpu_quota
        .filter(|quota| *quota < host.allowed.len() as f64)
        .map(|quota| (quota * 100.0).round() / 100.0)
}

fn placed_under_quota(cores: usize, quota: f64, host: &Host, warnings: Vec<String>) -> Placement {
    if host.cpu_set_exclusive {
        let mut cpus = spread(&host.allowed, host);
        cpus.truncate(cores);
        let why = format!("a CPU quota of {quota} on an exclusive CPU set");
        return pinned(cpus, host, &why, warnings);
    }
    unpinned(cores, &format!("a CPU quota of {quota} over {}", cpus_named(&host.allowed)), warnings)
}

fn pinned(cpus: Vec<u32>, host: &Host, why: &str, warnings: Vec<String>) -> Placement {
    let node_of = |cpu: &u32| host.topology.cpu(*cpu).map(|cpu| cpu.node);
    let numa_nodes: Vec<Option<u32>> = cpus.iter().map(node_of).collect();
    let named = cpus_named(&cpus.iter().copied().collect());
    let nodes: CpuSet = numa_nodes.iter().flatten().copied().collect();
    let across = if host.topology.nodes().len() > 1 {
        format!(" on NUMA {} {nodes}", if nodes.len() == 1 { "node" } else { "nodes" })
    } else {
        String::new()
    };
    let why = format!("{} pinned to {named}{across}: {why}", cores_named(cpus.len()));
    let cpus = cpus.into_iter().map(Some).collect();
    let several_nodes = host.topology.nodes().len() > 1;
    Placement { cpus, numa_nodes, bind_memory: false, several_nodes, why, warnings }
}

fn unpinned(cores: usize, why: &str, warnings: Vec<String>) -> Placement {
    let why = format!("{} not pinned: {why}", cores_named(cores));
    let none = vec![None; cores];
    Placement {
        cpus: none.clone(),
        numa_nodes: none,
        bind_memory: false,
        several_nodes: false,
        why,
        warnings,
    }
}

/// Orders `cpus`: whole physical cores first, then second threads, and round the NUMA nodes
/// within each. A core whose other thread another broker holds comes with the second threads.
fn spread(cpus: &CpuSet, host: &Host) -> Vec<u32> {
    let mut by_thread: BTreeMap<usize, BTreeMap<u32, Vec<u32>>> = BTreeMap::new();
    for cpu in cpus.iter().filter_map(|id| host.topology.cpu(id)) {
        let ahead = |id: &u32| {
            *id != cpu.id && (host.taken.contains(*id) || (*id < cpu.id && cpus.contains(*id)))
        };
        let thread = host.topology.siblings(cpu).filter(ahead).count();
        by_thread.entry(thread).or_default().entry(cpu.node).or_default().push(cpu.id);
    }
    by_thread.into_values().flat_map(round_nodes).take(CORES_MAX).collect()
}

/// One CPU of each node in turn; the node with the most CPUs goes first, so that it ends last.
fn round_nodes(nodes: BTreeMap<u32, Vec<u32>>) -> Vec<u32> {
    let mut nodes: Vec<Vec<u32>> = nodes.into_values().collect();
    nodes.sort_by_key(|cpus| Reverse(cpus.len()));
    let longest = nodes.first().map_or(0, Vec::len);
    let turn = |at: usize| nodes.iter().filter_map(move |cpus| cpus.get(at).copied());
    (0..longest).flat_map(turn).collect()
}

fn cores_named(cores: usize) -> String {
    if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") }
}

fn cpus_named(cpus: &CpuSet) -> String {
    format!("{} {cpus}", if cpus.len() == 1 { "CPU" } else { "CPUs" })
}

/// A text that is no request for cores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither auto, nor per-numa-node, nor a count such as 4, nor a list of CPUs such as \
     0-3,8 (one CPU alone: 3-3)"
)]
pub struct CoreRequestError(pub String);

impl FromStr for CoreRequest {
    type Err = CoreRequestError;

    /// `auto`, `per-numa-node`, a count, or a list with a comma or a range in it, kept in its order.
    fn from_str(text: &str) -> Result<Self, CoreRequestError> {
        let refused = || CoreRequestError(text.to_owned());
        let text = text.trim();
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if text == "per-numa-node" {
            return Ok(Self::PerNumaNode);
        }
        if let Ok(count) = text.parse() {
            return Ok(Self::Count(count));
        }
        let mut cpus = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let part: CpuSet = part.parse().map_err(|_| refused())?;
            cpus.extend(part.iter());
        }
        if cpus.is_empty() { Err(refused()) } else { Ok(Self::List(cpus)) }
    }
}

impl fmt::Display for CoreRequest {
    /// The text that `from_str` reads back as an equal request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::PerNumaNode => f.write_str("per-numa-node"),
            Self::Count(count) => write!(f, "{count}"),
            Self::List(cpus) => match cpus.as_slice() {
                [cpu] => write!(f, "{cpu}-{cpu}"),
                cpus => {
                    let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
                    f.write_str(&cpus.join(","))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn cpus(placement: &Placement) -> Vec<u32> {
        placement.cpus.iter().map(|cpu| cpu.expect("pinned")).collect()
    }

    fn auto(host: &Host) -> Placement {
        choose_cores(&CoreRequest::Auto, host).unwrap()
    }

    #[test]
    fn auto_takes_every_cpu_whole_cores_first_and_round_the_nodes() {
        let placement = auto(&Fixture::two_nodes().host());
        assert_eq!(cpus(&placement), [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]);
        assert_eq!(placement.numa_nodes[..3], [Some(0), Some(1), Some(0)]);
        assert_eq!(
            placement.why,
            "16 cores pinned to CPUs 0-15 on NUMA nodes 0,1: every CPU of the machine"
        );
        assert!(placement.warnings.is_empty());
    }

    #[test]
    fn every_node_gets_as_many_cores_as_the_smallest_can_run() {
        let per_node = |host: &Host| choose_cores(&CoreRequest::PerNumaNode, host).unwrap();
        let fixture = Fixture::two_nodes();
        let placement = per_node(&fixture.host());
        assert_eq!(cpus(&placement), cpus(&auto(&fixture.host())), "the nodes are alike");
        assert!(placement.bind_memory && placement.warnings.is_empty());
        assert!(placement.why.ends_with("on NUMA nodes 0,1: 8 on each NUMA node"), "{placement:?}");
        // Whole cores first: of node 0 CPUs 0 and 2 with their second threads, of node 1 only 5.
        fixture.allow("0,2,8,10,5,13");
        let placement = per_node(&fixture.host());
        assert_eq!(cpus(&placement), [0, 5, 2, 13]);
        assert_eq!(placement.numa_nodes, [Some(0), Some(1), Some(0), Some(1)]);
        assert!(placement.warnings[0].contains("CPUs 8,10 stay unused"), "{placement:?}");
        fixture.allow("1-3");
        let placement = per_node(&fixture.host());
        assert_eq!(cpus(&placement), [1, 2, 3]);
        assert!(placement.warnings[0].contains("no core runs on NUMA node 1"), "{placement:?}");
    }

    #[test]
    fn nodes_of_a_machine_without_them_and_under_a_quota() {
        let fixture = Fixture::flat(2);
        let placement = choose_cores(&CoreRequest::PerNumaNode, &fixture.host()).unwrap();
        assert_eq!((cpus(&placement), placement.bind_memory), (vec![0, 1], true));
        fixture.quota(100);
        let placement = choose_cores(&CoreRequest::PerNumaNode, &fixture.host()).unwrap();
        assert_eq!((placement.cpus.as_slice(), placement.bind_memory), ([None].as_slice(), false));
        assert!(placement.warnings[0].contains("CPU quota"), "{placement:?}");
    }

    #[test]
    fn a_count_is_spread() {
        let host = Fixture::two_nodes().host();
        let placement = choose_cores(&CoreRequest::Count(3), &host).unwrap();
        assert_eq!(cpus(&placement), [0, 4, 1]);
        assert!(placement.why.ends_with("the count asked for"), "{}", placement.why);
        let placement = choose_cores(&CoreRequest::Count(10), &host).unwrap();
        assert_eq!(cpus(&placement), [0, 4, 1, 5, 2, 6, 3, 7, 8, 12]);
        assert_eq!(choose_cores(&CoreRequest::Count(0), &host), Err(PlacementError::NoCore));
    }

    #[test]
    fn the_mask_bounds_auto() {
        let fixture = Fixture::two_nodes();
        fixture.allow("2,3,10,12-15");
        let placement = auto(&fixture.host());
        assert_eq!(cpus(&placement), [12, 2, 13, 3, 14, 15, 10]);
        assert!(placement.why.ends_with("the affinity mask 2,3,10,12-15"), "{}", placement.why);
        fixture.allow("64");
        let error = choose_cores(&CoreRequest::Auto, &fixture.host()).unwrap_err();
        assert_eq!(error, PlacementError::NoCpu);
    }

    #[test]
    fn a_quota_is_rounded_down_and_unpins() {
        let fixture = Fixture::two_nodes();
        for (hundredths, cores) in [(150, 1), (50, 1), (399, 3), (400, 4)] {
            fixture.quota(hundredths);
            let placement = auto(&fixture.host());
            assert_eq!(placement.cpus, vec![None; cores], "{hundredths}");
            assert_eq!(placement.numa_nodes, vec![None; cores]);
        }
        fixture.quota(150);
        let why = auto(&fixture.host()).why;
        assert_eq!(why, "1 core not pinned: a CPU quota of 1.5 over CPUs 0-15");
    }

    #[test]
    fn a_quota_of_all_cpus_allowed_does_not_unpin() {
        let fixture = Fixture::two_nodes();
        fixture.quota(200);
        fixture.allow("2,3");
        assert_eq!(cpus(&auto(&fixture.host())), [2, 3]);
    }

    #[test]
    fn an_exclusive_set_stays_pinned_under_a_quota() {
        let fixture = Fixture::two_nodes();
        fixture.quota(250);
        fixture.cgroup_v2("/", "/own");
        fixture.write("cgroup/own/cpuset.cpus.partition", "root\n");
        assert_eq!(cpus(&auto(&fixture.host())), [0, 4]);
    }

    #[test]
    fn counts_over_the_quota_warn_and_over_the_cpus_share() {
        let fixture = Fixture::flat(2);
        let host = fixture.host();
        let placement = choose_cores(&CoreRequest::Count(5), &host).unwrap();
        assert_eq!(placement.cpus, vec![None; 5]);
        assert!(placement.warnings[0].contains("5 cores share CPUs 0,1"));
        let error = choose_cores(&CoreRequest::Count(9), &host).unwrap_err().to_string();
        assert!(error.contains("9 cores") && error.contains("at most 8"), "{error}");
        fixture.quota(100);
        let placement = choose_cores(&CoreRequest::Count(2), &fixture.host()).unwrap();
        assert_eq!(placement.cpus, vec![None; 2]);
        assert_eq!(placement.warnings.len(), 1);
    }

    #[test]
    fn a_list_is_taken_as_it_is_or_refused() {
        let fixture = Fixture::two_nodes();
        fixture.allow("0-7");
        let host = fixture.host();
        let list = |cpus: &[u32]| choose_cores(&CoreRequest::List(cpus.to_vec()), &host);
        assert_eq!(cpus(&list(&[5, 0]).unwrap()), [5, 0]);
        assert_eq!(list(&[5, 0, 5]), Err(PlacementError::ListedTwice(5)));
        assert_eq!(list(&[]), Err(PlacementError::NoCore));
        let error = list(&[1, 9, 10]).unwrap_err().to_string();
        assert!(error.contains("CPU 9,10 is outside the affinity mask 0-7"), "{error}");
        assert!(error.contains("taskset"), "{error}");
        let error = list(&[99]).unwrap_err().to_string();
        assert!(error.contains("CPU 99 is not online") && error.contains("0-15"), "{error}");
    }

    #[test]
    fn cpus_of_another_broker_are_passed_over_while_others_are_free() {
        let fixture = Fixture::two_nodes();
        let mut host = fixture.host();
        host.taken = "0-3,8-10".parse().unwrap();
        let placement = auto(&host);
        assert_eq!(cpus(&placement), [4, 5, 6, 7, 12, 11, 13, 14, 15]);
        assert!(placement.why.contains("but 0-3,8-10, which another broker holds"));
        host.taken = "0-15".parse().unwrap();
        let placement = auto(&host);
        assert_eq!(placement.cores(), 16);
        assert!(placement.why.contains("shared with another broker"));
        assert_eq!(placement.warnings.len(), 1);
    }

    #[test]
    fn counts_and_lists_beside_another_broker() {
        let mut host = Fixture::flat(4).host();
        host.taken = "0,1".parse().unwrap();
        let placement = choose_cores(&CoreRequest::Count(2), &host).unwrap();
        assert_eq!((cpus(&placement), placement.warnings.len()), (vec![2, 3], 0));
        let placement = choose_cores(&CoreRequest::Count(3), &host).unwrap();
        assert_eq!((cpus(&placement), placement.warnings.len()), (vec![2, 3, 0], 1));
        let placement = choose_cores(&CoreRequest::List(vec![1, 2]), &host).unwrap();
        assert_eq!((cpus(&placement), placement.warnings.len()), (vec![1, 2], 1));
    }

    #[test]
    fn requests_read_and_show() {
        let parse = |text: &str| text.parse::<CoreRequest>();
        assert_eq!(parse("auto"), Ok(CoreRequest::Auto));
        assert_eq!(parse("per-numa-node"), Ok(CoreRequest::PerNumaNode));
        assert_eq!(parse("4"), Ok(CoreRequest::Count(4)));
        assert_eq!(parse("2,0-1"), Ok(CoreRequest::List(vec![2, 0, 1])));
        assert_eq!(parse("3-3"), Ok(CoreRequest::List(vec![3])));
        assert_eq!(parse("3,"), Ok(CoreRequest::List(vec![3])));
        for text in ["", "all", "-1", "1.5", "3-1", ","] {
            assert_eq!(parse(text), Err(CoreRequestError(text.into())), "{text}");
        }
        for request in [
            CoreRequest::Auto,
            CoreRequest::PerNumaNode,
            CoreRequest::Count(7),
            CoreRequest::List(vec![3]),
            CoreRequest::List(vec![9, 1]),
        ] {
            assert_eq!(parse(&request.to_string()), Ok(request));
        }
    }
}
