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

/// Bytes of memory the process may lock (`RLIMIT_MEMLOCK`); `None` is no limit.
///
/// Registered io_uring buffers count against it, and so do the rings on kernels before 5.12.
pub fn locked_memory_bytes_max() -> Option<u64> {
    getrlimit(Resource::Memlock).current
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
}
