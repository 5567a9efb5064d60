//! Descriptors that clients cannot take: how many connections fit the process's limit, and the few
//! that each shard holds back so that its log can go on when all others are gone.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::process::{Resource, getrlimit};

use crate::bounds::{DESCRIPTORS_PER_CORE, DESCRIPTORS_PER_SHARD, DESCRIPTORS_SPARE_PER_SHARD};

/// Connections that each core may have: what is configured, or what the limit of open files leaves
/// beside the logs.
pub fn connections_per_core_max(configured: u32, cores: u16, shards: &[PathBuf]) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let own = entries(&[PathBuf::from("/proc/self/fd")])
        + entries(shards)
        + u64::from(cores) * DESCRIPTORS_PER_CORE
        + shards.len() as u64 * DESCRIPTORS_PER_SHARD;
    let fit = fitting(configured, cores, limit, own);
    if fit < u64::from(configured) {
        tracing::warn!(
            connections_per_core = fit,
            open_files_max = limit,
            kept_for_the_server = own,
            "the limit of open files leaves room for fewer connections than server.connections_per_core_max"
        );
    }
    usize::try_from(fit).unwrap_or(usize::MAX)
}

fn fitting(configured: u32, cores: u16, limit: Option<u64>, own: u64) -> u64 {
    let Some(limit) = limit else { return u64::from(configured) };
    let share = limit.saturating_sub(own) / u64::from(cores.max(1));
    // Even then the spare ones keep the log going.
    share.clamp(1, u64::from(configured.max(1)))
}

fn entries(folders: &[PathBuf]) -> u64 {
    folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .map(|e| e.count() as u64)
        .sum()
}

/// A shard's spare descriptors. Closing one makes room for a file of the log.
#[derive(Debug, Default)]
pub struct Spares {
    held: Vec<OwnedFd>,
}

impl Spares {
    /// Takes as many as are missing, duplicates of `any`. Returns whether all are there.
    pub fn refill(&mut self, any: impl AsFd) -> bool {
        while self.held.len() < DESCRIPTORS_SPARE_PER_SHARD {
            match rustix::io::fcntl_dupfd_cloexec(&any, 0) {
                Ok(spare) => self.held.push(spare),
                Err(_) => return false,
            }
        }
        true
    }

    /// Closes one. False: there is none left.
    pub fn give(&mut self) -> bool {
        self.held.pop().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_the_logs_leave() {
        assert_eq!(fitting(10_000, 2, None, 100), 10_000);
        assert_eq!(fitting(10_000, 2, Some(1_000_000), 100), 10_000);
        assert_eq!(fitting(10_000, 2, Some(1_100), 100), 500);
        assert_eq!(fitting(10_000, 2, Some(90), 100), 1);
    }

    #[test]
    fn spares_are_given_one_by_one_and_taken_again() {
        let any = std::fs::File::open("/dev/null").unwrap();
        let mut spares = Spares::default();
        assert!(!spares.give());
        assert!(spares.refill(&any));
        for _ in 0..DESCRIPTORS_SPARE_PER_SHARD {
            assert!(spares.give());
        }
        assert!(!spares.give());
        assert!(spares.refill(&any) && spares.give());
    }
}
