//! The threads of a process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::{RunningError, THREADS_MAX};
use crate::cpu_set::CpuSet;
use crate::host::Roots;

/// What a thread of a broker is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It serves clients and writes the log.
    Core,
    /// It does blocking work for a core.
    Helper,
    /// A kernel thread that works for an io_uring of the process.
    IoWorker,
    #[default]
    Other,
}

/// One thread of a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Thread {
    pub id: u32,
    pub role: Role,
    /// The number of the core that it is or helps.
    pub core: Option<u32>,
    /// As the kernel keeps it: 15 characters at most.
    pub name: String,
    /// The CPUs it may run on, as a list.
    pub allowed: String,
    /// The one CPU it may run on; `None` where it may run on several.
    pub pinned_to: Option<u32>,
    /// The CPU it ran on last.
    pub last_on: u32,
    /// CPU time by wall time: 1.0 is a whole CPU.
    pub cpu_share: f64,
    /// It gave the CPU away: it had nothing to do, or waited.
    pub waits_per_s: f64,
    /// The CPU was taken from it for another task.
    pub preempted_per_s: f64,
}

/// What only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// When the thread began, in ticks since the machine's start; this alone does not grow.
    pub began_ticks: u64,
    pub cpu_ns: u64,
    pub voluntary: u64,
    pub involuntary: u64,
}

impl Thread {
    pub fn with_rates(mut self, old: Counters, now: Counters, seconds: f64) -> Self {
        let rate = |old: u64, now: u64| now.saturating_sub(old) as f64 / seconds.max(1e-9);
        self.cpu_share = rate(old.cpu_ns, now.cpu_ns) / 1e9;
        self.waits_per_s = rate(old.voluntary, now.voluntary);
        self.preempted_per_s = rate(old.involuntary, now.involuntary);
        self
    }

    pub fn is_core(&self) -> bool {
        self.role == Role::Core
    }
}

/// A core's thread is called `core-N`, with a further number behind it; the threads that help it
/// have its name as well, and began later.
pub fn assign_roles(threads: &mut BTreeMap<u32, (Thread, Counters)>) {
    let mut first: BTreeMap<u32, (u64, u32)> = BTreeMap::new();
    for (thread, counters) in threads.values_mut() {
        thread.core = core_number(&thread.name);
        if let Some(core) = thread.core {
            let began = (counters.began_ticks, thread.id);
            let least = first.entry(core).or_insert(began);
            *least = began.min(*least);
        }
    }
    for (thread, counters) in threads.values_mut() {
        let began = (counters.began_ticks, thread.id);
        thread.role = match thread.core {
            Some(core) if first.get(&core) == Some(&began) => Role::Core,
            Some(_) => Role::Helper,
            None if thread.name.starts_with("iou-") => Role::IoWorker,
            None => Role::Other,
        };
    }
}

fn core_number(name: &str) -> Option<u32> {
    name.strip_prefix("core-")?.split('-').next()?.parse().ok()
}

/// `core-2` comes before `core-10`.
pub fn sort_key(name: &str) -> (String, u64) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem.to_owned(), name[stem.len()..].parse().unwrap_or(0))
}

/// Threads that end while they are read are left out.
pub fn read_all(
    roots: &Roots,
    pid: u32,
) -> Result<BTreeMap<u32, (Thread, Counters)>, RunningError> {
    let folder = roots.proc.join(format!("{pid}/task"));
    let entries = fs::read_dir(&folder).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => RunningError::Gone(pid),
        _ => RunningError::Read { path: folder.clone(), source },
    })?;
    let mut threads = BTreeMap::new();
    for entry in entries.flatten().take(THREADS_MAX) {
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(id) = id
            && let Some(found) = read_one(&entry.path(), id)
        {
            threads.insert(id, found);
        }
    }
    assign_roles(&mut threads);
    if threads.is_empty() { Err(RunningError::Gone(pid)) } else { Ok(threads) }
}

fn read_one(folder: &Path, id: u32) -> Option<(Thread, Counters)> {
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let number = |name: &str| field(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let allowed: CpuSet = field("Cpus_allowed_list")?.parse().ok()?;
    // Kernels without it give no CPU time, which is better than ticks of 10 ms.
    let schedstat = fs::read_to_string(folder.join("schedstat")).unwrap_or_default();
    let cpu_ns = schedstat.split_ascii_whitespace().next().and_then(|text| text.parse().ok());
    let thread = Thread {
        id,
        name: field("Name")?.to_owned(),
        pinned_to: if allowed.len() == 1 { allowed.iter().next() } else { None },
        allowed: allowed.to_string(),
        last_on: u32::try_from(stat_field(&stat, 39)?).ok()?,
        ..Thread::default()
    };
    let counters = Counters {
        began_ticks: stat_field(&stat, 22)?,
        cpu_ns: cpu_ns.unwrap_or(0),
        voluntary: number("voluntary_ctxt_switches"),
        involuntary: number("nonvoluntary_ctxt_switches"),
    };
    Some((thread, counters))
}

/// A numbered field of `stat`. The name, which is the second, may hold blanks and brackets.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}
