//! What the log knows of each stream: where it begins, what it is called, which segments hold it.

use std::collections::VecDeque;

use model::StreamId;

use crate::config::LABEL_BYTES_MAX;
use crate::io::Map;

#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub log_start: u64,
    pub label: Box<[u8]>,
    /// Number and first offset of every segment with batches of this stream, oldest first.
    pub segments: VecDeque<(u64, u64)>,
}

/// The streams that exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    all: Map<StreamId, Stream>,
}

impl Streams {
    pub fn get(&self, stream: StreamId) -> Option<&Stream> {
        self.all.get(&stream)
    }

    /// Makes the stream if it is not known.
    pub fn entry(&mut self, stream: StreamId) -> &mut Stream {
        self.all.entry(stream).or_default()
    }

    pub fn get_mut(&mut self, stream: StreamId) -> Option<&mut Stream> {
        self.all.get_mut(&stream)
    }

    pub fn remove(&mut self, stream: StreamId) -> Option<Stream> {
        self.all.remove(&stream)
    }

    /// Every stream known, in order.
    pub fn ids(&self) -> Vec<StreamId> {
        let mut ids: Vec<_> = self.all.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub fn set_label(&mut self, stream: StreamId, label: &[u8]) {
        self.entry(stream).label = label[..label.len().min(LABEL_BYTES_MAX)].into();
    }

    pub fn label(&self, stream: StreamId) -> &[u8] {
        self.all.get(&stream).map_or(&[], |found| &found.label)
    }

    /// Whether nothing up to `last_offset` of the stream is kept any more.
    pub fn is_dead(&self, stream: StreamId, last_offset: u64) -> bool {
        self.all.get(&stream).is_none_or(|found| last_offset < found.log_start)
    }
}
