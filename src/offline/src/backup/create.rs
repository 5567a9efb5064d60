//! Making a set from a data directory whose server keeps its files as they are.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use model::{BackupPoint, SegmentPoint, ShardPoint};
use wal::directory::{SUPERBLOCK_BYTES, Superblock, identity, shard_name};
use wal::format::names;

use super::copy::{
    Place, Sink, Wanted, copy_checkpoint, copy_segment, damaged, first_block, footer_crc,
};
use super::set::{BackupSet, CheckpointFile, FooterPlace, SET_FORMAT, SegmentFile, ShardSet};
use super::store::{
    FILE_MODE, SET_NAME, Store, check_name, make_folder, new_file, sync_folder, write_whole,
};
use super::{BackupError, failed};

const SUPERBLOCK_NAME: &str = "corelane.dir";

/// How the set is called and when it was made.
#[derive(Clone, Debug)]
pub struct NewSet {
    pub name: String,
    pub created_ms: i64,
    pub created: String,
}

/// How far the copying has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes copied, of those that are to be.
    pub bytes: u64,
    pub bytes_total: u64,
}

/// What was copied and what was there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub bytes: u64,
    pub segments_copied: u64,
    pub segments_kept: u64,
    pub checkpoints: u64,
}

/// Told of the progress, and asked whether to go on.
pub trait Watch {
    /// # Errors
    /// Why the copying is to stop.
    fn went_on(&mut self, progress: &Progress) -> Result<(), String>;
}

/// Copies what `point` names out of the data directory into a new set of `store`. The set counts
/// when this returns.
///
/// # Errors
/// See [`BackupError`]; the set is then cleared away.
pub fn create(
    store: &Store,
    new: &NewSet,
    point: &BackupPoint,
    nonce: &[u8],
    watch: &mut dyn Watch,
) -> Result<(BackupSet, Copied), BackupError> {
    check_name(&new.name)?;
    let data_dir = PathBuf::from(&point.data_dir);
    let (superblock, bytes) = read_superblock(&data_dir, point, nonce)?;
    if let Err(error) = refuse_inside(store.path(), &data_dir) {
        store.unmake();
        return Err(error);
    }
    store.claim(&superblock.secret)?;
    store.clear()?;
    let folder = store.set_path(&new.name);
    if folder.exists() {
        return Err(BackupError::SetExists { name: new.name.clone() });
    }
    make_folder(&folder)?;
    let mut making = Making {
        store,
        name: &new.name,
        data_dir: &data_dir,
        superblock,
        watch,
        progress: Progress { bytes: 0, bytes_total: bytes_total(point) },
        copied: Copied::default(),
    };
    let made = making.make(new, point, &bytes);
    if made.is_err() {
        // The next one would do it as well.
        let _ = fs::remove_dir_all(&folder);
    }
    Ok((made?, making.copied))
}

/// The data directory's superblock, if the directory is the server's.
fn read_superblock(
    data_dir: &Path,
    point: &BackupPoint,
    nonce: &[u8],
) -> Result<(Superblock, Vec<u8>), BackupError> {
    let path = data_dir.join(SUPERBLOCK_NAME);
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(SUPERBLOCK_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| BackupError::Unreadable { path: data_dir.to_owned(), error })?;
    let superblock =
        Superblock::parse(&bytes).map_err(|error| damaged(&path, 0, error.to_string()))?;
    let same = identity(&superblock.secret, nonce) == point.identity
        && usize::from(superblock.shards) == point.shards.len()
        && (0..).zip(&point.shards).all(|(number, shard)| shard.shard.0 == number);
    if !same {
        return Err(BackupError::NotTheServers { path: data_dir.to_owned() });
    }
    Ok((superblock, bytes))
}

fn refuse_inside(store: &Path, data_dir: &Path) -> Result<(), BackupError> {
    let real = |path: &Path| fs::canonicalize(path).map_err(failed("find", path));
    if real(store)?.starts_with(real(data_dir)?) {
        return Err(BackupError::Inside { path: store.to_owned() });
    }
    Ok(())
}

fn bytes_total(point: &BackupPoint) -> u64 {
    point.shards.iter().flat_map(|shard| &shard.segments).map(|segment| segment.data_end).sum()
}

struct Making<'a> {
    store: &'a Store,
    name: &'a str,
    data_dir: &'a Path,
    superblock: Superblock,
    watch: &'a mut dyn Watch,
    progress: Progress,
    copied: Copied,
}

impl Making<'_> {
    fn make(
        &mut self,
        new: &NewSet,
        point: &BackupPoint,
        superblock: &[u8],
    ) -> Result<BackupSet, BackupError> {
        // Only the owner may read the secret.
        write_whole(&self.store.superblock_path(self.name), superblock, 0o600)?;
        let mut shards = Vec::new();
        for shard in &point.shards {
            make_folder(&self.store.set_path(self.name).join(shard_name(shard.shard.0)))?;
            make_folder(&self.store.segments_path(shard.shard.0))?;
            // Checkpoints first: they are what changes soonest.
            let checkpoints = self.checkpoints(shard)?;
            let segments = self.segments(shard)?;
            for folder in [
                self.store.set_path(self.name).join(shard_name(shard.shard.0)),
                self.store.segments_path(shard.shard.0),
            ] {
                sync_folder(&folder)?;
            }
            shards.push(ShardSet {
                shard: shard.shard.0,
                incarnation: shard.incarnation,
                durable_lsn: shard.durable_lsn.0,
                last_sequence: shard.last_sequence,
                checkpoints,
                segments,
            });
        }
        let set = BackupSet {
            format: SET_FORMAT,
            name: new.name.clone(),
            created_ms: new.created_ms,
            created: new.created.clone(),
            data_dir: point.data_dir.clone(),
            block_bytes: self.superblock.block_bytes,
            shards,
        };
        let path = self.store.set_path(self.name).join(SET_NAME);
        let text = set.to_text().map_err(|error| BackupError::Set { path: path.clone(), error })?;
        write_whole(&path, text.as_bytes(), FILE_MODE)?;
        Ok(set)
    }

    fn place(&self, shard: &ShardPoint) -> Place {
        Place {
            secret: self.superblock.secret,
            shard: shard.shard.0,
            unit: self.superblock.block_bytes as usize,
        }
    }

    fn checkpoints(&mut self, shard: &ShardPoint) -> Result<Vec<CheckpointFile>, BackupError> {
        let mut found = Vec::new();
        for (_, end) in &shard.checkpoints {
            let name = names::checkpoint(*end);
            let from_path = self.data_dir.join(shard_name(shard.shard.0)).join(&name);
            let to_path = self.store.checkpoint_path(self.name, shard.shard.0, *end);
            let place = self.place(shard);
            let from = File::open(&from_path).map_err(failed("read", &from_path))?;
            let to = new_file(&to_path)?;
            let mut went_on = |bytes| self.copied_bytes(bytes, false);
            let mut sink = Sink { file: Some((&to, &to_path)), block: None, went_on: &mut went_on };
            found.push(copy_checkpoint(&place, *end, &from, &from_path, &mut sink)?);
            to.sync_all().map_err(failed("sync", &to_path))?;
            self.copied.checkpoints += 1;
        }
        Ok(found)
    }

    /// The segments, and that they are one log which ends where the server said.
    fn segments(&mut self, shard: &ShardPoint) -> Result<Vec<SegmentFile>, BackupError> {
        let mut found: Vec<SegmentFile> = Vec::new();
        for segment in &shard.segments {
            let file = self.segment(shard, segment)?;
            // A segment between may have been used again: the log's numbers leap there.
            if let Some(before) = found.last()
                && before.last_sequence + 1 == file.first_sequence
                && before.last_crc != file.previous_crc
            {
                let path = self.segment_path(shard, segment);
                let what = "the segment does not follow the one before";
                return Err(damaged(&path, self.superblock.block_bytes.into(), what));
            }
            found.push(file);
        }
        let end = found.last().map_or((0, 0), |last| (last.last_lsn, last.last_sequence));
        if !found.is_empty() && end != (shard.durable_lsn.0, shard.last_sequence) {
            let path = self.data_dir.join(shard_name(shard.shard.0));
            let what = format!(
                "the log ends with entry {} of block {}, and the server had entry {} of block {}",
                end.0, end.1, shard.durable_lsn, shard.last_sequence
            );
            return Err(damaged(&path, 0, what));
        }
        Ok(found)
    }

    fn segment_path(&self, shard: &ShardPoint, segment: &SegmentPoint) -> PathBuf {
        self.data_dir.join(shard_name(shard.shard.0)).join(names::segment(segment.number))
    }

    fn segment(
        &mut self,
        shard: &ShardPoint,
        segment: &SegmentPoint,
    ) -> Result<SegmentFile, BackupError> {
        let wanted = Wanted {
            number: segment.number,
            generation: segment.generation,
            bytes: segment.bytes,
            data_end: segment.data_end,
            sealed: segment.sealed,
        };
        let place = self.place(shard);
        let from_path = self.segment_path(shard, segment);
        let from = File::open(&from_path).map_err(failed("read", &from_path))?;
        if segment.sealed
            && let Some(kept) = self.kept(&place, &wanted, &from, &from_path)?
        {
            self.copied.segments_kept += 1;
            self.tell(segment.data_end)?;
            return Ok(kept);
        }
        let own = self
            .store
            .set_path(self.name)
            .join(shard_name(shard.shard.0))
            .join(names::segment(segment.number));
        let to = new_file(&own)?;
        let mut went_on = |bytes| self.copied_bytes(bytes, true);
        let mut sink = Sink { file: Some((&to, &own)), block: None, went_on: &mut went_on };
        let file = copy_segment(&place, &wanted, &from, &from_path, &mut sink)?;
        to.sync_all().map_err(failed("sync", &own))?;
        self.copied.segments_copied += 1;
        // Sealed and whole: from now on it is every set's.
        let path = self.store.segment_path(self.name, shard.shard.0, &file);
        if path != own {
            fs::rename(&own, &path).map_err(failed("rename", &own))?;
        }
        Ok(file)
    }

    /// A sealed segment that an earlier set has brought.
    fn kept(
        &self,
        place: &Place,
        wanted: &Wanted,
        from: &File,
        from_path: &Path,
    ) -> Result<Option<SegmentFile>, BackupError> {
        let Some((trailer, crc)) = footer_crc(place, wanted, from, from_path)? else {
            return Ok(None);
        };
        let path = self.store.shared_path(place.shard, wanted.number, wanted.generation, crc);
        let kept = match File::open(&path) {
            Ok(kept) => kept,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let whole = kept.metadata().map_err(failed("read", &path))?.len() == wanted.bytes;
        if !whole || footer_crc(place, wanted, &kept, &path)?.map(|(_, kept)| kept) != Some(crc) {
            return Ok(None);
        }
        let first = first_block(place, wanted, &kept, &path)?;
        Ok(Some(SegmentFile {
            number: wanted.number,
            generation: wanted.generation,
            bytes: wanted.bytes,
            data_end: wanted.data_end,
            first_lsn: first.first_lsn,
            last_lsn: trailer.last_lsn,
            first_sequence: first.sequence,
            last_sequence: trailer.last_sequence,
            previous_crc: first.previous_crc,
            last_crc: trailer.last_crc,
            footer: Some(FooterPlace { at: trailer.body_offset.into(), crc }),
        }))
    }

    fn copied_bytes(&mut self, bytes: u64, counts: bool) -> Result<(), BackupError> {
        self.copied.bytes += bytes;
        self.tell(if counts { bytes } else { 0 })
    }

    fn tell(&mut self, bytes: u64) -> Result<(), BackupError> {
        self.progress.bytes = (self.progress.bytes + bytes).min(self.progress.bytes_total);
        self.watch.went_on(&self.progress).map_err(|reason| BackupError::Stopped { reason })
    }
}
