//! What has to be done once per process.
#![allow(unsafe_code)]

/// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED`.
const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 16;

/// Registers the process for expedited memory barriers. glommio does so when an executor first
/// parks; with several threads running by then that takes tens of milliseconds. Call it first in
/// `main`; a kernel that refuses only costs that time.
pub fn prepare_process() {
    // SAFETY: membarrier takes two integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, REGISTER_PRIVATE_EXPEDITED, 0, 0) };
}
