//! A limit of the address space (`ulimit -v`): an allocation that it refuses would end the process,
//! so what the named bounds may add up to has to fit before anything is served.

use rustix::process::{Resource, getrlimit};

use crate::budgets::{half_frame_bytes_max, output_bytes_per_core_max, waiting_bytes_max};
use crate::config::ServerConfig;

const MIB: u64 = 1 << 20;
/// The binary, its libraries, the threads beside the cores.
const FIXED_BYTES: u64 = 256 * MIB;
/// A core's threads with their stacks and heaps, its rings, its connections.
const CORE_BYTES: u64 = 128 * MIB;

/// The limit is too low for this configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the address space is limited to {limit_mib} MiB (ulimit -v), and the bounds of this \
     configuration add up to {needed_mib} MiB: raise the limit (`ulimit -v unlimited`; LimitAS= of \
     the systemd unit), or lower storage.cache_bytes, storage.backlog_bytes_max, \
     server.partial_frame_bytes_per_core or the number of cores"
)]
pub struct AddressSpaceError {
    limit_mib: u64,
    needed_mib: u64,
}

/// Fails when a limit is set and the server could outgrow it.
pub fn check(config: &ServerConfig, shards: u16) -> Result<(), AddressSpaceError> {
    check_against(getrlimit(Resource::As).current, needed_bytes(config, shards))
}

fn check_against(limit: Option<u64>, needed: u64) -> Result<(), AddressSpaceError> {
    match limit {
        Some(limit) if limit < needed => {
            Err(AddressSpaceError { limit_mib: limit / MIB, needed_mib: needed.div_ceil(MIB) })
        }
        _ => Ok(()),
    }
}

fn needed_bytes(config: &ServerConfig, shards: u16) -> u64 {
    let storage = &config.storage;
    let executor = &config.executor;
    let per_shard =
        storage.backlog_bytes.saturating_add(waiting_bytes_max(storage.backlog_bytes) as u64);
    let received = u64::from(executor.receive_buffers) * u64::from(executor.receive_buffer_bytes);
    let per_core = CORE_BYTES
        .saturating_add(half_frame_bytes_max(config.partial_frame_bytes_per_core as u64))
        .saturating_add(output_bytes_per_core_max(config.partial_frame_bytes_per_core) as u64)
        .saturating_add(received);
    FIXED_BYTES
        .saturating_add(storage.cache_bytes)
        .saturating_add(per_shard.saturating_mul(shards.into()))
        .saturating_add(per_core.saturating_mul(config.placement.cores() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_in_numbers() {
        assert_eq!(check_against(None, u64::MAX), Ok(()));
        assert_eq!(check_against(Some(512 * MIB), 512 * MIB), Ok(()));
        let error = check_against(Some(512 * MIB), 512 * MIB + 1).unwrap_err();
        assert!(error.to_string().contains("512 MiB (ulimit -v)"), "{error}");
        assert!(error.to_string().contains("add up to 513 MiB"), "{error}");
    }
}
