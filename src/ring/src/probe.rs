//! Makes a kernel ring with the flags we need and says which feature is missing.

use std::io;

use io_uring::{IoUring, Probe, opcode};

use crate::{RingConfig, RingError};

const DISABLED_SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// Opcodes used, with the first kernel version that has each.
const OPCODES: &[(u8, &str, &str)] = &[
    (opcode::Nop::CODE, "IORING_OP_NOP", "5.1"),
    (opcode::Fsync::CODE, "IORING_OP_FSYNC", "5.1"),
    (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD", "5.1"),
    (opcode::SendMsg::CODE, "IORING_OP_SENDMSG", "5.3"),
    (opcode::AcceptMulti::CODE, "IORING_OP_ACCEPT", "5.5"),
    (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL", "5.5"),
    (opcode::Send::CODE, "IORING_OP_SEND", "5.6"),
    (opcode::Recv::CODE, "IORING_OP_RECV", "5.6"),
    (opcode::Read::CODE, "IORING_OP_READ", "5.6"),
    (opcode::Write::CODE, "IORING_OP_WRITE", "5.6"),
    (opcode::OpenAt::CODE, "IORING_OP_OPENAT", "5.6"),
    (opcode::Close::CODE, "IORING_OP_CLOSE", "5.6"),
    (opcode::Fallocate::CODE, "IORING_OP_FALLOCATE", "5.6"),
    (opcode::RenameAt::CODE, "IORING_OP_RENAMEAT", "5.11"),
    (opcode::UnlinkAt::CODE, "IORING_OP_UNLINKAT", "5.11"),
];

/// Whether this process, on this kernel, can have a [`Ring`](crate::Ring).
///
/// Makes a small ring, uses nothing, drops it.
///
/// # Errors
/// The first thing that is missing or forbidden.
pub fn probe() -> Result<(), RingError> {
    let config = RingConfig { entries: 8, receive_buffers: 2, receive_buffer_bytes: 4096 };
    crate::Ring::new(&config).map(drop)
}

/// Sets up the kernel's ring and checks its features and opcodes.
pub(crate) fn open(config: &RingConfig) -> Result<IoUring, RingError> {
    let io = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(config.completion_entries())
        .dontfork()
        .build(config.entries)
        .map_err(|error| setup_error(error, config.entries))?;
    check_features(&io)?;
    check_opcodes(&io)?;
    Ok(io)
}

fn setup_error(error: io::Error, entries: u32) -> RingError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => RingError::NotPermitted {
            reason: "the system call does not exist (a kernel built without io_uring, or a \
                     container's seccomp profile that hides it): allow io_uring_setup, \
                     io_uring_enter and io_uring_register",
        },
        Some(libc::EPERM | libc::EACCES) => RingError::NotPermitted { reason: refusal() },
        Some(libc::ENOMEM) => RingError::NoMemory { entries },
        // The sizes were checked, so an unknown setup flag is what is left.
        Some(libc::EINVAL) => {
            RingError::Missing { feature: "IORING_SETUP_DEFER_TASKRUN", since: "6.1" }
        }
        _ => RingError::Io { action: "set up an io_uring", source: error },
    }
}

fn refusal() -> &'static str {
    let disabled = std::fs::read_to_string(DISABLED_SYSCTL).unwrap_or_default();
    match disabled.trim() {
        "2" => "the sysctl kernel.io_uring_disabled is 2: set it to 0",
        "1" => {
            "the sysctl kernel.io_uring_disabled is 1: set it to 0, or put this user's group into \
             kernel.io_uring_group"
        }
        _ => {
            "a seccomp profile or security module forbids it: allow io_uring_setup, io_uring_enter \
             and io_uring_register (Docker: --security-opt seccomp=PROFILE)"
        }
    }
}

fn check_features(io: &IoUring) -> Result<(), RingError> {
    let params = io.params();
    let needed = [
        (params.is_feature_nodrop(), "IORING_FEAT_NODROP", "5.5"),
        (params.is_feature_submit_stable(), "IORING_FEAT_SUBMIT_STABLE", "5.5"),
        (params.is_feature_fast_poll(), "IORING_FEAT_FAST_POLL", "5.7"),
        (params.is_feature_ext_arg(), "IORING_FEAT_EXT_ARG", "5.11"),
    ];
    match needed.into_iter().find(|(present, _, _)| !present) {
        Some((_, feature, since)) => Err(RingError::Missing { feature, since }),
        None => Ok(()),
    }
}

fn check_opcodes(io: &IoUring) -> Result<(), RingError> {
    let mut probe = Probe::new();
    io.submitter()
        .register_probe(&mut probe)
        .map_err(RingError::io("ask the kernel for its io_uring operations"))?;
    match OPCODES.iter().find(|(code, _, _)| !probe.is_supported(*code)) {
        Some(&(_, feature, since)) => Err(RingError::Missing { feature, since }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_way_out() {
        let say = |code| setup_error(io::Error::from_raw_os_error(code), 64).to_string();
        assert!(say(libc::ENOSYS).contains("seccomp"));
        assert!(say(libc::EINVAL).contains("Linux 6.1"));
        assert!(say(libc::ENOMEM).contains("LimitMEMLOCK"));
        assert!(say(libc::EPERM).contains("io_uring"));
        assert!(say(libc::EMFILE).contains("set up an io_uring"));
    }
}
