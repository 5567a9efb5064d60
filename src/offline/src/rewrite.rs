//! A new data directory, written from what another one held.
//!
//! Until [`Rewriter::finish`] returns, the new place is no data directory: it has no superblock,
//! so that no server and no tool opens what a cut has left. Its logs hold an entry for all they
//! say; replay needs nothing else. Where a partition's offsets are not continued by the next batch,
//! an entry says from where to where they leap and why.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use model::{
    ConsumerName, EntryHead, Offset, PartitionIndex, ShardId, StreamId, TopicConfig, TopicId,
    TopicName,
};
use shards::entry::{Change, SkipCause, kind};
use shards::{ProducerStates, TopicRecord};
use wal::WalConfig;
use wal::directory::{self, DataDirectory, DirectoryError};

use crate::log_writer::LogWriter;
pub use crate::log_writer::WriteError;

/// Memory of one log while it is written, bytes.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;
/// Producers in one entry: at most about 400 KiB.
const PRODUCERS_PER_ENTRY: usize = 250;
/// The name of topics that are made only to be deleted, so that their numbers count as used.
const USED_UP: &str = "number-used-before";

/// Why a directory could not be written.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("the system gave no random bytes for the new directory: {0}")]
    Random(std::io::Error),
    #[error("writing shard {shard} of {}: {error}", path.display())]
    Write { path: PathBuf, shard: ShardId, error: WriteError },
    #[error("shard {shard} has no partition with the stream number {stream}")]
    UnknownStream { shard: ShardId, stream: StreamId },
    #[error(
        "a batch of stream {stream} of shard {shard} begins at offset {found}, before {expected}, \
         where the partition ends"
    )]
    OffsetGoesBack { shard: ShardId, stream: StreamId, expected: Offset, found: Offset },
}

/// How the new directory is made.
#[derive(Clone, Copy, Debug)]
pub struct RewriteOptions {
    /// Length of each segment, bytes.
    pub segment_bytes: u64,
    /// The time of entries that had none before, Unix milliseconds.
    pub now_ms: i64,
}

impl Default for RewriteOptions {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        Self { segment_bytes: WalConfig::default().segment_bytes, now_ms }
    }
}

/// A partition that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartition {
    pub topic: TopicId,
    pub name: TopicName,
    pub index: PartitionIndex,
    pub config: TopicConfig,
    pub config_version: u32,
    /// The oldest offset kept; the offsets before it are not used again.
    pub first_offset: Offset,
}

/// One batch as it lay in another log.
#[derive(Clone, Copy, Debug)]
pub struct NewBatch<'a> {
    pub base_offset: Offset,
    pub records: u32,
    pub time_ms: i64,
    /// A RecordBatch v2 whose base offset is the one above.
    pub payload: &'a [u8],
}

/// What is said of a partition once all its batches are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionEnd {
    /// Where the next publish goes, if that is behind the last batch.
    pub next_offset: Offset,
    pub consumers: Vec<(ConsumerName, Offset)>,
    /// They replace what the batches say of their producers.
    pub producers: ProducerStates,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub entries: u64,
    pub batches: u64,
    pub records: u64,
    pub payload_bytes: u64,
}

/// A data directory while it is written.
pub struct Rewriter {
    directory: DataDirectory,
    options: RewriteOptions,
    shards: Vec<Option<ShardWriter>>,
}

impl Rewriter {
    /// Begins in a place that does not exist or is empty.
    pub fn create(path: &Path, shards: u16, options: RewriteOptions) -> Result<Self, RewriteError> {
        let mut secret = [0u8; 16];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| RewriteError::Random(errno.into()))?;
        let directory = directory::begin(path, shards, secret)?;
        let shards = (0..shards).map(|_| None).collect();
        Ok(Self { directory, options, shards })
    }

    pub fn shards(&self) -> u16 {
        self.directory.shards()
    }

    /// A shard's log; it is made when it is first asked for.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn shard(&mut self, shard: ShardId) -> Result<&mut ShardWriter, RewriteError> {
        let place = &mut self.shards[usize::from(shard.0)];
        if place.is_none() {
            *place = Some(ShardWriter::create(&self.directory, shard, &self.options)?);
        }
        Ok(place.as_mut().expect("it was made just now"))
    }

    /// Makes every log durable, and then the place a data directory.
    pub fn finish(self) -> Result<Written, RewriteError> {
        let (mut directory, written) = self.close()?;
        directory.finish()?;
        Ok(written)
    }

    /// Makes every log durable. The place is no data directory until what is returned is finished:
    /// whoever has to look at the logs first does so before.
    pub fn close(mut self) -> Result<(DataDirectory, Written), RewriteError> {
        let mut sum = Written::default();
        for number in 0..self.directory.shards() {
            self.shard(ShardId(number))?;
        }
        for shard in self.shards.into_iter().flatten() {
            let written = shard.finish()?;
            sum.entries += written.entries;
            sum.batches += written.batches;
            sum.records += written.records;
            sum.payload_bytes += written.payload_bytes;
        }
        Ok((self.directory, sum))
    }
}

/// One shard's log while it is written.
pub struct ShardWriter {
    shard: ShardId,
    path: PathBuf,
    log: LogWriter,
    /// Of the entries that have no time of their own.
    now_ms: i64,
    written: Written,
    payload: Vec<u8>,
}

impl ShardWriter {
    fn create(
        directory: &DataDirectory,
        shard: ShardId,
        options: &RewriteOptions,
    ) -> Result<Self, RewriteError> {
        let config = WalConfig {
            shard: shard.0,
            secret: directory.secret(),
            segment_bytes: options.segment_bytes,
            backlog_bytes: CACHE_BYTES,
            cache_bytes: CACHE_BYTES,
            prepare_bytes: 0,
            ..WalConfig::default()
        };
        let path = directory.shard_path(shard.0);
        let log = LogWriter::create(&path, directory.block_bytes(), config)
            .map_err(|error| RewriteError::Write { path: path.clone(), shard, error })?;
        let written = Written::default();
        Ok(Self { shard, path, log, now_ms: options.now_ms, written, payload: Vec::new() })
    }

    /// Shard 0 only: a topic, with its number. A deleted one is a tombstone, whose partitions the
    /// server deletes at its next start. Topics come before any partition that has their number.
    pub fn topic(&mut self, topic: &TopicRecord, deleted: bool) -> Result<(), RewriteError> {
        let created = Change::TopicCreated {
            id: topic.id,
            name: topic.name.clone(),
            config: topic.config.clone(),
            shards: topic.shards.to_vec(),
        };
        self.change(StreamId(0), &created)?;
        if topic.config_version > 1 {
            let altered = Change::TopicAltered {
                id: topic.id,
                config_version: topic.config_version,
                config: topic.config.clone(),
            };
            self.change(StreamId(0), &altered)?;
        }
        if deleted {
            self.change(StreamId(0), &Change::TopicDeleted { id: topic.id })?;
        }
        Ok(())
    }

    /// Shard 0 only, before its topics: numbers of topics below `next` and of producers below
    /// `producer_next` are not given out again.
    pub fn numbers_used(&mut self, next: TopicId, producer_next: i64) -> Result<(), RewriteError> {
        if next > self.log.engine().counted().topic_next {
            let id = TopicId(next.0 - 1);
            let name = used_up();
            let shards = vec![ShardId(0)];
            let config = TopicConfig::default();
            self.change(StreamId(0), &Change::TopicCreated { id, name, config, shards })?;
            self.change(StreamId(0), &Change::TopicDeleted { id })?;
            self.change(StreamId(0), &Change::TombstoneCleared { id })?;
        }
        if producer_next > self.log.engine().counted().producer_id_next {
            let change = Change::ProducerIdsAllocated { next: producer_next };
            self.change(StreamId(0), &change)?;
        }
        Ok(())
    }

    /// After the partitions: stream numbers below `next` are not given out again.
    pub fn streams_used(&mut self, next: StreamId) -> Result<(), RewriteError> {
        if next <= self.next_stream() {
            return Ok(());
        }
        let stream = StreamId(next.0 - 1);
        let created = Change::PartitionCreated {
            topic: TopicId(0),
            name: used_up(),
            index: PartitionIndex(0),
            config: TopicConfig::default(),
            config_version: 1,
        };
        self.change(stream, &created)?;
        self.change(stream, &Change::PartitionDeleted)
    }

    /// The stream number that the next partition would get.
    pub fn next_stream(&self) -> StreamId {
        self.log.engine().counted().stream_next
    }

    /// Makes a partition with this stream number, which no partition of the shard has had.
    pub fn partition(&mut self, stream: StreamId, new: &NewPartition) -> Result<(), RewriteError> {
        let created = Change::PartitionCreated {
            topic: new.topic,
            name: new.name.clone(),
            index: new.index,
            config: new.config.clone(),
            config_version: new.config_version,
        };
        self.change(stream, &created)?;
        let label = self.log.engine().label(stream).unwrap_or_default();
        self.log.wal().label(stream, &label);
        if new.first_offset > 0 {
            self.skip_to(stream, new.first_offset, SkipCause::NotKept)?;
            let started = Change::LogStartAdvanced { offset: new.first_offset, bytes: 0 };
            self.change(stream, &started)?;
            self.log.wal().set_log_start(stream, new.first_offset);
        }
        Ok(())
    }

    /// Where the partition's next batch goes.
    pub fn next_offset(&self, stream: StreamId) -> Result<Offset, RewriteError> {
        let unknown = RewriteError::UnknownStream { shard: self.shard, stream };
        self.log.engine().next_offset(stream).ok_or(unknown)
    }

    /// Adds a batch. The offsets between the partition's end and the batch count as lost.
    pub fn batch(&mut self, stream: StreamId, batch: &NewBatch<'_>) -> Result<(), RewriteError> {
        self.skip_to(stream, batch.base_offset, SkipCause::Lost)?;
        let head = EntryHead {
            kind: kind::BATCH,
            flags: 0,
            stream,
            base_offset: batch.base_offset,
            records: batch.records,
            time_ms: batch.time_ms,
        };
        self.append(&head, batch.payload)?;
        self.written.batches += 1;
        self.written.records += u64::from(batch.records);
        self.written.payload_bytes += batch.payload.len() as u64;
        Ok(())
    }

    /// The partition goes on at `to`; nothing happens when it ends there.
    pub fn skip_to(
        &mut self,
        stream: StreamId,
        to: Offset,
        cause: SkipCause,
    ) -> Result<(), RewriteError> {
        let from = self.next_offset(stream)?;
        if from > to {
            let (shard, expected) = (self.shard, from);
            return Err(RewriteError::OffsetGoesBack { shard, stream, expected, found: to });
        }
        if from == to {
            return Ok(());
        }
        self.change(stream, &Change::OffsetsSkipped { from, to, cause })
    }

    /// Says what is left to say of a partition when all its batches are written.
    pub fn end_partition(
        &mut self,
        stream: StreamId,
        end: &PartitionEnd,
    ) -> Result<(), RewriteError> {
        if end.next_offset > self.next_offset(stream)? {
            self.skip_to(stream, end.next_offset, SkipCause::Lost)?;
        }
        for (consumer, offset) in &end.consumers {
            let consumer = consumer.clone();
            self.change(stream, &Change::OffsetCommitted { consumer, offset: *offset })?;
        }
        let known = self.log.engine().carry(stream).map(|carried| carried.producers);
        if known.is_some_and(|known| known.is_empty()) && end.producers.is_empty() {
            return Ok(());
        }
        let mut replaces = true;
        for producers in end.producers.pieces(PRODUCERS_PER_ENTRY) {
            self.change(stream, &Change::ProducersRestored { replaces, producers })?;
            replaces = false;
        }
        if replaces {
            let producers = ProducerStates::default();
            self.change(stream, &Change::ProducersRestored { replaces, producers })?;
        }
        Ok(())
    }

    fn change(&mut self, stream: StreamId, change: &Change) -> Result<(), RewriteError> {
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        change.encode(&mut payload);
        let result = self.append(&change.head(stream, self.now_ms), &payload);
        self.payload = payload;
        result
    }

    fn append(&mut self, head: &EntryHead, payload: &[u8]) -> Result<(), RewriteError> {
        let appended = self.log.append(head, payload);
        self.written.entries += 1;
        appended.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: WriteError) -> RewriteError {
        RewriteError::Write { path: self.path.clone(), shard: self.shard, error }
    }

    fn finish(self) -> Result<Written, RewriteError> {
        let Self { shard, path, log, written, .. } = self;
        log.finish().map_err(|error| RewriteError::Write { path, shard, error })?;
        Ok(written)
    }
}

fn used_up() -> TopicName {
    TopicName::parse(USED_UP).expect("letters and dashes are a topic's name")
}

#[cfg(test)]
mod tests;
