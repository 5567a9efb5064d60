//! Descriptors that clients cannot take: how many connections fit the process's limit, and the few
//! that each shard holds back so that its log can go on when all others are gone.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::process::{Resource, getrlimit};

use crate::bounds::{
    DESCRIPTORS_PER_CORE, DESCRIPTORS_PER_PROCESS, DESCRIPTORS_PER_SHARD,
    DESCRIPTORS_SPARE_PER_SHARD, REFUSED_GREETINGS_MAX,
};

/// The process may open fewer files than it has before its first connection.
#[derive(Debug, thiserror::Error)]
#[error(
    "the limit of open files is {limit}; {cores} core(s), {shards} shard(s) and their segments need \
     {needed} before the first connection: set LimitNOFILE=1048576 in the systemd unit, --ulimit \
     nofile=1048576:1048576 for Docker and Podman (ulimits: in a compose file), LimitNOFILE= of the \
     container runtime of a Kubernetes node, or raise the hard limit of the shell (ulimit -Hn)"
)]
pub struct DescriptorError {
    pub limit: u64,
    pub needed: u64,
    pub cores: u16,
    pub shards: usize,
}

/// Connections that each core may have: what is configured, or what the limit of open files leaves
/// beside the logs.
///
/// # Errors
/// When not even one for each core is left.
pub fn connections_per_core_max(
    configured: u32,
    cores: u16,
    shards: &[PathBuf],
) -> Result<usize, DescriptorError> {
    let limit = getrlimit(Resource::Nofile).current;
    let own = entries(&[PathBuf::from("/proc/self/fd")])
        + entries(shards)
        + DESCRIPTORS_PER_PROCESS
        + u64::from(cores) * DESCRIPTORS_PER_CORE
        + shards.len() as u64 * DESCRIPTORS_PER_SHARD;
    let Some(fit) = fitting(configured, cores, limit, own) else {
        let (limit, needed) = (limit.unwrap_or_default(), own + u64::from(cores));
        return Err(DescriptorError { limit, needed, cores, shards: shards.len() });
    };
    if fit < u64::from(configured) {
        tracing::warn!(
            connections_per_core = fit,
            open_files_max = limit,
            kept_for_the_server = own,
            "the limit of open files leaves room for fewer connections than \
             server.connections_per_core_max; raise it (LimitNOFILE= of the systemd unit, --ulimit \
             nofile= of the container, ulimit -Hn)"
        );
    }
    Ok(usize::try_from(fit).unwrap_or(usize::MAX))
}

fn fitting(configured: u32, cores: u16, limit: Option<u64>, own: u64) -> Option<u64> {
    let configured = u64::from(configured.max(1));
    let Some(limit) = limit else { return Some(configured) };
    let share = limit.saturating_sub(own) / u64::from(cores.max(1));
    // Connections that are refused stay a moment as well, at most as many as clients. Should
    // both be too many, the spare descriptors keep the log going.
    let clients = share.saturating_sub(REFUSED_GREETINGS_MAX as u64).max(share.div_ceil(2));
    (share > 0).then(|| clients.min(configured))
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
        assert_eq!(fitting(10_000, 2, None, 100), Some(10_000));
        assert_eq!(fitting(10_000, 2, Some(1_000_000), 100), Some(10_000));
        assert_eq!(fitting(10_000, 2, Some(1_100), 100), Some(436));
        assert_eq!(fitting(10_000, 2, Some(150), 100), Some(13));
        assert_eq!(fitting(10_000, 2, Some(101), 100), None);
        assert_eq!(fitting(10_000, 2, Some(90), 100), None);
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
