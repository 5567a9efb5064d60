//! A broker run as a child process: started, waited for, killed.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::random::Random;

/// How long a start may take, recovery included.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server that has closed its output may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const READY: &str = "corelane ready";
/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(5);
/// Bytes of the log that an error quotes.
const LOG_TAIL_BYTES: usize = 2000;

/// Why a server did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot run {}: {source}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("{doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
    #[error("no ten ports in a row are free; end what holds them")]
    NoPort,
    #[error("the server does not run: it was ended and not started again")]
    Down,
    #[error("the server {what}; its log ends with:\n{log}")]
    Server { what: String, log: String },
}

/// How a server is started, each time the same.
#[derive(Clone, Debug)]
pub struct Launch {
    pub program: PathBuf,
    pub data_dir: PathBuf,
    pub address: SocketAddr,
    pub log_file: PathBuf,
    pub environment: Vec<(String, String)>,
    pub arguments: Vec<String>,
}

/// Settings under which segments are sealed and recycled all the time and the disk stays bounded.
pub const SMALL_SEGMENTS: [(&str, &str); 2] =
    [("STORAGE_SEGMENT_BYTES", "16MiB"), ("STORAGE_PREPARE_BYTES_AT_START", "1MiB")];
/// The same, and retention that follows at once.
pub const SHORT_LOG: [(&str, &str); 4] = [
    SMALL_SEGMENTS[0],
    SMALL_SEGMENTS[1],
    ("STORAGE_POOL_SEGMENTS_MAX", "2"),
    ("STORAGE_RETENTION_CHECK", "200ms"),
];

impl Launch {
    /// A server of two cores and shards whose directory and log lie in `folder`, at an address of
    /// its own. The settings are named as in its environment, without `CORELANE_`.
    pub fn in_folder<'a>(
        program: &Path,
        folder: &Path,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ProcessError> {
        let setting = |(name, value): (&str, &str)| (format!("CORELANE_{name}"), value.to_owned());
        Ok(Self {
            program: program.to_owned(),
            data_dir: folder.join("data"),
            // The port is no part of the seed: two runs of one seed may go side by side.
            address: stable_address(&mut Random::new(u64::from(std::process::id())))?,
            log_file: folder.join("server.log"),
            environment: settings.into_iter().map(setting).collect(),
            arguments: ["--cores", "2", "--shards", "2"].map(str::to_owned).to_vec(),
        })
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log_file: PathBuf,
    ready: Option<oneshot::Receiver<String>>,
}

impl Server {
    /// Starts the server and does not wait for it.
    pub fn spawn(launch: &Launch) -> Result<Self, ProcessError> {
        Self::spawn_command(launch, Command::new(&launch.program))
    }

    /// The same after `prelude`, words of the shell such as `ulimit -n 100`; the process is the
    /// server's.
    pub fn spawn_under(launch: &Launch, prelude: &str) -> Result<Self, ProcessError> {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{prelude} && exec \"$0\" \"$@\"")]).arg(&launch.program);
        Self::spawn_command(launch, command)
    }

    fn spawn_command(launch: &Launch, mut command: Command) -> Result<Self, ProcessError> {
        let log = File::options().create(true).append(true).open(&launch.log_file);
        let log = log.map_err(|source| ProcessError::Io { doing: "open the log", source })?;
        let mut child = command
            .arg("serve")
            .arg("--data-dir")
            .arg(&launch.data_dir)
            .args(["--listen", &launch.address.to_string()])
            .args(&launch.arguments)
            .envs(launch.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|source| ProcessError::Spawn { program: launch.program.clone(), source })?;
        let (tell, ready) = oneshot::channel();
        let stdout = child.stdout.take();
        // Ends with the child, whose end of the pipe it reads.
        std::thread::spawn(move || {
            let lines = stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines);
            let mut tell = Some(tell);
            for line in lines.map_while(Result::ok) {
                if line.starts_with(READY)
                    && let Some(tell) = tell.take()
                {
                    let _ = tell.send(line);
                }
            }
        });
        Ok(Self { child, log_file: launch.log_file.clone(), ready: Some(ready) })
    }

    /// Waits until it takes connections. Returns the line it printed then.
    pub async fn ready(&mut self) -> Result<String, ProcessError> {
        let Some(ready) = self.ready.take() else {
            return Err(self.failed("was waited for twice"));
        };
        match timeout(READY_TIMEOUT, ready).await {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(_)) => Err(self.failed("ended before it was ready")),
            Err(_) => Err(self.failed("was not ready in time")),
        }
    }

    /// Ends it as a power cut would end the process: nothing in it runs any more.
    pub fn kill(mut self) -> Result<(), ProcessError> {
        self.kill_and_wait().map_err(|source| ProcessError::Io { doing: "kill the server", source })
    }

    /// Asks it to stop and waits until it has, at most `within`.
    pub async fn stop(mut self, within: Duration) -> Result<(), ProcessError> {
        self.signal(Signal::TERM)?;
        let began = Instant::now();
        while began.elapsed() < within {
            match self.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.failed(&format!("stopped with {status}"))),
                None => sleep(POLL).await,
            }
        }
        Err(self.failed(&format!("did not stop within {within:?}")))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most that was resident at once so far, bytes; 0 when it has ended.
    pub fn resident_bytes_max(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else {
            return Ok(());
        };
        let sent = kill_process(pid, signal);
        sent.map_err(|errno| ProcessError::Io { doing: "signal the server", source: errno.into() })
    }

    /// Waits for its end, which is near, and ends it if it is not.
    pub async fn end(&mut self) -> Result<ExitStatus, ProcessError> {
        let began = Instant::now();
        while began.elapsed() < END_TIMEOUT {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            sleep(POLL).await;
        }
        let io = |source| ProcessError::Io { doing: "end the server", source };
        self.child.kill().map_err(io)?;
        self.child.wait().map_err(io)
    }

    /// Whether it has ended by itself, and how.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        let ended = self.child.try_wait();
        ended.map_err(|source| ProcessError::Io { doing: "wait for the server", source })
    }

    /// What happened, with the end of its log.
    pub fn failed(&self, what: &str) -> ProcessError {
        let log = std::fs::read(&self.log_file).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        let log = String::from_utf8_lossy(tail).trim().to_owned();
        ProcessError::Server { what: what.to_owned(), log }
    }

    fn kill_and_wait(&mut self) -> io::Result<()> {
        if self.child.try_wait()?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill_and_wait();
    }
}

/// Ports given to one server: its own, and those of its cores.
const PORTS: u16 = 10;
/// The UDP ports of the addresses given out: while this process holds one, no other scenario, in
/// this process or another, takes the same address, also while its server is down.
static TAKEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// An address whose port and the nine after it are free, outside the range that the kernel gives
/// to outgoing connections: a server killed and started again finds it free again.
fn stable_address(random: &mut Random) -> Result<SocketAddr, ProcessError> {
    for _ in 0..200 {
        let port = random.between(1_000, 3_000) as u16 * PORTS;
        let Ok(mark) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        if (port..port + PORTS).all(|port| bind(port).is_ok()) {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
    }
    Err(ProcessError::NoPort)
}

/// Runs `corelane verify` over a stopped server's directory.
pub fn verify(program: &Path, data_dir: &Path) -> Result<String, ProcessError> {
    let output = Command::new(program)
        .arg("verify")
        .arg(data_dir)
        .output()
        .map_err(|source| ProcessError::Spawn { program: program.to_owned(), source })?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    match output.status.success() {
        true => Ok(text),
        false => {
            Err(ProcessError::Server { what: "left a log that is not good".into(), log: text })
        }
    }
}
