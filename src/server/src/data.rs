//! Opening the data directory: where it lies, whose it is, whether its files fit the process.

use std::path::{Path, PathBuf};

use wal::directory::{self, DataDirectory};

use crate::config::ServerConfig;
use crate::descriptors::connections_per_core_max;
use crate::medium::{self, MediumError, ShardMedium};
use crate::start::StartError;

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

impl OpenData {
    pub fn open(config: &ServerConfig) -> Result<Self, StartError> {
        let (directory, created) = open_directory(config)?;
        let (mediums, refused) = shard_mediums(config, &directory)?;
        let cores = u16::try_from(config.placement.cores()).unwrap_or(u16::MAX);
        let paths: Vec<PathBuf> =
            (0..directory.shards()).map(|shard| directory.shard_path(shard)).collect();
        let connections_per_core_max =
            connections_per_core_max(config.connections_per_core_max, cores, &paths)?;
        Ok(Self { directory, created, mediums, refused, connections_per_core_max })
    }

    pub fn is_volatile(&self) -> bool {
        self.mediums.iter().flatten().any(|medium| medium.volatile)
    }
}

/// Opens the data directory, or makes it where there is none.
fn open_directory(config: &ServerConfig) -> Result<(DataDirectory, bool), StartError> {
    let path = absolute(&config.data_dir)?;
    medium::check_place(&path, &config.storage)?;
    if !directory::exists(&path) {
        let shards = config
            .shards
            .unwrap_or_else(|| u16::try_from(config.placement.cores()).unwrap_or(u16::MAX));
        let mut secret = [0u8; 16];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| StartError::Io { doing: "get random bytes", error: errno.into() })?;
        return Ok((directory::create(&path, shards, secret)?, true));
    }
    let data = directory::open(&path)?;
    if let Some(asked) = config.shards
        && asked != data.shards()
    {
        return Err(StartError::ShardCount { path, found: data.shards(), asked });
    }
    if !data.is_finished() {
        empty_shards(&data)?;
    }
    Ok((data, false))
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

/// A directory whose making was cut short has promised nothing: its logs are made anew.
fn empty_shards(data: &DataDirectory) -> Result<(), StartError> {
    let io = |error| StartError::Io { doing: "empty an unfinished data directory", error };
    for shard in 0..data.shards() {
        for entry in std::fs::read_dir(data.shard_path(shard)).map_err(io)? {
            std::fs::remove_file(entry.map_err(io)?.path()).map_err(io)?;
        }
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, StartError> {
    std::path::absolute(path)
        .map_err(|error| StartError::Io { doing: "find the data directory", error })
}
