//! Pinning of threads that no executor owns.

use std::io;

/// CPU numbers that a thread can be pinned to lie below this: the size of the C library's set.
const PIN_CPU_END: u32 = 1024;

/// Pins the calling thread to `cpu`. Fails when the CPU is offline or outside the process's set.
pub fn pin_current_thread(cpu: u32) -> io::Result<()> {
    if cpu >= PIN_CPU_END {
        let message = format!("CPU {cpu} cannot be pinned to; the highest is {}", PIN_CPU_END - 1);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu as usize }) {
        return Ok(());
    }
    let reason = io::Error::last_os_error();
    Err(io::Error::new(reason.kind(), format!("cannot pin a thread to CPU {cpu}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    #[test]
    fn a_thread_ends_up_on_its_cpu() {
        let cpu = Host::read().unwrap().allowed.iter().last().unwrap();
        std::thread::spawn(move || {
            pin_current_thread(cpu).unwrap();
            assert_eq!(Host::read().unwrap().allowed, [cpu].into_iter().collect());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_impossible_cpu_is_an_error() {
        assert!(pin_current_thread(1023).is_err());
        assert!(pin_current_thread(70_000).is_err());
    }
}
