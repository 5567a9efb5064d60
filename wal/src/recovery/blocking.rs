//! Actions done one after another while a log is opened, and files read ahead in large pieces.

use bytes::Bytes;

use crate::buffer::AlignedBuffer;
use crate::cache::{Chunks, Tail};
use crate::device::{Action, DeviceError, Done, FileId, LogDevice, Ticket};
use crate::error::OpenError;
use crate::io::Map;
use crate::read::{Got, PartNumbers, Window};

/// Read ahead while scanning, bytes.
const AHEAD_BYTES: u64 = 4 * 1024 * 1024;

/// A device, waited for.
pub(super) struct Blocking<'a, D> {
    pub device: &'a mut D,
    pub next_ticket: u64,
    pub next_file: u32,
    /// The last read that failed. A block that cannot be read is not a torn one: the log must not
    /// be cut there.
    pub read_error: Option<(FileId, DeviceError)>,
    ended: Map<u64, Result<Done, DeviceError>>,
    chunks: Chunks,
    tail: Tail,
}

impl<'a, D: LogDevice> Blocking<'a, D> {
    pub fn new(device: &'a mut D) -> Self {
        Self {
            device,
            next_ticket: 0,
            next_file: 0,
            read_error: None,
            ended: Map::default(),
            chunks: Chunks::new(16 * AHEAD_BYTES, AHEAD_BYTES as usize / 4),
            tail: Tail::default(),
        }
    }

    pub fn new_file(&mut self) -> FileId {
        let file = FileId(self.next_file);
        self.next_file += 1;
        file
    }

    fn submit(&mut self, action: Action) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.device.submit(Ticket(ticket), action);
        ticket
    }

    /// Waits for one action; the ends of others are kept.
    fn wait(&mut self, ticket: u64) -> Result<Done, DeviceError> {
        loop {
            if let Some(result) = self.ended.remove(&ticket) {
                return result;
            }
            let completion = self.device.wait();
            self.ended.insert(completion.ticket.0, completion.result);
        }
    }

    /// Does one action to its end.
    pub fn run(&mut self, action: Action) -> Result<Done, DeviceError> {
        let ticket = self.submit(action);
        self.wait(ticket)
    }

    /// The same, with an error that names the file.
    pub fn must(
        &mut self,
        doing: &'static str,
        file: &str,
        action: Action,
    ) -> Result<Done, OpenError> {
        let file = file.to_owned();
        self.run(action).map_err(|error| OpenError::Device { doing, file, error })
    }

    /// Opens a file and gives its number and length in bytes; `None` when there is none.
    pub fn open(&mut self, name: &str) -> Result<Option<(FileId, u64)>, OpenError> {
        let file = self.new_file();
        match self.run(Action::Open { file, name: name.to_owned() }) {
            Ok(Done::Opened { bytes }) => Ok(Some((file, bytes))),
            Ok(_) => Ok(Some((file, 0))),
            Err(DeviceError::NotFound) => Ok(None),
            Err(error) => Err(OpenError::Device { doing: "opening", file: name.to_owned(), error }),
        }
    }

    /// Reads a range; fewer bytes at the end of the file.
    pub fn read(
        &mut self,
        file: FileId,
        offset: u64,
        bytes: usize,
    ) -> Result<AlignedBuffer, DeviceError> {
        let buffer = AlignedBuffer::zeroed(bytes);
        match self.run(Action::Read { file, offset, buffer }) {
            Ok(Done::Read { mut buffer, bytes }) => {
                buffer.truncate(bytes);
                Ok(buffer)
            }
            Ok(_) => Ok(AlignedBuffer::zeroed(0)),
            Err(error) => {
                self.read_error = Some((file, error.clone()));
                Err(error)
            }
        }
    }
}

/// One file read from front to back, ahead of who reads it.
pub(super) struct Scan {
    file: FileId,
    end: u64,
    window: Window,
    under_way: Map<u64, (u64, u16)>,
}

impl Scan {
    /// Reads the file up to `end`, a multiple of the block size.
    pub fn new(file: FileId, end: u64) -> Self {
        Self {
            file,
            end,
            window: Window::new(AHEAD_BYTES, PartNumbers::default()),
            under_way: Map::default(),
        }
    }

    /// The range's bytes; `None` when it cannot be read or lies beyond the end.
    pub fn get<D: LogDevice>(
        &mut self,
        disk: &mut Blocking<'_, D>,
        offset: u64,
        bytes: u64,
    ) -> Option<Bytes> {
        if offset + bytes > self.end {
            return None;
        }
        let (chunks, tail) = (&mut disk.chunks, &mut disk.tail);
        let orders = self.window.plan(offset, bytes, self.end, AHEAD_BYTES, chunks, tail);
        for order in orders {
            let read = Action::Read { file: self.file, offset: order.offset, buffer: order.buffer };
            let ticket = disk.submit(read);
            self.under_way.insert(ticket, (order.part, order.slot));
        }
        loop {
            match self.window.get(offset, bytes, &mut disk.chunks, &mut disk.tail) {
                Got::Bytes(bytes) => return Some(bytes),
                Got::Failed => return None,
                Got::Missing => self.wait_for_one(disk),
            }
        }
    }

    fn wait_for_one<D: LogDevice>(&mut self, disk: &mut Blocking<'_, D>) {
        let completion = disk.device.wait();
        let Some((part, slot)) = self.under_way.remove(&completion.ticket.0) else {
            disk.ended.insert(completion.ticket.0, completion.result);
            return;
        };
        if let Err(error) = &completion.result {
            disk.read_error = Some((self.file, error.clone()));
        }
        let result = completion.result.map(|done| match done {
            Done::Read { mut buffer, bytes } => {
                buffer.truncate(bytes);
                buffer
            }
            _ => AlignedBuffer::zeroed(0),
        });
        self.window.read_done(part, slot, result);
    }

    /// Waits for what is still under way.
    pub fn finish<D: LogDevice>(mut self, disk: &mut Blocking<'_, D>) {
        while !self.under_way.is_empty() {
            self.wait_for_one(disk);
        }
    }
}
