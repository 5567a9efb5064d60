//! `corelane backup create`: the files are copied on a thread of their own while the server is told
//! now and then that the backup is alive.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{Backup, BackupPoint, Client, ErrorCode};
use offline::backup::{BackupError, BackupSet, Copied, NewSet, Progress, Store, Watch, create};
use serde_json::json;

use super::progress::{Bar, seconds_since};
use crate::args::{Output, ServerArg};
use crate::commands::Outcome;
use crate::commands::connect::with_operator;
use crate::commands::error::CommandError;
use crate::commands::output::{human_bytes, print, print_json};

/// What the server hears of at least so often, compared with what it allows.
const KEEPS_PER_SILENCE: u32 = 6;

pub fn run(
    to: &Path,
    name: Option<String>,
    server: &ServerArg,
    form: Output,
) -> Result<Outcome, CommandError> {
    let began = Instant::now();
    let new = new_set(name);
    // Before the server is asked to keep anything: whatever is wrong with the place is said now.
    let store = Store::open_or_make(to)?;
    let (set, copied) = with_operator(server, async |client| make(client, store, new).await)?;
    report(to, &set, &copied, seconds_since(began), form)?;
    Ok(Outcome::Done)
}

fn new_set(name: Option<String>) -> NewSet {
    let now = jiff::Timestamp::now();
    NewSet {
        name: name.unwrap_or_else(|| now.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()),
        created_ms: now.as_millisecond(),
        created: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }
}

async fn make(
    client: Client,
    store: Store,
    new: NewSet,
) -> Result<(BackupSet, Copied), CommandError> {
    let mut nonce = [0u8; 16];
    rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| CommandError::Random(errno.into()))?;
    let backup = client.begin_backup(nonce).await?;
    let broken = Arc::new(Mutex::new(None));
    let watch = Live { bar: Bar::new(), broken: Arc::clone(&broken) };
    let point = backup.point().clone();
    let mut copying =
        tokio::task::spawn_blocking(move || copy(&store, &new, &point, &nonce, watch));
    let every = Duration::from_millis(backup.point().silent_ms_max.into()) / KEEPS_PER_SILENCE;
    let copied = loop {
        match tokio::time::timeout(every, &mut copying).await {
            Ok(joined) => {
                break joined.map_err(|error| CommandError::Copying(error.to_string()))?;
            }
            Err(_) => {
                if let Err(error) = backup.keep().await {
                    *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(sentence(&error));
                }
            }
        }
    };
    finish(backup, copied).await
}

/// Tells the server that it may go on with its files. Whatever was not there any more, or had
/// changed, may be so because the server could not keep it: then that is the reason.
async fn finish(
    backup: Backup,
    copied: Result<(BackupSet, Copied), BackupError>,
) -> Result<(BackupSet, Copied), CommandError> {
    let ended = backup.end().await;
    match (copied, ended) {
        // All is copied and checked: what became of the server since does not matter.
        (Ok(made), _) => Ok(made),
        (Err(BackupError::Io { .. } | BackupError::Damaged { .. }), Err(error))
            if error.code() == Some(ErrorCode::BackupBroken) =>
        {
            Err(CommandError::Backup(BackupError::Stopped { reason: sentence(&error) }))
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn copy(
    store: &Store,
    new: &NewSet,
    point: &BackupPoint,
    nonce: &[u8],
    mut watch: Live,
) -> Result<(BackupSet, Copied), BackupError> {
    let made = create(store, new, point, nonce, &mut watch);
    watch.bar.finish();
    made
}

/// Shows the progress and stops the copying once the server has given the backup up.
struct Live {
    bar: Bar,
    broken: Arc<Mutex<Option<String>>>,
}

impl Watch for Live {
    fn went_on(&mut self, progress: &Progress) -> Result<(), String> {
        self.bar.show(progress.bytes, progress.bytes_total);
        match self.broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }
}

fn sentence(error: &client::Error) -> String {
    match error {
        client::Error::Server(rejection) => rejection.message.clone(),
        error => error.to_string(),
    }
}

fn report(
    to: &Path,
    set: &BackupSet,
    copied: &Copied,
    seconds: f64,
    form: Output,
) -> Result<(), CommandError> {
    match form {
        Output::Text => print(&format!(
            "backup {} in {}: {} shards, {} of log; copied {} in {seconds:.1} s ({} segments, {} \
             checkpoints), kept {} segments of earlier backups\n",
            set.name,
            to.display(),
            set.shards.len(),
            human_bytes(set.data_bytes()),
            human_bytes(copied.bytes),
            copied.segments_copied,
            copied.checkpoints,
            copied.segments_kept,
        )),
        Output::Json => print_json(&json!({
            "backup": set.name,
            "directory": to.display().to_string(),
            "shards": set.shards.len(),
            "bytes": set.data_bytes(),
            "bytes_copied": copied.bytes,
            "segments_copied": copied.segments_copied,
            "segments_kept": copied.segments_kept,
            "checkpoints": copied.checkpoints,
            "seconds": seconds,
            "durable_lsns": super::lsns(set),
        })),
    }
}
