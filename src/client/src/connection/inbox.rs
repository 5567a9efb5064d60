//! The receive buffers of a connection: frames are slices of them, and a buffer whose slices are all gone
//! is received into again. New memory for each delivery costs a fifth of a busy reader's time, which the kernel
//! spends on giving it page by page.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protocol::{FRAME_HEADER_BYTES, FrameError, FrameHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What is read at once beyond the end of a frame: it is copied when that frame fills its buffer.
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// The same for a frame of which more than [`LARGE_BYTES`] are to come: enough for the next one's header.
const READ_AHEAD_LARGE_BYTES: usize = 4 * 1024;
const LARGE_BYTES: usize = 128 * 1024;
/// Room made for a frame on its header's word; beyond it as much again as has come. Deliveries fit.
const TRUSTED_BYTES: usize = 2 * 1024 * 1024;
/// The least room of a buffer. Others have a multiple of it, so that they serve frames of about one size.
const BUFFER_BYTES: usize = 64 * 1024;
/// Larger buffers are not kept for another time.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Used buffers that are kept.
const KEPT_MAX: usize = 3;

pub(super) struct Inbox {
    /// What was received and not taken yet, and room behind it.
    buffer: BytesMut,
    /// Room in all of the memory that `buffer` is in.
    buffer_bytes: usize,
    /// Length of the frame that was taken last: the next one is likely to have about as much.
    last_frame_bytes: usize,
    /// Used buffers, the oldest first; slices of them may still be in use.
    kept: VecDeque<BytesMut>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::with_capacity(BUFFER_BYTES),
            buffer_bytes: BUFFER_BYTES,
            last_frame_bytes: 0,
            kept: VecDeque::new(),
        }
    }

    /// Reads what has come, as far as it fits. 0 bytes: the other side closed. Cancellation loses nothing.
    pub(super) async fn receive(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<usize> {
        let to_come = self.to_come();
        let ahead = if to_come > LARGE_BYTES { READ_AHEAD_LARGE_BYTES } else { READ_AHEAD_BYTES };
        let trusted = to_come.min(self.buffer.len().max(TRUSTED_BYTES));
        self.make_room(trusted + READ_AHEAD_LARGE_BYTES, trusted + ahead);
        stream.read_buf(&mut (&mut self.buffer).limit(to_come + ahead)).await
    }

    /// Takes out the first frame and its body, once it is whole.
    pub(super) fn take(&mut self) -> Result<Option<(FrameHeader, Bytes)>, FrameError> {
        let Some((header, length)) = protocol::next_frame(&self.buffer)? else { return Ok(None) };
        let mut frame = self.buffer.split_to(length).freeze();
        frame.advance(FRAME_HEADER_BYTES);
        self.last_frame_bytes = length;
        Ok(Some((header, frame)))
    }

    /// Lets go of the memory that is only kept for another time.
    pub(super) fn shrink(&mut self) {
        self.kept.clear();
    }

    /// Bytes of the first frame that have not come: as its header says, or as many as the last had.
    fn to_come(&self) -> usize {
        let header = self.buffer.first_chunk().and_then(|bytes| FrameHeader::parse(bytes).ok());
        let length = header.map_or(self.last_frame_bytes, |header| header.length as usize);
        length.saturating_sub(self.buffer.len())
    }

    /// Room for `least` bytes more: in this buffer, or else for `bytes`, in one that is no longer in use or a new one.
    fn make_room(&mut self, least: usize, bytes: usize) {
        let room = self.buffer.capacity() - self.buffer.len();
        if room >= least || self.buffer.try_reclaim(bytes) {
            return;
        }
        let wanted = self.buffer.len() + bytes;
        let free = self.kept.iter_mut().position(|kept| kept.try_reclaim(wanted));
        let mut next = match free.and_then(|at| self.kept.remove(at)) {
            Some(kept) => kept,
            None => BytesMut::with_capacity(wanted.next_multiple_of(BUFFER_BYTES)),
        };
        let next_bytes = next.capacity();
        next.extend_from_slice(&self.buffer);
        let mut used = std::mem::replace(&mut self.buffer, next);
        let used_bytes = std::mem::replace(&mut self.buffer_bytes, next_bytes);
        if used_bytes > KEPT_BYTES_MAX {
            return;
        }
        used.clear();
        self.kept.push_back(used);
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use model::limits::FRAME_BYTES_MAX;
    use protocol::{PROTOCOL_VERSION, kind};

    use super::*;

    /// A frame whose body has `bytes` bytes, each of them `mark`.
    fn frame(mark: u8, bytes: usize) -> Vec<u8> {
        let mut frame = ((FRAME_HEADER_BYTES + bytes) as u32).to_le_bytes().to_vec();
        frame.extend([PROTOCOL_VERSION, 0]);
        frame.extend(kind::DELIVER.to_le_bytes());
        frame.resize(FRAME_HEADER_BYTES, 0);
        frame.resize(FRAME_HEADER_BYTES + bytes, mark);
        frame
    }

    async fn next(inbox: &mut Inbox, mut stream: &[u8]) -> (Bytes, usize) {
        let before = stream.len();
        loop {
            if let Some((_, body)) = inbox.take().unwrap() {
                return (body, before - stream.len());
            }
            assert!(inbox.receive(&mut stream).await.unwrap() > 0, "the frame is not whole");
        }
    }

    #[tokio::test]
    async fn what_is_still_held_never_changes() {
        let seed = std::env::var("CORELANE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("CORELANE_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let sizes = [0, 1, 100, 4_000, 65_000, 300_000, 1_100_000, 3_000_000];
        let mut inbox = Inbox::new();
        let mut held: Vec<(u8, usize, Bytes)> = Vec::new();
        let (frames, mut stream) = (100, Vec::new());
        let mut expected = VecDeque::new();
        for number in 0..frames {
            let mark = number as u8;
            let size = sizes[random.usize(0..sizes.len())];
            stream.extend(frame(mark, size));
            expected.push_back((mark, size));
            let mut left = &stream[..];
            while left.len() > random.usize(0..100_000) {
                let piece = random.usize(1..=left.len());
                let mut part = &left[..piece];
                inbox.receive(&mut part).await.unwrap();
                left = &left[piece - part.len()..];
                while let Some((_, body)) = inbox.take().unwrap() {
                    let (mark, size) = expected.pop_front().unwrap();
                    held.push((mark, size, body));
                }
            }
            stream = left.to_vec();
            while held.len() > random.usize(0..8) {
                let (mark, size, body) = held.swap_remove(random.usize(0..held.len()));
                assert!(body == vec![mark; size]);
            }
        }
    }

    #[tokio::test]
    async fn memory_nobody_has_any_more_is_received_into_again() {
        let (mut inbox, stream) = (Inbox::new(), frame(1, 1_050_000));
        let mut places = HashSet::new();
        for _ in 0..50 {
            let (body, _) = next(&mut inbox, &stream).await;
            places.insert(body.as_ptr());
        }
        assert!(places.len() <= 1 + KEPT_MAX, "{} buffers", places.len());
    }

    #[tokio::test]
    async fn a_header_alone_gets_little_memory() {
        let mut inbox = Inbox::new();
        let largest = FRAME_BYTES_MAX as usize - FRAME_HEADER_BYTES;
        let frame = frame(1, largest);
        inbox.receive(&mut &frame[..FRAME_HEADER_BYTES]).await.unwrap();
        assert!(inbox.take().unwrap().is_none());
        inbox.receive(&mut &[0; 1][..]).await.unwrap();
        assert!(inbox.buffer.capacity() <= TRUSTED_BYTES + BUFFER_BYTES + READ_AHEAD_BYTES);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let mut inbox = Inbox::new();
        let held: Vec<_> = {
            let mut held = Vec::new();
            for size in [3_000_000, 3_000_000, 3_000_000, 3_000_000, 3_000_000, 12_000_000, 100] {
                held.push(next(&mut inbox, &frame(2, size)).await.0);
            }
            held
        };
        assert!(inbox.kept.len() <= KEPT_MAX);
        drop(held);
        inbox.shrink();
        assert!(inbox.kept.is_empty());
    }
}
