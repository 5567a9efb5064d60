//! What has been received and not yet been taken as whole frames: a chain of receive buffers.
//!
//! A frame is parsed where it was received, even when it lies in several buffers. Buffers of
//! frames that are not yet whole stay in the kernel's pool only while the pool can spare them;
//! then they are copied out (see [`Input::copy_out`]).

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::{FRAME_HEADER_BYTES, FrameError, FrameHeader};
use ring::ReceivedBuffer;
use smallvec::SmallVec;

use super::owned::OwnedBytes;

/// Slices that together are one run of bytes.
pub type Parts<'a> = SmallVec<[&'a [u8]; 4]>;

#[derive(Debug)]
enum Piece {
    /// A buffer of the ring's pool; goes back when dropped.
    Pooled(ReceivedBuffer),
    /// The same, shared with another core.
    Shared(Bytes),
    /// Copied out of the pool.
    Owned(OwnedBytes),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Pooled(buffer) => buffer,
            Self::Shared(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

#[derive(Debug, Default)]
pub struct Input {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that have been taken.
    taken: usize,
    /// Bytes not yet taken, over all pieces.
    available: usize,
}

impl Input {
    pub fn push(&mut self, buffer: ReceivedBuffer) {
        self.available += buffer.len();
        if let Some(Piece::Owned(bytes)) = self.pieces.back_mut() {
            // A frame that was copied out is completed where it now lies, in room it has reserved.
            if bytes.room() >= buffer.len() {
                bytes.push(&buffer);
                return;
            }
        }
        self.pieces.push_back(Piece::Pooled(buffer));
    }

    pub fn available(&self) -> usize {
        self.available
    }

    /// The header of the next frame once all of the frame has been received.
    pub fn next_frame(&self) -> Result<Option<FrameHeader>, FrameError> {
        let Some(header) = self.next_header()? else { return Ok(None) };
        Ok((self.available >= header.length as usize).then_some(header))
    }

    fn next_header(&self) -> Result<Option<FrameHeader>, FrameError> {
        if self.available < FRAME_HEADER_BYTES {
            return Ok(None);
        }
        if let Some(bytes) = self.contiguous(0, FRAME_HEADER_BYTES)
            && let Some(bytes) = bytes.first_chunk()
        {
            return FrameHeader::parse(bytes).map(Some);
        }
        let mut bytes = [0u8; FRAME_HEADER_BYTES];
        self.copy_to(0, &mut bytes);
        FrameHeader::parse(&bytes).map(Some)
    }

    /// What has not been taken of the first piece.
    pub fn front(&self) -> &[u8] {
        let first = self.pieces.front().map(Piece::bytes);
        first.and_then(|bytes| bytes.get(self.taken..)).unwrap_or_default()
    }

    /// `length` bytes from `from` on where they lie in the first piece, as they mostly do.
    pub fn contiguous(&self, from: usize, length: usize) -> Option<&[u8]> {
        let start = self.taken + from;
        self.pieces.front()?.bytes().get(start..start + length)
    }

    /// Fills `out` from `from` on. The caller knows that it is there.
    pub fn copy_to(&self, from: usize, out: &mut [u8]) {
        let mut filled = 0;
        for part in self.parts(from, out.len()) {
            out[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
    }

    /// `length` bytes from `from` on, counted from what has not been taken.
    pub fn parts(&self, from: usize, length: usize) -> Parts<'_> {
        let mut parts = Parts::new();
        if let Some(whole) = self.contiguous(from, length) {
            parts.push(whole);
            return parts;
        }
        let mut skip = self.taken + from;
        let mut wanted = length;
        for piece in &self.pieces {
            if wanted == 0 {
                break;
            }
            let bytes = piece.bytes();
            if skip >= bytes.len() {
                skip -= bytes.len();
                continue;
            }
            let end = bytes.len().min(skip + wanted);
            parts.push(&bytes[skip..end]);
            wanted -= end - skip;
            skip = 0;
        }
        parts
    }

    /// The same as [`Self::parts`], to be kept or handed to another core. Nothing is copied unless
    /// the bytes had been copied out of the pool before.
    pub fn shared(&mut self, from: usize, length: usize) -> SmallVec<[Bytes; 2]> {
        let mut parts = SmallVec::new();
        let mut skip = self.taken + from;
        let mut wanted = length;
        for piece in &mut self.pieces {
            if wanted == 0 {
                break;
            }
            let piece_bytes = piece.bytes().len();
            if skip >= piece_bytes {
                skip -= piece_bytes;
                continue;
            }
            let end = piece_bytes.min(skip + wanted);
            parts.push(share(piece).slice(skip..end));
            wanted -= end - skip;
            skip = 0;
        }
        parts
    }

    /// Takes `count` bytes off the front.
    pub fn consume(&mut self, count: usize) {
        self.available -= count;
        self.taken += count;
        while let Some(first) = self.pieces.front() {
            let bytes = first.bytes().len();
            if self.taken < bytes {
                break;
            }
            self.taken -= bytes;
            self.pieces.pop_front();
        }
    }

    /// How many buffers of the pool are held here.
    pub fn pooled(&self) -> usize {
        self.pieces.iter().filter(|p| !matches!(p, Piece::Owned(_))).count()
    }

    /// The length of the frame that comes next, as far as it is known.
    pub fn frame_bytes(&self) -> usize {
        match self.next_header() {
            Ok(Some(header)) => header.length as usize,
            _ => FRAME_HEADER_BYTES,
        }
    }

    /// Copies what is here out of the pool, into one buffer.
    pub fn copy_out(&mut self) {
        if self.pooled() > 0 {
            self.copy_to_one(self.available);
        }
    }

    /// The same, with room for the rest of the frame that comes next.
    pub fn copy_out_with_room(&mut self) {
        let room = self.frame_bytes().max(self.available);
        if self.pooled() > 0 || self.owned_bytes() < room {
            self.copy_to_one(room);
        }
    }

    fn copy_to_one(&mut self, capacity: usize) {
        let mut bytes = OwnedBytes::with_capacity(capacity);
        for part in self.parts(0, self.available) {
            bytes.push(part);
        }
        self.pieces.clear();
        self.taken = 0;
        self.pieces.push_back(Piece::Owned(bytes));
    }

    /// Bytes of memory held outside the pool.
    pub fn owned_bytes(&self) -> usize {
        self.pieces
            .iter()
            .map(|p| if let Piece::Owned(bytes) = p { bytes.capacity() } else { 0 })
            .sum()
    }
}

fn share(piece: &mut Piece) -> Bytes {
    let shared = match std::mem::replace(piece, Piece::Shared(Bytes::new())) {
        Piece::Pooled(buffer) => buffer.freeze(),
        Piece::Shared(bytes) => bytes,
        Piece::Owned(bytes) => Bytes::copy_from_slice(&bytes),
    };
    *piece = Piece::Shared(shared.clone());
    shared
}
