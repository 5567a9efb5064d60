//! Reading the files of a log one after another through a device, a window at a time.

use crate::buffer::AlignedBuffer;
use crate::device::{Action, DeviceError, Done, FileId, LogDevice, Ticket};

/// How much is read at once, bytes; a larger block is read whole.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// The files of a log.
pub(super) struct Source<'a, D> {
    device: &'a mut D,
    files: u32,
    tickets: u64,
    pub(super) bytes_read: u64,
}

/// One file, open for reading.
pub(super) struct SourceFile {
    file: FileId,
    pub(super) name: String,
    pub(super) bytes: u64,
    window: AlignedBuffer,
    /// Where the window begins in the file, and how much of it is filled.
    start: u64,
    filled: usize,
}

impl<'a, D: LogDevice> Source<'a, D> {
    pub(super) fn new(device: &'a mut D) -> Self {
        Self { device, files: 0, tickets: 0, bytes_read: 0 }
    }

    fn act(&mut self, action: Action) -> Result<Done, DeviceError> {
        self.tickets += 1;
        self.device.submit(Ticket(self.tickets), action);
        self.device.wait().result
    }

    pub(super) fn list(&mut self) -> Result<Vec<(String, u64)>, DeviceError> {
        match self.act(Action::List)? {
            Done::Listed(mut found) => {
                found.sort();
                Ok(found)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// `None` when there is no such file.
    pub(super) fn open(&mut self, name: &str) -> Result<Option<SourceFile>, DeviceError> {
        self.files += 1;
        let file = FileId(self.files);
        let bytes = match self.act(Action::OpenReadOnly { file, name: name.to_owned() }) {
            Ok(Done::Opened { bytes }) => bytes,
            Ok(_) | Err(DeviceError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let window = AlignedBuffer::zeroed(0);
        Ok(Some(SourceFile { file, name: name.to_owned(), bytes, window, start: 0, filled: 0 }))
    }

    pub(super) fn close(&mut self, file: SourceFile) -> Result<(), DeviceError> {
        self.act(Action::Close { file: file.file }).map(|_| ())
    }

    /// `bytes` bytes from `offset` on, fewer only where the file ends. `offset` is a multiple of
    /// the block size.
    pub(super) fn read<'f>(
        &mut self,
        file: &'f mut SourceFile,
        offset: u64,
        bytes: usize,
    ) -> Result<&'f [u8], DeviceError> {
        let wanted = file.bytes.saturating_sub(offset).min(bytes as u64) as usize;
        let held =
            offset >= file.start && offset + wanted as u64 <= file.start + file.filled as u64;
        if !held {
            self.fill(file, offset, wanted, WINDOW_BYTES)?;
        }
        let from = (offset - file.start) as usize;
        let to = (from + wanted).min(file.filled);
        Ok(file.window.get(from..to).unwrap_or_default())
    }

    /// As [`Source::read`]; what cannot be read ahead is read alone. `None` when it cannot be read.
    pub(super) fn read_if_can<'f>(
        &mut self,
        file: &'f mut SourceFile,
        offset: u64,
        bytes: usize,
    ) -> Option<&'f [u8]> {
        if self.read(file, offset, bytes).is_err() {
            let wanted = file.bytes.saturating_sub(offset).min(bytes as u64) as usize;
            self.fill(file, offset, wanted, 0).ok()?;
        }
        self.read(file, offset, bytes).ok()
    }

    fn fill(
        &mut self,
        file: &mut SourceFile,
        offset: u64,
        wanted: usize,
        ahead_bytes: usize,
    ) -> Result<(), DeviceError> {
        let unit = self.device.block_bytes();
        let rest = file.bytes.saturating_sub(offset).min(ahead_bytes as u64) as usize;
        file.filled = 0;
        let length = wanted.max(rest).next_multiple_of(unit).max(unit);
        let mut window = std::mem::replace(&mut file.window, AlignedBuffer::zeroed(0));
        if window.len() != length {
            window = AlignedBuffer::zeroed(length);
        }
        let done = self.act(Action::Read { file: file.file, offset, buffer: window })?;
        if let Done::Read { buffer, bytes } = done {
            file.window = buffer;
            file.start = offset;
            file.filled = bytes;
            self.bytes_read += bytes as u64;
        }
        Ok(())
    }
}
