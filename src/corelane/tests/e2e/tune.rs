//! `corelane tune` on this machine, on a made-up one, and on a live broker.

use std::fs;
use std::path::Path;

use crate::harness::{Launch, corelane, folder};

/// The exit code says the verdict, whatever this machine is like.
#[test]
fn the_check_of_this_machine_agrees_with_its_exit_code() {
    let folder = folder();
    let data_dir = folder.path().join("data");
    let run =
        corelane(&["tune", "check", "--output", "json", "--data-dir", data_dir.to_str().unwrap()]);
    let found = run.json();
    let expected = match found["verdict"].as_str().unwrap() {
        "good" => 0,
        "costs" => 1,
        _ => 2,
    };
    assert_eq!(run.code, Some(expected), "{run:?}");
    assert_eq!(found["schema"], 1);
    let ids: Vec<&str> =
        found["findings"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap()).collect();
    for id in ["cpu.topology", "cpu.quota", "disk.filesystem", "kernel.io_uring", "memory.swap"] {
        assert!(ids.contains(&id), "{id} is not among {ids:?}");
    }
    assert!(!data_dir.exists(), "the check has made something");
    assert_eq!(run.stderr, "");
}

/// A small machine of one CPU, with what is needed to be good.
fn made_up(root: &Path) {
    for (file, text) in [
        ("sys/devices/system/cpu/online", "0"),
        ("sys/devices/system/cpu/isolated", "0"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
        ("sys/dev/block/254:0/queue/scheduler", "[none]"),
        ("sys/dev/block/254:0/queue/rotational", "0"),
        ("sys/dev/block/254:0/queue/write_cache", "write through"),
        ("proc/meminfo", "MemTotal: 8388608 kB"),
        ("proc/thread-self/status", "Cpus_allowed_list:\t0"),
        ("proc/stat", "cpu 1 1 1 1 1 1 1 0"),
        ("proc/swaps", "Filename"),
        ("proc/sys/kernel/osrelease", "6.12.0"),
        ("proc/sys/net/core/somaxconn", "4096"),
        ("proc/self/mountinfo", "1 0 254:0 / / rw - xfs /dev/vda rw"),
        (
            "proc/self/limits",
            "Max open files 1 unlimited files\nMax locked memory 1 unlimited bytes",
        ),
    ] {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
}

#[test]
fn a_copy_of_a_machine_is_judged_good_bad_and_unseen() {
    let folder = folder();
    made_up(folder.path());
    let root = folder.path().to_str().unwrap();
    let words = ["tune", "check", "--root", root, "--data-dir", "/data"];
    let good = corelane(&words);
    assert_eq!(good.code, Some(0), "{good:?}");
    fs::write(folder.path().join("proc/stat"), "garbage\n").unwrap();
    let unseen = corelane(&words);
    assert_eq!(unseen.code, Some(2), "{unseen:?}");
    assert!(unseen.text().contains("UNSEEN   cpu.steal"), "{unseen:?}");
    let scheduler = folder.path().join("sys/dev/block/254:0/queue/scheduler");
    fs::write(scheduler, "none [bfq]\n").unwrap();
    let bad = corelane(&words);
    assert_eq!(bad.code, Some(1), "{bad:?}");
    assert!(bad.text().contains("fix     echo none > /sys/block/254:0/queue/scheduler"), "{bad:?}");
    let nowhere = corelane(&["tune", "check", "--root", "/no/such/copy"]);
    assert_eq!((nowhere.code, nowhere.stderr.lines().count()), (Some(2), 1), "{nowhere:?}");
}

#[test]
fn a_live_broker_is_found_by_address_and_by_process() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    let pid = server.pid();
    for target in [server.address.to_string(), pid.to_string()] {
        let run = corelane(&["tune", "check", "--output", "json", "--running", &target]);
        assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
        let seen = run.json();
        assert_eq!(seen["running"]["pid"], pid);
        let threads = seen["running"]["threads"].as_array().unwrap();
        let core = threads.iter().find(|thread| thread["role"] == "core").expect("a core");
        if let Some(told) = seen["status_cores"][0]["cpu"].as_u64() {
            assert_eq!(core["pinned_to"], told);
            assert_eq!(core["last_on"], told);
        }
        assert!(seen["running"]["memory"]["resident_bytes"].as_u64().unwrap() > 0);
    }
    let text = corelane(&["tune", "check", "--running", &server.address.to_string()]);
    assert!(text.text().contains("running.pinning"), "{text:?}");
    server.stop();
    let gone = corelane(&["tune", "check", "--running", &pid.to_string()]);
    assert_eq!(gone.code, Some(2));
    assert!(gone.stderr.contains("there is no process"), "{gone:?}");
    let other = corelane(&["tune", "check", "--running", &std::process::id().to_string()]);
    assert_eq!(other.code, Some(2));
    assert!(other.stderr.contains("not corelane"), "{other:?}");
}
