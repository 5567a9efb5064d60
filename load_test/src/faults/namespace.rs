//! A machine that can vanish: a network namespace behind a pair of virtual interfaces. Needs root.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::peers::Peer;

/// The namespace and its wire. Dropping it removes both.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// The host's end of the wire.
    host: Ipv4Addr,
    peer: Ipv4Addr,
}

impl Namespace {
    /// Makes both, named after this process.
    pub fn make() -> io::Result<Self> {
        let id = std::process::id();
        let third = (id % 250) as u8 + 1;
        let (host, peer) = (Ipv4Addr::new(10, 231, third, 1), Ipv4Addr::new(10, 231, third, 2));
        let namespace = Self { name: format!("corelane-{id}"), host, peer };
        let (name, near, far) = (&namespace.name, format!("cl{id}h"), format!("cl{id}p"));
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {near} type veth peer name {far} netns {name}"))?;
        ip(&format!("addr add {host}/30 dev {near}"))?;
        ip(&format!("link set {near} up"))?;
        ip(&format!("-n {name} addr add {peer}/30 dev {far}"))?;
        ip(&format!("-n {name} link set {far} up"))?;
        Ok(namespace)
    }

    /// The host's address on the wire.
    pub fn host(&self) -> Ipv4Addr {
        self.host
    }

    /// Peers that live in the namespace.
    pub fn connect(&self, server: SocketAddr, count: usize) -> io::Result<Vec<Peer>> {
        let path = format!("/run/netns/{}", self.name);
        // The thread that has moved makes the sockets, and ends.
        let connecting = std::thread::spawn(move || {
            let space = File::open(path)?;
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
            (0..count).map(|_| Peer::connect(server)).collect()
        });
        connecting.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    }

    /// From now on nothing that its peers say, their end included, reaches anyone.
    pub fn vanish(&self) -> io::Result<()> {
        ip(&format!("-n {} link set cl{}p down", self.name, std::process::id()))
    }

    pub fn come_back(&self) -> io::Result<()> {
        ip(&format!("-n {} link set cl{}p up", self.name, std::process::id()))
    }

    /// Connections to its peers that the host still takes for alive.
    pub fn established(&self) -> io::Result<usize> {
        const ESTABLISHED: &str = "01";
        let peer = format!("{:08X}", u32::from_le_bytes(self.peer.octets()));
        let table = std::fs::read_to_string("/proc/net/tcp")?;
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let alive = rows.filter(|row| {
            row.get(2).is_some_and(|remote| remote.starts_with(&peer))
                && row.get(3) == Some(&ESTABLISHED)
        });
        Ok(alive.count())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The wire goes with either of its ends.
        let _ = ip(&format!("link del cl{}h", std::process::id()));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(words: &str) -> io::Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}
