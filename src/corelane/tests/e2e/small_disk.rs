//! Small filesystems of their own, on loop devices: disks that are full, or that fail.
//!
//! They need leave to mount. Where there is none the test says so and ends; the simulated disk
//! covers the same behaviour in `wal/tests/full_disk.rs` and `src/server/src/shard/tests`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub const MIB: u64 = 1024 * 1024;

/// An ext4 of its own, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    image: PathBuf,
    mounted: PathBuf,
}

impl SmallDisk {
    /// Makes a filesystem in the new file `image` and mounts it at `at`, which must be there.
    /// `None`: mounting is not permitted here, which has been said.
    pub fn new(image: &Path, bytes: u64, at: &Path) -> Option<Self> {
        File::create_new(image).unwrap().set_len(bytes).unwrap();
        let made = run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "nodiscard", text(image)]);
        let disk = Self { image: image.to_owned(), mounted: at.to_owned() };
        match made.and_then(|_| disk.mount()) {
            Ok(()) => {
                fs::remove_dir(at.join("lost+found")).unwrap();
                Some(disk)
            }
            Err(reason) => {
                eprintln!("not tried: a filesystem of its own cannot be had here ({reason})");
                None
            }
        }
    }

    pub fn mount(&self) -> Result<(), String> {
        // Past the page cache: an error of the disk below comes back with the write that met it.
        let words = ["--find", "--show", "--direct-io=on", text(&self.image)];
        let device = run("losetup", &words)?;
        let mounted = run("mount", &[device.trim(), text(&self.mounted)]);
        // Let go of when it is unmounted.
        run("losetup", &["--detach", device.trim()])?;
        mounted.map(drop)
    }

    pub fn unmount(&self) -> Result<(), String> {
        run("umount", &[text(&self.mounted)]).map(drop)
    }

    /// Mends the filesystem after its disk has failed. It must not be mounted.
    pub fn check(&self) {
        // 1: errors were mended.
        let checked = Command::new("e2fsck").args(["-fy", text(&self.image)]).output().unwrap();
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
    }

    /// Takes all the space there is.
    pub fn eat(&self) -> PathBuf {
        let path = self.mounted.join("eaten-by-another");
        let file = File::create(&path).unwrap();
        let (mut at, mut step) = (0, 64 * MIB);
        while step >= 4096 {
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), at, step) {
                Ok(()) => at += step,
                Err(rustix::io::Errno::NOSPC) => step /= 2,
                Err(errno) => panic!("{errno}"),
            }
        }
        file.sync_all().unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        for _ in 0..100 {
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
            if !mounts.contains(&format!(" {} ", text(&self.mounted))) {
                return;
            }
            if let Err(reason) = self.unmount() {
                eprintln!("{}: {reason}", self.mounted.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = run("umount", &["-l", text(&self.mounted)]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, words: &[&str]) -> Result<String, String> {
    let run = Command::new(program).args(words).stdin(Stdio::null()).output();
    match run {
        Ok(run) if run.status.success() => Ok(String::from_utf8_lossy(&run.stdout).into_owned()),
        Ok(run) => Err(format!("{program}: {}", String::from_utf8_lossy(&run.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
