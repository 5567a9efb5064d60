//! A control group of a test's own, version 2 or 1, where the system lets the test make one.

use std::fs;
use std::path::{Path, PathBuf};

pub struct ControlGroup {
    folder: PathBuf,
    is_v2: bool,
}

impl ControlGroup {
    /// A group with this controller; `None`, said on stderr, where it cannot be had.
    pub fn new(controller: &str, test: &str) -> Option<Self> {
        let name = format!("corelane-test-{}-{controller}-{:x}", std::process::id(), unique());
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let v2 = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(v2.join("cgroup.subtree_control")).unwrap_or_default();
        let (top, is_v2) = match controllers.split_whitespace().any(|one| one == controller) {
            true => (v2.to_owned(), true),
            false => (v1, false),
        };
        let folder = top.join(name);
        let usable = top.join("cgroup.procs").exists() && fs::create_dir(&folder).is_ok();
        if !usable {
            eprintln!("{test} could not be run here: no control group can be made in {top:?}");
            return None;
        }
        Some(Self { folder, is_v2 })
    }

    /// So many hundredths of a CPU.
    pub fn limit_cpu(&self, hundredths: u64) {
        if self.is_v2 {
            self.write("cpu.max", &format!("{} 100000", hundredths * 1_000));
        } else {
            self.write("cpu.cfs_period_us", "100000");
            self.write("cpu.cfs_quota_us", &(hundredths * 1_000).to_string());
        }
    }

    pub fn limit_memory(&self, bytes: u64) {
        let file = if self.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        self.write(file, &bytes.to_string());
    }

    /// Words that put the process that they become into the group.
    pub fn enter(&self) -> Vec<String> {
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.folder.display());
        ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    fn write(&self, file: &str, value: &str) {
        fs::write(self.folder.join(file), value).unwrap();
    }
}

impl Drop for ControlGroup {
    /// The processes must be gone; the last may take a moment to leave.
    fn drop(&mut self) {
        let began = std::time::Instant::now();
        while fs::remove_dir(&self.folder).is_err() && began.elapsed() < crate::harness::DEADLINE {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
