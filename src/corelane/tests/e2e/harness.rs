//! Starting and ending brokers, and running commands against them. Everything waits on conditions
//! with a deadline; every child is ended by its own id.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_corelane");
/// No single wait may take longer; far more than any takes.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

/// A folder that is removed at the end of the test, on the disk of the build.
pub fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The seed of a randomized test: `CORELANE_SEED`, or one of its own; printed.
pub fn seed() -> u64 {
    let seed = match std::env::var("CORELANE_SEED") {
        Ok(seed) => seed.parse().expect("CORELANE_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    };
    println!("CORELANE_SEED={seed}");
    seed
}

/// Waits until `done` gives a value.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(began.elapsed() < DEADLINE, "waited for {DEADLINE:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// What a command has said and how it ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Run {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The command has done its work.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The command has failed with one sentence on stderr and nothing else.
    #[track_caller]
    pub fn failed(self) -> String {
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        self.failed_after_logs()
    }

    /// The command has failed with a sentence, which may have log lines before it.
    #[track_caller]
    pub fn failed_after_logs(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        let sentence = self.stderr.lines().last().unwrap_or_default();
        assert!(sentence.starts_with("corelane: "), "{self:?}");
        sentence.to_owned()
    }
}

/// Runs the binary to its end with these words and nothing on its stdin.
pub fn corelane<S: AsRef<str>>(words: &[S]) -> Run {
    Running::start(words, &[]).finish_with(b"")
}

/// A command under way.
pub struct Running {
    pub child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Running {
    pub fn start<S: AsRef<str>>(words: &[S], environment: &[(&str, &str)]) -> Self {
        let mut running = Self::start_unread(words, environment);
        running.stdout = running.child.stdout.take().map(read_all);
        running
    }

    /// The caller reads stdout, or closes it.
    pub fn start_unread<S: AsRef<str>>(words: &[S], environment: &[(&str, &str)]) -> Self {
        let mut child = command()
            .args(words.iter().map(AsRef::as_ref))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = read_all(child.stderr.take().unwrap());
        Self { child, stdout: None, stderr }
    }

    pub fn signal(&self, signal: Signal) {
        signal_child(&self.child, signal);
    }

    /// Gives it `input`, closes its stdin and waits for its end.
    pub fn finish_with(mut self, input: &[u8]) -> Run {
        let mut stdin = self.child.stdin.take().unwrap();
        let input = input.to_vec();
        // It may end without reading all.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let run = self.finish();
        writer.join().unwrap();
        run
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Run {
        let status = wait_for("the command's end", || self.child.try_wait().unwrap());
        let stdout = self.stdout.take().map(|reader| reader.join().unwrap()).unwrap_or_default();
        let stderr = std::mem::replace(&mut self.stderr, std::thread::spawn(Vec::new));
        let stderr = String::from_utf8(stderr.join().unwrap()).unwrap();
        Run { code: status.code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The binary, without the variables of whoever runs the tests.
fn command() -> Command {
    command_through(&[])
}

fn command_through(words: &[String]) -> Command {
    let mut command = match words.split_first() {
        Some((program, rest)) => {
            let mut command = Command::new(program);
            command.args(rest).arg(BINARY);
            command
        }
        None => Command::new(BINARY),
    };
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CORELANE_") {
            command.env_remove(name);
        }
    }
    command
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

fn signal_child(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// How a broker is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Words before the binary's own: a program that runs it in other surroundings.
    through: Vec<String>,
    words: Vec<String>,
    cores: u16,
    environment: Vec<(String, String)>,
    log: PathBuf,
}

impl Launch {
    /// One core, any free port, little memory and disk.
    pub fn new(data_dir: &Path) -> Self {
        let words = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir.to_str().unwrap()];
        let launch = Self {
            through: Vec::new(),
            words: words.map(str::to_owned).to_vec(),
            cores: 1,
            environment: Vec::new(),
            log: data_dir.with_extension("log"),
        };
        launch
            .set("CORELANE_STORAGE_SEGMENT_BYTES", "16MiB")
            .set("CORELANE_STORAGE_PREPARE_BYTES_AT_START", "1MiB")
            .set("CORELANE_STORAGE_CACHE_BYTES", "16MiB")
    }

    pub fn cores(mut self, cores: u16) -> Self {
        self.cores = cores;
        self
    }

    pub fn shards(self, shards: u16) -> Self {
        self.word("--shards").word(&shards.to_string())
    }

    /// Where its log lines go; beside the data directory otherwise.
    pub fn log_at(mut self, path: &Path) -> Self {
        self.log = path.to_owned();
        self
    }

    pub fn word(mut self, word: &str) -> Self {
        self.words.push(word.to_owned());
        self
    }

    /// Starts the binary by another program, which must become it (`exec`).
    pub fn through<S: AsRef<str>>(mut self, words: &[S]) -> Self {
        self.through.extend(words.iter().map(|word| word.as_ref().to_owned()));
        self
    }

    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.words[2] = address.to_string();
        self
    }

    pub fn set(mut self, variable: &str, value: &str) -> Self {
        self.environment.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Starts it under a limit of the shell, such as `-n 100`.
    pub fn ulimit(self, limit: &str) -> Self {
        self.through(&["sh", "-c", &format!("ulimit {limit} && exec \"$@\""), "sh"])
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(&self) -> Server {
        self.try_start().unwrap_or_else(|failed| panic!("the server did not start: {failed:?}"))
    }

    /// Starts it; `Err` is how it ended before it was ready.
    pub fn try_start(&self) -> Result<Server, Run> {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut child = command_through(&self.through)
            .args(&self.words)
            .args((self.cores > 0).then(|| format!("--cores={}", self.cores)))
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let (tell, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).all(|line| tell.send(line).is_ok())
        });
        match lines.recv_timeout(DEADLINE) {
            Ok(ready_line) => {
                let address = ready_line
                    .strip_prefix("corelane ready on ")
                    .and_then(|rest| rest.split([' ', ';']).next())
                    .and_then(|address| address.parse().ok())
                    .unwrap_or_else(|| panic!("no address in {ready_line:?}"));
                Ok(Server { child, lines, address, ready_line, log: self.log.clone() })
            }
            Err(_) => {
                let status = wait_for("the server's end", || child.try_wait().unwrap());
                let stderr = std::fs::read_to_string(&self.log).unwrap();
                Err(Run { code: status.code(), stdout: Vec::new(), stderr })
            }
        }
    }
}

/// A running broker. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    lines: mpsc::Receiver<String>,
    pub address: SocketAddr,
    pub ready_line: String,
    log: PathBuf,
}

impl Server {
    /// Runs a client command against it, to its end.
    pub fn run<S: AsRef<str>>(&self, words: &[S]) -> Run {
        self.run_with(words, b"")
    }

    /// The same with `input` on its stdin.
    pub fn run_with<S: AsRef<str>>(&self, words: &[S], input: &[u8]) -> Run {
        Running::start(&self.words(words), &[]).finish_with(input)
    }

    /// Starts a client command against it.
    pub fn command<S: AsRef<str>>(&self, words: &[S]) -> Running {
        Running::start(&self.words(words), &[])
    }

    pub fn words<S: AsRef<str>>(&self, words: &[S]) -> Vec<String> {
        let own = words.iter().map(|word| word.as_ref().to_owned());
        own.chain(["--server".to_owned(), self.address.to_string()]).collect()
    }

    pub fn create(&self, topic: &str, partitions: u32) {
        self.run(&["topic", "create", topic, "--partitions", &partitions.to_string()]).ok();
    }

    /// Publishes the lines.
    pub fn publish(&self, topic: &str, lines: &str) {
        self.run_with(&["produce", topic], lines.as_bytes()).ok();
    }

    /// All values of a topic, in the order they come.
    #[track_caller]
    pub fn values(&self, topic: &str) -> Vec<String> {
        let run = self.run(&["consume", topic]).ok();
        run.text().lines().map(str::to_owned).collect()
    }

    /// The ports in the ready line, by core.
    pub fn direct_addresses(&self) -> Vec<SocketAddr> {
        let (_, rest) = self.ready_line.split_once("(direct port").unwrap();
        let (ports, _) = rest.trim_start_matches('s').split_once(')').unwrap();
        let ports = ports.split(',').map(|port| port.trim().parse().unwrap());
        ports.map(|port| SocketAddr::new(self.address.ip(), port)).collect()
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(mut self) {
        end(&mut self.child);
    }

    pub fn signal(&self, signal: Signal) {
        signal_child(&self.child, signal);
    }

    /// Waits for its end after a signal.
    pub fn wait(mut self) -> ExitStatus {
        wait_for("the server's end", || self.child.try_wait().unwrap())
    }

    /// Asks it to stop; it must do so with exit code 0, having printed its one line.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = wait_for("the server's end", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.log());
        assert_eq!(self.lines.iter().collect::<Vec<_>>(), [""; 0]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
        end(&mut self.child);
    }
}
