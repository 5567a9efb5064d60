//! The receive buffers of a connection: frames are slices of them, and a buffer whose slices are all gone
//! is received into again. New memory for each delivery costs a fifth of a busy reader's time, which the kernel
//! spends on giving it page by page.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protocol::{FRAME_HEADER_BYTES, FrameError, FrameHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What is read at once beyond the end of a frame: it is copied when that frame fills its buffer.
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// The same for a frame of which more than [`LARGE_BYTES`] are to come, and the least: enough for the next
/// one's header.
const READ_AHEAD_LEAST_BYTES: usize = 4 * 1024;
const LARGE_BYTES: usize = 128 * 1024;
/// Room made for a frame on its header's word; beyond it as much again as has come. Deliveries fit.
const TRUSTED_BYTES: usize = 2 * 1024 * 1024;
/// The least room of a buffer. Others have a multiple of it, so that they serve frames of about one size.
const BUFFER_BYTES: usize = 64 * 1024;
/// Larger buffers are not kept for another time.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Used buffers that are kept.
const KEPT_MAX: usize = 3;
/// Frames up to this size are copied out of buffers over [`PINNED_BYTES_MAX`]: who holds one for long holds
/// no more than that.
const SMALL_FRAME_BYTES: usize = 4 * 1024;
const PINNED_BYTES_MAX: usize = 256 * 1024;

pub(super) struct Inbox {
    /// What was received and not taken yet, and room behind it.
    buffer: BytesMut,
    /// Of all of the memory that `buffer` is in.
    buffer_bytes: usize,
    /// Length of the frame that was taken last: the next one is likely to have about as much.
    last_frame_bytes: usize,
    /// Used buffers and the bytes of each, the oldest first; slices of them may still be in use.
    kept: VecDeque<(BytesMut, usize)>,
    /// Something was received since the last look.
    is_busy: bool,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            buffer_bytes: 0,
            last_frame_bytes: 0,
            kept: VecDeque::new(),
            is_busy: false,
        }
    }

    /// Reads what has come, as far as it fits. 0 bytes: the other side closed. Cancellation loses nothing.
    pub(super) async fn receive(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<usize> {
        let to_come = self.to_come();
        let ahead = if to_come > LARGE_BYTES { READ_AHEAD_LEAST_BYTES } else { READ_AHEAD_BYTES };
        let trusted = to_come.min(self.buffer.len().max(TRUSTED_BYTES));
        // The beginning of a frame is soon copied to where all of it fits, the most of one is not.
        let least = match self.buffer.len() <= READ_AHEAD_BYTES {
            true => trusted.min(TRUSTED_BYTES / 4 * 3) + READ_AHEAD_LEAST_BYTES,
            false => trusted.clamp(1, READ_AHEAD_LEAST_BYTES),
        };
        self.make_room(least, trusted + ahead);
        let read = stream.read_buf(&mut (&mut self.buffer).limit(to_come + ahead)).await?;
        self.is_busy = true;
        Ok(read)
    }

    /// Takes out the first frame and its body, once it is whole.
    pub(super) fn take(&mut self) -> Result<Option<(FrameHeader, Bytes)>, FrameError> {
        let Some((header, length)) = protocol::next_frame(&self.buffer)? else { return Ok(None) };
        self.last_frame_bytes = length;
        if length <= SMALL_FRAME_BYTES && self.buffer_bytes > PINNED_BYTES_MAX {
            let body = Bytes::copy_from_slice(&self.buffer[FRAME_HEADER_BYTES..length]);
            self.buffer.advance(length);
            return Ok(Some((header, body)));
        }
        let mut frame = self.buffer.split_to(length).freeze();
        frame.advance(FRAME_HEADER_BYTES);
        Ok(Some((header, frame)))
    }

    /// To be called now and then: when nothing has come since the last time, lets go of the memory that is only kept
    /// for another time.
    pub(super) fn look(&mut self) {
        if std::mem::take(&mut self.is_busy) {
            return;
        }
        self.kept.clear();
        self.last_frame_bytes = 0;
        if self.buffer.is_empty() {
            (self.buffer, self.buffer_bytes) = (BytesMut::new(), 0);
        }
    }

    /// Bytes of the first frame that have not come: as its header says, or as many as the last had.
    fn to_come(&self) -> usize {
        let header = self.buffer.first_chunk().and_then(|bytes| FrameHeader::parse(bytes).ok());
        let length = header.map_or(self.last_frame_bytes, |header| header.length as usize);
        length.saturating_sub(self.buffer.len())
    }

    /// Room for `least` bytes more: in this buffer, or else for `bytes`, in one that is no longer in use or a new one.
    fn make_room(&mut self, least: usize, bytes: usize) {
        if self.buffer.capacity() - self.buffer.len() >= least {
            return;
        }
        let may_stay = self.buffer_bytes <= KEPT_BYTES_MAX;
        if may_stay && self.buffer.try_reclaim(bytes) {
            return;
        }
        let wanted = self.buffer.len() + bytes;
        let free = self.kept.iter_mut().position(|(kept, _)| kept.try_reclaim(wanted));
        let (mut next, next_bytes) =
            free.and_then(|at| self.kept.remove(at)).unwrap_or_else(|| {
                let new_bytes = wanted.next_multiple_of(BUFFER_BYTES);
                (BytesMut::with_capacity(new_bytes), new_bytes)
            });
        next.extend_from_slice(&self.buffer);
        let mut used = std::mem::replace(&mut self.buffer, next);
        let used_bytes = std::mem::replace(&mut self.buffer_bytes, next_bytes);
        if may_stay && used_bytes > 0 {
            used.clear();
            self.kept.push_back((used, used_bytes));
        }
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

    /// Receives `stream` in pieces of at most `piece` bytes until a frame is whole; its body.
    async fn next(inbox: &mut Inbox, mut stream: &[u8], piece: usize) -> Bytes {
        loop {
            if let Some((_, body)) = inbox.take().unwrap() {
                assert!(stream.is_empty() && inbox.buffer.is_empty(), "more than the frame");
                return body;
            }
            let mut part = &stream[..piece.min(stream.len())];
            let read = inbox.receive(&mut part).await.unwrap();
            assert!(read > 0, "no room, or no whole frame");
            stream = &stream[read..];
        }
    }

    /// How many different memories were received into.
    async fn buffers(inbox: &mut Inbox, stream: &[u8], piece: usize) -> usize {
        let (mut places, mut left) = (HashSet::new(), stream);
        while !left.is_empty() {
            let mut part = &left[..piece.min(left.len())];
            left = &left[inbox.receive(&mut part).await.unwrap()..];
            places.insert(inbox.buffer.as_ptr());
        }
        places.len()
    }

    #[tokio::test]
    async fn what_is_still_held_never_changes() {
        let seed = std::env::var("CORELANE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("CORELANE_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let sizes = [0, 1, 100, 4_000, 5_000, 65_000, 300_000, 1_100_000, 3_000_000];
        let sent: Vec<(u8, usize)> =
            (0..100).map(|mark| (mark, sizes[random.usize(0..sizes.len())])).collect();
        let stream: Vec<u8> = sent.iter().flat_map(|(mark, size)| frame(*mark, *size)).collect();
        let (mut left, mut expected) = (&stream[..], sent.iter());
        let (mut inbox, mut held) = (Inbox::new(), Vec::new());
        let check = |(mark, size, body): (u8, usize, Bytes)| assert!(body == vec![mark; size]);
        while !left.is_empty() {
            let largest = 1 << random.u32(0..22);
            let piece = random.usize(1..=left.len().min(largest));
            let mut part = &left[..piece];
            let read = inbox.receive(&mut part).await.unwrap();
            assert!(read > 0, "no room");
            left = &left[read..];
            while let Some((_, body)) = inbox.take().unwrap() {
                let (mark, size) = *expected.next().unwrap();
                held.push((mark, size, body));
            }
            while held.len() > random.usize(0..8) {
                check(held.swap_remove(random.usize(0..held.len())));
            }
            if random.u32(0..50) == 0 {
                inbox.look();
            }
        }
        assert!(expected.next().is_none(), "frames are missing");
        held.into_iter().for_each(check);
    }

    #[tokio::test]
    async fn memory_nobody_has_any_more_is_received_into_again() {
        for piece in [16 * 1024, 1_000_000, usize::MAX] {
            let (mut inbox, stream) = (Inbox::new(), frame(1, 1_050_000));
            let (mut places, mut held) = (HashSet::new(), Bytes::new());
            for _ in 0..50 {
                let body = next(&mut inbox, &stream, piece).await;
                places.insert(body.as_ptr());
                // The one before is let go of when the next has come.
                held = std::mem::replace(&mut held, body);
            }
            assert!(places.len() <= 2 * (1 + KEPT_MAX), "{} places", places.len());
        }
    }

    #[tokio::test]
    async fn a_frame_that_comes_in_drops_is_seldom_copied() {
        let stream = frame(1, FRAME_BYTES_MAX as usize - FRAME_HEADER_BYTES);
        for piece in [1_000, 16 * 1024, 64 * 1024] {
            let buffers = buffers(&mut Inbox::new(), &stream, piece).await;
            assert!(buffers <= 6, "{buffers} buffers");
        }
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

    /// All of the memory an inbox has.
    fn bytes(inbox: &Inbox) -> usize {
        inbox.buffer_bytes + inbox.kept.iter().map(|(_, bytes)| bytes).sum::<usize>()
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_ends_with_the_work() {
        let mut inbox = Inbox::new();
        for size in [3_000_000, 3_000_000, 16_000_000, 3_000_000, 3_000_000, 3_000_000, 3_000_000] {
            let held = next(&mut inbox, &frame(2, size), 100_000).await;
            inbox.receive(&mut &frame(3, 100)[..]).await.unwrap();
            assert_eq!(inbox.take().unwrap().unwrap().1, [3; 100][..]);
            drop(held);
        }
        let kept: Vec<usize> = inbox.kept.iter().map(|(_, bytes)| *bytes).collect();
        assert!(kept.len() <= KEPT_MAX && kept.iter().all(|bytes| *bytes <= KEPT_BYTES_MAX));
        assert!(bytes(&inbox) > BUFFER_BYTES, "nothing is kept");
        inbox.look();
        assert!(bytes(&inbox) > BUFFER_BYTES, "given up in the middle of the work");
        inbox.look();
        assert_eq!(bytes(&inbox), 0);
        let (mut stream, small) = (&frame(4, 10)[..], frame(4, 10));
        inbox.receive(&mut stream).await.unwrap();
        assert_eq!(inbox.take().unwrap().unwrap().1, small[FRAME_HEADER_BYTES..]);
        assert!(bytes(&inbox) <= 2 * BUFFER_BYTES);
    }

    #[tokio::test]
    async fn who_holds_a_small_frame_holds_no_large_buffer() {
        let mut inbox = Inbox::new();
        let large = next(&mut inbox, &frame(1, 1_000_000), 64 * 1024).await;
        drop(large);
        let held = next(&mut inbox, &frame(5, 100), 64 * 1024).await;
        assert!(inbox.buffer_bytes > PINNED_BYTES_MAX);
        assert!(held.try_into_mut().is_ok(), "shared with the buffer");
    }
}
