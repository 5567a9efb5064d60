//! Plain files, each action done with system calls while it is submitted.
//!
//! For offline tools, tests and whoever has no ring. It keeps the promises of [`LogDevice`] to
//! the letter (O_DSYNC, directory syncs), but a submit blocks for the disk.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::{Action, Completion, DeviceError, Done, FileId, LogDevice, Ticket};
use crate::buffer::AlignedBuffer;

/// The smallest unit of reads and writes, bytes.
const BLOCK_BYTES_MIN: usize = 4096;
/// A file system that asks for larger units than this is not listened to (network and copy-on-write
/// ones report their transfer or record size there).
const BLOCK_BYTES_MAX: usize = 64 * 1024;

/// One shard's directory, reached with plain system calls.
#[derive(Debug)]
pub struct FileDevice {
    directory: OwnedFd,
    files: BTreeMap<FileId, OwnedFd>,
    ended: VecDeque<Completion>,
    block_bytes: usize,
}

impl FileDevice {
    /// Opens the directory, which must exist.
    ///
    /// # Errors
    /// `NotFound` without such a directory, `Io` for anything else.
    pub fn open(directory: &Path) -> Result<Self, DeviceError> {
        let directory = rustix::fs::open(
            directory,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| failed("open the log's directory", errno))?;
        let block_bytes = block_bytes_of(&directory);
        Ok(Self { directory, files: BTreeMap::new(), ended: VecDeque::new(), block_bytes })
    }

    /// The same with the block size that the data directory records, bytes; it counts even where
    /// the disk below now asks for less.
    #[must_use]
    pub fn with_block_bytes(mut self, block_bytes: usize) -> Self {
        self.block_bytes = self.block_bytes.max(block_bytes);
        self
    }

    fn act(&mut self, action: Action) -> Result<Done, DeviceError> {
        match action {
            Action::Create { file, name, bytes } => self.create(file, &name, bytes),
            Action::Open { file, name } => {
                self.open_file(file, &name, OFlags::RDWR | OFlags::DSYNC, "open a log file")
            }
            Action::OpenReadOnly { file, name } => {
                self.open_file(file, &name, OFlags::RDONLY, "open a log file to read")
            }
            Action::Write { file, offset, data } => self.write(file, offset, &data),
            Action::Read { file, offset, buffer } => self.read(file, offset, buffer),
            Action::Sync { file } => {
                let fd = self.file(file, "sync a log file")?;
                retry(|| rustix::fs::fsync(fd)).map_err(|e| failed("sync a log file", e))?;
                Ok(Done::Nothing)
            }
            Action::Close { file } => {
                self.files.remove(&file);
                Ok(Done::Nothing)
            }
            Action::Rename { from, to } => self.rename(&from, &to),
            Action::Remove { name } => self.remove(&name),
            Action::SyncDirectory => {
                retry(|| rustix::fs::fsync(&self.directory))
                    .map_err(|e| failed("sync the log's directory", e))?;
                Ok(Done::Nothing)
            }
            Action::List => self.list(),
        }
    }

    fn create(&mut self, file: FileId, name: &str, bytes: u64) -> Result<Done, DeviceError> {
        let doing = "create a log file";
        check_name(name, doing)?;
        let flags = OFlags::RDWR | OFlags::DSYNC | OFlags::CREATE | OFlags::EXCL;
        let fd = self.open_direct(name, flags, doing)?;
        if bytes > 0 {
            let reserved = retry(|| rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes));
            if let Err(errno) = reserved {
                // Half a file under a good name would only be in the way of the next attempt.
                let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
                return Err(failed("reserve space for a log file", errno));
            }
        }
        self.files.insert(file, fd);
        Ok(Done::Opened { bytes })
    }

    fn open_file(
        &mut self,
        file: FileId,
        name: &str,
        flags: OFlags,
        doing: &'static str,
    ) -> Result<Done, DeviceError> {
        check_name(name, doing)?;
        let fd = self.open_direct(name, flags, doing)?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed(doing, e))?;
        self.files.insert(file, fd);
        Ok(Done::Opened { bytes: u64::try_from(stat.st_size).unwrap_or(0) })
    }

    /// O_DIRECT where the file system takes it; some (overlays, FUSE) refuse the flag.
    fn open_direct(
        &self,
        name: &str,
        flags: OFlags,
        doing: &'static str,
    ) -> Result<OwnedFd, DeviceError> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        let open = |flags| retry(|| rustix::fs::openat(&self.directory, name, flags, mode));
        match open(flags | OFlags::DIRECT) {
            // A refused O_DIRECT comes after the file was made, so O_EXCL must not be asked twice.
            Err(Errno::INVAL) => open(flags.difference(OFlags::EXCL)),
            other => other,
        }
        .map_err(|errno| failed(doing, errno))
    }

    fn write(&mut self, file: FileId, offset: u64, data: &Bytes) -> Result<Done, DeviceError> {
        let doing = "write to a log file";
        let fd = self.file(file, doing)?;
        let mut done = 0;
        while done < data.len() {
            match rustix::io::pwrite(fd, &data[done..], offset + done as u64) {
                Ok(0) => return Err(failed(doing, Errno::IO)),
                Ok(bytes) => done += bytes,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(failed(doing, errno)),
            }
        }
        Ok(Done::Nothing)
    }

    fn read(
        &mut self,
        file: FileId,
        offset: u64,
        mut buffer: AlignedBuffer,
    ) -> Result<Done, DeviceError> {
        let doing = "read a log file";
        let fd = self.file(file, doing)?;
        let mut done = 0;
        while done < buffer.len() {
            match rustix::io::pread(fd, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(bytes) => {
                    done += bytes;
                    // Only the end of the file yields part of a block, and O_DIRECT takes no
                    // unaligned offset to ask again from there.
                    if !bytes.is_multiple_of(BLOCK_BYTES_MIN) {
                        break;
                    }
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(failed(doing, errno)),
            }
        }
        Ok(Done::Read { buffer, bytes: done })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<Done, DeviceError> {
        let doing = "rename a log file";
        check_name(from, doing)?;
        check_name(to, doing)?;
        rustix::fs::renameat(&self.directory, from, &self.directory, to)
            .map_err(|e| failed(doing, e))?;
        Ok(Done::Nothing)
    }

    fn remove(&mut self, name: &str) -> Result<Done, DeviceError> {
        let doing = "remove a log file";
        check_name(name, doing)?;
        rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())
            .map_err(|e| failed(doing, e))?;
        Ok(Done::Nothing)
    }

    fn list(&self) -> Result<Done, DeviceError> {
        let doing = "list the log's directory";
        let mut found = Vec::new();
        let entries = rustix::fs::Dir::read_from(&self.directory).map_err(|e| failed(doing, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| failed(doing, e))?;
            // A name that is not text is none of ours.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            let stat = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| failed(doing, e))?;
            if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
                found.push((name.to_owned(), u64::try_from(stat.st_size).unwrap_or(0)));
            }
        }
        Ok(Done::Listed(found))
    }

    fn file(&self, file: FileId, doing: &'static str) -> Result<&OwnedFd, DeviceError> {
        self.files.get(&file).ok_or_else(|| failed(doing, Errno::BADF))
    }
}

impl LogDevice for FileDevice {
    fn submit(&mut self, ticket: Ticket, action: Action) {
        let result = self.act(action);
        self.ended.push_back(Completion { ticket, result });
    }

    fn wait(&mut self) -> Completion {
        self.ended.pop_front().expect("wait() is called only with an action under way")
    }

    fn block_bytes(&self) -> usize {
        self.block_bytes
    }
}

/// Names are single file names: a path would leave the shard's directory.
fn check_name(name: &str, doing: &'static str) -> Result<(), DeviceError> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(failed(doing, Errno::INVAL));
    }
    Ok(())
}

pub(super) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

pub(super) fn failed(doing: &'static str, errno: Errno) -> DeviceError {
    match errno {
        Errno::NOSPC | Errno::DQUOT => DeviceError::NoSpace,
        Errno::NOENT => DeviceError::NotFound,
        Errno::EXIST => DeviceError::Exists,
        errno => DeviceError::Io {
            doing,
            errno: errno.raw_os_error(),
            error: std::io::Error::from(errno).kind().to_string(),
        },
    }
}

/// The larger of 4096 and what the file system and the device ask for, bytes.
fn block_bytes_of(directory: &OwnedFd) -> usize {
    let flags = StatxFlags::BASIC_STATS | StatxFlags::DIOALIGN;
    let Ok(found) = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, flags) else {
        return BLOCK_BYTES_MIN;
    };
    [found.stx_blksize, found.stx_dio_offset_align, found.stx_dio_mem_align]
        .into_iter()
        .map(|bytes| bytes as usize)
        .filter(|bytes| bytes.is_power_of_two() && *bytes <= BLOCK_BYTES_MAX)
        .fold(BLOCK_BYTES_MIN, usize::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(device: &mut FileDevice, action: Action) -> Result<Done, DeviceError> {
        device.submit(Ticket(9), action);
        let completion = device.wait();
        assert_eq!(completion.ticket, Ticket(9));
        completion.result
    }

    fn device() -> (tempfile::TempDir, FileDevice) {
        let directory = tempfile::tempdir().unwrap();
        let device = FileDevice::open(directory.path()).unwrap();
        (directory, device)
    }

    #[test]
    fn a_file_is_made_written_read_and_listed() {
        let (_directory, mut device) = device();
        let block = device.block_bytes();
        let file = FileId(1);
        let create = Action::Create { file, name: "a".into(), bytes: 4 * block as u64 };
        assert!(
            matches!(act(&mut device, create), Ok(Done::Opened { bytes }) if bytes == 4 * block as u64)
        );

        let mut data = AlignedBuffer::zeroed(block);
        data.fill(7);
        let data = Bytes::from_owner(data);
        act(&mut device, Action::Write { file, offset: block as u64, data }).unwrap();
        act(&mut device, Action::Sync { file }).unwrap();
        act(&mut device, Action::SyncDirectory).unwrap();

        let buffer = AlignedBuffer::zeroed(8 * block);
        let read = act(&mut device, Action::Read { file, offset: 0, buffer });
        let Ok(Done::Read { buffer, bytes }) = read else { panic!("{read:?}") };
        assert_eq!(bytes, 4 * block, "a read ends at the end of the file");
        assert!(buffer[..block].iter().all(|b| *b == 0));
        assert!(buffer[block..2 * block].iter().all(|b| *b == 7));

        let Ok(Done::Listed(names)) = act(&mut device, Action::List) else { panic!() };
        assert_eq!(names, [("a".to_owned(), 4 * block as u64)]);
    }

    #[test]
    fn names_are_renamed_removed_and_never_paths() {
        let (_directory, mut device) = device();
        let create = |name: &str| Action::Create { file: FileId(1), name: name.into(), bytes: 0 };
        act(&mut device, create("a")).unwrap();
        assert_eq!(act(&mut device, create("a")).unwrap_err(), DeviceError::Exists);
        act(&mut device, Action::Rename { from: "a".into(), to: "b".into() }).unwrap();
        let open = |name: &str| Action::Open { file: FileId(2), name: name.into() };
        assert_eq!(act(&mut device, open("a")).unwrap_err(), DeviceError::NotFound);
        act(&mut device, open("b")).unwrap();
        act(&mut device, Action::Remove { name: "b".into() }).unwrap();
        for path in ["", ".", "..", "../a", "/etc/passwd", "a/b"] {
            assert!(
                matches!(act(&mut device, create(path)), Err(DeviceError::Io { .. })),
                "{path}"
            );
        }
    }

    #[test]
    fn a_file_opened_to_read_cannot_be_written() {
        let (_directory, mut device) = device();
        let block = device.block_bytes();
        let create = Action::Create { file: FileId(1), name: "a".into(), bytes: block as u64 };
        act(&mut device, create).unwrap();
        act(&mut device, Action::Close { file: FileId(1) }).unwrap();
        let open = Action::OpenReadOnly { file: FileId(2), name: "a".into() };
        act(&mut device, open).unwrap();
        let data = Bytes::from_owner(AlignedBuffer::zeroed(block));
        let write = Action::Write { file: FileId(2), offset: 0, data };
        assert!(matches!(act(&mut device, write), Err(DeviceError::Io { .. })));
    }

    #[test]
    fn a_file_larger_than_the_disk_is_no_space_and_leaves_nothing() {
        let (_directory, mut device) = device();
        let create = Action::Create { file: FileId(1), name: "a".into(), bytes: 1 << 50 };
        let failure = act(&mut device, create).unwrap_err();
        // File systems with a smaller largest file say so instead.
        assert!(matches!(failure, DeviceError::NoSpace | DeviceError::Io { .. }), "{failure:?}");
        let Ok(Done::Listed(names)) = act(&mut device, Action::List) else { panic!() };
        assert_eq!(names, []);
    }
}
