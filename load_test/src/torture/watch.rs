//! What the server's process takes, looked at from outside.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(20);

/// The most that was seen since the last [`Watch::take`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Peak {
    pub resident_bytes: u64,
    pub descriptors: u64,
}

#[derive(Debug, Default)]
struct Seen {
    resident_bytes: AtomicU64,
    descriptors: AtomicU64,
    stop: AtomicBool,
}

/// Looks at a process many times a second until dropped.
#[derive(Debug)]
pub struct Watch {
    process: PathBuf,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn start(pid: u32) -> Self {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let seen = Arc::new(Seen::default());
        let (path, shared) = (process.clone(), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            while !shared.stop.load(Ordering::Relaxed) {
                let now = look(&path);
                shared.resident_bytes.fetch_max(now.resident_bytes, Ordering::Relaxed);
                shared.descriptors.fetch_max(now.descriptors, Ordering::Relaxed);
                std::thread::sleep(EVERY);
            }
        });
        Self { process, seen, thread: Some(thread) }
    }

    pub fn now(&self) -> Peak {
        look(&self.process)
    }

    /// The most since the last call, and begins anew.
    pub fn take(&self) -> Peak {
        Peak {
            resident_bytes: self.seen.resident_bytes.swap(0, Ordering::Relaxed),
            descriptors: self.seen.descriptors.swap(0, Ordering::Relaxed),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Zeros when the process is gone; whoever started it finds that out in another way.
fn look(process: &std::path::Path) -> Peak {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let descriptors = std::fs::read_dir(process.join("fd")).map_or(0, |entries| entries.count());
    Peak { resident_bytes: resident.unwrap_or(0) * 1024, descriptors: descriptors as u64 }
}
