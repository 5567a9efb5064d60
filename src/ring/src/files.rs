//! Files: open, write, read, and what changes directories. Names are relative to a directory's
//! descriptor.

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use bytes::Bytes;
use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::{Fd, FsyncFlags};

use crate::op::{Op, OpId, Read, Write};
use crate::ring::Ring;
use crate::{Completion, ReadTarget};

/// Most bytes of one kernel operation; a multiple of every block size.
const TRANSFER_BYTES_MAX: usize = 1 << 30;
/// Times in a row that an interrupted or refused (`EINTR`, `EAGAIN`) transfer is tried again.
const RETRIES_MAX: u16 = 1000;

impl Ring {
    /// Opens `name` in directory `dir` (`AT_FDCWD` for the current one) with `open(2)` flags;
    /// close-on-exec is added. Reports `Opened`.
    pub fn open_at(&mut self, token: u64, dir: RawFd, name: CString, flags: i32, mode: u32) {
        let entry = opcode::OpenAt::new(Fd(dir), name.as_ptr())
            .flags(flags | libc::O_CLOEXEC)
            .mode(mode)
            .build();
        // Moving a CString does not move its bytes, so the entry's pointer stays good.
        let id = self.ops.insert(Op::Open { token, _name: name }) as OpId;
        self.queue(entry.user_data(id.into()));
    }

    /// Writes all of `data` (under 4 GiB) at byte `offset` and reports `Done` once. Short writes
    /// are continued, interrupted ones repeated. For a file opened with `O_DIRECT`, address,
    /// offset and length must be aligned as the file wants it. What is durable when it is done is
    /// what the file's flags promise: with `O_DSYNC`, all of it.
    pub fn write_at(&mut self, token: u64, file: RawFd, offset: u64, data: Bytes) {
        self.start(Op::Write(Write { token, file, offset, data, done: 0, retries: 0 }));
    }

    /// Fills `buffer` from byte `offset` and reports `Read`. Short reads are continued up to the
    /// file's end, interrupted ones repeated.
    pub fn read_at(
        &mut self,
        token: u64,
        file: RawFd,
        offset: u64,
        buffer: impl ReadTarget + 'static,
    ) {
        let mut buffer: Box<dyn ReadTarget> = Box::new(buffer);
        let bytes = buffer.bytes().len();
        self.start(Op::Read(Read { token, file, offset, buffer, bytes, done: 0, retries: 0 }));
    }

    /// Reserves space, as `fallocate(2)` with `mode`. Reports `Done`.
    pub fn fallocate(&mut self, token: u64, file: RawFd, mode: i32, offset: u64, len: u64) {
        let entry = opcode::Fallocate::new(Fd(file), len).offset(offset).mode(mode).build();
        self.start_plain(token, None, entry);
    }

    /// Makes the file's data durable, and what is needed to read it. Reports `Done`.
    pub fn fdatasync(&mut self, token: u64, file: RawFd) {
        let entry = opcode::Fsync::new(Fd(file)).flags(FsyncFlags::DATASYNC).build();
        self.start_plain(token, None, entry);
    }

    /// Makes the file's data and metadata durable; for a directory, its names. Reports `Done`.
    pub fn fsync(&mut self, token: u64, file: RawFd) {
        self.start_plain(token, None, opcode::Fsync::new(Fd(file)).build());
    }

    /// Renames, as `renameat2(2)` with `flags` (0, or `RENAME_NOREPLACE`, ...). Reports `Done`.
    pub fn rename_at(
        &mut self,
        token: u64,
        (old_dir, old_name): (RawFd, CString),
        (new_dir, new_name): (RawFd, CString),
        flags: u32,
    ) {
        let entry =
            opcode::RenameAt::new(Fd(old_dir), old_name.as_ptr(), Fd(new_dir), new_name.as_ptr())
                .flags(flags)
                .build();
        self.start_plain(token, Some(Box::new([old_name, new_name])), entry);
    }

    /// Removes a name, as `unlinkat(2)` with `flags` (0, or `AT_REMOVEDIR`). Reports `Done`.
    pub fn unlink_at(&mut self, token: u64, dir: RawFd, name: CString, flags: i32) {
        let entry = opcode::UnlinkAt::new(Fd(dir), name.as_ptr()).flags(flags).build();
        self.start_plain(token, Some(Box::new([name, CString::default()])), entry);
    }

    /// Queues an operation that is one entry and reports `Done`. `names` is what it points into.
    pub(crate) fn start_plain(
        &mut self,
        token: u64,
        names: Option<Box<[CString; 2]>>,
        entry: Entry,
    ) {
        let id = self.ops.insert(Op::Plain { token, _names: names }) as OpId;
        self.queue(entry.user_data(id.into()));
    }

    pub(crate) fn finish_open(&mut self, id: OpId, result: i32) -> Option<Completion> {
        let Some(Op::Open { token, .. }) = self.ops.try_remove(id as usize) else { return None };
        let result = match result {
            // SAFETY: the kernel has just made this descriptor for us.
            0.. => Ok(unsafe { OwnedFd::from_raw_fd(result) }),
            error => Err(io::Error::from_raw_os_error(-error)),
        };
        Some(Completion::Opened { token, result })
    }

    pub(crate) fn finish_plain(&mut self, id: OpId, result: i32) -> Option<Completion> {
        let Some(Op::Plain { token, .. }) = self.ops.try_remove(id as usize) else { return None };
        let result = match result {
            0.. => Ok(result as u32),
            error => Err(io::Error::from_raw_os_error(-error)),
        };
        Some(Completion::Done { token, result })
    }

    pub(crate) fn finish_write(&mut self, id: OpId, result: i32) -> Option<Completion> {
        let Some(Op::Write(write)) = self.ops.get_mut(id as usize) else { return None };
        write.done += result.max(0) as usize;
        let outcome = if write.done == write.data.len() {
            Ok(write.done as u32)
        } else if result == 0 {
            Err(io::ErrorKind::WriteZero.into())
        } else if self.closing || !goes_on(result, &mut write.retries) {
            Err(io::Error::from_raw_os_error(if result > 0 { libc::ECANCELED } else { -result }))
        } else {
            self.queue_op(id);
            return None;
        };
        let token = write.token;
        self.ops.remove(id as usize);
        Some(Completion::Done { token, result: outcome })
    }

    pub(crate) fn finish_read(&mut self, id: OpId, result: i32) -> Option<Completion> {
        let Some(Op::Read(read)) = self.ops.get_mut(id as usize) else { return None };
        read.done += result.max(0) as usize;
        let outcome = if read.done == read.bytes || result == 0 {
            Ok(read.done as u32)
        } else if -result == libc::EINVAL && read.done > 0 {
            // Direct I/O refuses the odd offset at which a short read ended, and a read is short
            // and odd only at the end of the file.
            Ok(read.done as u32)
        } else if self.closing || !goes_on(result, &mut read.retries) {
            Err(io::Error::from_raw_os_error(if result > 0 { libc::ECANCELED } else { -result }))
        } else {
            self.queue_op(id);
            return None;
        };
        let Some(Op::Read(read)) = self.ops.try_remove(id as usize) else { return None };
        Some(Completion::Read { token: read.token, buffer: read.buffer, result: outcome })
    }
}

/// Whether an unfinished transfer is continued: after progress, or a passing error.
fn goes_on(result: i32, retries: &mut u16) -> bool {
    if result > 0 {
        *retries = 0;
        return true;
    }
    *retries += 1;
    matches!(-result, libc::EINTR | libc::EAGAIN) && *retries <= RETRIES_MAX
}

impl Write {
    pub(crate) fn entry(&self) -> Entry {
        let rest = &self.data[self.done..];
        let len = rest.len().min(TRANSFER_BYTES_MAX) as u32;
        opcode::Write::new(Fd(self.file), rest.as_ptr(), len)
            .offset(self.offset + self.done as u64)
            .build()
    }
}

impl Read {
    pub(crate) fn entry(&mut self) -> Entry {
        let rest = &mut self.buffer.bytes()[self.done..self.bytes];
        let len = rest.len().min(TRANSFER_BYTES_MAX) as u32;
        let start = rest.as_mut_ptr();
        opcode::Read::new(Fd(self.file), start, len).offset(self.offset + self.done as u64).build()
    }
}
