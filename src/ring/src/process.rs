//! What has to be done once per process or thread, and is no work of a ring.
#![allow(unsafe_code)]

use std::io;

/// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED`.
const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 16;

/// `MPOL_PREFERRED`: from this node while it has room.
const PREFERRED: libc::c_long = 1;
/// Nodes that a mask has bits for; the kernel's own bound.
const NODES_MAX: u32 = 1024;

/// Has the calling thread take its memory from this NUMA node while that has room, whatever policy
/// the process was started with.
///
/// # Errors
/// What the kernel says: `EPERM` in containers that forbid it, `EINVAL` for a node it has not got.
pub fn prefer_memory_node(node: u32) -> io::Result<()> {
    const BITS: u32 = libc::c_ulong::BITS;
    if node >= NODES_MAX {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut mask = [0 as libc::c_ulong; (NODES_MAX / BITS) as usize];
    mask[(node / BITS) as usize] = 1 << (node % BITS);
    // The kernel reads one bit less than it is told.
    let bits = libc::c_ulong::from(NODES_MAX) + 1;
    // SAFETY: the kernel reads `NODES_MAX` bits of the mask, which lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, PREFERRED, mask.as_ptr(), bits) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives what the allocator keeps of freed memory back to the system. Takes up to milliseconds.
pub fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes an integer and touches no memory that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Registers the process for expedited memory barriers. glommio does so when an executor first
/// parks; with several threads running by then that takes tens of milliseconds. Call it first in
/// `main`; a kernel that refuses only costs that time.
pub fn prepare_process() {
    // SAFETY: membarrier takes two integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, REGISTER_PRIVATE_EXPEDITED, 0, 0) };
}
