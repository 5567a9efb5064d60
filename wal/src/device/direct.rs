//! Whether a directory's filesystem takes what the log does to it: direct writes, and space
//! reserved ahead. Asked once at the start, with a file that is removed again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::DeviceError;
use super::file::{failed, retry};
use crate::buffer::AlignedBuffer;

pub(crate) const PROBE_NAME: &str = "probe.tmp";

/// How files of the log are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// O_DIRECT and O_DSYNC: past the page cache.
    Direct,
    /// O_DSYNC alone: through the page cache, and on the disk when a write is done all the same.
    Buffered,
}

/// What a filesystem said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectAnswer {
    Taken,
    /// Why not.
    Refused(String),
}

/// Tries O_DIRECT with blocks of `block_bytes` in a directory, which must exist.
///
/// # Errors
/// Whatever keeps a file from being made or written there at all, buffered or not.
pub fn probe(directory: &Path, block_bytes: usize) -> Result<DirectAnswer, DeviceError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|errno| failed("open the directory", errno))?;
    let remove = || {
        let _ = rustix::fs::unlinkat(&directory, PROBE_NAME, AtFlags::empty());
    };
    remove();
    let flags = OFlags::RDWR | OFlags::DSYNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::RUSR | Mode::WUSR;
    let open = |more| retry(|| rustix::fs::openat(&directory, PROBE_NAME, flags | more, mode));
    let answer = match open(OFlags::CREATE) {
        // A full disk says nothing of direct writes, and a log on it must open all the same.
        Err(Errno::NOSPC | Errno::DQUOT) => try_existing(&directory),
        Err(errno) => Err(failed("make a file", errno)),
        Ok(plain) => try_both(&plain, || open(OFlags::DIRECT), block_bytes),
    };
    remove();
    answer
}

/// The same of a directory in which nothing is to be made yet: with a file that never has a name.
/// `None`: the filesystem has no such files, or says nothing else of use; ask again once there is
/// a directory for a log.
///
/// # Errors
/// `NoReserving`.
pub fn probe_unmade(
    directory: &Path,
    block_bytes: usize,
) -> Result<Option<DirectAnswer>, DeviceError> {
    let flags = OFlags::RDWR | OFlags::DSYNC | OFlags::CLOEXEC | OFlags::TMPFILE;
    let mode = Mode::RUSR | Mode::WUSR;
    let open = |more| retry(|| rustix::fs::open(directory, flags | more, mode));
    let Ok(plain) = open(OFlags::empty()) else { return Ok(None) };
    match try_both(&plain, || open(OFlags::DIRECT), block_bytes) {
        Ok(answer) => Ok(Some(answer)),
        Err(DeviceError::NoReserving) => Err(DeviceError::NoReserving),
        Err(_) => Ok(None),
    }
}

/// Without space for a file of its own, one of the log answers; where there is none, no log opens.
fn try_existing(directory: &impl AsFd) -> Result<DirectAnswer, DeviceError> {
    let listed = |errno| failed("list the directory", errno);
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    for entry in rustix::fs::Dir::read_from(directory).map_err(listed)? {
        let entry = entry.map_err(listed)?;
        if !entry.file_name().to_bytes().starts_with(b"segment-") {
            continue;
        }
        match retry(|| rustix::fs::openat(directory, entry.file_name(), flags, Mode::empty())) {
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return refused("opening a file with it fails"),
            opened => drop(opened.map_err(|errno| failed("open a file", errno))?),
        }
        return Ok(DirectAnswer::Taken);
    }
    Ok(DirectAnswer::Taken)
}

/// `plain`: a new file; `open_direct` opens it, or another one there, with O_DIRECT.
fn try_both(
    plain: &OwnedFd,
    open_direct: impl FnOnce() -> Result<OwnedFd, Errno>,
    block_bytes: usize,
) -> Result<DirectAnswer, DeviceError> {
    let bytes = block_bytes as u64;
    match retry(|| rustix::fs::fallocate(plain, FallocateFlags::empty(), 0, bytes)) {
        Ok(()) | Err(Errno::NOSPC | Errno::DQUOT) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Err(DeviceError::NoReserving),
        Err(errno) => return Err(failed("reserve space", errno)),
    }
    let direct = match open_direct() {
        Ok(file) => file,
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return refused("opening a file with it fails"),
        Err(errno) => return Err(failed("open a file", errno)),
    };
    if let Some(reason) = alignment_refuses(&direct, block_bytes) {
        return Ok(DirectAnswer::Refused(reason));
    }
    let block = AlignedBuffer::zeroed(block_bytes);
    match retry(|| rustix::io::pwrite(&direct, &block, 0)) {
        Ok(_) | Err(Errno::NOSPC | Errno::DQUOT) => Ok(DirectAnswer::Taken),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => refused("writing a file with it fails"),
        Err(errno) => Err(failed("write a file", errno)),
    }
}

fn refused(reason: &str) -> Result<DirectAnswer, DeviceError> {
    Ok(DirectAnswer::Refused(reason.to_owned()))
}

/// Some filesystems open and write such a file through the page cache all the same and say so
/// only here; others need larger blocks than the directory was made for.
fn alignment_refuses(file: &impl std::os::fd::AsFd, block_bytes: usize) -> Option<String> {
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    if stat.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return None;
    }
    alignment_reason(stat.stx_dio_mem_align, stat.stx_dio_offset_align, block_bytes)
}

fn alignment_reason(memory: u32, offset: u32, block_bytes: usize) -> Option<String> {
    if memory == 0 || offset == 0 {
        return Some("the filesystem says that it does without".to_owned());
    }
    let needed = memory.max(offset) as usize;
    (!block_bytes.is_multiple_of(needed))
        .then(|| format!("it needs blocks of {needed} bytes, the log has {block_bytes}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(PROBE_NAME), "left over").unwrap();
        probe(folder.path(), 4096).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = probe(&folder.path().join("missing"), 4096);
        assert_eq!(missing, Err(DeviceError::NotFound));
    }

    #[test]
    fn where_nothing_is_to_be_made_the_answer_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        if let Some(answer) = probe_unmade(folder.path(), 4096).unwrap() {
            assert_eq!(answer, probe(folder.path(), 4096).unwrap());
        }
        assert_eq!(probe_unmade(&folder.path().join("missing"), 4096), Ok(None));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn alignments_that_do_not_fit_are_refusals() {
        assert_eq!(alignment_reason(512, 4096, 4096), None);
        assert!(alignment_reason(0, 0, 4096).unwrap().contains("does without"));
        let larger = alignment_reason(4, 16384, 4096).unwrap();
        assert!(larger.contains("16384") && larger.contains("4096"), "{larger}");
    }
}
