//! Appending batches: the hot path.

use std::ops::Range;

use model::limits::{BATCH_BYTES_MAX, PRODUCERS_PER_PARTITION_MAX};
use model::{
    AckLevel, EntryHead, ErrorCode, Lsn, Offset, PartitionHandle, Rejection, SpaceUse, StreamId,
};
use protocol::batch::{BASE_OFFSET, BATCH_HEADER_BYTES, BatchHeader, CRC_FROM, LEADER_EPOCH};
use smallvec::SmallVec;

use crate::engine::Engine;
use crate::entry::{BatchFacts, Change, kind};
use crate::journal::{Journal, REWRITTEN_BYTES, admit};
use crate::producer::Verdict;
use crate::rejection;

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The batch is durable once the log is durable up to here; `Lsn::ZERO` when it already is
    /// (a repetition). For a repetition it may be a later entry of the same producer.
    pub lsn: Lsn,
    pub base_offset: Offset,
    pub records: u32,
    /// Its append time, Unix milliseconds; for a repetition, that of the producer's last batch.
    pub time_ms: i64,
    /// It was stored before and nothing has been appended.
    pub duplicate: bool,
}

impl Engine {
    /// Appends one batch, whose bytes (`bytes`, one after the other) the caller has checked
    /// against `batch`. Refusals store nothing of it.
    ///
    /// Only base offset and leader epoch are rewritten; the rest of the bytes goes to the
    /// journal as it lies.
    pub fn produce(
        &mut self,
        now_ms: i64,
        partition: PartitionHandle,
        batch: &BatchHeader,
        bytes: &[&[u8]],
        journal: &mut impl Journal,
    ) -> Result<Appended, Rejection> {
        let time_ms = self.stamp(now_ms);
        let facts = facts_of(batch, bytes)?;
        let found = self.decided(partition)?;
        let mut base_offset = found.next_offset;
        let mut evicts = None;
        if let Some(stamp) = &facts.producer {
            let verdict = found
                .producers
                .judge(stamp, facts.records)
                .map_err(|fault| rejection::sequence(stamp.id, stamp.sequence, fault))?;
            match verdict {
                Verdict::Append => {}
                Verdict::AppendFirst if found.producers.len() >= PRODUCERS_PER_PARTITION_MAX => {
                    evicts = found.producers.idle_longest();
                }
                Verdict::AppendFirst => self.expect_memory()?,
                Verdict::Duplicate { base_offset: first, lsn, time_ms } => {
                    base_offset = first;
                    let lsn = if lsn > self.committed_lsn { lsn } else { Lsn::ZERO };
                    let records = facts.records;
                    return Ok(Appended { lsn, base_offset, records, time_ms, duplicate: true });
                }
            }
        }
        admit(journal, facts.bytes as usize, SpaceUse::Grows)?;
        if let Some(id) = evicts {
            let change = Change::ProducersExpired { ids: vec![id] };
            self.record(time_ms, partition.stream, &change, journal)?;
            admit(journal, facts.bytes as usize, SpaceUse::Grows)?;
        }
        let stream = partition.stream;
        let lsn =
            self.append_batch(time_ms, stream, base_offset, (&facts, batch.crc), bytes, journal);
        Ok(Appended { lsn, base_offset, records: facts.records, time_ms, duplicate: false })
    }

    /// The level used where a publish names none.
    pub fn default_ack(&self, partition: PartitionHandle) -> Result<AckLevel, Rejection> {
        Ok(self.decided(partition)?.config.ack)
    }

    fn append_batch(
        &mut self,
        time_ms: i64,
        stream: StreamId,
        base_offset: Offset,
        (facts, crc): (&BatchFacts, u32),
        bytes: &[&[u8]],
        journal: &mut impl Journal,
    ) -> Lsn {
        let head = EntryHead {
            kind: kind::BATCH,
            flags: 0,
            stream,
            base_offset,
            records: facts.records,
            time_ms,
        };
        let lsn = if let [whole] = bytes
            && let Some((start, rest)) = whole.split_first_chunk()
        {
            // It lies in one piece, as most do.
            append_whole(journal, &head, start, rest, crc)
        } else {
            let mut start = [0; REWRITTEN_BYTES];
            let mut parts: SmallVec<[&[u8]; 8]> = SmallVec::new();
            let rest = split_start(bytes, &mut start);
            start = rewritten(&start, base_offset).to_le_bytes();
            parts.push(&start);
            parts.extend(rest);
            let covered_bytes = facts.bytes as usize - CRC_FROM;
            journal.append_covered(&head, &parts, covered_bytes, crc)
        };
        self.expect_next(lsn);
        let undo = self.apply_batch(lsn, &head, facts);
        self.push_undo(lsn, time_ms, undo.expect("a decided batch applies"));
        lsn
    }
}

/// Hands a batch in one piece to the journal: `start` rewritten, `rest` as it is.
#[inline]
pub(super) fn append_whole(
    journal: &mut impl Journal,
    head: &EntryHead,
    start: &[u8; REWRITTEN_BYTES],
    rest: &[u8],
    crc: u32,
) -> Lsn {
    journal.append_whole_batch(head, rewritten(start, head.base_offset), rest, crc)
}

/// What the broker makes of a batch's start: its base offset, no leader epoch. The bytes of a
/// little-endian number.
#[inline]
fn rewritten(start: &[u8; REWRITTEN_BYTES], base_offset: Offset) -> u128 {
    const LENGTH: Range<usize> = BASE_OFFSET.end..LEADER_EPOCH.start;
    let mut length = [0; LENGTH.end - LENGTH.start];
    length.copy_from_slice(&start[LENGTH]);
    let (offset, length) = (base_offset.swap_bytes(), u32::from_le_bytes(length));
    u128::from(offset) | u128::from(length) << (8 * LENGTH.start)
}

/// Copies the first bytes into `start`; what remains of the slices comes back.
fn split_start<'a>(
    bytes: &'a [&'a [u8]],
    start: &mut [u8; REWRITTEN_BYTES],
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let mut filled = 0;
    let mut whole = 0;
    let mut cut: &[u8] = &[];
    while filled < REWRITTEN_BYTES && whole < bytes.len() {
        let taken = bytes[whole].len().min(REWRITTEN_BYTES - filled);
        let (head, tail) = bytes[whole].split_at(taken);
        start[filled..filled + taken].copy_from_slice(head);
        filled += taken;
        whole += 1;
        cut = tail;
    }
    let rest = bytes[whole..].iter().copied();
    std::iter::once(cut).chain(rest).filter(|part| !part.is_empty())
}

/// What the engine keeps of the header, and that it can be true of these bytes.
fn facts_of(batch: &BatchHeader, bytes: &[&[u8]]) -> Result<BatchFacts, Rejection> {
    let length: usize = bytes.iter().map(|part| part.len()).sum();
    if length > BATCH_BYTES_MAX as usize {
        let message =
            format!("the batch has {length} bytes; at most {BATCH_BYTES_MAX} are allowed");
        return Err(Rejection::new(ErrorCode::TooLarge, message));
    }
    let facts = BatchFacts::of(batch, length).filter(|_| length >= BATCH_HEADER_BYTES);
    facts.ok_or_else(|| {
        let message = "the batch holds no records or is cut short; send whole batches";
        Rejection::new(ErrorCode::CorruptBatch, message)
    })
}
