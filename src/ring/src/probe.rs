//! Makes a kernel ring with the flags we need and says which feature is missing.

use std::io;

use io_uring::{IoUring, Parameters, Probe, opcode};

use crate::refusal::{self, Answer};
use crate::{RingConfig, RingError};

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
    check_enter(&open(&config)?)?;
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
    check_features(io.params())?;
    check_opcodes(&io)?;
    Ok(io)
}

fn setup_error(error: io::Error, entries: u32) -> RingError {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => RingError::NoMemory { entries },
        Some(libc::EMFILE | libc::ENFILE) => RingError::NoDescriptors,
        // The sizes were checked, so an unknown setup flag is what is left.
        Some(libc::EINVAL) => {
            RingError::Missing { feature: "IORING_SETUP_DEFER_TASKRUN", since: "6.1" }
        }
        _ => call_error("set up an io_uring", error),
    }
}

/// A filter may pass one of the three system calls and refuse another.
fn call_error(action: &'static str, error: io::Error) -> RingError {
    match Answer::of(&error) {
        Some(answer) => RingError::NotPermitted { reason: refusal::explain(answer) },
        None => RingError::Io { action, source: error },
    }
}

fn check_features(params: &Parameters) -> Result<(), RingError> {
    let needed = [
        (params.is_feature_nodrop(), "IORING_FEAT_NODROP", "5.5"),
        (params.is_feature_submit_stable(), "IORING_FEAT_SUBMIT_STABLE", "5.5"),
        (params.is_feature_fast_poll(), "IORING_FEAT_FAST_POLL", "5.7"),
        (params.is_feature_ext_arg(), "IORING_FEAT_EXT_ARG", "5.11"),
    ];
    first_missing(needed.into_iter())
}

fn check_opcodes(io: &IoUring) -> Result<(), RingError> {
    let mut probe = Probe::new();
    io.submitter()
        .register_probe(&mut probe)
        .map_err(|error| call_error("ask the kernel for its io_uring operations", error))?;
    check_supported(|code| probe.is_supported(code))
}

fn check_supported(is_supported: impl Fn(u8) -> bool) -> Result<(), RingError> {
    first_missing(OPCODES.iter().map(|(code, name, since)| (is_supported(*code), *name, *since)))
}

fn first_missing(
    mut features: impl Iterator<Item = (bool, &'static str, &'static str)>,
) -> Result<(), RingError> {
    match features.find(|(present, _, _)| !present) {
        Some((_, feature, since)) => Err(RingError::Missing { feature, since }),
        None => Ok(()),
    }
}

/// The third of the system calls, with nothing to do.
fn check_enter(io: &IoUring) -> Result<(), RingError> {
    io.submitter().submit().map(drop).map_err(|error| call_error("enter an io_uring", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_way_out() {
        let say = |code| setup_error(io::Error::from_raw_os_error(code), 64).to_string();
        assert!(say(libc::ENOSYS).starts_with("io_uring is not permitted here: "));
        assert!(say(libc::EINVAL).contains("Linux 6.1"));
        assert!(say(libc::ENOMEM).contains("LimitMEMLOCK"));
        assert!(say(libc::EPERM).contains("io_uring"));
        assert!(say(libc::EMFILE).contains("LimitNOFILE"));
        assert!(say(libc::EIO).contains("set up an io_uring"));
    }

    /// Each operation taken away in turn, as an older kernel would.
    #[test]
    fn a_kernel_that_lacks_an_operation_is_told_which_and_since_when() {
        for (missing, name, since) in OPCODES {
            let sentence = check_supported(|code| code != *missing).unwrap_err().to_string();
            assert!(sentence.contains(&format!("no {name}, which Linux {since}")), "{sentence}");
        }
        assert!(check_supported(|_| true).is_ok());
    }

    #[test]
    fn a_kernel_that_lacks_a_feature_is_told_which_and_since_when() {
        let features = [(true, "A", "5.1"), (false, "B", "5.7"), (false, "C", "5.11")];
        let sentence = first_missing(features.into_iter()).unwrap_err().to_string();
        assert_eq!(
            sentence,
            "this kernel has no B, which Linux 5.7 brings: run Linux 6.1 or newer"
        );
    }
}
