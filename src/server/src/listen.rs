//! The server's listening sockets: the shared address on every core, and a port of each core's own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use model::CoreId;
use model::reply::CoreAddress;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::bounds::{PEER_IDLE_SECONDS_MAX, PEER_SILENT_SECONDS_MAX};
use crate::config::{ServerConfig, Steering};
use crate::placement::ShardMap;
use crate::steering::steer;

/// Connections the kernel queues for a listener before it refuses.
const BACKLOG: i32 = 4096;
/// How long a port in use is tried again.
const PATIENCE: Duration = Duration::from_millis(700);

/// One core's sockets and where clients reach it.
#[derive(Debug)]
pub struct CoreListeners {
    pub sockets: Vec<OwnedFd>,
    pub address: CoreAddress,
}

/// Where the server listens.
#[derive(Debug)]
pub struct Bound {
    /// The shared address.
    pub address: SocketAddr,
    /// The kernel gives each core the connections that come in on its CPU.
    pub steered: bool,
    pub cores: Vec<CoreListeners>,
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "{address} is in use; stop whoever listens there or choose another address with --listen"
    )]
    InUse { address: SocketAddr },
    #[error(
        "{address} is an address that no interface of this machine has; choose one of its own with \
         --listen, or 0.0.0.0 for all"
    )]
    NotOurs { address: SocketAddr },
    #[error(
        "this user may not listen on {address}: ports below {first} are the privileged's; choose a \
         higher one with --listen, or give the server CAP_NET_BIND_SERVICE",
        first = first_free_port()
    )]
    NotPermitted { address: SocketAddr },
    #[error("cannot listen on {address}: {error}; choose another address with --listen")]
    Io { address: SocketAddr, error: io::Error },
}

/// Binds every core's sockets. Connections queue in the kernel until the cores accept.
///
/// Returns the address in effect (a port 0 becomes a real one) and the sockets by core.
pub fn bind_all(config: &ServerConfig, map: &ShardMap) -> Result<Bound, ListenError> {
    refuse_taken(config.listen)?;
    let mut address = config.listen;
    let mut listeners = Vec::new();
    for core in map.cores() {
        let shared = bind(address, true)?;
        address = local(&shared, address)?;
        let mut sockets = vec![shared];
        let mut port = 0;
        if config.direct_ports {
            let direct = bind_direct(address, core)?;
            port = local(&direct, address)?.port();
            sockets.push(direct);
        }
        listeners.push(CoreListeners {
            sockets,
            address: CoreAddress {
                core,
                host: advertised_host(config, address.ip()),
                port: advertised_port(config, core, port),
                shards: map.shards_of(core),
            },
        });
    }
    let shared = listeners.iter().filter_map(|core: &CoreListeners| core.sockets.first());
    let steered = config.steering == Steering::IncomingCpu && steer(config, shared);
    Ok(Bound { address, steered, cores: listeners })
}

/// Another process of this user could share the port unseen: a socket that shares nothing finds
/// out.
fn refuse_taken(address: SocketAddr) -> Result<(), ListenError> {
    if address.port() == 0 {
        return Ok(());
    }
    bind_patiently(address).map(drop)
}

/// A server that was killed holds its port until the kernel has cleaned up behind it.
fn bind_patiently(address: SocketAddr) -> Result<OwnedFd, ListenError> {
    let began = Instant::now();
    loop {
        match bind(address, false) {
            Err(ListenError::InUse { .. }) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

/// The base port plus one plus the core's number, or any when that is taken.
fn bind_direct(address: SocketAddr, core: CoreId) -> Result<OwnedFd, ListenError> {
    let wanted = address.port().checked_add(1).and_then(|port| port.checked_add(core.0));
    if let Some(port) = wanted
        && let Ok(socket) = bind_patiently(SocketAddr::new(address.ip(), port))
    {
        return Ok(socket);
    }
    bind(SocketAddr::new(address.ip(), 0), false)
}

fn bind(address: SocketAddr, share: bool) -> Result<OwnedFd, ListenError> {
    let open = || -> rustix::io::Result<OwnedFd> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if share {
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        set_options(&socket)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    open().map_err(|errno| match errno {
        rustix::io::Errno::ADDRINUSE => ListenError::InUse { address },
        rustix::io::Errno::ADDRNOTAVAIL => ListenError::NotOurs { address },
        rustix::io::Errno::ACCESS => ListenError::NotPermitted { address },
        errno => ListenError::Io { address, error: errno.into() },
    })
}

/// For the connections, which have them from their listener: small frames leave at once, and a
/// peer whose machine is gone is noticed.
fn set_options(listener: &OwnedFd) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(listener, true)?;
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, Duration::from_secs(PEER_IDLE_SECONDS_MAX.into()))?;
    sockopt::set_tcp_keepintvl(listener, Duration::from_secs(PEER_IDLE_SECONDS_MAX.into()) / 4)?;
    sockopt::set_tcp_user_timeout(listener, PEER_SILENT_SECONDS_MAX * 1000)
}

/// The first port that anyone may listen on.
fn first_free_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

fn local(socket: &OwnedFd, address: SocketAddr) -> Result<SocketAddr, ListenError> {
    let name = rustix::net::getsockname(socket)
        .and_then(|name| SocketAddr::try_from(name).map_err(|_| rustix::io::Errno::AFNOSUPPORT));
    name.map_err(|errno| ListenError::Io { address, error: errno.into() })
}

/// An address that stands for all interfaces tells a client nothing: it keeps the host it used.
fn advertised_host(config: &ServerConfig, listen: IpAddr) -> String {
    match &config.advertise_host {
        Some(host) => host.clone(),
        None if listen.is_unspecified() => String::new(),
        None => listen.to_string(),
    }
}

fn advertised_port(config: &ServerConfig, core: CoreId, bound: u16) -> u16 {
    match config.advertise_direct_base_port {
        Some(base) if bound != 0 => base.checked_add(core.0).unwrap_or(0),
        _ => bound,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn a_silent_machine_is_noticed_by_the_kernel() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = bind(any, true).unwrap();
        let _client = TcpStream::connect(local(&listener, any).unwrap()).unwrap();
        let socket = rustix::net::accept(&listener).unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), PEER_SILENT_SECONDS_MAX * 1000);
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        let idle = Duration::from_secs(PEER_IDLE_SECONDS_MAX.into());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), idle);
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), idle / 4);
        assert!(sockopt::tcp_nodelay(&socket).unwrap());
    }
}
