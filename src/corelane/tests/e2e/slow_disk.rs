//! A disk that is really slow: the broker's writes are held to one a second by its control group.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Launch, Running, Server, folder, wait_for};

/// A control group whose members write to a disk only so often.
struct Throttle {
    group: PathBuf,
    parent: PathBuf,
}

impl Throttle {
    /// `None`: control groups cannot be had here, which has been said.
    fn new(data: &Path, writes_per_s: u32) -> Option<Self> {
        let parent = PathBuf::from("/sys/fs/cgroup/blkio");
        let group = parent.join(format!("corelane-test-{}", std::process::id()));
        let throttle = Self { group, parent };
        let device = disk_of(data)?;
        let made = fs::create_dir(&throttle.group).and_then(|()| {
            let limit = throttle.group.join("blkio.throttle.write_iops_device");
            fs::write(limit, format!("{device} {writes_per_s}"))
        });
        match made {
            Ok(()) => Some(throttle),
            Err(error) => {
                eprintln!(
                    "not tried: writes cannot be throttled by a control group here ({error})"
                );
                None
            }
        }
    }

    fn hold(&self, server: &Server) {
        fs::write(self.group.join("cgroup.procs"), server.pid().to_string()).unwrap();
    }

    fn let_go(&self, server: &Server) {
        fs::write(self.parent.join("cgroup.procs"), server.pid().to_string()).unwrap();
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // Its members have ended, or end in a moment.
        for _ in 0..100 {
            match fs::remove_dir(&self.group) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                _ => return,
            }
        }
    }
}

/// The whole disk that a folder lies on, `major:minor`.
fn disk_of(folder: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(folder).unwrap().dev();
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    let Ok(place) = fs::canonicalize(format!("/sys/dev/block/{number}")) else {
        eprintln!("not tried: {} lies on no disk that could be throttled", folder.display());
        return None;
    };
    // A partition's limit is its disk's.
    let whole = if place.join("partition").exists() { place.parent()? } else { &place };
    Some(fs::read_to_string(whole.join("dev")).ok()?.trim().to_owned())
}

fn shard(server: &Server) -> serde_json::Value {
    server.run(&["status", "--output", "json"]).ok().json()["shards"][0].clone()
}

#[test]
fn a_slow_disk_is_said_once_and_publishes_end_when_it_lets_them() {
    let folder = folder();
    let data = folder.path().join("data");
    let launch = Launch::new(&data).set("CORELANE_STORAGE_SLOW_AFTER", "300ms");
    let server = launch.start();
    server.create("t", 1);
    let Some(throttle) = Throttle::new(&data, 1) else { return };
    throttle.hold(&server);
    let publishers: Vec<Running> = (0..4).map(|_| server.command(&["produce", "t"])).collect();
    let ends: Vec<_> = publishers
        .into_iter()
        .map(|publisher| std::thread::spawn(move || publisher.finish_with(b"one line\n").ok()))
        .collect();
    wait_for("the shard to be marked", || shard(&server)["slow"].as_bool().unwrap().then_some(()));
    assert_eq!(shard(&server)["health"], "serving");
    throttle.let_go(&server);
    for end in ends {
        end.join().unwrap();
    }
    wait_for("the mark to go", || (!shard(&server)["slow"].as_bool().unwrap()).then_some(()));
    let log = server.log();
    assert_eq!(log.matches("the disk is slow").count(), 1, "{log}");
    assert_eq!(log.matches("the disk is fast enough again").count(), 1, "{log}");
    assert_eq!(server.values("t").len(), 4);
    server.stop();
}
