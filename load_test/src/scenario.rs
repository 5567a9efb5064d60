//! The frame of every scenario: a runtime, a folder, a longest time, and an end by signal. In every
//! outcome the servers started are killed, because each is owned by the future that ends here. And
//! the scene of most: a broker, and a load on it that knows what it was promised.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};

use crate::broker::Broker;
use crate::error::ScenarioError;
use crate::process::Launch;
use crate::traffic::{Plan, Totals, Traffic};

/// Runs `scenario` in a folder of its own below `parent`, at most for `time_max`. The folder is
/// removed, but kept after a failure, where standard error says.
pub fn run<F, T>(
    parent: &Path,
    name: &str,
    time_max: Duration,
    scenario: impl FnOnce(PathBuf) -> F,
) -> Result<T, ScenarioError>
where
    F: Future<Output = Result<T, ScenarioError>>,
{
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ScenarioError::io("start the runtime"))?;
    let folder = tempfile::Builder::new()
        .prefix(&format!("corelane-{name}-"))
        .tempdir_in(parent)
        .map_err(ScenarioError::io("make a folder"))?;
    let path = folder.path().to_owned();
    let result = runtime.block_on(async {
        tokio::select! {
            result = timeout(time_max, scenario(path)) => {
                result.map_err(|_| ScenarioError::TooLong { what: "the run", after: time_max })?
            }
            () = interrupted() => Err(ScenarioError::Interrupted),
        }
    });
    if result.as_ref().is_err_and(|error| !matches!(error, ScenarioError::Interrupted)) {
        eprintln!("the data directory is kept in {}", folder.keep().display());
    }
    result
}

/// A broker under load.
#[derive(Debug)]
pub struct Scene {
    /// Dropped before the traffic, which outlives any server.
    pub broker: Broker,
    pub traffic: Traffic,
    began: Instant,
}

/// How a scene has ended well.
#[derive(Debug)]
pub struct Finished {
    pub totals: Totals,
    /// From the begin of the load to its end, the last audit included.
    pub time: Duration,
    /// What the audit of the log says.
    pub verdict: String,
}

impl Scene {
    /// Starts the broker, and the load as `plan` makes it for the broker's address.
    pub async fn start(
        launch: Launch,
        plan: impl FnOnce(SocketAddr) -> Plan,
    ) -> Result<Self, ScenarioError> {
        Self::set(Broker::start(launch).await?, plan).await
    }

    /// The same with a broker that runs.
    pub async fn set(
        broker: Broker,
        plan: impl FnOnce(SocketAddr) -> Plan,
    ) -> Result<Self, ScenarioError> {
        let traffic = Traffic::start(plan(broker.address())).await?;
        Ok(Self { broker, traffic, began: Instant::now() })
    }

    /// How long the load goes on.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// An error when the server, a producer or a follower has ended by itself.
    pub async fn check_alive(&mut self) -> Result<(), ScenarioError> {
        self.broker.check()?;
        self.traffic.check_alive().await
    }

    /// That, and an audit of all that is promised now.
    pub async fn check(&mut self) -> Result<(), ScenarioError> {
        self.check_alive().await?;
        let promised = self.traffic.promised();
        self.traffic.check(&promised).await
    }

    /// Ends the load, checks all that is kept, stops the server and audits its log.
    pub async fn finish(mut self) -> Result<Finished, ScenarioError> {
        let totals = self.traffic.finish().await?;
        let time = self.elapsed();
        let verdict = self.broker.finish().await?;
        Ok(Finished { totals, time, verdict })
    }
}

async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Scenarios open thousands of connections.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
