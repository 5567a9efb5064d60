//! The crash scenario: durable producers, `kill -9` at random moments, and an audit after every
//! restart.
//!
//! It holds the broker to these promises, whatever the moment of the kill:
//! - a message acknowledged durable is there, at the offset it was acknowledged with;
//! - every message is there once, each producer's in order, although the client sends again what
//!   went unanswered;
//! - an offset that was acknowledged or shown never gets another message.

mod audit;
mod message;
mod producers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use self::audit::Audit;
use self::producers::{Ledger, Pace};
use crate::process::{self, Launch, ProcessError, Server};
use crate::random::Random;

const TOPIC: &str = "crash";
const PRODUCERS: u16 = 4;
const PARTITIONS: u32 = 3;
/// A run that would take longer makes fewer rounds.
const ROUNDS_TIME_MAX: Duration = Duration::from_secs(140);
/// A run that has not ended by then has failed.
const TIME_MAX: Duration = Duration::from_secs(180);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// A producer's last messages have to be acknowledged within this.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `corelane` binary.
    pub program: PathBuf,
    /// Where the data directory is made, and removed at the end of a good run.
    pub folder: PathBuf,
    pub rounds: u32,
    pub seed: u64,
    /// Messages a second of each producer at most.
    pub rate: u32,
    /// Longest time between a start and its kill.
    pub life_max: Duration,
    /// A line on stderr for each round.
    pub verbose: bool,
}

/// What a good run has done.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub rounds: u32,
    /// Kills before the server was ready.
    pub killed_while_starting: u32,
    pub acknowledged: usize,
    pub messages: usize,
    /// The longest start after a kill.
    pub start_max: Duration,
    pub time: Duration,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    #[error("BROKEN PROMISE: {0}")]
    Violated(String),
    #[error("cannot {doing}: {source}")]
    Client { doing: &'static str, source: client::Error },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("no record came within {0:?}")]
    NoRecord(Duration),
    #[error("the run did not end within {0:?}")]
    TooLong(Duration),
    #[error("a producer ended early: {0}")]
    Producer(String),
    #[error("{doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
}

impl CrashError {
    fn client(doing: &'static str) -> impl FnOnce(client::Error) -> Self {
        move |source| Self::Client { doing, source }
    }
}

/// Makes a run. On an error the data directory is left where the error's text says.
pub fn run(options: &Options) -> Result<Report, CrashError> {
    let io = |doing| move |source| CrashError::Io { doing, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("start the runtime"))?;
    let folder = tempfile::Builder::new()
        .prefix("corelane-crash-")
        .tempdir_in(&options.folder)
        .map_err(io("make a folder"))?;
    let result = runtime.block_on(async {
        let run = Run::start(options, folder.path()).await?.run();
        timeout(TIME_MAX, run).await.map_err(|_| CrashError::TooLong(TIME_MAX))?
    });
    if result.is_err() {
        eprintln!("the data directory is kept in {}", folder.keep().display());
    }
    result
}

struct Run<'a> {
    options: &'a Options,
    random: Random,
    launch: Launch,
    ledger: Arc<Ledger>,
    audit: Audit,
    producers: Vec<JoinHandle<Result<u64, CrashError>>>,
    stop: watch::Sender<bool>,
    began: Instant,
    server: Option<Server>,
    report: Report,
}

impl<'a> Run<'a> {
    /// Starts the server for the first time, makes the topic and the producers.
    async fn start(options: &'a Options, folder: &Path) -> Result<Self, CrashError> {
        let mut random = Random::new(options.seed);
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let launch = Launch {
            program: options.program.clone(),
            data_dir: folder.join("data"),
            // The port is no part of the seed: two runs of one seed may go side by side.
            address: process::stable_address(&mut Random::new(u64::from(std::process::id())))?,
            log_file: folder.join("server.log"),
            // Small, so that segments are sealed and checkpoints made while it is killed.
            environment: vec![
                setting("CORELANE_STORAGE_SEGMENT_BYTES", "16MiB"),
                setting("CORELANE_STORAGE_CACHE_BYTES", "64MiB"),
            ],
            arguments: ["--cores", "2", "--shards", "2"].map(str::to_owned).to_vec(),
        };
        let mut server = Server::spawn(&launch)?;
        server.ready().await?;
        let client = connect(&launch).await?;
        let topic = client.create_topic(TOPIC).partitions(PARTITIONS).send();
        topic.await.map_err(CrashError::client("create the topic"))?;
        let (stop, stopped) = watch::channel(false);
        let ledger = Arc::new(Ledger::default());
        let mut producers = Vec::new();
        for number in 0..PRODUCERS {
            let pace = Pace { partitions: PARTITIONS, rate: options.rate };
            let client = connect(&launch).await?;
            let (ledger, stopped) = (Arc::clone(&ledger), stopped.clone());
            producers.push(producers::spawn(number, client, pace, ledger, stopped));
        }
        let report = Report {
            seed: options.seed,
            rounds: 0,
            killed_while_starting: 0,
            acknowledged: 0,
            messages: 0,
            start_max: Duration::ZERO,
            time: Duration::ZERO,
        };
        Ok(Self {
            options,
            random: std::mem::replace(&mut random, Random::new(0)),
            launch,
            ledger,
            audit: Audit::new(PARTITIONS),
            producers,
            stop,
            began: Instant::now(),
            server: Some(server),
            report,
        })
    }

    async fn run(mut self) -> Result<Report, CrashError> {
        for round in 1..=self.options.rounds {
            if self.began.elapsed() > ROUNDS_TIME_MAX {
                break;
            }
            self.live_and_die().await?;
            let promised = self.ledger.snapshot();
            self.start_again().await?;
            let client = connect(&self.launch).await?;
            self.audit.check(&client, &promised).await?;
            self.report.rounds = round;
            self.say(&format!(
                "round {round}: {} acknowledged before the kill, {} messages found",
                promised.len(),
                self.audit.messages()
            ));
        }
        self.finish().await
    }

    /// Lets the server live for a random time, then kills it.
    async fn live_and_die(&mut self) -> Result<(), CrashError> {
        let life_ms = self.options.life_max.as_millis() as u64;
        let life = Duration::from_millis(self.random.between(10, life_ms.max(20)));
        sleep(life).await;
        if let Some(ended) = self.producers.iter().position(JoinHandle::is_finished) {
            return match self.producers.swap_remove(ended).await {
                Ok(Err(error)) => Err(error),
                other => Err(CrashError::Producer(format!("{other:?}"))),
            };
        }
        let Some(mut server) = self.server.take() else { return Ok(()) };
        if let Some(status) = server.ended()? {
            return Err(server.failed(&format!("ended by itself with {status}")).into());
        }
        server.kill()?;
        Ok(())
    }

    /// Starts the server; now and then kills it in the middle of that and starts it once more.
    async fn start_again(&mut self) -> Result<(), CrashError> {
        if self.random.between(0, 3) == 0 {
            let server = Server::spawn(&self.launch)?;
            sleep(Duration::from_millis(self.random.between(0, 150))).await;
            server.kill()?;
            self.report.killed_while_starting += 1;
        }
        let began = Instant::now();
        let mut server = Server::spawn(&self.launch)?;
        server.ready().await?;
        self.report.start_max = self.report.start_max.max(began.elapsed());
        self.server = Some(server);
        Ok(())
    }

    /// Ends the producers, checks all they were promised, stops the server and audits its log.
    async fn finish(mut self) -> Result<Report, CrashError> {
        let _ = self.stop.send(true);
        let mut sent = 0;
        for producer in self.producers.drain(..) {
            let ended = timeout(FINISH_TIMEOUT, producer).await;
            let ended = ended.map_err(|_| CrashError::TooLong(FINISH_TIMEOUT))?;
            sent += ended.map_err(|error| CrashError::Producer(error.to_string()))??;
        }
        let promised = self.ledger.snapshot();
        let client = connect(&self.launch).await?;
        self.audit.check(&client, &promised).await?;
        drop(client);
        if promised.len() as u64 != sent || self.audit.messages() as u64 != sent {
            return Err(CrashError::Violated(format!(
                "{sent} messages were sent, {} acknowledged, {} found",
                promised.len(),
                self.audit.messages()
            )));
        }
        if let Some(server) = self.server.take() {
            server.stop(STOP_TIMEOUT).await?;
        }
        let verdict = process::verify(&self.launch.program, &self.launch.data_dir)?;
        self.say(&verdict);
        self.report.acknowledged = promised.len();
        self.report.messages = self.audit.messages();
        self.report.time = self.began.elapsed();
        Ok(self.report)
    }

    fn say(&self, line: &str) {
        if self.options.verbose {
            eprintln!("{line}");
        }
    }
}

async fn connect(launch: &Launch) -> Result<Client, CrashError> {
    let client = Client::builder().server(launch.address.to_string()).client_name("load-test");
    client.build().await.map_err(CrashError::client("connect"))
}
