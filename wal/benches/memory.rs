//! A disk that ends every action at once and costs next to nothing: what is left to be timed or
//! counted is the log's own work. It keeps what is written until it is told to forget.

use std::collections::{BTreeMap, VecDeque};

use corelane_wal::Fold;
use corelane_wal::device::{Action, Completion, DeviceError, Done, FileId, LogDevice, Ticket};
use model::{EntryHead, Lsn, StreamId};

const BLOCK_BYTES: usize = 4096;

#[derive(Default)]
pub struct MemoryDisk {
    files: BTreeMap<String, Vec<u8>>,
    open: BTreeMap<FileId, String>,
    ended: VecDeque<Completion>,
    /// Writes are taken and dropped: for logs whose readers find all in memory.
    pub forgets: bool,
}

impl MemoryDisk {
    /// The next end, to be told to the log.
    pub fn end_one(&mut self) -> Option<Completion> {
        self.ended.pop_front()
    }

    fn file(&mut self, file: FileId) -> Result<&mut Vec<u8>, DeviceError> {
        let name = self.open.get(&file).ok_or(DeviceError::NotFound)?;
        self.files.get_mut(name).ok_or(DeviceError::NotFound)
    }

    fn act(&mut self, action: Action) -> Result<Done, DeviceError> {
        match action {
            Action::Create { file, name, bytes } => {
                if self.files.contains_key(&name) {
                    return Err(DeviceError::Exists);
                }
                self.files.insert(name.clone(), vec![0; bytes as usize]);
                self.open.insert(file, name);
                return Ok(Done::Opened { bytes });
            }
            Action::Open { file, name } | Action::OpenReadOnly { file, name } => {
                let bytes = self.files.get(&name).ok_or(DeviceError::NotFound)?.len() as u64;
                self.open.insert(file, name);
                return Ok(Done::Opened { bytes });
            }
            Action::Write { file, offset, data } if !self.forgets => {
                let (start, end) = (offset as usize, offset as usize + data.len());
                let bytes = self.file(file)?;
                bytes.resize(bytes.len().max(end), 0);
                bytes[start..end].copy_from_slice(&data);
            }
            Action::Read { file, offset, mut buffer } => {
                let bytes = self.file(file)?;
                let from = &bytes[bytes.len().min(offset as usize)..];
                let count = from.len().min(buffer.len());
                buffer[..count].copy_from_slice(&from[..count]);
                return Ok(Done::Read { buffer, bytes: count });
            }
            Action::Close { file } => drop(self.open.remove(&file)),
            Action::Rename { from, to } => {
                let bytes = self.files.remove(&from).ok_or(DeviceError::NotFound)?;
                self.files.insert(to, bytes);
            }
            Action::Remove { name } => drop(self.files.remove(&name)),
            Action::List => {
                let names =
                    self.files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64));
                return Ok(Done::Listed(names.collect()));
            }
            Action::Write { .. } | Action::Sync { .. } | Action::SyncDirectory => {}
        }
        Ok(Done::Nothing)
    }
}

impl LogDevice for MemoryDisk {
    fn submit(&mut self, ticket: Ticket, action: Action) {
        let result = self.act(action);
        self.ended.push_back(Completion { ticket, result });
    }

    fn wait(&mut self) -> Completion {
        self.ended.pop_front().expect("waits with nothing under way")
    }

    fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }
}

/// A log that is new has nothing to give back.
pub struct Nothing;

impl Fold for Nothing {
    type Error = String;

    fn load(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn loaded(&mut self, _: Lsn, _: Lsn) -> Result<(), String> {
        Ok(())
    }

    fn apply(&mut self, _: Lsn, _: &EntryHead, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn log_start(&self, _: StreamId) -> Option<u64> {
        Some(0)
    }

    fn label(&self, _: StreamId) -> Option<Vec<u8>> {
        None
    }
}
