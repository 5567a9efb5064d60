//! A log's directory that can be opened as a server would without a byte of it being changed: what
//! is written stays in memory, over the files as they are.
//!
//! Opening a log writes little (a manifest, a witness, what a torn tail held), so the memory is
//! bounded by what a crash may have left in flight.

use std::collections::{BTreeMap, VecDeque};

use wal::FileDevice;
use wal::device::{Action, Completion, DeviceError, Done, FileId, LogDevice, Ticket};

/// What is written is kept in pieces of this length, bytes; every write is made of whole ones.
const PIECE_BYTES: usize = 4096;

/// A directory, and what was written over it.
#[derive(Debug)]
pub(crate) struct Overlay {
    below: FileDevice,
    files: Vec<Cover>,
    names: BTreeMap<String, usize>,
    open: BTreeMap<FileId, usize>,
    ended: VecDeque<Completion>,
    tickets: u64,
}

/// One file.
#[derive(Debug, Default)]
struct Cover {
    /// Its name in the directory below, when it is there.
    below: Option<String>,
    bytes: u64,
    written: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub fn new(mut below: FileDevice) -> Result<Self, DeviceError> {
        below.submit(Ticket(0), Action::List);
        let mut overlay = Self {
            below,
            files: Vec::new(),
            names: BTreeMap::new(),
            open: BTreeMap::new(),
            ended: VecDeque::new(),
            tickets: 0,
        };
        if let Done::Listed(listed) = overlay.below.wait().result? {
            for (name, bytes) in listed {
                overlay.names.insert(name.clone(), overlay.files.len());
                let written = BTreeMap::new();
                overlay.files.push(Cover { below: Some(name), bytes, written });
            }
        }
        Ok(overlay)
    }

    fn ask_below(&mut self, action: Action) -> Result<Done, DeviceError> {
        self.tickets += 1;
        self.below.submit(Ticket(self.tickets), action);
        self.below.wait().result
    }

    fn act(&mut self, action: Action) -> Result<Done, DeviceError> {
        match action {
            Action::Create { file, name, bytes } => {
                if self.names.contains_key(&name) {
                    return Err(DeviceError::Exists);
                }
                self.names.insert(name, self.files.len());
                self.open.insert(file, self.files.len());
                self.files.push(Cover { bytes, ..Cover::default() });
                Ok(Done::Opened { bytes })
            }
            Action::Open { file, name } | Action::OpenReadOnly { file, name } => {
                let at = *self.names.get(&name).ok_or(DeviceError::NotFound)?;
                if let Some(name) = self.files[at].below.clone() {
                    self.ask_below(Action::OpenReadOnly { file, name })?;
                }
                self.open.insert(file, at);
                Ok(Done::Opened { bytes: self.files[at].bytes })
            }
            Action::Write { file, offset, data } => {
                let at = *self.open.get(&file).ok_or(DeviceError::NotFound)?;
                let cover = &mut self.files[at];
                for (number, piece) in (0..).zip(data.chunks(PIECE_BYTES)) {
                    cover.written.insert(offset + number * PIECE_BYTES as u64, piece.to_vec());
                }
                cover.bytes = cover.bytes.max(offset + data.len() as u64);
                Ok(Done::Nothing)
            }
            Action::Read { file, offset, buffer } => self.read(file, offset, buffer),
            Action::Close { file } => {
                let at = self.open.remove(&file);
                if at.is_some_and(|at| self.files[at].below.is_some()) {
                    self.ask_below(Action::Close { file })?;
                }
                Ok(Done::Nothing)
            }
            Action::Rename { from, to } => {
                let at = self.names.remove(&from).ok_or(DeviceError::NotFound)?;
                self.names.insert(to, at);
                Ok(Done::Nothing)
            }
            Action::Remove { name } => {
                self.names.remove(&name).ok_or(DeviceError::NotFound)?;
                Ok(Done::Nothing)
            }
            Action::Sync { .. } | Action::SyncDirectory => Ok(Done::Nothing),
            Action::List => {
                let listed = self.names.iter();
                let listed = listed.map(|(name, at)| (name.clone(), self.files[*at].bytes));
                Ok(Done::Listed(listed.collect()))
            }
        }
    }

    fn read(
        &mut self,
        file: FileId,
        offset: u64,
        mut buffer: wal::AlignedBuffer,
    ) -> Result<Done, DeviceError> {
        let at = *self.open.get(&file).ok_or(DeviceError::NotFound)?;
        let length = self.files[at].bytes.saturating_sub(offset).min(buffer.len() as u64) as usize;
        if self.files[at].below.is_some() {
            let done = self.ask_below(Action::Read { file, offset, buffer })?;
            let Done::Read { buffer: mut read, bytes } = done else { return Ok(done) };
            read[bytes..].fill(0);
            buffer = read;
        } else {
            buffer.fill(0);
        }
        let first = offset.saturating_sub(PIECE_BYTES as u64 - 1);
        for (start, piece) in self.files[at].written.range(first..offset + length as u64) {
            let from = offset.max(*start);
            let to = (start + piece.len() as u64).min(offset + length as u64);
            if from < to {
                buffer[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&piece[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(Done::Read { buffer, bytes: length })
    }
}

impl LogDevice for Overlay {
    fn submit(&mut self, ticket: Ticket, action: Action) {
        let result = self.act(action);
        self.ended.push_back(Completion { ticket, result });
    }

    fn wait(&mut self) -> Completion {
        self.ended.pop_front().expect("an action is under way")
    }

    fn block_bytes(&self) -> usize {
        self.below.block_bytes()
    }
}
