//! A live process seen from outside: which thread is on which CPU, who interrupts it, whose memory
//! is on which node. Read from procfs; the process notices nothing.

mod find;
mod judge;
mod memory;
mod thread;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use find::{FindError, listening_process};
pub use judge::judge;
pub use memory::Memory;
pub use thread::{Role, Thread};

use crate::host::Roots;
use thread::Counters;

/// Threads that are looked at; a broker has a few for each core.
const THREADS_MAX: usize = 16_384;

/// Why the process cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum RunningError {
    #[error("there is no process {0}; `corelane status` tells whether the server runs")]
    Gone(u32),
    #[error("process {pid} is {name:?} and not corelane; give the server's own process id")]
    Another { pid: u32, name: String },
    #[error(
        "cannot read {}: {source}; run it as the server's user or as root",
        path.display()
    )]
    Read { path: PathBuf, source: io::Error },
}

/// A process as it was over a short time.
#[derive(Clone, Debug, Serialize)]
pub struct Running {
    pub pid: u32,
    /// The time it was watched.
    pub watched_ms: u64,
    /// By name.
    pub threads: Vec<Thread>,
    pub memory: Memory,
}

/// Watches process `pid` for `window`. Its name must begin with `name`.
pub fn watch(
    roots: &Roots,
    pid: u32,
    name: &str,
    window: Duration,
) -> Result<Running, RunningError> {
    check_name(roots, pid, name)?;
    let began = Instant::now();
    let before = thread::read_all(roots, pid)?;
    std::thread::sleep(window);
    let after = thread::read_all(roots, pid)?;
    let seconds = began.elapsed().as_secs_f64();
    let memory = memory::read(roots, pid)?;
    Ok(Running {
        pid,
        watched_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        threads: join(&before, after, seconds),
        memory,
    })
}

fn check_name(roots: &Roots, pid: u32, name: &str) -> Result<(), RunningError> {
    let path = roots.proc.join(format!("{pid}/comm"));
    match fs::read_to_string(&path) {
        Ok(found) if found.trim().starts_with(name) => Ok(()),
        Ok(found) => Err(RunningError::Another { pid, name: found.trim().to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(RunningError::Gone(pid)),
        Err(source) => Err(RunningError::Read { path, source }),
    }
}

/// What each thread did between the two looks.
fn join(
    before: &BTreeMap<u32, (Thread, Counters)>,
    after: BTreeMap<u32, (Thread, Counters)>,
    seconds: f64,
) -> Vec<Thread> {
    let mut threads: Vec<Thread> = after
        .into_iter()
        .map(|(id, (thread, now))| match before.get(&id) {
            Some((_, old)) => thread.with_rates(*old, now, seconds),
            None => thread,
        })
        .collect();
    threads.sort_by_key(|a| thread::sort_key(&a.name));
    threads
}
