//! CPU time of the side that is measured, and the CPU the generator runs on.

use std::path::PathBuf;
use std::time::Duration;

/// Whose CPU time counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meter {
    /// It is out of sight (a server that was not started here).
    None,
    /// All threads of a process.
    Process(u32),
    /// One thread of this process.
    Thread(u32),
}

impl Meter {
    /// The calling thread.
    pub fn this_thread() -> Self {
        Self::Thread(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs())
    }

    /// Time spent on a CPU so far; `None` when it cannot be known.
    pub fn read(&self) -> Option<Duration> {
        match self {
            Self::None => None,
            Self::Thread(thread) => {
                run_time(&PathBuf::from(format!("/proc/self/task/{thread}/schedstat")))
            }
            Self::Process(process) => {
                let tasks = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
                Some(tasks.flatten().filter_map(|t| run_time(&t.path().join("schedstat"))).sum())
            }
        }
    }

    /// Memory of the process that is resident now, bytes; `None` when it cannot be known, or is
    /// that of the generator's own process.
    pub fn resident_bytes(&self) -> Option<u64> {
        let Self::Process(process) = self else { return None };
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kib * 1024)
    }
}

/// The first number of a schedstat file: nanoseconds on a CPU.
fn run_time(path: &std::path::Path) -> Option<Duration> {
    let text = std::fs::read_to_string(path).ok()?;
    let ns = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(ns))
}

/// Which CPUs the two sides have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of the measured side; empty when they cannot be told apart.
    pub server: Vec<usize>,
    /// Of the load generator.
    pub generator: Option<usize>,
}

impl Layout {
    /// The measured side gets the first `server_cores` CPUs, the generator `generator` or the
    /// last one.
    pub fn choose(server_cores: usize, generator: Option<usize>) -> Self {
        Self::of(&allowed(), server_cores, generator)
    }

    fn of(cpus: &[usize], server_cores: usize, generator: Option<usize>) -> Self {
        if cpus.len() < 2 {
            return Self { server: cpus.to_vec(), generator: None };
        }
        let server = cpus.iter().copied().take(server_cores).collect();
        Self { server, generator: generator.or(cpus.last().copied()) }
    }

    /// What a reader of the figures has to know about it.
    pub fn notes(&self) -> Vec<String> {
        match self.generator {
            None => vec!["one CPU only: load and server share it, figures say little".into()],
            Some(cpu) if self.server.contains(&cpu) => {
                vec![format!("load and server share CPU {cpu}; give one of them less")]
            }
            Some(_) => Vec::new(),
        }
    }

    /// Runs `work` on a thread of its own, tied to the generator's CPU.
    pub fn on_generator_cpu<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let run = || {
            if let Some(cpu) = self.generator {
                pin(cpu);
            }
            work()
        };
        std::thread::scope(|scope| match scope.spawn(run).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// CPUs that this process may use, lowest first.
pub fn allowed() -> Vec<usize> {
    let mut cpus: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    cpus
}

/// Ties the calling thread to `cpu`. `false` when the system refuses.
pub fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_some_cpu() {
        let busy = Meter::Process(std::process::id());
        let before = busy.read().unwrap();
        let mut x = 1_u64;
        while busy.read().unwrap() <= before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert_eq!(Meter::None.read(), None);
        assert!(busy.resident_bytes() > Some(0) && Meter::this_thread().resident_bytes().is_none());
        assert!(!allowed().is_empty());
    }

    #[test]
    fn load_and_server_get_different_cpus_where_there_are_two() {
        let layout = Layout::of(&[0, 1], 1, None);
        assert_eq!((layout.server.as_slice(), layout.generator), (&[0][..], Some(1)));
        assert!(layout.notes().is_empty());
        assert!(!Layout::of(&[0, 1], 2, None).notes().is_empty());
        assert!(!Layout::of(&[3], 1, None).notes().is_empty());
        assert_eq!(Layout::of(&[0, 1, 2, 3], 2, Some(2)).generator, Some(2));
        assert_eq!(layout.on_generator_cpu(|| 7), 7);
    }
}
