//! Limits of the process: locked memory, open files, and the control group's memory.

use super::control_group::ControlGroup;
use crate::harness::{Launch, folder};

#[test]
fn soft_limits_are_raised_to_the_hard_ones() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data"));
    let server = launch.ulimit("-S -n 100").ulimit("-S -l 64").start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let soft_and_hard = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let mut values = line.split_whitespace().map(str::to_owned);
        (values.next().unwrap(), values.next().unwrap())
    };
    let (soft, hard) = soft_and_hard("Max open files");
    assert_eq!(soft, hard);
    let (soft, _) = soft_and_hard("Max locked memory");
    assert_ne!(soft, "65536");
    server.create("t", 1);
    server.publish("t", "1\n");
}

#[test]
fn too_little_locked_memory_is_refused_with_what_to_set() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data")).ulimit("-l 64");
    let sentence = launch.try_start().unwrap_err().failed_after_logs();
    assert!(sentence.contains("only 64 KiB") && sentence.contains("512 KiB"), "{sentence}");
    for word in ["LimitMEMLOCK=", "Docker", "Podman", "Kubernetes", "ulimit -l"] {
        assert!(sentence.contains(word), "{word}: {sentence}");
    }
}

#[test]
fn open_files_that_do_not_fit_are_said_or_refused() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data")).shards(2);
    let server = launch.clone().ulimit("-n 400").start();
    let log = server.log();
    assert!(log.contains("room for fewer connections") && log.contains("LimitNOFILE"), "{log}");
    server.create("t", 2);
    server.publish("t", "1\n2\n");
    server.stop();

    for limit in ["-n 40", "-n 12"] {
        let run = launch.clone().ulimit(limit).try_start().unwrap_err();
        let sentence = run.failed_after_logs();
        let needed = sentence.contains("the limit of open files");
        assert!(needed && sentence.contains("LimitNOFILE"), "{limit}: {sentence}");
    }
    let server = launch.start();
    assert_eq!(server.values("t").len(), 2, "what was refused has changed nothing");
}

/// What a refused start says it needs is what a real process has: enough, and not far more.
#[test]
fn the_open_files_that_are_needed_are_those_of_a_real_process() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    for (cores, shards) in [(1, 1), (1, 6), (2, 2), (4, 4), (8, 8), (8, 1)] {
        if usize::from(cores) > 4 * cpus {
            eprintln!("{cores} cores could not be run here: {cpus} CPUs carry at most 4 each");
            continue;
        }
        let folder = folder();
        let launch = Launch::new(&folder.path().join("data")).cores(cores).shards(shards);
        let run = launch.clone().ulimit("-n 25").try_start().unwrap_err();
        let sentence = run.failed_after_logs();
        let (_, rest) = sentence.split_once("and ").unwrap();
        let needed: u64 = rest.split(' ').next().unwrap().parse().unwrap();
        let least = needed + u64::from(cores);
        let run = launch.clone().ulimit(&format!("-n {}", least - 1)).try_start().unwrap_err();
        assert!(run.failed_after_logs().contains("the limit of open files"));

        let server = launch.ulimit(&format!("-n {least}")).start();
        server.create("t", u32::from(shards));
        server.publish("t", "1\n2\n3\n");
        assert_eq!(server.values("t").len(), 3);
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count() as u64;
        let unused = 16 + 4 * u64::from(cores) + 6 * u64::from(shards);
        let said = format!("{cores} cores, {shards} shards: {needed} said, {open} open");
        println!("{said}");
        assert!(open <= least && needed <= open + unused, "{said}");
        assert!(!server.log().contains("spare descriptors"), "{said}: {}", server.log());
        server.stop();
    }
}

#[test]
fn the_cache_follows_the_control_groups_memory() {
    let Some(group) = ControlGroup::new("memory", "a memory limit") else { return };
    group.limit_memory(400 << 20);
    let folder = folder();
    let data = folder.path().join("data");
    let within = |launch: Launch| launch.through(&group.enter());
    let cache = |bytes: &str| within(Launch::new(&data).set("CORELANE_STORAGE_CACHE_BYTES", bytes));

    let sentence = cache("400MiB").try_start().unwrap_err().failed_after_logs();
    let named = sentence.contains("control group's memory limit is 400 MiB");
    assert!(named && sentence.contains("storage.cache_bytes is 400 MiB"), "{sentence}");

    let server = cache("320MiB").start();
    assert!(server.log().contains("do not fit"), "{}", server.log());
    assert!(server.log().contains("raise the limit to 528 MiB"), "{}", server.log());
    server.stop();

    // A quarter of the limit by default: far more is published than fits, and the server stays.
    let server = cache("0").start();
    assert_eq!(server.log().matches("do not fit").count(), 1, "{}", server.log());
    server.create("t", 1);
    let line = "x".repeat(64 * 1024);
    for _ in 0..4 {
        let lines: String = (0..512).map(|_| format!("{line}\n")).collect();
        server.publish("t", &lines);
    }
    let resident = server.resident_bytes();
    assert!(resident < 300 << 20, "{resident}");
    server.stop();
}
