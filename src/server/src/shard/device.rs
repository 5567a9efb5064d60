//! The log's way to the disk: its actions as operations of the core's ring.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use ahash::AHashMap;
use ring::{Completion as RingCompletion, Ring};
use wal::AlignedBuffer;
use wal::device::{Access, Action, Completion, DeviceError, Done, FileId, LogDevice, Ticket};

use crate::descriptors::Spares;
use crate::token::Token;

/// One shard's directory and the files the log has open there.
#[derive(Debug)]
pub struct DiskState {
    slot: u8,
    path: PathBuf,
    directory: OwnedFd,
    block_bytes: usize,
    access: Access,
    files: AHashMap<FileId, OwnedFd>,
    /// What becomes of an operation's result.
    steps: AHashMap<Ticket, Step>,
    /// Ended, not yet told to the log.
    ended: VecDeque<Completion>,
    /// Writes handed to the kernel so far, as the device counts them.
    writes: u64,
    /// For when clients have taken all other descriptors.
    spares: Spares,
    #[cfg(test)]
    pub faults: super::tests::Faults,
}

/// What an operation under way is part of.
#[derive(Debug)]
enum Step {
    Create {
        file: FileId,
        name: String,
        bytes: u64,
    },
    Allocate {
        file: FileId,
        name: String,
        bytes: u64,
    },
    Open {
        file: FileId,
        name: String,
        flags: i32,
    },
    /// The file goes again, because of this.
    Discard(DeviceError),
    Plain(&'static str),
}

impl Step {
    fn doing(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Allocate { .. } => "allocate",
            Self::Open { .. } => "open",
            Self::Discard(_) => "discard",
            Self::Plain(doing) => doing,
        }
    }
}

impl DiskState {
    /// `block_bytes`: the unit of direct I/O on this file system.
    pub fn open(slot: u8, path: &Path, block_bytes: usize, access: Access) -> io::Result<Self> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let mut spares = Spares::default();
        spares.refill(&directory);
        Ok(Self {
            slot,
            path: path.to_owned(),
            directory,
            block_bytes,
            access,
            files: AHashMap::new(),
            steps: AHashMap::new(),
            ended: VecDeque::new(),
            writes: 0,
            spares,
            #[cfg(test)]
            faults: Default::default(),
        })
    }

    /// Writes so far; one that the device takes in several parts counts as so many.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// The next action that has ended.
    pub fn take_ended(&mut self) -> Option<Completion> {
        self.ended.pop_front()
    }

    /// Takes an operation's end in.
    pub fn on_ring(&mut self, ring: &mut Ring, ticket: u64, completion: RingCompletion) {
        let ticket = Ticket(ticket);
        let Some(step) = self.steps.remove(&ticket) else { return };
        if let RingCompletion::Opened { result: Err(error), .. } = &completion
            && is_out_of_descriptors(error)
            && self.spares.give()
        {
            return self.open_file(ring, ticket, step);
        }
        match (step, completion) {
            (Step::Create { file, name, bytes }, RingCompletion::Opened { result, .. }) => {
                match result {
                    Ok(fd) => self.allocate(ring, ticket, file, name, bytes, fd),
                    Err(error) => self.end(ticket, Err(device_error("create", &error))),
                }
            }
            (Step::Allocate { file, name, bytes }, RingCompletion::Done { result, .. }) => {
                match result {
                    Ok(_) => self.end(ticket, Ok(Done::Opened { bytes })),
                    Err(error) => self.discard(ring, ticket, file, name, &error),
                }
            }
            // The file may be left; the error that counts is why it was to go.
            (Step::Discard(error), RingCompletion::Done { .. }) => self.end(ticket, Err(error)),
            (Step::Open { file, .. }, RingCompletion::Opened { result, .. }) => {
                let result = result.and_then(|fd| {
                    let bytes = u64::try_from(rustix::fs::fstat(&fd)?.st_size).unwrap_or(0);
                    self.files.insert(file, fd);
                    Ok(Done::Opened { bytes })
                });
                self.end(ticket, result.map_err(|error| device_error("open", &error)));
            }
            (Step::Plain(doing), RingCompletion::Done { result, .. }) => {
                let result = result.map(|_| Done::Nothing);
                self.end(ticket, result.map_err(|error| device_error(doing, &error)));
            }
            (Step::Plain(doing), RingCompletion::Read { buffer, result, .. }) => {
                let result = match (result, buffer.into_any().downcast::<AlignedBuffer>()) {
                    (Ok(bytes), Ok(buffer)) => {
                        Ok(Done::Read { buffer: *buffer, bytes: bytes as usize })
                    }
                    (Err(error), _) => Err(device_error(doing, &error)),
                    (Ok(_), Err(_)) => Err(device_error(doing, &io::ErrorKind::InvalidData.into())),
                };
                self.end(ticket, result);
            }
            (step, completion) => {
                drop(completion);
                let doing = step.doing();
                tracing::error!(
                    doing,
                    "the kernel's answer to a file operation is of another kind; please report this line"
                );
                let error = io::ErrorKind::InvalidData.into();
                self.end(ticket, Err(device_error("io_uring", &error)));
            }
        }
    }

    fn allocate(
        &mut self,
        ring: &mut Ring,
        ticket: Ticket,
        file: FileId,
        name: String,
        bytes: u64,
        fd: OwnedFd,
    ) {
        let raw = fd.as_raw_fd();
        self.files.insert(file, fd);
        if bytes == 0 {
            self.end(ticket, Ok(Done::Opened { bytes: 0 }));
            return;
        }
        self.steps.insert(ticket, Step::Allocate { file, name, bytes });
        ring.fallocate(self.token(ticket), raw, 0, 0, bytes);
    }

    /// Removes the file that could not get its space, which would be taken for a segment; the action
    /// ends after that. Closed first: the kernel gives what it had of its space back in the removal,
    /// off this thread.
    fn discard(
        &mut self,
        ring: &mut Ring,
        ticket: Ticket,
        file: FileId,
        name: String,
        error: &io::Error,
    ) {
        self.files.remove(&file);
        let error = device_error("allocate", error);
        match CString::new(name) {
            Ok(name) => {
                self.steps.insert(ticket, Step::Discard(error));
                ring.unlink_at(self.token(ticket), self.directory.as_raw_fd(), name, 0);
            }
            Err(_) => self.end(ticket, Err(error)),
        }
    }

    /// Submits the opening that `step` is about.
    fn open_file(&mut self, ring: &mut Ring, ticket: Ticket, step: Step) {
        let (name, flags) = match &step {
            Step::Create { name, .. } => (name, READ_WRITE | libc::O_CREAT | libc::O_EXCL),
            Step::Open { name, flags, .. } => (name, *flags),
            Step::Allocate { .. } | Step::Discard(_) | Step::Plain(_) => return,
        };
        let direct = match self.access {
            Access::Direct => libc::O_DIRECT,
            Access::Buffered => 0,
        };
        let flags = flags | direct | libc::O_CLOEXEC;
        match CString::new(name.as_str()) {
            Ok(name) => {
                self.steps.insert(ticket, step);
                let directory = self.directory.as_raw_fd();
                ring.open_at(self.token(ticket), directory, name, flags, 0o640);
            }
            Err(error) => self.end(ticket, Err(device_error("open", &error.into()))),
        }
    }

    /// Takes back the spare descriptors that the log has used up. False: there are none to take.
    pub fn refill_spares(&mut self) -> bool {
        self.spares.refill(&self.directory)
    }

    fn token(&self, ticket: Ticket) -> u64 {
        Token::Disk { slot: self.slot, ticket: ticket.0 }.encode()
    }

    fn end(&mut self, ticket: Ticket, result: Result<Done, DeviceError>) {
        self.ended.push_back(Completion { ticket, result });
    }

    fn raw(&self, file: FileId) -> Option<RawFd> {
        self.files.get(&file).map(AsRawFd::as_raw_fd)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push((name, entry.metadata()?.len()));
            }
        }
        Ok(names)
    }
}

/// A shard's device for the time of one call into its log.
pub struct RingDevice<'a> {
    pub ring: &'a mut Ring,
    pub disk: &'a mut DiskState,
    /// Ends of other shards' operations, met while this one waited; told to them later.
    pub others: &'a mut Vec<RingCompletion>,
}

/// What the kernel hands to a device as one write at least: a megabyte of pages that lie together.
const WRITE_BYTES_MAX: usize = 1 << 20;

const READ_WRITE: i32 = libc::O_RDWR | libc::O_DSYNC;

impl RingDevice<'_> {
    fn on_file(&mut self, ticket: Ticket, file: FileId, doing: &'static str) -> Option<RawFd> {
        let raw = self.disk.raw(file);
        if raw.is_some() {
            self.disk.steps.insert(ticket, Step::Plain(doing));
        } else {
            let error = io::Error::from_raw_os_error(libc::EBADF);
            self.disk.end(ticket, Err(device_error(doing, &error)));
        }
        raw
    }

    fn rename(&mut self, ticket: Ticket, from: String, to: String) {
        let (Ok(from), Ok(to)) = (CString::new(from), CString::new(to)) else {
            let error = io::ErrorKind::InvalidInput.into();
            return self.disk.end(ticket, Err(device_error("rename", &error)));
        };
        self.disk.steps.insert(ticket, Step::Plain("rename"));
        let directory = self.disk.directory.as_raw_fd();
        self.ring.rename_at(self.disk.token(ticket), (directory, from), (directory, to), 0);
    }

    fn remove(&mut self, ticket: Ticket, name: String) {
        let Ok(name) = CString::new(name) else {
            let error = io::ErrorKind::InvalidInput.into();
            return self.disk.end(ticket, Err(device_error("remove", &error)));
        };
        self.disk.steps.insert(ticket, Step::Plain("remove"));
        self.ring.unlink_at(self.disk.token(ticket), self.disk.directory.as_raw_fd(), name, 0);
    }
}

impl LogDevice for RingDevice<'_> {
    fn submit(&mut self, ticket: Ticket, action: Action) {
        #[cfg(test)]
        let Some(action) = self.disk.faults.meet(ticket, action, &mut self.disk.ended) else {
            return;
        };
        let token = self.disk.token(ticket);
        match action {
            Action::Create { file, name, bytes } => {
                self.disk.open_file(self.ring, ticket, Step::Create { file, name, bytes });
            }
            Action::Open { file, name } => {
                let step = Step::Open { file, name, flags: READ_WRITE };
                self.disk.open_file(self.ring, ticket, step);
            }
            Action::OpenReadOnly { file, name } => {
                let step = Step::Open { file, name, flags: libc::O_RDONLY };
                self.disk.open_file(self.ring, ticket, step);
            }
            Action::Write { file, offset, data } => {
                self.disk.writes += data.len().div_ceil(WRITE_BYTES_MAX) as u64;
                if let Some(raw) = self.on_file(ticket, file, "write") {
                    self.ring.write_at(token, raw, offset, data);
                }
            }
            Action::Read { file, offset, buffer } => {
                if let Some(raw) = self.on_file(ticket, file, "read") {
                    self.ring.read_at(token, raw, offset, buffer);
                }
            }
            Action::Sync { file } => {
                if let Some(raw) = self.on_file(ticket, file, "sync") {
                    self.ring.fdatasync(token, raw);
                }
            }
            Action::Close { file } => {
                self.disk.files.remove(&file);
                self.disk.end(ticket, Ok(Done::Nothing));
            }
            Action::Rename { from, to } => self.rename(ticket, from, to),
            Action::Remove { name } => self.remove(ticket, name),
            Action::SyncDirectory => {
                self.disk.steps.insert(ticket, Step::Plain("sync the directory"));
                self.ring.fsync(token, self.disk.directory.as_raw_fd());
            }
            Action::List => {
                let listed = self.disk.list().map(Done::Listed);
                self.disk.end(ticket, listed.map_err(|error| device_error("list", &error)));
            }
        }
    }

    fn wait(&mut self) -> Completion {
        loop {
            if let Some(completion) = self.disk.take_ended() {
                return completion;
            }
            assert!(self.ring.in_flight() > 0, "waits for the disk with nothing under way");
            if let Err(error) = self.ring.wait(None) {
                panic!("io_uring_enter failed while the log was being opened: {error}");
            }
            while let Some(completion) = self.ring.next() {
                self.take(completion);
            }
        }
    }

    fn block_bytes(&self) -> usize {
        self.disk.block_bytes
    }
}

impl RingDevice<'_> {
    /// While a log is opened nothing else runs on the ring, but logs opened before it do.
    fn take(&mut self, completion: RingCompletion) {
        if let Some(Token::Disk { slot, ticket }) = disk_token(&completion)
            && slot == self.disk.slot
        {
            self.disk.on_ring(self.ring, ticket, completion);
        } else {
            self.others.push(completion);
        }
    }
}

/// The token of a completion, if it is one of a disk action.
pub fn disk_token(completion: &RingCompletion) -> Option<Token> {
    let token = Token::decode(completion.token());
    matches!(token, Token::Disk { .. }).then_some(token)
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn device_error(doing: &'static str, error: &io::Error) -> DeviceError {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => DeviceError::NoSpace,
        Some(libc::ENOENT) => DeviceError::NotFound,
        Some(libc::EEXIST) => DeviceError::Exists,
        errno => DeviceError::Io { doing, errno: errno.unwrap_or(0), error: error.to_string() },
    }
}
