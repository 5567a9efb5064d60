//! Connections on the core whose CPU the kernel receives them on.
//!
//! The listening sockets of the shared address are one group, from which the kernel picks by chance
//! (SO_REUSEPORT). A socket with SO_INCOMING_CPU is picked for what is received on that CPU; what
//! comes in elsewhere goes by chance as before.

use std::os::fd::OwnedFd;

use rustix::net::sockopt;

use crate::config::ServerConfig;

/// The first kernel that heeds SO_INCOMING_CPU within a group of sockets.
const KERNEL_MIN: (u32, u32) = (6, 2);

/// Why connections go by chance although it was asked otherwise.
#[derive(Debug, thiserror::Error)]
enum SteeringError {
    #[error("cores without a CPU of their own cannot be chosen by CPU; see the ready line for why")]
    NotPinned,
    #[error("Linux {0} chooses among listening sockets by chance; 6.2 or newer is needed")]
    Kernel(String),
    #[error("the kernel refuses SO_INCOMING_CPU ({0})")]
    Refused(rustix::io::Errno),
}

/// Ties each core's listening socket (`listeners`, in the order of the cores) to the core's CPU.
/// Returns whether that holds; where it cannot, a warning has said why, and connections go by chance.
pub fn steer<'a>(config: &ServerConfig, listeners: impl Iterator<Item = &'a OwnedFd>) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let steered = check_kernel(&release).and_then(|()| {
        listeners.zip(&config.placement.cpus).try_for_each(|(socket, cpu)| tie(socket, *cpu))
    });
    if let Err(error) = &steered {
        tracing::warn!(
            "server.steering is \"incoming-cpu\", but {error}; connections are spread by chance"
        );
    }
    steered.is_ok()
}

fn check_kernel(release: &str) -> Result<(), SteeringError> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL_MIN { Ok(()) } else { Err(SteeringError::Kernel(release.to_owned())) }
}

fn tie(socket: &OwnedFd, cpu: Option<u32>) -> Result<(), SteeringError> {
    let cpu = cpu.ok_or(SteeringError::NotPinned)?;
    sockopt::set_socket_incoming_cpu(socket, cpu).map_err(SteeringError::Refused)?;
    match sockopt::socket_incoming_cpu(socket) {
        Ok(found) if found == cpu => Ok(()),
        Ok(_) => Err(SteeringError::Refused(rustix::io::Errno::OPNOTSUPP)),
        Err(error) => Err(SteeringError::Refused(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_cannot_are_told_apart() {
        for good in ["6.2.0", "6.18.5-amd64", "10.0", "7.0-rc1"] {
            assert!(check_kernel(good).is_ok(), "{good}");
        }
        for old in ["6.1.0-18-amd64", "5.15.0", "", "what"] {
            let sentence = check_kernel(old).unwrap_err().to_string();
            assert!(sentence.contains("6.2 or newer"), "{sentence}");
        }
    }

    #[test]
    fn a_socket_is_tied_to_its_cpu_and_an_unpinned_core_is_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = OwnedFd::from(listener);
        tie(&socket, Some(0)).unwrap();
        assert_eq!(sockopt::socket_incoming_cpu(&socket), Ok(0));
        let sentence = tie(&socket, None).unwrap_err().to_string();
        assert!(sentence.contains("CPU of their own"), "{sentence}");
    }
}
