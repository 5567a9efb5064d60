//! The process's resource limits.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open file descriptors that the process may have; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The soft limit before it was raised.
    pub before: Option<u64>,
    /// The soft limit that applies now.
    pub now: Option<u64>,
}

/// Raises the soft limit on open files to the hard one. Lowers nothing; needs no privilege.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return Ok(OpenFiles { before: current, now: current });
    }
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(OpenFiles { before: current, now: maximum })
}

/// Why the process may not lock as much memory as it must.
#[derive(Debug, thiserror::Error)]
#[error(
    "only {} KiB of memory may be locked, {} KiB are needed for io_uring: set LimitMEMLOCK=infinity \
     in the systemd unit, --ulimit memlock=-1:-1 for Docker and Podman (ulimits: in a compose \
     file), LimitMEMLOCK=infinity for the container runtime of a Kubernetes node, or `ulimit -l \
     unlimited` in the shell of a user who may",
    has / 1024,
    needed / 1024
)]
pub struct LockedMemoryError {
    pub has: u64,
    pub needed: u64,
}

/// Raises the soft limit on locked memory (`RLIMIT_MEMLOCK`) to the hard one, where there is less
/// than `needed` bytes. Registered io_uring buffers count against it.
///
/// # Errors
/// When the hard limit is less.
pub fn raise_locked_memory(needed: u64) -> Result<(), LockedMemoryError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Memlock);
    if current.is_none_or(|bytes| bytes >= needed) {
        return Ok(());
    }
    let raised = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum });
    let has = if raised.is_ok() { maximum } else { current };
    match has {
        Some(has) if has < needed => Err(LockedMemoryError { has, needed }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_end_at_the_hard_limit() {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = raise_open_files().unwrap();
        assert!(raised.before == current || raised.before == maximum);
        assert_eq!(raised.now, maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }

    #[test]
    fn locked_memory_is_raised_or_refused_with_a_way_out() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Memlock);
        match (maximum, raise_locked_memory(u64::MAX - 1)) {
            (None, Ok(())) => assert!(raise_locked_memory(u64::MAX - 1).is_ok()),
            (Some(has), Err(error)) => {
                let sentence = error.to_string();
                assert_eq!(error.has, has);
                assert!(sentence.contains("LimitMEMLOCK") && sentence.contains("Kubernetes"));
            }
            other => panic!("{other:?}"),
        }
        assert!(raise_locked_memory(0).is_ok());
    }
}
