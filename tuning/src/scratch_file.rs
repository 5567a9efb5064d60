//! A file for measuring a disk: without a name, so that nothing stays behind in any outcome.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// An unnamed file, open twice: for preparing it, and for durable writes past the page cache.
#[derive(Debug)]
pub struct ScratchFile {
    /// O_DIRECT where it is taken; a write is not on the disk when it returns.
    pub plain: File,
    /// The same with O_DSYNC.
    pub durable: File,
    /// False where the filesystem refuses O_DIRECT: reads may then come from memory.
    pub direct: bool,
}

/// Why there is no file to measure with.
#[derive(Debug, thiserror::Error)]
#[error("cannot create {} for the disk test: {source}", path.display())]
pub struct ScratchError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl ScratchFile {
    pub fn create(dir: &Path) -> Result<Self, ScratchError> {
        if let Ok(unnamed) = Self::create_unnamed(dir) {
            return Ok(unnamed);
        }
        Self::create_named(dir)
    }

    /// Never has a name, so that not even a kill leaves it behind. Needs a filesystem that can.
    fn create_unnamed(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o600)
            .open(dir)?;
        Self::open_twice(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))
    }

    /// Has a name until it is open.
    fn create_named(dir: &Path) -> Result<Self, ScratchError> {
        let path = unused_path(dir);
        let failed = |source| ScratchError { path: path.clone(), source };
        let named = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        drop(named);
        let opened = Self::open_twice(&path);
        let removed = fs::remove_file(&path);
        let opened = opened.map_err(failed)?;
        removed.map_err(failed)?;
        Ok(opened)
    }

    fn open_twice(path: &Path) -> io::Result<Self> {
        let open =
            |flags: i32| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        let (plain, durable, direct) = match open(libc::O_DIRECT) {
            Ok(plain) => (plain, open(libc::O_DIRECT | libc::O_DSYNC)?, true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                (open(0)?, open(libc::O_DSYNC)?, false)
            }
            Err(error) => return Err(error),
        };
        Ok(Self { plain, durable, direct })
    }
}

/// A name no other test in this folder has, in this process or another.
fn unused_path(dir: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    dir.join(format!(".corelane-disk-test-{}-{count}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn with_and_without_a_name_it_is_one_file_and_nothing_stays() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let made = [
            ScratchFile::create_unnamed(dir.path()).ok(),
            ScratchFile::create_named(dir.path()).ok(),
        ];
        assert!(made[1].is_some());
        for file in made.into_iter().flatten() {
            let buffer = crate::aligned::AlignedBuffer::with_noise(4096, 3).unwrap();
            file.plain.write_all_at(buffer.as_ref(), 4096).unwrap();
            let mut read = crate::aligned::AlignedBuffer::zeroed(4096).unwrap();
            file.durable.read_exact_at(read.as_mut(), 4096).unwrap();
            assert_eq!(read.as_ref(), buffer.as_ref());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let error = ScratchFile::create(Path::new("/no/such/folder")).unwrap_err().to_string();
        assert!(error.contains("/no/such/folder"), "{error}");
    }
}
