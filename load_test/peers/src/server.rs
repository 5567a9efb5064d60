//! A real server, started and stopped by its script in `servers/`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::peer::{Level, Peer};

/// Ports in a row that a server may use.
const PORTS: u16 = 10;
/// Where rows of ports are looked for: below the range that the system gives to connections.
const PORT_RANGE: std::ops::Range<u16> = 17_000..31_000;
/// Bytes of a server's log that an error quotes.
const LOG_TAIL_BYTES: usize = 1_500;

/// Why a server could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot run {}: {source}", script.display())]
    Spawn { script: PathBuf, source: io::Error },
    #[error("{script} {what} failed: {said}")]
    Script { script: &'static str, what: &'static str, said: String },
    #[error("cannot make a directory for a server's data in {}: {source}", inside.display())]
    Directory { inside: PathBuf, source: io::Error },
    #[error("no {PORTS} ports in a row are free between {} and {}; end what holds them",
        PORT_RANGE.start, PORT_RANGE.end)]
    NoPorts,
    #[error("the server's process id cannot be read from {}", file.display())]
    NoProcess { file: PathBuf },
}

/// One setting and its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    pub what: String,
    pub why: String,
}

/// The script of one broker.
#[derive(Clone, Debug)]
pub struct Script {
    peer: Peer,
    path: PathBuf,
}

impl Script {
    pub fn of(peer: Peer) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers");
        Self { peer, path: folder.join(peer.as_str()) }
    }

    /// Brings the server into the cache, which may take minutes the first time.
    pub fn get(&self) -> Result<(), ServerError> {
        self.check("get", self.command(&["get"]).output()).map(drop)
    }

    pub fn version(&self) -> Result<String, ServerError> {
        let output = self.check("version", self.command(&["version"]).output())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub fn settings(&self, level: Level) -> Result<Vec<Setting>, ServerError> {
        let output = self.command(&["settings", level.as_str()]).output();
        let output = self.check("settings", output)?;
        let lines = String::from_utf8_lossy(&output.stdout);
        let setting = |line: &str| {
            let (what, why) = line.split_once('\t').unwrap_or((line, ""));
            Setting { what: what.to_owned(), why: why.to_owned() }
        };
        Ok(lines.lines().map(setting).collect())
    }

    /// Starts the server on CPUs `cpus` with its data in a directory of its own inside `inside`.
    /// It is not waited for.
    pub fn start(&self, level: Level, inside: &Path, cpus: &str) -> Result<Server, ServerError> {
        let directory = || ServerError::Directory {
            inside: inside.to_owned(),
            source: io::Error::last_os_error(),
        };
        let inside = inside.canonicalize().map_err(|_| directory())?;
        let folder = tempfile::Builder::new().prefix("corelane-peers-").tempdir_in(&inside);
        let folder = folder.map_err(|source| ServerError::Directory { inside, source })?;
        let port = free_ports().ok_or(ServerError::NoPorts)?;
        let path = folder.path().to_string_lossy().into_owned();
        let arguments = ["start", level.as_str(), &path, &port.to_string(), cpus];
        // The server inherits the script's outputs unless these are files.
        let output = self.command(&arguments).output();
        self.check("start", output)?;
        let file = folder.path().join("pid");
        let pid = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        let pid = pid.ok_or(ServerError::NoProcess { file })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Server { script: self.clone(), folder: Some(folder), address, pid })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn check(&self, what: &'static str, output: io::Result<Output>) -> Result<Output, ServerError> {
        let spawn = |source| ServerError::Spawn { script: self.path.clone(), source };
        let output = output.map_err(spawn)?;
        if output.status.success() {
            return Ok(output);
        }
        let said = tail(&output.stderr);
        Err(ServerError::Script { script: self.peer.as_str(), what, said })
    }
}

/// A server that was started. Dropping it stops it and removes its data.
#[derive(Debug)]
pub struct Server {
    script: Script,
    folder: Option<TempDir>,
    address: SocketAddr,
    pid: u32,
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The end of what it has logged.
    pub fn log_tail(&self) -> String {
        let log = self.folder.as_ref().map(|folder| std::fs::read(folder.path().join("log")));
        tail(&log.and_then(Result::ok).unwrap_or_default())
    }

    /// Stops it and removes its data.
    pub fn stop(mut self) -> Result<(), ServerError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ServerError> {
        let Some(folder) = self.folder.take() else { return Ok(()) };
        let path = folder.path().to_string_lossy().into_owned();
        let output = self.script.command(&["stop", &path]).output();
        self.script.check("stop", output).map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error}");
        }
    }
}

/// The next [`PORTS`] ports in a row that nobody holds. They are others each time: some servers cannot listen
/// where connections of the one before have ended in the last minute, which a bind here does not show.
fn free_ports() -> Option<u16> {
    const ROWS_APART: u32 = 61;
    static ROWS_TRIED: AtomicU32 = AtomicU32::new(0);
    let rows = u32::from((PORT_RANGE.end - PORT_RANGE.start) / PORTS);
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    (0..rows).find_map(|_| {
        // Harnesses that run at once begin far from each other.
        let begin = std::process::id().wrapping_mul(ROWS_APART);
        let row = begin.wrapping_add(ROWS_TRIED.fetch_add(1, Relaxed)) % rows;
        let start = PORT_RANGE.start + row as u16 * PORTS;
        (start..start + PORTS).all(is_free).then_some(start)
    })
}

fn tail(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(LOG_TAIL_BYTES);
    String::from_utf8_lossy(&bytes[from..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broker_has_a_script_with_settings_and_reasons_for_its_levels() {
        for peer in Peer::ALL {
            for level in Level::ALL {
                if peer.lacks(level).is_some() {
                    continue;
                }
                let settings = Script::of(peer).settings(level).unwrap();
                assert!(!settings.is_empty(), "{peer:?} {level:?}");
                for setting in settings {
                    assert!(!setting.why.is_empty(), "{peer:?}: {setting:?} has no reason");
                }
            }
        }
    }

    #[test]
    fn a_script_that_fails_is_quoted() {
        let script = Script::of(Peer::Redis);
        let error = script.check("start", script.command(&["start", "safe"]).output());
        assert!(error.unwrap_err().to_string().contains("start LEVEL DIR PORT CPUS"));
        let error = script.check("boil", script.command(&["boil"]).output()).unwrap_err();
        assert!(error.to_string().contains("no boil"), "{error}");
    }

    #[test]
    fn ports_are_free_and_in_a_row() {
        let first = free_ports().unwrap();
        let held: Vec<_> = (first..first + PORTS)
            .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap())
            .collect();
        assert_eq!(held.len(), usize::from(PORTS));
        drop(held);
        assert_ne!(free_ports(), Some(first), "the same again at once");
    }
}
