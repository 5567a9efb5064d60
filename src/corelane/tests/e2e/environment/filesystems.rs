//! What the data directory lies on.

use super::{can, open_flags, restricted, with_mounts};
use crate::harness::{Launch, Running, folder};

/// A folder on tmpfs; `None` where there is none.
fn memory_folder(test: &str) -> Option<tempfile::TempDir> {
    let place = std::path::Path::new("/dev/shm");
    match tuning::Filesystem::of(place) {
        Ok(found) if found.nature == tuning::Nature::Memory => tempfile::tempdir_in(place).ok(),
        _ => {
            eprintln!("{test} could not be run here: /dev/shm is no filesystem in memory");
            None
        }
    }
}

#[test]
fn memory_is_refused_and_says_memory_when_allowed() {
    let Some(folder) = memory_folder("a broker in memory") else { return };
    let data = folder.path().join("data");
    let sentence = Launch::new(&data).try_start().unwrap_err().failed_after_logs();
    assert!(sentence.contains(&format!("{} is on tmpfs", data.display())), "{sentence}");
    assert!(sentence.contains("--allow-volatile"), "{sentence}");
    assert!(!data.exists(), "nothing was made");

    let server = Launch::new(&data).word("--allow-volatile").start();
    assert!(server.ready_line.contains("; volatile: nothing survives"), "{}", server.ready_line);
    assert!(server.log().contains("acknowledgements say `memory`"), "{}", server.log());
    server.create("t", 1);
    let produce = server.run_with(&["produce", "t", "--ack", "durable"], b"1\n2\n3\n").ok();
    assert_eq!(produce.stderr.matches("warning: durable was asked for").count(), 1, "{produce:?}");
    assert!(produce.stderr.contains("acknowledged in memory"), "{produce:?}");
    assert_eq!(server.values("t"), ["1", "2", "3"]);
    let status = server.run(&["status", "--output", "json"]).ok().json();
    assert_eq!(status["shards"][0]["health"], "serving");
    assert!(status["shards"][0]["reason"].as_str().unwrap().starts_with("volatile"), "{status}");
    let bench = server.run(&["bench", "produce", "--duration", "1", "--warmup", "0"]);
    assert!(
        bench.failed().contains("measure with --ack memory"),
        "no figures of durable publishes"
    );
    server.stop();
}

#[test]
fn a_disk_says_durable() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    assert!(!server.ready_line.contains("volatile"), "{}", server.ready_line);
    server.create("t", 1);
    let produce = server.run_with(&["produce", "t", "--ack", "durable"], b"1\n").ok();
    assert!(!produce.stderr.contains("warning"), "{produce:?}");
    assert!(produce.stderr.contains("acknowledged durable"), "{produce:?}");
    let status = server.run(&["status", "--output", "json"]).ok().json();
    assert_eq!(status["shards"][0]["reason"], "");
}

#[test]
fn layers_are_told_to_be_a_volume_and_layers_in_memory_are_memory() {
    let folder = folder();
    let path = folder.path().to_str().unwrap();
    for name in ["low", "up", "work", "top"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let overlay = |more: &str| {
        with_mounts(&format!(
            "cd {path}; {more}mount -t overlay -o lowerdir=low,upperdir=up/up,workdir=up/work overlay top"
        ))
    };
    let on_disk = overlay("mkdir -p up/up up/work; ");
    if !can("a broker on overlayfs", &on_disk) {
        return;
    }
    let data = folder.path().join("top/data");
    let log = |launch: Launch| launch.through(&on_disk).start();
    let server = log(Launch::new(&data));
    assert!(server.log().contains("is on overlayfs"), "{}", server.log());
    assert!(server.log().contains("mount a volume"), "{}", server.log());
    server.create("t", 1);
    server.publish("t", "1\n");
    server.stop();
    let in_memory = overlay("mount -t tmpfs none up; mkdir up/up up/work; ");
    let run = Launch::new(&data).through(&in_memory).try_start().unwrap_err();
    let sentence = run.failed_after_logs();
    assert!(sentence.contains("is on overlay"), "{sentence}");
    assert!(sentence.contains("--allow-volatile"), "{sentence}");
}

#[test]
fn the_log_is_opened_for_direct_and_synchronous_writes() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).shards(2).start();
    server.create("t", 2);
    server.publish("t", "1\n2\n");
    let flags = log_flags(&server, &data);
    for (path, flags) in &flags {
        let direct = libc::O_DIRECT | libc::O_DSYNC;
        assert_eq!(flags & direct, direct, "{}: {flags:o}", path.display());
    }
    let manifests = flags.iter().filter(|(path, _)| path.to_str().unwrap().contains("manifest"));
    let segments = flags.iter().filter(|(path, _)| path.to_str().unwrap().contains("segment"));
    assert_eq!((manifests.count(), segments.count() >= 2), (4, true), "{flags:?}");
}

/// The flags of what is open in the shards' directories, the directories themselves left out.
fn log_flags(
    server: &crate::harness::Server,
    data: &std::path::Path,
) -> Vec<(std::path::PathBuf, i32)> {
    let all = open_flags(server.pid(), data);
    let files = all
        .into_iter()
        .filter(|(path, _)| path.is_file() && path.parent().is_some_and(|folder| folder != data));
    files.collect()
}

#[test]
fn refused_direct_writes_are_buffered_and_synchronous_or_refused() {
    let without = restricted(&["openat+O_DIRECT=EINVAL"]);
    if !can("a broker without O_DIRECT", &without) {
        return;
    }
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).through(&without).start();
    let log = server.log();
    assert!(log.contains("does not take direct writes (O_DIRECT)"), "{log}");
    assert!(log.contains("acknowledgements come later"), "the cost is told: {log}");
    server.create("t", 1);
    let lines: String = (0..500).map(|n| format!("{n}\n")).collect();
    server.publish("t", &lines);
    for (path, flags) in log_flags(&server, &data) {
        let found = flags & (libc::O_DIRECT | libc::O_DSYNC);
        assert_eq!(found, libc::O_DSYNC, "{}: {flags:o}", path.display());
    }
    server.kill();
    // What went through the page cache is there for a broker that writes directly, and back.
    let server = Launch::new(&data).start();
    assert_eq!(server.values("t").len(), 500);
    server.publish("t", "last\n");
    server.kill();
    let server = Launch::new(&data).through(&without).start();
    assert_eq!(server.values("t").last().map(String::as_str), Some("last"));
    server.stop();

    let direct = Launch::new(&data).through(&without).set("CORELANE_STORAGE_IO", "direct");
    let sentence = direct.try_start().unwrap_err().failed_after_logs();
    assert!(sentence.contains("O_DIRECT") && sentence.contains("storage.io"), "{sentence}");
    Running::start(&["verify", data.to_str().unwrap()], &[]).finish_with(b"").ok();
}
