//! A disk in memory that ends actions in an order drawn from a seed, remembers all it was asked,
//! and can be crashed afterwards at every point of the run.
//!
//! It promises exactly what [`LogDevice`] promises and withholds the rest: an unfinished write may
//! leave any of its sectors, a name or a length is certain only once synced. It also watches its
//! user: misaligned writes, bytes changed under a write, use of a file before it is open or after
//! it was closed are panics, because a real disk would let them pass.

mod crash;
mod dice;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

pub use crash::{CrashWalk, Fate};
pub use dice::Dice;
pub use state::Image;

use super::{Action, Completion, DeviceError, Done, FileId, LogDevice, Ticket};
use crate::buffer::AlignedBuffer;
use state::{Effect, InodeId, State};

/// What a real disk writes as a whole, bytes.
pub const SECTOR_BYTES: usize = 512;
const BLOCK_BYTES: usize = 4096;

/// One shard's directory, simulated.
#[derive(Debug)]
pub struct SimDisk {
    state: State,
    open: BTreeMap<FileId, OpenFile>,
    under_way: Vec<UnderWay>,
    recording: Recording,
    dice: Dice,
    failures: BTreeMap<u64, DeviceError>,
    submitted: u64,
    space_bytes: u64,
    block_bytes: usize,
}

/// A run, as far as it can matter to the medium.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    start: Image,
    events: Vec<Event>,
}

#[derive(Clone, Debug)]
enum Event {
    Submitted(u64, Effect),
    /// It ended well: from here its promise holds.
    Done(u64),
    /// It failed and has left this.
    Failed(u64, Vec<Effect>),
}

#[derive(Debug)]
struct OpenFile {
    inode: InodeId,
    writable: bool,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    ticket: Ticket,
    work: Work,
}

/// The half of an action that the log sees; the medium's half is its [`Effect`].
#[derive(Debug)]
enum Work {
    Create { file: FileId, name: String, bytes: u64, inode: InodeId },
    Open { file: FileId, name: String, writable: bool },
    Write { file: FileId, offset: u64, data: Bytes },
    Read { file: FileId, offset: u64, buffer: AlignedBuffer },
    Sync { file: FileId },
    Close { file: FileId },
    Rename { from: String },
    Remove { name: String },
    SyncDirectory,
    List,
}

impl SimDisk {
    /// An empty directory; `seed` chooses the order in which actions end.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::from_image(Image::default(), seed)
    }

    /// A directory as a crash or [`Self::image`] left it.
    #[must_use]
    pub fn from_image(image: Image, seed: u64) -> Self {
        Self {
            state: State::from_image(&image),
            open: BTreeMap::new(),
            under_way: Vec::new(),
            recording: Recording { start: image, events: Vec::new() },
            dice: Dice::new(seed),
            failures: BTreeMap::new(),
            submitted: 0,
            space_bytes: u64::MAX,
            block_bytes: BLOCK_BYTES,
        }
    }

    /// Lets the action with this number (the first submitted is 0) fail. A failed write leaves any
    /// part of its bytes.
    pub fn fail(&mut self, number: u64, error: DeviceError) {
        self.failures.insert(number, error);
    }

    /// Creations, and writes past the end of a file, fail with `NoSpace` when all files together
    /// would pass this, bytes.
    pub fn limit_space(&mut self, bytes: u64) {
        self.space_bytes = bytes;
    }

    /// Actions submitted so far: the number that the next one gets.
    #[must_use]
    pub fn submitted(&self) -> u64 {
        self.submitted
    }

    /// Actions submitted and not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.under_way.len()
    }

    /// The directory as its user sees it now, nothing in flight landed.
    #[must_use]
    pub fn image(&self) -> Image {
        self.state.visible()
    }

    /// Points at which this run can be crashed: 0 is before the first action, `points() - 1` after
    /// the last event. Every submission and every end is one.
    #[must_use]
    pub fn points(&self) -> usize {
        self.recording.events.len() + 1
    }

    /// The disk that a crash at `point` leaves.
    ///
    /// # Panics
    /// When `point` is not below [`Self::points`].
    #[must_use]
    pub fn crash(&self, point: usize, fate: Fate) -> SimDisk {
        let mut walk = self.walk();
        while walk.point() < point {
            assert!(walk.advance(), "point {point} lies in the run");
        }
        SimDisk::from_image(walk.crash(fate), point as u64)
    }

    /// Goes through all crash points of the run so far, in order, at a cost that does not grow
    /// with the point.
    #[must_use]
    pub fn walk(&self) -> CrashWalk<'_> {
        CrashWalk::new(&self.recording)
    }

    /// Ends one action under way, which the seed chooses; `None` when there is none.
    pub fn end_one(&mut self) -> Option<Completion> {
        if self.under_way.is_empty() {
            return None;
        }
        let chosen = self.dice.below(self.under_way.len() as u64) as usize;
        let UnderWay { number, ticket, work } = self.under_way.remove(chosen);
        if let (Work::Write { data, .. }, Some(before)) =
            (&work, self.state.in_flight_write(number))
        {
            assert!(before == data, "bytes changed while they were written");
        }
        let result = match self.failures.remove(&number) {
            Some(error) => Err(self.fail_now(number, &work, error)),
            None => self.end_well(number, work),
        };
        Some(Completion { ticket, result })
    }

    fn fail_now(&mut self, number: u64, work: &Work, error: DeviceError) -> DeviceError {
        let left = match work {
            Work::Write { file, offset, data } => {
                crash::some_sectors(self.inode(*file), *offset, data, &mut self.dice)
            }
            _ => Vec::new(),
        };
        self.state.end_failed(number, &left);
        self.recording.events.push(Event::Failed(number, left));
        error
    }

    fn end_well(&mut self, number: u64, work: Work) -> Result<Done, DeviceError> {
        let seen = self.see(work);
        if seen.is_ok() {
            self.state.end(number);
            self.recording.events.push(Event::Done(number));
        } else {
            self.state.end_failed(number, &[]);
            self.recording.events.push(Event::Failed(number, Vec::new()));
        }
        seen
    }

    /// What the log gets to see of an action that the medium does not refuse.
    fn see(&mut self, work: Work) -> Result<Done, DeviceError> {
        match work {
            Work::Create { file, name, bytes, inode } => {
                if self.state.named(&name).is_some() {
                    return Err(DeviceError::Exists);
                }
                if self.state.bytes().saturating_add(bytes) > self.space_bytes {
                    return Err(DeviceError::NoSpace);
                }
                self.remember(file, inode, true);
                Ok(Done::Opened { bytes })
            }
            Work::Open { file, name, writable } => {
                let inode = self.state.named(&name).ok_or(DeviceError::NotFound)?;
                self.remember(file, inode, writable);
                Ok(Done::Opened { bytes: self.state.len(inode) })
            }
            Work::Read { file, offset, mut buffer } => {
                let inode = self.inode(file);
                let bytes = self.state.read(inode, offset, &mut buffer, &mut self.dice);
                Ok(Done::Read { buffer, bytes })
            }
            Work::Close { file } => {
                let open = self.open.remove(&file);
                assert!(open.is_some(), "{file:?} is closed without being open");
                Ok(Done::Nothing)
            }
            Work::Rename { from } => {
                self.state.named(&from).map(|_| Done::Nothing).ok_or(DeviceError::NotFound)
            }
            Work::Remove { name } => {
                self.state.named(&name).map(|_| Done::Nothing).ok_or(DeviceError::NotFound)
            }
            Work::Write { file, offset, data } => {
                let has = self.state.len(self.inode(file));
                let grows = (offset + data.len() as u64).saturating_sub(has);
                if grows > 0 && self.state.bytes().saturating_add(grows) > self.space_bytes {
                    return Err(DeviceError::NoSpace);
                }
                Ok(Done::Nothing)
            }
            Work::Sync { .. } | Work::SyncDirectory => Ok(Done::Nothing),
            Work::List => Ok(Done::Listed(self.state.list())),
        }
    }

    fn remember(&mut self, file: FileId, inode: InodeId, writable: bool) {
        let before = self.open.insert(file, OpenFile { inode, writable });
        assert!(before.is_none(), "{file:?} is used twice");
    }

    fn inode(&self, file: FileId) -> InodeId {
        self.open.get(&file).unwrap_or_else(|| panic!("{file:?} is not open")).inode
    }

    fn check_aligned(&self, what: &str, number: u64) {
        let aligned = number.is_multiple_of(self.block_bytes as u64);
        assert!(aligned, "{what} {number} is not a multiple of {} bytes", self.block_bytes);
    }

    /// Splits an action into what the log sees and what the medium may keep of it.
    fn split(&mut self, action: Action) -> (Work, Effect) {
        match action {
            Action::Create { file, name, bytes } => {
                let inode = self.state.new_inode();
                let effect = Effect::Create { name: name.clone(), inode, bytes };
                (Work::Create { file, name, bytes, inode }, effect)
            }
            Action::Open { file, name } => {
                (Work::Open { file, name, writable: true }, Effect::Nothing)
            }
            Action::OpenReadOnly { file, name } => {
                (Work::Open { file, name, writable: false }, Effect::Nothing)
            }
            Action::Write { file, offset, data } => self.split_write(file, offset, data),
            Action::Read { file, offset, buffer } => {
                self.check_aligned("a read's offset", offset);
                self.check_aligned("a read's length", buffer.len() as u64);
                self.inode(file);
                (Work::Read { file, offset, buffer }, Effect::Nothing)
            }
            Action::Sync { file } => {
                let inode = self.inode(file);
                (Work::Sync { file }, Effect::Sync { inode, bytes: self.state.len(inode) })
            }
            Action::Close { file } => {
                let busy = self.under_way.iter().any(|other| other.work.file() == Some(file));
                assert!(!busy, "{file:?} is closed while it is used");
                (Work::Close { file }, Effect::Nothing)
            }
            Action::Rename { from, to } => {
                (Work::Rename { from: from.clone() }, Effect::Rename { from, to })
            }
            Action::Remove { name } => {
                (Work::Remove { name: name.clone() }, Effect::Remove { name })
            }
            Action::SyncDirectory => {
                let effect = Effect::SyncNames { changes: self.state.name_changes() };
                (Work::SyncDirectory, effect)
            }
            Action::List => (Work::List, Effect::Nothing),
        }
    }

    fn split_write(&mut self, file: FileId, offset: u64, data: Bytes) -> (Work, Effect) {
        self.check_aligned("a write's offset", offset);
        self.check_aligned("a write's length", data.len() as u64);
        let address = data.as_ptr() as usize;
        assert!(address.is_multiple_of(BLOCK_BYTES), "a write's memory is not aligned");
        let open = self.open.get(&file).unwrap_or_else(|| panic!("{file:?} is not open"));
        assert!(open.writable, "{file:?} is open for reading only");
        let inode = open.inode;
        let end = offset + data.len() as u64;
        let overlaps = self.state.in_flight_overlaps(inode, offset, end);
        assert!(!overlaps, "two writes in flight overlap at {offset} of {file:?}");
        // A copy: the log's chunk is not to be kept alive by a recording.
        let effect = Effect::Write { inode, offset, data: Arc::from(&data[..]) };
        (Work::Write { file, offset, data }, effect)
    }
}

impl Work {
    fn file(&self) -> Option<FileId> {
        match self {
            Work::Create { file, .. }
            | Work::Open { file, .. }
            | Work::Write { file, .. }
            | Work::Read { file, .. }
            | Work::Sync { file }
            | Work::Close { file } => Some(*file),
            Work::Rename { .. } | Work::Remove { .. } | Work::SyncDirectory | Work::List => None,
        }
    }
}

impl LogDevice for SimDisk {
    fn submit(&mut self, ticket: Ticket, action: Action) {
        let twice = self.under_way.iter().any(|other| other.ticket == ticket);
        assert!(!twice, "{ticket:?} is under way already");
        let number = self.submitted;
        self.submitted += 1;
        let (work, effect) = self.split(action);
        self.state.begin(number, &effect);
        self.recording.events.push(Event::Submitted(number, effect));
        self.under_way.push(UnderWay { number, ticket, work });
    }

    fn wait(&mut self) -> Completion {
        self.end_one().expect("wait() is called only with an action under way")
    }

    fn block_bytes(&self) -> usize {
        self.block_bytes
    }
}

#[cfg(test)]
mod tests;
