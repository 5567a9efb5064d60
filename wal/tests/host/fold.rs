//! The host's state as a fold over its entries, in a plain form and as the log replays it.

use std::collections::BTreeMap;

use corelane_wal::{EntryHead, Fold};
use model::{Lsn, StreamId};

use super::{Entry, KIND_BATCH, KIND_NOTE, KIND_REMOVED, KIND_STREAM_MADE, KIND_TRIMMED};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    pub alive: bool,
    pub next_offset: u64,
    pub log_start: u64,
    /// Of all its entries, in order.
    pub digest: u64,
}

pub fn label(stream: u32) -> Vec<u8> {
    format!("stream number {stream}").into_bytes()
}

pub fn offset_in(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload.try_into().expect("eight bytes"))
}

pub fn fold_truth(truth: &[Entry]) -> BTreeMap<u32, Stream> {
    let mut streams = BTreeMap::new();
    for (index, entry) in truth.iter().enumerate() {
        apply(&mut streams, index as u64 + 1, entry);
    }
    streams
}

pub fn apply(streams: &mut BTreeMap<u32, Stream>, lsn: u64, entry: &Entry) {
    let head = &entry.head;
    if head.kind == KIND_NOTE {
        return;
    }
    let stream = streams.entry(head.stream.0).or_default();
    let start = stream.digest ^ lsn;
    let (known, end) = entry.digest;
    stream.digest = if start == known { end } else { digest(start, &entry.payload) };
    match head.kind {
        KIND_STREAM_MADE => stream.alive = true,
        KIND_BATCH => stream.next_offset = entry.next_offset(),
        KIND_TRIMMED => stream.log_start = offset_in(&entry.payload),
        KIND_REMOVED => stream.alive = false,
        other => panic!("an entry of kind {other} was never appended"),
    }
}

/// What [`Entry::digest`] is for an entry about to be applied. The golden log has such digests in its
/// checkpoints, so they stay as they are.
pub fn digest_with(streams: &BTreeMap<u32, Stream>, lsn: u64, entry: &Entry) -> (u64, u64) {
    let start = streams.get(&entry.head.stream.0).map_or(0, |stream| stream.digest) ^ lsn;
    (start, digest(start, &entry.payload))
}

/// FNV-1a.
pub fn digest(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A stream in a checkpoint, as it is after entry `lsn`.
pub fn piece(number: u32, lsn: u64, stream: &Stream) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.push(u8::from(stream.alive));
    for field in [lsn, stream.next_offset, stream.log_start, stream.digest] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes
}

/// Rebuilds the state and compares every entry with the truth on the way.
pub struct Replay<'a> {
    truth: &'a [Entry],
    pub streams: BTreeMap<u32, Stream>,
    /// The entry after which each stream was taken into the checkpoint.
    taken: BTreeMap<u32, u64>,
    pub last: u64,
    checkpoint_end: u64,
}

impl<'a> Replay<'a> {
    pub fn new(truth: &'a [Entry]) -> Self {
        let (streams, taken) = (BTreeMap::new(), BTreeMap::new());
        Self { truth, streams, taken, last: 0, checkpoint_end: 0 }
    }
}

impl Fold for Replay<'_> {
    type Error = String;

    fn load(&mut self, piece: &[u8]) -> Result<(), String> {
        assert_eq!(piece.len(), 37, "a piece comes back as it was pushed");
        let number = u32::from_le_bytes(piece[..4].try_into().unwrap());
        let field = |index: usize| offset_in(&piece[5 + 8 * index..13 + 8 * index]);
        let stream = Stream {
            alive: piece[4] == 1,
            next_offset: field(1),
            log_start: field(2),
            digest: field(3),
        };
        self.streams.insert(number, stream);
        self.taken.insert(number, field(0));
        Ok(())
    }

    fn loaded(&mut self, start: Lsn, end: Lsn) -> Result<(), String> {
        assert!(start <= end);
        let latest = self.taken.values().copied().max().unwrap_or(0);
        assert!(latest <= end.0, "the checkpoint holds entry {latest}, it says it ends at {end}");
        self.last = start.0;
        self.checkpoint_end = end.0;
        Ok(())
    }

    fn apply(&mut self, lsn: Lsn, head: &EntryHead, payload: &[u8]) -> Result<(), String> {
        assert_eq!(lsn.0, self.last + 1, "entries come one after another");
        self.last = lsn.0;
        let written = self.truth.get(lsn.0 as usize - 1);
        let written = written.unwrap_or_else(|| panic!("entry {lsn} was never appended"));
        assert_eq!(*head, written.head, "the head of entry {lsn}");
        assert!(payload == &written.payload[..], "the payload of entry {lsn}");
        if self.taken.get(&head.stream.0).is_none_or(|taken| *taken < lsn.0) {
            apply(&mut self.streams, lsn.0, written);
        }
        Ok(())
    }

    fn log_start(&self, stream: StreamId) -> Option<u64> {
        let stream = self.streams.get(&stream.0)?;
        stream.alive.then_some(stream.log_start)
    }

    fn label(&self, stream: StreamId) -> Option<Vec<u8>> {
        self.streams.contains_key(&stream.0).then(|| label(stream.0))
    }
}
