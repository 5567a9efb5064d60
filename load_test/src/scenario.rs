//! The frame of every scenario: a runtime, a folder, a longest time, and an end by signal. In every
//! outcome the servers started are killed, because each is owned by the future that ends here.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::error::ScenarioError;

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
