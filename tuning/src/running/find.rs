//! The process that listens on a port of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::host::Roots;

/// Why no process was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    #[error(
        "nothing on this machine listens on port {0}; run it where the server runs, or give its \
         process id (--running PID), as for one in a container's network"
    )]
    NoListener(u16),
    #[error(
        "the process that listens on port {0} is not to be seen; run it as the server's user or \
         as root, or give its process id (--running PID)"
    )]
    Hidden(u16),
}

/// The process with a socket that listens on the port of `address`. A socket bound to the very
/// address goes before one bound to all.
pub fn listening_process(roots: &Roots, address: SocketAddr) -> Result<u32, FindError> {
    let mut listeners: Vec<(SocketKind, u64)> = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(roots.proc.join("net").join(table)).unwrap_or_default();
        listeners.extend(text.lines().skip(1).filter_map(|line| listener(line, address)));
    }
    let Some(best) = listeners.iter().map(|(kind, _)| *kind).min() else {
        return Err(FindError::NoListener(address.port()));
    };
    let inodes: BTreeSet<u64> =
        listeners.iter().filter(|(kind, _)| *kind == best).map(|(_, inode)| *inode).collect();
    owner_of(&roots.proc, &inodes).ok_or(FindError::Hidden(address.port()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SocketKind {
    VeryAddress,
    AllAddresses,
}

/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
fn listener(line: &str, wanted: SocketAddr) -> Option<(SocketKind, u64)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    if *state != LISTEN {
        return None;
    }
    let (host, port) = local.split_once(':')?;
    if u16::from_str_radix(port, 16).ok()? != wanted.port() {
        return None;
    }
    let kind = if host.chars().all(|c| c == '0') {
        SocketKind::AllAddresses
    } else if host.eq_ignore_ascii_case(&hex_host(wanted)) {
        SocketKind::VeryAddress
    } else {
        return None;
    };
    Some((kind, inode.parse().ok()?))
}

/// The kernel writes an address as words in the machine's own order.
fn hex_host(address: SocketAddr) -> String {
    let bytes = match address {
        SocketAddr::V4(v4) => v4.ip().octets().to_vec(),
        SocketAddr::V6(v6) => v6.ip().octets().to_vec(),
    };
    let words = bytes.chunks(4).map(|word| {
        let word = [word[0], word[1], word[2], word[3]];
        format!("{:08X}", u32::from_ne_bytes(word))
    });
    words.collect()
}

fn owner_of(proc: &Path, inodes: &BTreeSet<u64>) -> Option<u32> {
    let entries = fs::read_dir(proc).ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let files = fs::read_dir(proc.join(format!("{pid}/fd"))).into_iter().flatten().flatten();
        for link in files.filter_map(|entry| fs::read_link(entry.path()).ok()) {
            let inode = link
                .to_str()
                .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'))
                .and_then(|text| text.parse::<u64>().ok());
            if inode.is_some_and(|inode| inodes.contains(&inode)) {
                return Some(pid);
            }
        }
    }
    None
}
