//! Which CPUs a broker takes: the affinity mask, a control group's quota, another broker beside it.

use super::control_group::ControlGroup;
use super::{can, with_mounts};
use crate::harness::{Launch, Server, folder};

fn auto(data: &std::path::Path) -> Launch {
    Launch::new(data).cores(0)
}

/// Each core's CPU; `None` where it is not pinned.
fn cpus(server: &Server) -> Vec<Option<u64>> {
    let status = server.run(&["status", "--output", "json"]).ok().json();
    let cores = status["cores"].as_array().unwrap();
    cores.iter().map(|core| core["cpu"].as_u64()).collect()
}

/// Words that let several brokers share a folder of CPU locks that no one else uses.
fn with_own_locks(folder: &std::path::Path) -> Vec<String> {
    let locks = folder.join("locks");
    std::fs::create_dir_all(&locks).unwrap();
    with_mounts(&format!("mkdir -p /run/lock; mount --bind {} /run/lock", locks.display()))
}

#[test]
fn the_affinity_mask_is_kept() {
    let folder = folder();
    let locks = with_own_locks(folder.path());
    if !can("a broker with CPU locks of its own", &locks) {
        return;
    }
    let mask = ["taskset", "--cpu-list", "0"].map(str::to_owned);
    if !can("a broker with an affinity mask", &mask) {
        return;
    }
    let server = auto(&folder.path().join("data")).through(&mask).through(&locks).start();
    assert_eq!(cpus(&server), [Some(0)], "{}", server.ready_line);
}

#[test]
fn the_quota_is_kept_and_nothing_pinned() {
    let Some(group) = ControlGroup::new("cpu", "a CPU quota") else { return };
    let folder = folder();
    for (hundredths, cores) in [(50, 1), (100, 1)] {
        group.limit_cpu(hundredths);
        let data = folder.path().join(format!("data-{hundredths}"));
        let server = auto(&data).through(&group.enter()).start();
        assert_eq!(cpus(&server), vec![None; cores], "{hundredths}: {}", server.ready_line);
        assert!(server.ready_line.contains("quota"), "{}", server.ready_line);
        server.stop();
    }
}

#[test]
fn two_brokers_on_a_host_take_different_cpus_and_a_third_says_it_shares() {
    let folder = folder();
    let locks = with_own_locks(folder.path());
    if !can("two brokers on a host", &locks) {
        return;
    }
    let online = std::thread::available_parallelism().unwrap().get();
    if online < 2 {
        eprintln!("two brokers on a host could not be run here: there is one CPU");
        return;
    }
    let start = |name: &str| Launch::new(&folder.path().join(name)).through(&locks).start();
    let servers: Vec<_> = (0..online.min(8)).map(|n| start(&format!("data-{n}"))).collect();
    let mut taken: Vec<_> = servers.iter().map(|server| cpus(server)[0].unwrap()).collect();
    taken.sort_unstable();
    let distinct = taken.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(distinct, "each its own CPU: {taken:?}");
    if servers.len() == online {
        let last = start("one-too-many");
        assert!(last.log().contains("another broker"), "{}", last.log());
    }
}
