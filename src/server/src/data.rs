//! The data directory: where it lies and whose it is, found out before anything is made; then
//! opened, made, or, where its making was cut short, begun again.

use std::path::{Path, PathBuf};

use wal::directory::{self, DataDirectory};

use crate::config::ServerConfig;
use crate::descriptors::connections_per_core_max;
use crate::medium::{self, MediumError, ShardMedium};
use crate::start::StartError;

/// The place of the data directory, looked at. What is there already is locked; nothing is made.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    shards: u16,
    /// What is there, finished or not.
    found: Option<DataDirectory>,
    connections_per_core_max: usize,
}

/// The data directory, locked, and what has been found of it.
#[derive(Debug)]
pub struct OpenData {
    pub directory: DataDirectory,
    /// Made by this start.
    pub created: bool,
    /// By shard; `None` where the shard's directory is missing.
    pub mediums: Vec<Option<ShardMedium>>,
    /// By shard: why its disk cannot be used, if it cannot; the other shards are served.
    pub refused: Vec<Option<String>>,
    /// What the limit of open files leaves beside the logs.
    pub connections_per_core_max: usize,
}

impl Place {
    /// Judges the place, and opens what is there. Everything that can be refused before a data
    /// directory is made is refused here.
    pub fn find(config: &ServerConfig) -> Result<Self, StartError> {
        let path = absolute(&config.data_dir)?;
        medium::check_place(&path, &config.storage)?;
        let found = match directory::exists(&path) {
            true => Some(directory::open(&path)?),
            false => None,
        };
        let cores = u16::try_from(config.placement.cores()).unwrap_or(u16::MAX);
        let asked = config.shards.unwrap_or(cores);
        let shards = match &found {
            Some(data) if data.is_finished() => {
                let found = data.shards();
                if config.shards.is_some_and(|asked| asked != found) {
                    return Err(StartError::ShardCount { path, found, asked });
                }
                found
            }
            // Nothing was ever stored in it: it becomes what is asked for now.
            Some(_) => asked,
            None => {
                directory::check_new(&path, asked)?;
                asked
            }
        };
        if !found.as_ref().is_some_and(DataDirectory::is_finished) {
            medium::check_unmade(&path, shards, &config.storage)?;
        }
        let folders: Vec<PathBuf> =
            (0..shards).map(|shard| path.join(directory::shard_name(shard))).collect();
        let connections_per_core_max = connections_per_core_max(
            config.connections_per_core_max,
            cores,
            config.storage.pool_segments,
            &folders,
        )?;
        Ok(Self { path, shards, found, connections_per_core_max })
    }

    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Opens the data directory, or makes it where there is none, or only a beginning.
    pub fn open(self, config: &ServerConfig) -> Result<OpenData, StartError> {
        let directory = match self.found {
            None => directory::create(&self.path, self.shards, secret()?)?,
            Some(mut data) => {
                if !data.is_finished() {
                    tracing::info!(
                        path = %self.path.display(),
                        "the making of the data directory was cut short; it is begun again"
                    );
                    data.begin_again(self.shards)?;
                }
                data
            }
        };
        let created = !directory.is_finished();
        let (mediums, refused) = shard_mediums(config, &directory)?;
        let connections_per_core_max = self.connections_per_core_max;
        Ok(OpenData { directory, created, mediums, refused, connections_per_core_max })
    }
}

impl OpenData {
    pub fn is_volatile(&self) -> bool {
        self.mediums.iter().flatten().any(|medium| medium.volatile)
    }
}

fn secret() -> Result<[u8; 16], StartError> {
    let mut secret = [0u8; 16];
    rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| StartError::Io { doing: "get random bytes", error: errno.into() })?;
    Ok(secret)
}

/// What each shard's files stand on, `None` where a shard's directory is missing; and why a shard's
/// disk cannot be used. A bad disk under some shards is theirs alone, unless it is under all.
#[allow(clippy::type_complexity)]
fn shard_mediums(
    config: &ServerConfig,
    data: &DataDirectory,
) -> Result<(Vec<Option<ShardMedium>>, Vec<Option<String>>), StartError> {
    let mut mediums = Vec::new();
    let mut refused: Vec<Option<MediumError>> = Vec::new();
    for shard in 0..data.shards() {
        let path = data.shard_path(shard);
        match medium::of_shard(&path, data.path(), data.block_bytes(), &config.storage) {
            Ok(medium) => {
                mediums.push(medium);
                refused.push(None);
            }
            Err(error) if error.is_of_the_disk() && data.is_finished() => {
                mediums.push(None);
                refused.push(Some(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if refused.iter().all(Option::is_some)
        && let Some(error) = refused.iter_mut().find_map(Option::take)
    {
        return Err(error.into());
    }
    medium::warn_of_buffered(data.path(), &mediums);
    Ok((mediums, refused.iter().map(|one| one.as_ref().map(ToString::to_string)).collect()))
}

fn absolute(path: &Path) -> Result<PathBuf, StartError> {
    std::path::absolute(path)
        .map_err(|error| StartError::Io { doing: "find the data directory", error })
}
