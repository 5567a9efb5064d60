//! A memory limit set by a control group, version 1 or 2. Needs root.

use std::io;
use std::path::{Path, PathBuf};

/// A group with a limit. Dropping it removes it; what ran in it must have ended.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
    v2: bool,
}

impl MemoryGroup {
    pub fn make(bytes: u64) -> io::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = std::fs::read_to_string(root.join("cgroup.controllers"));
        let v2 = controllers.is_ok_and(|text| text.split_whitespace().any(|one| one == "memory"));
        let above = if v2 { root.to_owned() } else { root.join("memory") };
        let path = above.join(format!("corelane-faults-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        let group = Self { path, v2 };
        let limit = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
        std::fs::write(group.path.join(limit), bytes.to_string())?;
        Ok(group)
    }

    /// Words of the shell that put it into the group.
    pub fn prelude(&self) -> String {
        format!("echo $$ > {}", self.path.join("cgroup.procs").display())
    }

    /// The most that was in use.
    pub fn peak_bytes(&self) -> io::Result<u64> {
        let name = if self.v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let text = std::fs::read_to_string(self.path.join(name))?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// How many processes the kernel has killed for it.
    pub fn kills(&self) -> io::Result<u64> {
        let name = if self.v2 { "memory.events" } else { "memory.oom_control" };
        let text = std::fs::read_to_string(self.path.join(name))?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(line.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.path);
    }
}
