//! `corelane tune` on this machine, on a made-up one, and on a live broker.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use rustix::process::Signal;

use crate::harness::{Launch, Running, corelane, folder, wait_for};

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

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn the_disk_is_measured_and_nothing_stays() {
    let folder = folder();
    let place = folder.path().to_str().unwrap();
    let words = ["tune", "disk", "--folder", place, "--size", "64MiB", "--time", "1s"];
    let run = corelane(&[&words[..], &["--output", "json"]].concat()).ok();
    let disk = &run.json()["disk"];
    let cells = disk["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 31);
    assert!(cells.iter().all(|cell| cell["per_s"].as_f64().unwrap() > 0.0), "{cells:?}");
    assert_eq!(disk["interrupted"], false);
    assert!(is_empty(folder.path()));
    let text = corelane(&words).ok();
    assert!(text.text().contains("direct reads at random"), "{text:?}");
    for bad in [["--size", "1MiB"], ["--folder", "/no/such"]] {
        let sentence = corelane(&["tune", "disk", bad[0], bad[1]]).failed();
        assert!(sentence.contains(bad[0]), "{sentence}");
    }
}

#[test]
fn ctrl_c_ends_the_measurement_with_what_it_has() {
    let folder = folder();
    let place = folder.path().to_str().unwrap();
    let words = ["tune", "disk", "--folder", place, "--size", "64MiB", "--time", "10m"];
    let running = Running::start(&words, &[]);
    // Its signals are caught before it opens its files.
    let fds = format!("/proc/{}/fd", running.child.id());
    wait_for("the test's file", || {
        let links =
            fs::read_dir(&fds).ok()?.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        links.into_iter().find(|link| link.starts_with(place))
    });
    running.signal(Signal::INT);
    let run = running.finish();
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.text().contains("INTERRUPTED"), "{run:?}");
    assert!(is_empty(folder.path()));
}

#[test]
fn the_network_is_measured_against_a_listener() {
    let mut listener = Running::start_unread(&["tune", "net", "--listen", "127.0.0.1:0"], &[]);
    let mut line = String::new();
    let stdout = listener.child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let address = line.strip_prefix("listening on ").and_then(|rest| rest.split(';').next());
    let address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
    let words = ["tune", "net", "--peer", address, "--time", "200ms", "--output", "json"];
    let seen = corelane(&words).ok().json();
    let figures = &seen["peer"]["figures"];
    for figure in ["stream_out_bytes_per_s", "stream_in_bytes_per_s"] {
        assert!(figures[figure].as_f64().unwrap() > 0.0, "{seen}");
    }
    assert!(figures["round_trip_64b_us"]["p50"].as_f64().unwrap() > 0.0, "{seen}");
    listener.signal(Signal::TERM);
    assert_eq!(listener.finish().code, Some(0));
    let nobody = corelane(&["tune", "net", "--peer", address]).failed();
    assert!(nobody.contains("tune net --listen"), "{nobody}");
}

#[test]
fn a_written_configuration_is_good_and_serves_and_tells_its_ceilings() {
    let folder = folder();
    let out = folder.path().join("corelane.toml");
    let data_dir = folder.path().join("data");
    let (place, data) = (out.to_str().unwrap(), data_dir.to_str().unwrap());
    let short = ["--size", "64MiB", "--time", "1s"];
    let words = ["tune", "write", "--data-dir", data, "--listen", "127.0.0.1:0", "--out", place];
    let words = [&words[..], &short].concat();
    let run = corelane(&words).ok();
    assert!(run.text().contains("corelane serve --config"), "{run:?}");
    corelane(&["config", "check", place]).ok();
    let toml = fs::read_to_string(&out).unwrap();
    for key in ["cores = ", "group_bytes_max = ", "writes_in_flight = ", "cache_bytes = "] {
        assert!(toml.contains(&format!("\n{key}")), "{key} is not in\n{toml}");
    }
    let ceilings = tuning::Ceilings::read(&tuning::Ceilings::path_beside(&out)).unwrap();
    assert!(ceilings.predicted.publish_1k_per_s > 0.0, "{ceilings:?}");
    assert!(ceilings.predicted.publish_1k_lockstep_p50_us > 0.0, "{ceilings:?}");
    let again = corelane(&words).failed();
    assert!(again.contains("--force"), "{again}");
    corelane(&[&words[..], &["--force"]].concat()).ok();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "temporary files are left");

    // What was set by hand is kept.
    let by_hand = ["--config", place, "--cores", "1"];
    let set = [("CORELANE_STORAGE_WRITES_IN_FLIGHT", "7")];
    let run = Running::start(&[&["tune", "write"], &by_hand[..], &short].concat(), &set);
    let printed = run.finish_with(b"").ok();
    assert!(printed.text().contains("\nwrites_in_flight = 7\n"), "{printed:?}");
    assert!(printed.text().contains("# as set by flag --cores\ncores = 1\n"), "{printed:?}");

    let server = Launch::new(&data_dir).word("--config").word(place).start();
    server.create("hello", 1);
    server.stop();
}
