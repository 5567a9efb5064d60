//! Why a ring could not be made, in sentences an operator can act on.

use std::io;

/// Why [`probe`](crate::probe) or [`Ring::new`](crate::Ring::new) failed.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel is too old, or was built without the feature.
    #[error("this kernel has no {feature}, which Linux {since} brings: run Linux 6.1 or newer")]
    Missing {
        /// The feature, as the kernel's documentation names it.
        feature: &'static str,
        /// The first kernel version that has it.
        since: &'static str,
    },
    /// The kernel has io_uring and refuses it to this process.
    #[error("io_uring is not permitted here: {reason}")]
    NotPermitted {
        /// What forbids it, and what to change.
        reason: String,
    },
    /// The kernel could not pin or allocate the ring's memory.
    #[error(
        "no memory for an io_uring of {entries} entries: raise the locked-memory limit \
         (ulimit -l, LimitMEMLOCK=) or the memory limit of the container, or make the ring smaller"
    )]
    NoMemory {
        /// Submission entries asked for.
        entries: u32,
    },
    /// The process may open no more files.
    #[error(
        "no descriptor is left for an io_uring: raise the limit of open files (ulimit -n, \
         LimitNOFILE= of the systemd unit, --ulimit nofile=1048576 of the container)"
    )]
    NoDescriptors,
    /// A value of [`RingConfig`](crate::RingConfig) is out of its bounds.
    #[error("ring option {option} is {value}; allowed: {allowed}")]
    Config {
        /// The field of `RingConfig`.
        option: &'static str,
        /// What it was.
        value: u64,
        /// What it may be.
        allowed: &'static str,
    },
    /// Another system call failed.
    #[error("could not {action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl RingError {
    pub(crate) fn io(action: &'static str) -> impl Fn(io::Error) -> RingError {
        move |source| RingError::Io { action, source }
    }
}
