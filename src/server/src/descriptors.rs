//! Descriptors that clients cannot take: how many connections fit the process's limit, and the few
//! that each shard holds back so that its log can go on when all others are gone.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::process::{Resource, getrlimit};

use crate::bounds::{
    DESCRIPTORS_PER_CORE, DESCRIPTORS_PER_PROCESS, DESCRIPTORS_PER_SHARD,
    DESCRIPTORS_SPARE_PER_SHARD, DESCRIPTORS_TO_GROW_PER_SHARD, REFUSED_GREETINGS_MAX,
};

/// The least that a limit of open files is advised to be.
const ADVISED_MIN: u64 = 1 << 20;

/// The process may open fewer files than it has before its first connection.
#[derive(Debug, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, and {needed} are needed before the first connection ({} \
     by the process, {} by {cores} core(s), {} by {shards} shard(s)) and one for each core: set \
     LimitNOFILE={advised} in the systemd unit, --ulimit nofile={advised}:{advised} for Docker and \
     Podman (ulimits: in a compose file), LimitNOFILE= of the container runtime of a Kubernetes \
     node, or raise the hard limit of the shell (ulimit -Hn); or use fewer cores or shards",
    needs.process, needs.cores, needs.shards
)]
pub struct DescriptorError {
    pub limit: u64,
    pub needed: u64,
    pub advised: u64,
    pub needs: Needs,
    pub cores: u16,
    pub shards: usize,
}

/// Descriptors that a server has before its first connection. An end-to-end test compares the sum
/// with a real process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    pub process: u64,
    pub cores: u64,
    pub shards: u64,
}

impl Needs {
    /// `open`: descriptors of the process by now. `segments`: by shard, those there are.
    fn of(open: u64, cores: u16, segments: &[u64], pool_segments: u32) -> Self {
        let active_and_pool = 1 + u64::from(pool_segments.max(1));
        let of_shard = |segments: &u64| DESCRIPTORS_PER_SHARD + (*segments).max(active_and_pool);
        Self {
            process: open + DESCRIPTORS_PER_PROCESS,
            cores: u64::from(cores) * DESCRIPTORS_PER_CORE,
            shards: segments.iter().map(of_shard).sum(),
        }
    }

    fn sum(&self) -> u64 {
        self.process + self.cores + self.shards
    }
}

/// Connections that each core may have: what is configured, or what the limit of open files leaves
/// beside the logs.
///
/// # Errors
/// When not even one for each core is left.
pub fn connections_per_core_max(
    configured: u32,
    cores: u16,
    pool_segments: u32,
    shards: &[PathBuf],
) -> Result<usize, DescriptorError> {
    let limit = getrlimit(Resource::Nofile).current;
    let segments: Vec<u64> = shards.iter().map(|folder| count(folder, "segment-")).collect();
    let open = count(&PathBuf::from("/proc/self/fd"), "");
    let needs = Needs::of(open, cores, &segments, pool_segments);
    let growth = shards.len() as u64 * DESCRIPTORS_TO_GROW_PER_SHARD;
    let needed = needs.sum();
    let fit = fitting(configured, cores, limit, needed + growth)
        // Rather a log that has to fall back on its spare descriptors soon than none.
        .or_else(|| fitting(configured, cores, limit, needed));
    let Some(fit) = fit else {
        let all = u64::from(cores) * (u64::from(configured) + REFUSED_GREETINGS_MAX as u64);
        let advised = (needed + growth + all).next_power_of_two().max(ADVISED_MIN);
        let limit = limit.unwrap_or_default();
        let shards = shards.len();
        return Err(DescriptorError { limit, needed, advised, needs, cores, shards });
    };
    if fit < u64::from(configured) {
        tracing::warn!(
            connections_per_core = fit,
            open_files_max = limit,
            kept_for_the_server = needed + growth,
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

/// The files in a folder whose names begin so.
fn count(folder: &PathBuf, prefix: &str) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let ours = entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()));
    ours.count() as u64
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
    fn a_large_machine_needs_what_its_parts_need() {
        // 64 cores, 1,024 new shards.
        let new = Needs::of(20, 64, &[0; 1024], 1);
        assert_eq!(new.cores, 64 * DESCRIPTORS_PER_CORE);
        assert_eq!(new.shards, 1024 * (DESCRIPTORS_PER_SHARD + 2));
        assert!(new.sum() < 20_000, "{new:?}");
        // Segments there are, each an open file; never fewer than are made.
        let old = Needs::of(20, 64, &[500; 1024], 1);
        assert_eq!(old.shards - new.shards, 1024 * 498);
        let pooled = Needs::of(20, 64, &[3; 1024], 8);
        assert_eq!(pooled.shards - new.shards, 1024 * 7);
    }

    #[test]
    fn what_is_missing_is_said_by_part() {
        let needs = Needs::of(20, 64, &[0; 128], 1);
        let error = DescriptorError {
            limit: 1024,
            needed: needs.sum(),
            advised: ADVISED_MIN,
            needs,
            cores: 64,
            shards: 128,
        };
        let said = error.to_string();
        for word in ["1024", "by 64 core(s)", "by 128 shard(s)", "LimitNOFILE=1048576"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(said.contains(&needs.sum().to_string()), "{said}");
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
