//! A server started for one run: the same program with `serve`, ended on every way out.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::BenchError;

/// How long the server may take to be ready: recovery of a large log included.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// What its ready line begins with.
const READY: &str = "corelane ready";
/// Bytes of its log shown when it fails.
const LOG_TAIL_BYTES: usize = 2000;

/// How the server is started.
#[derive(Clone, Debug)]
pub struct Launch {
    pub program: PathBuf,
    pub data_dir: PathBuf,
    /// Its log goes here.
    pub log_file: PathBuf,
    /// CPUs of its cores.
    pub cpus: Vec<usize>,
    pub env: Vec<(String, String)>,
}

/// A running server of ours. Dropping it kills it.
#[derive(Debug)]
pub struct Embedded {
    child: Child,
    pub address: SocketAddr,
    /// The line it printed when it was ready.
    pub ready_line: String,
    log_file: PathBuf,
}

impl Embedded {
    /// Starts the server and waits until it is ready.
    pub fn start(launch: &Launch) -> Result<Self, BenchError> {
        let address = free_address()?;
        let log = std::fs::File::create(&launch.log_file)
            .map_err(BenchError::io(format!("making {}", launch.log_file.display())))?;
        let mut command = Command::new(&launch.program);
        command.arg("serve").arg("--data-dir").arg(&launch.data_dir);
        command.arg("--listen").arg(address.to_string());
        command.arg("--cores").arg(cpu_list(&launch.cpus));
        command.envs(launch.env.iter().cloned());
        // A Ctrl-C is for the bench, which asks the server to stop when it is done with it.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let child = command
            .spawn()
            .map_err(BenchError::io(format!("starting {}", launch.program.display())))?;
        let (ready_line, log_file) = (String::new(), launch.log_file.clone());
        let mut server = Self { child, address, ready_line, log_file };
        server.ready_line = server.wait_ready()?;
        Ok(server)
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> Result<(), BenchError> {
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < STOP_TIMEOUT {
            match self.child.try_wait().map_err(BenchError::io("waiting for the server"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(self.failed(&format!("ended with {status} when stopped")));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        let error = self.failed(&format!("did not stop within {} s", STOP_TIMEOUT.as_secs()));
        Err(error)
    }

    fn wait_ready(&mut self) -> Result<String, BenchError> {
        let stdout = self.child.stdout.take();
        let (tell, told) = mpsc::channel();
        // Reads to the end, so that the server never waits for room on its standard output.
        std::thread::spawn(move || {
            for line in stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines).flatten() {
                let _ = tell.send(line);
            }
        });
        let began = Instant::now();
        loop {
            let left = READY_TIMEOUT.saturating_sub(began.elapsed());
            match told.recv_timeout(left) {
                Ok(line) if line.starts_with(READY) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.failed("ended before it was ready"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = READY_TIMEOUT.as_secs();
                    return Err(self.failed(&format!("was not ready within {seconds} s")));
                }
            }
        }
    }

    /// What happened, with the end of its log.
    fn failed(&self, what: &str) -> BenchError {
        let log = std::fs::read(&self.log_file).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]);
        let tail = tail.trim();
        let said = if tail.is_empty() { String::new() } else { format!("; it said: {tail}") };
        BenchError::Server(format!("{what}{said}"))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // A child that has ended and was waited for is not signalled again.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// As `serve --cores` reads a list: a single CPU as a range, so that it is not taken for a count.
fn cpu_list(cpus: &[usize]) -> String {
    match cpus {
        [one] => format!("{one}-{one}"),
        many => many.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
    }
}

fn free_address() -> Result<SocketAddr, BenchError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    listener
        .and_then(|listener| listener.local_addr())
        .map_err(BenchError::io("looking for a free port"))
}

/// The program that runs now, which knows `serve`.
pub fn this_program() -> Result<PathBuf, BenchError> {
    std::env::current_exe().map_err(BenchError::io("finding this program"))
}

/// Where a server's log goes, beside its data.
pub fn log_file(dir: &Path) -> PathBuf {
    dir.join("server.log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn launch(dir: &Path, script: &str) -> Launch {
        let program = dir.join("fake");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Launch {
            program,
            data_dir: dir.join("data"),
            log_file: log_file(dir),
            cpus: vec![0],
            env: vec![("GREETING".into(), "hello".into())],
        }
    }

    #[test]
    fn a_server_is_ready_when_it_says_so_and_stops_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let script = "trap 'exit 0' TERM\necho other\necho \"corelane ready $GREETING $*\"\n\
                      while :; do sleep 0.01; done";
        let server = Embedded::start(&launch(dir.path(), script)).unwrap();
        assert!(server.ready_line.starts_with("corelane ready hello serve --data-dir"));
        assert!(server.ready_line.ends_with("--cores 0-0"), "{}", server.ready_line);
        server.stop().unwrap();
    }

    #[test]
    fn a_server_that_fails_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo 'no such disk' >&2\nexit 1";
        let error = Embedded::start(&launch(dir.path(), script)).unwrap_err().to_string();
        assert!(error.contains("before it was ready") && error.contains("no such disk"), "{error}");
    }

    #[test]
    fn cpus_are_given_as_a_list() {
        assert_eq!(cpu_list(&[0]), "0-0");
        assert_eq!(cpu_list(&[0, 2, 3]), "0,2,3");
    }
}
