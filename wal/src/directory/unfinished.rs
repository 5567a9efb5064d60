//! A directory whose making was cut short. Nothing in it was ever promised, so it is begun again
//! with whatever is asked for now. Only what a start of ours makes is taken away: other files
//! stay, and a log of another directory (a wrong mount) is refused.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::{
    DataDirectory, DirectoryError, block_bytes_at, check_shards, failed, make_directory,
    shard_number,
};
use crate::device::PROBE_NAME;
use crate::format::names;
use crate::format::segment::{Claim, HEADER_BYTES};

impl DataDirectory {
    /// Begins an unfinished directory again, for `shards` shards, whatever it was begun for.
    ///
    /// When this returns, the superblock and the shards' directories are durable, and none holds a
    /// log. A cut on the way leaves it unfinished, to be begun again.
    ///
    /// # Errors
    /// `Shards`, `ForeignLog`, and what the system says.
    ///
    /// # Panics
    /// When the directory is finished.
    pub fn begin_again(&mut self, shards: u16) -> Result<(), DirectoryError> {
        assert!(!self.superblock.finished, "a finished directory is never begun again");
        check_shards(shards)?;
        let folders = shard_folders(&self.path)?;
        for (_, folder) in &folders {
            refuse_foreign_log(folder, &self.superblock.secret)?;
        }
        for (_, folder) in &folders {
            empty(folder)?;
        }
        remove_beyond(&folders, shards);
        for shard in 0..shards {
            make_directory(&self.shard_path(shard))?;
        }
        self.superblock.shards = shards;
        self.superblock.block_bytes = block_bytes_at(&self.path)?;
        self.write_superblock()
    }
}

/// The shards' directories there are, by number.
pub(super) fn shard_folders(path: &Path) -> Result<Vec<(u16, PathBuf)>, DirectoryError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed("read the directory", path))? {
        let entry = entry.map_err(failed("read the directory", path))?;
        if let Some(number) = shard_number(&entry.file_name().to_string_lossy())
            && entry.path().is_dir()
        {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether a shard's directory holds nothing but what a start cut short or a new filesystem leaves.
pub(super) fn holds_nothing(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.all(|entry| {
            entry.is_ok_and(|entry| {
                let name = entry.file_name();
                name == PROBE_NAME || name == super::LOST_AND_FOUND
            })
        })
    })
}

/// Takes away the directories of shards that are not to be. What cannot go (a disk mounted there, a
/// link to one) holds nothing and stays.
pub(super) fn remove_beyond(folders: &[(u16, PathBuf)], shards: u16) {
    for (_, folder) in folders.iter().filter(|(number, _)| *number >= shards) {
        let _ = fs::remove_file(folder.join(PROBE_NAME));
        if let Err(error) = fs::remove_dir(folder) {
            tracing::warn!(
                folder = %folder.display(),
                %error,
                "the empty directory of a shard that is not used any more cannot be removed; \
                 remove it"
            );
        }
    }
}

fn refuse_foreign_log(folder: &Path, secret: &[u8; 16]) -> Result<(), DirectoryError> {
    for name in file_names(folder)? {
        if names::parse_segment(&name).is_none() {
            continue;
        }
        let mut head = [0; HEADER_BYTES];
        let read = File::open(folder.join(&name)).and_then(|mut file| file.read_exact(&mut head));
        let claim = read.ok().and_then(|()| Claim::read(&head, secret));
        if claim.is_some_and(|claim| !claim.is_of_this_directory) {
            return Err(DirectoryError::ForeignLog { path: folder.to_owned(), found: name });
        }
    }
    Ok(())
}

/// Removes the files of a log that was being made, durably.
fn empty(folder: &Path) -> Result<(), DirectoryError> {
    let names = file_names(folder)?;
    let remove = || {
        for name in names.iter().filter(|name| names::is_of_a_log(name) || *name == PROBE_NAME) {
            match fs::remove_file(folder.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        File::open(folder)?.sync_all()
    };
    remove().map_err(failed("empty the unfinished directory", folder))
}

fn file_names(folder: &Path) -> Result<Vec<String>, DirectoryError> {
    let listed = fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    });
    listed.map_err(failed("read the directory", folder))
}

#[cfg(test)]
mod tests {
    use super::super::{SUPERBLOCK_NAME, SUPERBLOCK_TMP_NAME, create, open};
    use super::*;
    use crate::format::segment::SegmentHeader;

    const SECRET: [u8; 16] = [7; 16];

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        (directory, path)
    }

    fn shards_in(path: &Path) -> Vec<u16> {
        shard_folders(path).unwrap().into_iter().map(|(number, _)| number).collect()
    }

    fn segment(secret: [u8; 16]) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        SegmentHeader { shard: 0, number: 1, generation: 0, unit: 4096, bytes: 4096 }
            .encode(&secret, &mut bytes);
        bytes
    }

    #[test]
    fn a_cut_before_the_superblock_is_begun_with_what_is_asked_for_next() {
        let (_keep, path) = place();
        drop(create(&path, 3, SECRET).unwrap());
        fs::rename(path.join(SUPERBLOCK_NAME), path.join(SUPERBLOCK_TMP_NAME)).unwrap();
        fs::write(path.join("shard-0002").join(PROBE_NAME), "").unwrap();
        fs::create_dir(path.join("shard-0000/lost+found")).unwrap();
        let made = create(&path, 2, SECRET).unwrap();
        assert_eq!((made.shards(), shards_in(&path)), (2, vec![0, 1]));
    }

    #[test]
    fn an_unfinished_directory_takes_any_number_of_shards() {
        let (_keep, path) = place();
        drop(create(&path, 3, SECRET).unwrap());
        // Cut after the superblock, with logs begun in some, and a directory not there yet.
        fs::write(path.join("shard-0000/segment-00000000000000000001"), segment(SECRET)).unwrap();
        fs::write(path.join("shard-0002/manifest-0"), "").unwrap();
        fs::remove_dir(path.join("shard-0001")).unwrap();
        for shards in [2, 5, 1] {
            let mut data = open(&path).unwrap();
            data.begin_again(shards).unwrap();
            assert!(!data.is_finished());
            drop(data);
            assert_eq!(shards_in(&path), (0..shards).collect::<Vec<_>>());
            assert_eq!(fs::read_dir(path.join("shard-0000")).unwrap().count(), 0);
        }
        let mut data = open(&path).unwrap();
        assert_eq!((data.shards(), data.secret()), (1, SECRET));
        data.finish().unwrap();
        drop(data);
        assert!(open(&path).unwrap().is_finished());
    }

    #[test]
    fn what_no_start_makes_is_left_alone() {
        let (_keep, path) = place();
        drop(create(&path, 2, SECRET).unwrap());
        fs::write(path.join("shard-0001/thesis.tex"), "x").unwrap();
        let mut data = open(&path).unwrap();
        data.begin_again(1).unwrap();
        assert!(path.join("shard-0001/thesis.tex").exists());

        let foreign = path.join("shard-0000/segment-00000000000000000001");
        fs::write(&foreign, segment([8; 16])).unwrap();
        let refused = data.begin_again(1).unwrap_err();
        assert!(matches!(refused, DirectoryError::ForeignLog { .. }), "{refused}");
        assert!(foreign.exists(), "it may be the only copy");
    }

    #[test]
    fn the_number_of_shards_is_bounded_before_anything_changes() {
        let (_keep, path) = place();
        let mut data = create(&path, 2, SECRET).unwrap();
        for asked in [0, model::limits::SHARDS_MAX + 1] {
            assert!(matches!(data.begin_again(asked), Err(DirectoryError::Shards { .. })));
        }
        assert_eq!(shards_in(&path), [0, 1]);
    }
}
