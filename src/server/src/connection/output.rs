//! What waits to be sent to one client: small frames in one growing buffer, payload as slices of
//! the log's cache, in the order they were queued.

use bytes::{Bytes, BytesMut};
use ring::SendParts;
use smallvec::SmallVec;
use std::collections::VecDeque;

use crate::message::{Payload, ReaderKey};
use crate::stages::Due;

/// Most parts handed to one send.
const PARTS_PER_SEND: usize = 512;

#[derive(Debug, Default)]
pub struct Output {
    small: BytesMut,
    parts: VecDeque<Part>,
    bytes: usize,
    /// Of `bytes`, and of what is being sent, those in memory of our own.
    own: usize,
    /// Readers whose payload is among `parts`.
    readers: SmallVec<[(ReaderKey, u64); 2]>,
    sending: Option<Sending>,
    /// Acknowledgements and deliveries that wait to be sent.
    pub acks: Due,
    pub deliveries: Due,
}

#[derive(Debug)]
struct Part {
    bytes: Bytes,
    /// Not payload, which lies in the log's cache.
    own: bool,
}

#[derive(Debug)]
struct Sending {
    bytes: usize,
    own: usize,
    readers: SmallVec<[(ReaderKey, u64); 2]>,
}

impl Output {
    /// Queues a small frame.
    pub fn push(&mut self, frame: &[u8]) {
        self.small.extend_from_slice(frame);
        self.bytes += frame.len();
        self.own += frame.len();
    }

    /// Queues a frame's head and the payload that belongs to it. `reader` is told when it is sent.
    pub fn push_payload(&mut self, head: &[u8], payload: &Payload, reader: Option<ReaderKey>) {
        self.push(head);
        self.seal_small();
        let bytes = payload.bytes();
        for slice in &payload.slices {
            self.parts.push_back(Part { bytes: slice.clone(), own: payload.copied });
        }
        self.bytes += bytes;
        self.own += if payload.copied { bytes } else { 0 };
        if let Some(reader) = reader {
            self.readers.push((reader, bytes as u64));
        }
    }

    /// What to send now; `None` while a send is under way or nothing waits.
    pub fn start(&mut self) -> Option<SendParts> {
        if self.sending.is_some() || self.bytes == 0 {
            return None;
        }
        self.seal_small();
        let mut parts = SendParts::new();
        let (mut bytes, mut own) = (0, 0);
        let count = self.parts.len().min(PARTS_PER_SEND);
        for part in self.parts.drain(..count) {
            bytes += part.bytes.len();
            own += if part.own { part.bytes.len() } else { 0 };
            parts.push(part.bytes);
        }
        self.bytes -= bytes;
        // Told when the last of what they are part of has gone: at worst a little late.
        let readers =
            if self.parts.is_empty() { std::mem::take(&mut self.readers) } else { SmallVec::new() };
        self.sending = Some(Sending { bytes, own, readers });
        Some(parts)
    }

    /// What the send that has just begun carries the last of: acknowledgements and deliveries.
    pub fn take_due(&mut self) -> (Due, Due) {
        if !self.parts.is_empty() {
            return Default::default();
        }
        (std::mem::take(&mut self.acks), std::mem::take(&mut self.deliveries))
    }

    /// The send has ended; yields the readers whose payload it carried.
    pub fn finish(&mut self) -> SmallVec<[(ReaderKey, u64); 2]> {
        let Some(sending) = self.sending.take() else { return SmallVec::new() };
        self.own -= sending.own;
        sending.readers
    }

    /// Bytes queued or being sent.
    pub fn pending_bytes(&self) -> usize {
        self.bytes + self.sending.as_ref().map_or(0, |s| s.bytes)
    }

    /// The same without payload: what it takes of memory.
    pub fn own_bytes(&self) -> usize {
        self.own
    }

    pub fn is_idle(&self) -> bool {
        self.bytes == 0 && self.sending.is_none()
    }

    pub fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    fn seal_small(&mut self) {
        if !self.small.is_empty() {
            self.parts.push_back(Part { bytes: self.small.split().freeze(), own: true });
        }
    }
}
