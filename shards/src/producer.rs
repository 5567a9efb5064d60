//! Idempotent producers of one partition: what each has written, and whether a batch is the
//! next, a repetition, or wrong.
//!
//! Sequence numbers count records, as Kafka's do, from 0 to `i32::MAX` and then from 0 again.
//! What is remembered are runs: records that follow each other both in sequence and in offset.
//! A producer that no one interrupts is one run however much it writes; at worst a run is one
//! batch, so at least `PRODUCER_RUNS_MAX` batches are remembered.
//!
//! The rules where Kafka leaves a choice:
//! - a producer that is not known (new, or expired) must begin at sequence 0, else
//!   `UnknownProducer`: a loss before the first batch that arrives is never overlooked;
//! - a batch whose records are all remembered in one run is a repetition, however it is cut.

use std::collections::VecDeque;

use model::limits::PRODUCER_RUNS_MAX;
use model::{Lsn, Offset};

use crate::codec::{self, DecodeError, Fields};
use crate::entry::ProducerStamp;

/// Sequence numbers there are; the one after `i32::MAX` is 0.
const SEQUENCES: u32 = 1 << 31;
/// Behind or ahead is told apart by half the circle.
const AHEAD_MAX: u32 = SEQUENCES / 2;
/// A longer run is continued by a second one, so that no run goes round the circle.
const RUN_RECORDS_MAX: u32 = SEQUENCES / 2;
/// A producer in a checkpoint, without its runs.
const PRODUCER_BYTES: usize = 28;
/// A run in a checkpoint.
const RUN_BYTES: usize = 24;

/// Steps from `from` forward to `to`.
fn distance(from: i32, to: i32) -> u32 {
    (to.wrapping_sub(from) as u32) & (SEQUENCES - 1)
}

fn advance(from: i32, records: u32) -> i32 {
    ((from as u32).wrapping_add(records) & (SEQUENCES - 1)) as i32
}

/// Records of one producer that follow each other in sequence and in offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    first_sequence: i32,
    records: u32,
    first_offset: Offset,
    /// The entry that holds the last of them.
    lsn: Lsn,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub id: i64,
    epoch: i16,
    /// Of its last batch: who has been idle longest is decided by this.
    lsn: Lsn,
    time_ms: i64,
    /// Oldest first, never empty.
    runs: VecDeque<Run>,
}

/// What a batch is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To be appended, by a producer that is remembered.
    Append,
    /// To be appended, and the producer remembered from now on.
    AppendFirst,
    /// Stored before, from this offset on. `lsn` is that of the batch or one after it.
    Duplicate { base_offset: Offset, lsn: Lsn, time_ms: i64 },
}

/// Why a batch may not be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SequenceFault {
    UnknownProducer,
    Fenced { newest: i16 },
    OutOfOrder { expected: i32 },
    Forgotten,
}

/// How to take one batch back out of [`Producers`].
#[derive(Debug)]
pub(crate) enum ProducerUndo {
    None,
    /// The producer was not there before.
    Added {
        id: i64,
    },
    /// The last run grew by this many records.
    Extended {
        id: i64,
        records: u32,
        run_lsn: Lsn,
        before: LastBatch,
    },
    /// A run was added; the oldest may have made room for it.
    Pushed {
        id: i64,
        dropped: Option<Run>,
        before: LastBatch,
    },
    /// A newer epoch replaced everything.
    Replaced {
        producer: Box<Producer>,
    },
}

/// The fields of a producer that every batch changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastBatch {
    lsn: Lsn,
    time_ms: i64,
}

/// A batch that has been appended, as the producers see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppendedBatch {
    pub records: u32,
    pub base_offset: Offset,
    pub lsn: Lsn,
    pub time_ms: i64,
}

/// The producers of one partition, sorted by id.
#[derive(Default)]
pub(crate) struct Producers {
    list: Vec<Producer>,
}

impl Producers {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Judges a batch of `records` records; changes nothing.
    pub fn judge(&self, stamp: &ProducerStamp, records: u32) -> Result<Verdict, SequenceFault> {
        let Ok(at) = self.find(stamp.id) else {
            let first = stamp.sequence == 0;
            return if first {
                Ok(Verdict::AppendFirst)
            } else {
                Err(SequenceFault::UnknownProducer)
            };
        };
        let producer = &self.list[at];
        if stamp.epoch < producer.epoch {
            return Err(SequenceFault::Fenced { newest: producer.epoch });
        }
        if stamp.epoch > producer.epoch {
            let first = stamp.sequence == 0;
            return if first {
                Ok(Verdict::Append)
            } else {
                Err(SequenceFault::OutOfOrder { expected: 0 })
            };
        }
        producer.judge(stamp.sequence, records)
    }

    /// Remembers a batch that was judged fit to append.
    pub fn append(&mut self, stamp: &ProducerStamp, batch: &AppendedBatch) -> ProducerUndo {
        let run = Run {
            first_sequence: stamp.sequence,
            records: batch.records,
            first_offset: batch.base_offset,
            lsn: batch.lsn,
        };
        let fresh = || Producer {
            id: stamp.id,
            epoch: stamp.epoch,
            lsn: batch.lsn,
            time_ms: batch.time_ms,
            runs: VecDeque::from([run]),
        };
        match self.find(stamp.id) {
            Err(at) => {
                self.list.insert(at, fresh());
                ProducerUndo::Added { id: stamp.id }
            }
            Ok(at) if self.list[at].epoch != stamp.epoch => {
                let old = std::mem::replace(&mut self.list[at], fresh());
                ProducerUndo::Replaced { producer: Box::new(old) }
            }
            Ok(at) => self.list[at].append(run, batch.time_ms),
        }
    }

    /// Takes back the newest batch.
    pub fn undo(&mut self, undo: ProducerUndo) {
        match undo {
            ProducerUndo::None => {}
            ProducerUndo::Added { id } => {
                self.take(id);
            }
            ProducerUndo::Replaced { producer } => {
                self.take(producer.id);
                self.put_back(*producer);
            }
            ProducerUndo::Extended { id, records, run_lsn, before } => {
                let producer = self.known(id);
                let run = producer.runs.back_mut().expect("a producer has a run");
                run.records -= records;
                run.lsn = run_lsn;
                producer.set_last(before);
            }
            ProducerUndo::Pushed { id, dropped, before } => {
                let producer = self.known(id);
                producer.runs.pop_back();
                if let Some(run) = dropped {
                    producer.runs.push_front(run);
                }
                producer.set_last(before);
            }
        }
    }

    /// The producer whose last batch is the oldest.
    pub fn idle_longest(&self) -> Option<i64> {
        self.list.iter().min_by_key(|producer| producer.lsn).map(|producer| producer.id)
    }

    /// Those whose last batch is older than `before_ms`, in rising order.
    pub fn idle_since(&self, before_ms: i64) -> Vec<i64> {
        self.list.iter().filter(|p| p.time_ms < before_ms).map(|p| p.id).collect()
    }

    /// Forgets a producer, and hands it out for [`Producers::put_back`].
    pub fn take(&mut self, id: i64) -> Option<Producer> {
        let at = self.find(id).ok()?;
        Some(self.list.remove(at))
    }

    pub fn put_back(&mut self, producer: Producer) {
        if let Err(at) = self.find(producer.id) {
            self.list.insert(at, producer);
        }
    }

    fn find(&self, id: i64) -> Result<usize, usize> {
        self.list.binary_search_by_key(&id, |producer| producer.id)
    }

    fn known(&mut self, id: i64) -> &mut Producer {
        let at = self.find(id).expect("a batch to take back has its producer");
        &mut self.list[at]
    }

    /// A u32 count, then each: id i64, epoch u16, lsn u64, time i64, run count u16, and per run
    /// sequence u32, records u32, offset u64, lsn u64.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_list(&self.list, out);
    }

    pub fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let count = fields.count(PRODUCER_BYTES)?;
        let mut list: Vec<Producer> = Vec::with_capacity(count);
        for _ in 0..count {
            let producer = Producer::decode(fields)?;
            if list.last().is_some_and(|last| last.id >= producer.id) {
                return Err(DecodeError::BadField("producer order"));
            }
            list.push(producer);
        }
        Ok(Self { list })
    }
}

fn encode_list(list: &[Producer], out: &mut Vec<u8>) {
    codec::put_u32(out, list.len() as u32);
    let runs: usize = list.iter().map(|producer| producer.runs.len()).sum();
    out.reserve(list.len() * PRODUCER_BYTES + runs * RUN_BYTES);
    for producer in list {
        codec::put_i64(out, producer.id);
        codec::put_u16(out, producer.epoch as u16);
        codec::put_u64(out, producer.lsn.0);
        codec::put_i64(out, producer.time_ms);
        codec::put_u16(out, producer.runs.len() as u16);
        for run in &producer.runs {
            out.extend_from_slice(&run.to_bytes());
        }
    }
}

/// What some producers have written, as one value that can be carried to another log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates(Vec<Producer>);

impl ProducerStates {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest producer id among them.
    pub fn last_id(&self) -> Option<i64> {
        self.0.last().map(|producer| producer.id)
    }

    /// Whether both would judge every batch alike. In which entries of a log they were written
    /// does not count.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let run = |run: &Run| (run.first_sequence, run.records, run.first_offset);
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| {
                (a.id, a.epoch, a.time_ms) == (b.id, b.epoch, b.time_ms)
                    && a.runs.iter().map(run).eq(b.runs.iter().map(run))
            })
    }

    /// The same in pieces of at most `producers_max`, which must be above 0.
    pub fn pieces(&self, producers_max: usize) -> impl Iterator<Item = ProducerStates> {
        self.0.chunks(producers_max).map(|piece| Self(piece.to_vec()))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        encode_list(&self.0, out);
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Producers::decode(fields).map(|producers| Self(producers.list))
    }
}

impl Producers {
    /// All of them, to be carried to another log.
    pub fn states(&self) -> ProducerStates {
        ProducerStates(self.list.clone())
    }

    /// Takes producers over from another log; those with the same ids give way. In this log
    /// they count as written by entry `lsn`. What was there before comes back.
    pub fn restore(&mut self, replaces: bool, states: &ProducerStates, lsn: Lsn) -> Self {
        let before = Self { list: self.list.clone() };
        if replaces {
            self.list.clear();
        }
        for state in &states.0 {
            self.take(state.id);
            let mut state = state.clone();
            state.lsn = lsn;
            state.runs.iter_mut().for_each(|run| run.lsn = lsn);
            self.put_back(state);
        }
        before
    }
}

impl Run {
    /// In one piece: a partition may hold tens of thousands of runs.
    fn to_bytes(self) -> [u8; RUN_BYTES] {
        let mut bytes = [0; RUN_BYTES];
        bytes[..4].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.records.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first_offset.to_le_bytes());
        bytes[16..].copy_from_slice(&self.lsn.0.to_le_bytes());
        bytes
    }
}

impl Producer {
    fn judge(&self, sequence: i32, records: u32) -> Result<Verdict, SequenceFault> {
        let expected = self.next_sequence();
        let ahead = distance(expected, sequence);
        if ahead == 0 {
            return Ok(Verdict::Append);
        }
        let behind = distance(sequence, expected);
        if ahead < AHEAD_MAX || behind < records {
            return Err(SequenceFault::OutOfOrder { expected });
        }
        for run in self.runs.iter().rev() {
            let skipped = distance(run.first_sequence, sequence);
            if skipped < run.records && records <= run.records - skipped {
                let base_offset = run.first_offset + u64::from(skipped);
                return Ok(Verdict::Duplicate { base_offset, lsn: run.lsn, time_ms: self.time_ms });
            }
        }
        Err(SequenceFault::Forgotten)
    }

    fn next_sequence(&self) -> i32 {
        let run = self.runs.back().expect("a producer has a run");
        advance(run.first_sequence, run.records)
    }

    fn append(&mut self, run: Run, time_ms: i64) -> ProducerUndo {
        let before = LastBatch { lsn: self.lsn, time_ms: self.time_ms };
        self.set_last(LastBatch { lsn: run.lsn, time_ms });
        let last = self.runs.back_mut().expect("a producer has a run");
        let follows = last.first_offset + u64::from(last.records) == run.first_offset
            && advance(last.first_sequence, last.records) == run.first_sequence;
        if follows && last.records.saturating_add(run.records) <= RUN_RECORDS_MAX {
            let run_lsn = std::mem::replace(&mut last.lsn, run.lsn);
            last.records += run.records;
            return ProducerUndo::Extended { id: self.id, records: run.records, run_lsn, before };
        }
        let full = self.runs.len() == PRODUCER_RUNS_MAX;
        let dropped = if full { self.runs.pop_front() } else { None };
        self.runs.push_back(run);
        ProducerUndo::Pushed { id: self.id, dropped, before }
    }

    fn set_last(&mut self, last: LastBatch) {
        self.lsn = last.lsn;
        self.time_ms = last.time_ms;
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let (id, epoch) = (fields.i64()?, fields.u16()? as i16);
        let (lsn, time_ms) = (Lsn(fields.u64()?), fields.i64()?);
        let count = usize::from(fields.u16()?);
        if count == 0 || count > PRODUCER_RUNS_MAX {
            return Err(DecodeError::BadField("runs"));
        }
        let mut runs = VecDeque::with_capacity(count);
        for _ in 0..count {
            let run = Run {
                first_sequence: fields.u32()? as i32,
                records: fields.u32()?,
                first_offset: fields.u64()?,
                lsn: Lsn(fields.u64()?),
            };
            runs.push_back(run);
        }
        Ok(Self { id, epoch, lsn, time_ms, runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition that only counts offsets and entries.
    #[derive(Default)]
    struct Bench {
        producers: Producers,
        offset: u64,
        lsn: u64,
    }

    impl Bench {
        fn send(&mut self, sequence: i32, records: u32) -> Result<Verdict, SequenceFault> {
            self.send_as(1, 0, sequence, records).0
        }

        fn send_as(
            &mut self,
            id: i64,
            epoch: i16,
            sequence: i32,
            records: u32,
        ) -> (Result<Verdict, SequenceFault>, ProducerUndo) {
            let stamp = ProducerStamp { id, epoch, sequence };
            let verdict = self.producers.judge(&stamp, records);
            let mut undo = ProducerUndo::None;
            if matches!(verdict, Ok(Verdict::Append | Verdict::AppendFirst)) {
                self.lsn += 1;
                let batch = AppendedBatch {
                    records,
                    base_offset: self.offset,
                    lsn: Lsn(self.lsn),
                    time_ms: self.lsn as i64,
                };
                undo = self.producers.append(&stamp, &batch);
                self.offset += u64::from(records);
            }
            (verdict, undo)
        }

        fn bytes(&self) -> Vec<u8> {
            let mut out = Vec::new();
            self.producers.encode(&mut out);
            out
        }
    }

    fn base(verdict: Result<Verdict, SequenceFault>) -> Option<Offset> {
        match verdict {
            Ok(Verdict::Duplicate { base_offset, .. }) => Some(base_offset),
            _ => None,
        }
    }

    #[test]
    fn repetitions_answer_with_their_first_offset() {
        let mut bench = Bench::default();
        assert_eq!(bench.send(0, 3), Ok(Verdict::AppendFirst));
        bench.offset += 100;
        assert_eq!(bench.send(3, 2), Ok(Verdict::Append));
        assert_eq!(bench.send(5, 4), Ok(Verdict::Append));
        assert_eq!(base(bench.send(0, 3)), Some(0));
        assert_eq!(base(bench.send(3, 2)), Some(103));
        assert_eq!(base(bench.send(5, 4)), Some(105));
        // Records that never were one batch.
        assert_eq!(bench.send(2, 2), Err(SequenceFault::Forgotten));
    }

    #[test]
    fn gaps_and_half_repetitions_are_refused() {
        let mut bench = Bench::default();
        assert_eq!(bench.send(1, 1), Err(SequenceFault::UnknownProducer));
        bench.send(0, 3).unwrap();
        assert_eq!(bench.send(4, 1), Err(SequenceFault::OutOfOrder { expected: 3 }));
        assert_eq!(bench.send(2, 5), Err(SequenceFault::OutOfOrder { expected: 3 }));
    }

    #[test]
    fn epochs_fence_and_start_over() {
        let mut bench = Bench::default();
        bench.send(0, 3).unwrap();
        assert_eq!(bench.send_as(1, 2, 3, 1).0, Err(SequenceFault::OutOfOrder { expected: 0 }));
        assert_eq!(bench.send_as(1, 2, 0, 1).0, Ok(Verdict::Append));
        assert_eq!(bench.send(3, 1), Err(SequenceFault::Fenced { newest: 2 }));
        assert_eq!(base(bench.send_as(1, 2, 0, 1).0), Some(3));
    }

    #[test]
    fn sequences_go_round() {
        let mut bench = Bench::default();
        let half = 1 << 30;
        bench.send(0, half).unwrap();
        bench.send(half as i32, half - 2).unwrap();
        assert_eq!(bench.send(i32::MAX - 1, 5), Ok(Verdict::Append));
        assert_eq!(base(bench.send(i32::MAX - 1, 5)), Some(u64::from(half) * 2 - 2));
        assert_eq!(base(bench.send(1, 2)), Some(u64::from(half) * 2 + 1));
        assert_eq!(bench.send(3, 1), Ok(Verdict::Append));
        assert_eq!(bench.send(5, 1), Err(SequenceFault::OutOfOrder { expected: 4 }));
    }

    #[test]
    fn the_oldest_run_is_forgotten_first() {
        let mut bench = Bench::default();
        for batch in 0..=PRODUCER_RUNS_MAX as i32 {
            bench.send(batch, 1).unwrap();
            bench.offset += 1;
        }
        assert_eq!(bench.send(0, 1), Err(SequenceFault::Forgotten));
        assert_eq!(base(bench.send(1, 1)), Some(2));
    }

    #[test]
    fn every_append_can_be_taken_back() {
        let mut bench = Bench::default();
        let mut trail = Vec::new();
        let mut sequence = [0i32; 3];
        let mut epoch = [0i16; 3];
        for step in 0..400usize {
            let who = (step * 7 + step / 5) % 3;
            if step % 61 == 60 {
                epoch[who] += 1;
                sequence[who] = 0;
            }
            let before = bench.bytes();
            let (verdict, undo) = bench.send_as(who as i64, epoch[who], sequence[who], 2);
            verdict.unwrap();
            sequence[who] += 2;
            trail.push((before, undo));
        }
        while let Some((before, undo)) = trail.pop() {
            bench.producers.undo(undo);
            assert_eq!(bench.bytes(), before, "after taking back batch {}", trail.len());
        }
    }

    #[test]
    fn the_encoding_reads_back() {
        let mut bench = Bench::default();
        for step in 0..50 {
            bench.send_as(step % 4, 0, (step / 4) as i32, 1).0.unwrap();
        }
        let bytes = bench.bytes();
        let mut fields = Fields::new(&bytes);
        let read = Producers::decode(&mut fields).unwrap();
        fields.end().unwrap();
        assert_eq!(read.list, bench.producers.list);
        for cut in 0..bytes.len() {
            assert!(Producers::decode(&mut Fields::new(&bytes[..cut])).is_err());
        }
    }
}
