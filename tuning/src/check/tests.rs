//! Made-up machines, each with one thing wrong.

use std::path::{Path, PathBuf};

use super::*;
use crate::fixture::Fixture;

fn subject(host: &Fixture) -> Subject {
    let data_dir = PathBuf::from("/data/corelane");
    Subject {
        roots: host.roots(),
        place: Place::below(&host.proc(), &data_dir),
        data_dir,
        // One thread of each core of node 0.
        cores: "0-3".parse().unwrap(),
        serves_network: true,
        connections_per_core_max: 10_000,
        locked_memory_needed: 512 << 10,
        control_cpu: None,
        writes_in_flight: 4,
        device_writes_per_second: None,
        cache_bytes: 0,
        io_uring: Some(Ok(())),
    }
}

fn found(host: &Fixture) -> Report {
    check(&subject(host)).unwrap()
}

#[track_caller]
fn one<'a>(report: &'a Report, id: &str) -> &'a Finding {
    report
        .findings
        .iter()
        .find(|finding| finding.id == id)
        .unwrap_or_else(|| panic!("no {id} in {:#?}", report.findings))
}

/// Changes a well kept machine; the finding must become this, name the words, and be the verdict.
#[track_caller]
fn expect(change: impl FnOnce(&Fixture), id: &str, severity: Severity, words: &[&str]) {
    let host = Fixture::well_kept();
    change(&host);
    let report = found(&host);
    let finding = one(&report, id);
    assert_eq!(finding.severity, severity, "{finding:?}");
    let said = format!("{finding:?}");
    for word in words {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    let verdict = match severity {
        Severity::Fails | Severity::Costs => Verdict::Costs,
        Severity::Unknown => Verdict::Unknown,
        Severity::Note | Severity::Good => Verdict::Good,
    };
    assert_eq!(report.verdict, verdict, "{:#?}", report.findings);
}

use Severity::{Costs, Fails, Note, Unknown};

#[test]
fn a_well_kept_server_is_good() {
    let report = found(&Fixture::well_kept());
    let bad: Vec<&Finding> =
        report.findings.iter().filter(|finding| finding.severity != Severity::Good).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(report.verdict, Verdict::Good);
    let topology = &one(&report, "cpu.topology").is;
    assert!(
        topology.starts_with("2 sockets, 2 NUMA nodes, 8 cores, 16 CPUs (2 a core)"),
        "{topology}"
    );
}

#[test]
fn kernels_and_io_uring() {
    let file = "proc/sys/kernel/osrelease";
    expect(|host| host.write(file, "5.15.0-1\n"), "kernel.version", Fails, &["6.1 or newer"]);
    expect(|host| host.write(file, "custom\n"), "kernel.version", Unknown, &["custom"]);
    let host = Fixture::well_kept();
    host.write("proc/sys/kernel/io_uring_disabled", "2\n");
    let report = check(&Subject { io_uring: None, ..subject(&host) }).unwrap();
    let finding = one(&report, "kernel.io_uring");
    assert_eq!(finding.fix.as_deref(), Some("sysctl -w kernel.io_uring_disabled=0"));
    let refused = Some(Err("a filter refuses it".to_owned()));
    let report = check(&Subject { io_uring: refused, ..subject(&Fixture::well_kept()) }).unwrap();
    assert_eq!(one(&report, "kernel.io_uring").severity, Fails);
}

#[test]
fn limits_of_the_process() {
    expect(|host| host.limits("65536", "1048576"), "limits.locked_memory", Fails, &["64 KiB"]);
    expect(|host| host.limits("unlimited", "4096"), "limits.open_files", Costs, &["44096"]);
    let backlog = "proc/sys/net/core/somaxconn";
    expect(|host| host.write(backlog, "128\n"), "net.backlog", Costs, &["somaxconn=4096"]);
}

#[test]
fn cpus_that_are_shared_or_bounded() {
    let quota = |host: &Fixture| {
        host.cgroup_v2("/", "/");
        host.mount("259:0", "/data", "xfs", "/dev/nvme0n1", "rw");
        host.write("cgroup/cpu.max", "250000 100000\n");
    };
    expect(quota, "cpu.quota", Costs, &["2.50", "AllowedCPUs=0,1"]);
    expect(|host| host.allow("0-7"), "cpu.affinity", Note, &["0-7", "0-15"]);
    let isolated = "sys/devices/system/cpu/isolated";
    expect(|host| host.write(isolated, "2-3\n"), "cpu.isolation", Note, &["4-15"]);
    let stat = "cpu  100 0 50 1000 0 0 0 50 0 0\n";
    expect(|host| host.write("proc/stat", stat), "cpu.steal", Costs, &["4.2%"]);
    expect(|host| host.write("proc/stat", "x\n"), "cpu.steal", Unknown, &[]);
}

#[test]
fn cores_on_two_threads_or_two_nodes() {
    let host = Fixture::well_kept();
    let with =
        |cores: &str| check(&Subject { cores: cores.parse().unwrap(), ..subject(&host) }).unwrap();
    let smt = with("0,1,8,9");
    let fix = one(&smt, "cpu.smt").fix.clone();
    assert_eq!(fix.as_deref(), Some("corelane serve --cores 0,1"));
    let apart = with("0,4");
    let numa = one(&apart, "cpu.numa");
    assert_eq!(numa.severity, Note);
    assert_eq!(one(&apart, "net.node").fix.as_deref(), Some("corelane serve --cores 0-3,8-11"));
    let missing = with("0,99");
    assert_eq!(one(&missing, "cpu.cores").severity, Fails);
    let control = check(&Subject { control_cpu: Some(99), ..subject(&host) }).unwrap();
    assert_eq!(one(&control, "cpu.control").severity, Fails);
    let balancing = "proc/sys/kernel/numa_balancing";
    expect(|host| host.write(balancing, "1\n"), "memory.numa_balancing", Costs, &["=0"]);
}

#[test]
fn clocks_that_change_sleep_or_cost() {
    let governor = "sys/devices/system/cpu/cpu5/cpufreq/scaling_governor";
    let on_5 = |host: &Fixture| host.write(governor, "powersave\n");
    expect(on_5, "cpu.governor", Costs, &["powersave on CPUs 5"]);
    let deep = "sys/devices/system/cpu/cpu3/cpuidle/state2/disable";
    expect(|host| host.write(deep, "0\n"), "cpu.sleep_states", Costs, &["C6", "133 us"]);
    let clock = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    expect(|host| host.write(clock, "hpet\n"), "cpu.clock_source", Costs, &["echo tsc >"]);
}

#[test]
fn memory_that_moves() {
    let pages = "sys/kernel/mm/transparent_hugepage";
    let never =
        |host: &Fixture| host.write(&format!("{pages}/enabled"), "always madvise [never]\n");
    expect(never, "memory.huge_pages", Costs, &["echo madvise"]);
    let always =
        |host: &Fixture| host.write(&format!("{pages}/enabled"), "[always] madvise never\n");
    expect(always, "memory.huge_pages", Note, &["always"]);
    let defrag =
        |host: &Fixture| host.write(&format!("{pages}/defrag"), "[always] defer madvise\n");
    expect(defrag, "memory.huge_page_defrag", Costs, &["milliseconds"]);
    let swap = |host: &Fixture| {
        host.write("proc/swaps", "Filename Type Size Used Priority\n/swap file 1 0 -2\n");
        host.write("proc/sys/vm/swappiness", "60\n");
    };
    expect(swap, "memory.swap", Costs, &["/swap", "60", "sysctl -w vm.swappiness=1"]);
    let small = |host: &Fixture| host.write("proc/meminfo", "MemTotal: 131072 kB\n");
    expect(small, "memory.limit", Costs, &["128 MiB"]);
}

#[test]
fn filesystems_and_mounts() {
    let mounted = |kind: &'static str, options: &'static str| {
        move |host: &Fixture| host.mount("259:0", "/data", kind, "/dev/nvme0n1", options)
    };
    expect(mounted("ext4", "rw,data=journal"), "disk.mount", Costs, &["data=journal"]);
    expect(mounted("ext4", "rw,nobarrier"), "disk.mount", Fails, &["power cut"]);
    expect(mounted("ext4", "ro"), "disk.mount", Fails, &["remount,rw /data"]);
    expect(mounted("xfs", "rw,sync"), "disk.mount", Costs, &["remount,async"]);
    expect(mounted("xfs", "rw,discard"), "disk.mount", Note, &["fstrim"]);
    expect(mounted("btrfs", "rw"), "disk.filesystem", Costs, &["chattr +C"]);
    expect(mounted("tmpfs", "rw"), "disk.filesystem", Fails, &["--allow-volatile"]);
    expect(mounted("nfs4", "rw"), "disk.filesystem", Fails, &["network"]);
    expect(mounted("fuse.sshfs", "rw"), "disk.filesystem", Fails, &["FUSE"]);
    let nowhere = |host: &Fixture| host.mount("0:77", "/data", "ext4", "/dev/gone", "rw");
    expect(nowhere, "disk.device", Unknown, &["/dev/gone"]);
}

#[test]
fn disks_that_queue_badly() {
    let queue = "sys/devices/block/nvme0n1/queue";
    let set = |file: &'static str, text: &'static str| {
        move |host: &Fixture| host.write(&format!("{queue}/{file}"), &format!("{text}\n"))
    };
    let fix = "echo none > /sys/block/nvme0n1/queue/scheduler";
    expect(set("scheduler", "none mq-deadline [bfq]"), "disk.scheduler", Costs, &["bfq", fix]);
    expect(set("rotational", "1"), "disk.medium", Costs, &["spinning"]);
    expect(set("write_cache", "write back"), "disk.write_cache", Note, &["ONLY where"]);
    expect(set("nr_requests", "4"), "disk.queue_depth", Costs, &["16 or more"]);
    expect(set("max_sectors_kb", "128"), "disk.request_size", Costs, &["echo 1024"]);
    let fua = |host: &Fixture| {
        set("write_cache", "write back")(host);
        set("fua", "1")(host);
    };
    let host = Fixture::well_kept();
    fua(&host);
    assert_eq!(found(&host).verdict, Verdict::Good);
}

#[test]
fn encryption_arrays_and_bounds_on_the_way_to_the_disk() {
    let encrypted = |host: &Fixture| {
        host.disk("dm-0", "253:0");
        host.write("sys/devices/block/dm-0/dm/uuid", "CRYPT-LUKS2-1-data\n");
        host.write("sys/devices/block/dm-0/dm/name", "data\n");
        host.stack("dm-0", &["nvme0n1"]);
        host.mount("253:0", "/data", "ext4", "/dev/mapper/data", "rw");
    };
    expect(encrypted, "disk.encryption", Costs, &["cryptsetup refresh", "workqueue data"]);
    let array = |host: &Fixture| {
        host.disk("md0", "9:0");
        host.write("sys/devices/block/md0/md/level", "raid5\n");
        host.stack("md0", &["nvme0n1"]);
        host.mount("9:0", "/data", "ext4", "/dev/md0", "rw");
    };
    expect(array, "disk.array", Costs, &["raid10"]);
    let bounded = |host: &Fixture| {
        host.cgroup_v2("/", "/");
        host.mount("259:0", "/data", "xfs", "/dev/nvme0n1", "rw");
        host.write("cgroup/io.max", "259:0 wiops=3000\n");
    };
    expect(bounded, "disk.cgroup_limit", Costs, &["3000 writes/s", "device_writes_per_second"]);
    let host = Fixture::well_kept();
    bounded(&host);
    let kept = Subject { device_writes_per_second: Some(2850), ..subject(&host) };
    assert_eq!(check(&kept).unwrap().verdict, Verdict::Good);
}

#[test]
fn interfaces_with_few_queues_or_crowded_interrupts() {
    let host = Fixture::well_kept();
    host.nic("eth1", 1, &[0], Some(0));
    let report = found(&host);
    let few = report.findings.iter().find(|f| f.id == "net.queues" && f.is.starts_with("eth1"));
    let few = few.unwrap();
    assert_eq!(few.severity, Costs);
    assert!(few.fix.as_ref().unwrap().contains("echo ffff > /sys/class/net/eth1/queues/rx-0"));
    // The same is only a note for a broker on the loopback.
    let near = check(&Subject { serves_network: false, ..subject(&host) }).unwrap();
    assert_eq!(near.verdict, Verdict::Good);
    let host = Fixture::well_kept();
    host.nic("eth1", 8, &[0; 8], Some(0));
    let report = found(&host);
    let crowded = one(&report, "net.interrupts");
    assert_eq!(crowded.severity, Costs, "{crowded:?}");
    assert!(crowded.fix.as_ref().unwrap().contains("smp_affinity_list"));
}

#[test]
fn the_worst_comes_first_and_nothing_is_changed() {
    let host = Fixture::well_kept();
    host.write("proc/sys/kernel/osrelease", "5.4\n");
    host.write("proc/stat", "x\n");
    host.write("sys/devices/system/cpu/cpu5/cpufreq/scaling_governor", "powersave\n");
    let before = files(host.path("").as_path());
    let report = found(&host);
    let order: Vec<Severity> = report.findings.iter().map(|finding| finding.severity).collect();
    assert!(order.is_sorted() && order[..3] == [Fails, Costs, Unknown], "{order:?}");
    assert_eq!(files(host.path("").as_path()), before);
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push((entry.path(), std::fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_machine_that_cannot_be_read_is_an_error_and_an_empty_one_is_unknown() {
    let nothing = Fixture::flat(1);
    std::fs::remove_file(nothing.path("proc/meminfo")).unwrap();
    assert!(check(&subject(&nothing)).is_err());
    let bare = Fixture::flat(1);
    let report = check(&Subject { cores: CoreRequest::Auto, ..subject(&bare) }).unwrap();
    assert_eq!(one(&report, "limits").severity, Unknown);
    assert_eq!(one(&report, "disk.filesystem").severity, Unknown);
}

#[test]
fn this_machine_can_be_judged() {
    let here = std::env::current_dir().unwrap();
    let subject = Subject {
        roots: Roots::default(),
        place: Place::of(&here).ok(),
        data_dir: here,
        cores: CoreRequest::Auto,
        serves_network: true,
        ..subject(&Fixture::flat(1))
    };
    let report = check(&subject).unwrap();
    assert!(report.findings.len() > 15, "{:#?}", report.findings);
    assert!(report.findings.iter().all(|finding| !finding.is.is_empty()));
}
