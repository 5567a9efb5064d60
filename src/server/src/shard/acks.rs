//! From a publish to its acknowledgement.

use model::{AckLevel, ErrorCode, Lsn, PartitionHandle, Rejection, SpaceUse};
use protocol::ProduceAck;
use protocol::batch::BatchHeader;
use shards::PlainBatch;
use smallvec::SmallVec;

use super::pending::{AckRun, Waiting};
use super::{LogJournal, ShardHost};
use crate::bounds::PENDING_REPLIES_MAX;
use crate::clock::Clock;
use crate::message::{CheckedBatch, ConnectionId, Message, Origin, RemoteProduce, ReplyTo};
use crate::outbox::Outbox;

/// One batch as it lies where it was received.
pub struct BatchSlices<'a> {
    pub header: BatchHeader,
    pub bytes: &'a [&'a [u8]],
}

/// What a publish asks for, beside its batches.
#[derive(Clone, Copy, Debug)]
pub struct ProduceTerms {
    pub origin: Origin,
    pub partition: PartitionHandle,
    /// `None`: the topic's own level.
    pub ack: Option<AckLevel>,
    /// 0: none.
    pub deadline_ms: u32,
    /// When it was read from its socket.
    pub received_ns: u64,
}

/// One of a run of publishes: what it does not share with the others.
#[derive(Clone, Copy, Debug)]
pub struct RunPublish<'a> {
    pub correlation: u64,
    /// What it counts in flight, bytes.
    pub cost: u32,
    pub batch: PlainBatch<'a>,
}

/// A publish of another core that waits for room in the log's backlog.
#[derive(Debug)]
pub struct WaitingProduce {
    /// When its client's patience ends, nanoseconds of the core's clock.
    deadline_ns: u64,
    produce: RemoteProduce,
}

/// All that was appended for one frame.
struct Taken {
    lsn: Lsn,
    base_offset: u64,
    records: u32,
    time_ms: i64,
}

impl ShardHost {
    /// Whether a publish of so many bytes can be taken now. If not, the connection is remembered
    /// and comes out of [`Self::take_unstalled`] later.
    pub fn admits(&mut self, bytes: usize, connection: ConnectionId) -> bool {
        let full = self.is_full(bytes);
        if full && !self.stalled.contains(&connection) {
            self.stalled.push(connection);
        }
        !full
    }

    /// Whether a publish of so many bytes has to wait.
    pub fn is_full(&self, bytes: usize) -> bool {
        matches!(self.wal.room(bytes, SpaceUse::Grows), wal::Room::Backlog)
            || self.pending.len() >= PENDING_REPLIES_MAX
    }

    /// Appends the batches of one frame, in order, and arranges for the reply. A refused batch ends
    /// the frame; those before it stay.
    pub fn produce<'a>(
        &mut self,
        clock: &Clock,
        terms: &ProduceTerms,
        batches: impl Iterator<Item = BatchSlices<'a>>,
        out: &mut Outbox,
    ) {
        match self.append_all(clock, terms, batches) {
            Ok((taken, ack)) => {
                self.times.appended(terms.received_ns, 1);
                self.arrange_ack(clock, terms, &taken, ack, out);
            }
            Err(rejection) => out.reject(terms.origin, rejection),
        }
    }

    /// Appends publishes of one batch each that came one after the other on one connection, and
    /// arranges for their replies. `terms` is the first one's; all have its level and deadline, and
    /// where the level is the topic's own, its partition. False: nothing has been done, and
    /// each has to be taken alone.
    pub fn produce_run(
        &mut self,
        clock: &Clock,
        terms: &ProduceTerms,
        publishes: &[RunPublish<'_>],
        out: &mut Outbox,
    ) -> bool {
        let ack = terms.ack.map_or_else(|| self.engine.default_ack(terms.partition), Ok);
        let Ok(ack) = ack else { return false };
        let mut offsets = std::mem::take(&mut self.run_offsets);
        let batches = publishes.iter().map(|publish| &publish.batch);
        let mut journal = LogJournal(&mut self.wal);
        let appended =
            self.engine.produce_run(clock.unix_ms(), batches, &mut offsets, &mut journal);
        if let Ok(appended) = appended {
            self.times.appended(terms.received_ns, publishes.len() as u32);
            let deadline_ns = clock.deadline_ns(terms.deadline_ms);
            let one_by_one = publishes.iter().zip(&offsets).map(|(publish, base_offset)| AckRun {
                connection: terms.origin.connection,
                first_correlation: publish.correlation,
                count: 1,
                base_offset: *base_offset,
                records: publish.batch.records(),
                time_ms: appended.time_ms,
                cost: publish.cost,
            });
            let mut lsn = Lsn(appended.first_lsn.0 - 1);
            for run in joined(one_by_one) {
                lsn.0 += u64::from(run.count);
                self.answer_when(ack, lsn, deadline_ns, run, out);
            }
        }
        self.run_offsets = offsets;
        appended.is_ok()
    }

    fn append_all<'a>(
        &mut self,
        clock: &Clock,
        terms: &ProduceTerms,
        batches: impl Iterator<Item = BatchSlices<'a>>,
    ) -> Result<(Taken, AckLevel), Rejection> {
        let ack = match terms.ack {
            Some(ack) => ack,
            None => self.engine.default_ack(terms.partition)?,
        };
        let mut taken: Option<Taken> = None;
        for batch in batches {
            let mut journal = LogJournal(&mut self.wal);
            let appended = self.engine.produce(
                clock.unix_ms(),
                terms.partition,
                &batch.header,
                batch.bytes,
                &mut journal,
            )?;
            taken = Some(match taken {
                None => Taken {
                    lsn: appended.lsn,
                    base_offset: appended.base_offset,
                    records: appended.records,
                    time_ms: appended.time_ms,
                },
                Some(before) => Taken {
                    lsn: before.lsn.max(appended.lsn),
                    records: before.records + appended.records,
                    ..before
                },
            });
        }
        let empty = || Rejection::new(ErrorCode::Malformed, "the publish holds no batch");
        Ok((taken.ok_or_else(empty)?, ack))
    }

    fn arrange_ack(
        &mut self,
        clock: &Clock,
        terms: &ProduceTerms,
        taken: &Taken,
        ack: AckLevel,
        out: &mut Outbox,
    ) {
        let origin = terms.origin;
        let run = AckRun {
            connection: origin.connection,
            first_correlation: origin.correlation,
            count: 1,
            base_offset: taken.base_offset,
            records: taken.records,
            time_ms: taken.time_ms,
            cost: origin.cost,
        };
        self.answer_when(ack, taken.lsn, clock.deadline_ns(terms.deadline_ms), run, out);
    }

    #[inline]
    fn answer_when(
        &mut self,
        ack: AckLevel,
        lsn: Lsn,
        deadline_ns: u64,
        run: AckRun,
        out: &mut Outbox,
    ) {
        match ack {
            AckLevel::None => {
                let taken = Message::Taken { connection: run.connection, cost: run.cost };
                out.send(run.connection.core, taken);
            }
            AckLevel::Memory => self.taken.push(Lsn::ZERO, u64::MAX, Waiting::Ack(run)),
            AckLevel::Durable => self.pending.push(lsn, deadline_ns, Waiting::Ack(run)),
        }
    }

    /// A publish that came through the mesh; it waits its turn when the backlog is full.
    pub fn produce_remote(&mut self, clock: &Clock, produce: RemoteProduce, out: &mut Outbox) {
        let bytes = bytes_of(&produce);
        if self.waiting.is_empty() && !self.is_full(bytes) {
            self.append_remote(clock, &produce, out);
        } else if self.waiting_bytes + bytes <= self.waiting_bytes_max {
            self.waiting_bytes += bytes;
            let deadline_ns = clock.deadline_ns(produce.deadline_ms);
            self.waiting.push_back(WaitingProduce { deadline_ns, produce });
        } else {
            let text = "too much waits for this shard's disk; try again shortly";
            out.reject(produce.origin, Rejection::new(ErrorCode::Busy, text));
        }
    }

    pub(super) fn resume_waiting(&mut self, clock: &Clock, out: &mut Outbox) {
        while let Some(next) = self.waiting.front() {
            let bytes = bytes_of(&next.produce);
            if self.is_full(bytes) {
                return;
            }
            if let Some(next) = self.waiting.pop_front() {
                self.waiting_bytes -= bytes;
                self.append_remote(clock, &next.produce, out);
            }
        }
    }

    fn append_remote(&mut self, clock: &Clock, produce: &RemoteProduce, out: &mut Outbox) {
        let terms = ProduceTerms {
            origin: produce.origin,
            partition: produce.partition,
            ack: produce.ack,
            deadline_ms: produce.deadline_ms,
            received_ns: produce.received_ns,
        };
        let slices: SmallVec<[SmallVec<[&[u8]; 2]>; 1]> = produce
            .batches
            .iter()
            .map(|batch| batch.bytes.iter().map(|bytes| &bytes[..]).collect())
            .collect();
        let batches = produce
            .batches
            .iter()
            .zip(&slices)
            .map(|(batch, bytes)| BatchSlices { header: batch.header, bytes });
        self.produce(clock, &terms, batches, out);
    }

    /// Answers everything that has become true.
    pub(super) fn sweep(&mut self, now_ns: u64, out: &mut Outbox) {
        while let Some(Waiting::Ack(run)) = self.taken.pop_durable(Lsn::ZERO) {
            self.acknowledge(&run, AckLevel::Memory, self.times.appended_ns, out);
        }
        let durable = self.wal.durable_lsn();
        if durable > self.engine.committed_lsn() {
            self.engine.commit(durable);
        }
        while let Some(waiting) = self.pending.pop_durable(durable) {
            self.fulfil(waiting, now_ns, out);
        }
    }

    fn fulfil(&mut self, waiting: Waiting, now_ns: u64, out: &mut Outbox) {
        match waiting {
            Waiting::Ack(run) => self.acknowledge(&run, self.level_reached(), now_ns, out),
            Waiting::Reply { to: ReplyTo::Client(origin), reply } => out.reply(origin, *reply),
            Waiting::Reply { .. } => {}
            Waiting::Answer { to, answer } => super::requests::send_answer(to, *answer, out),
        }
    }

    /// What is true of a message whose write is done.
    fn level_reached(&self) -> AckLevel {
        if self.volatile { AckLevel::Memory } else { AckLevel::Durable }
    }

    fn acknowledge(&self, run: &AckRun, level: AckLevel, due_ns: u64, out: &mut Outbox) {
        let ack = ProduceAck {
            count: run.count,
            level,
            base_offset: run.base_offset,
            offset_step: run.records,
            shard: self.id,
            append_time_ms: run.time_ms,
        };
        out.send(
            run.connection.core,
            Message::ProduceAck {
                connection: run.connection,
                first_correlation: run.first_correlation,
                ack,
                cost: run.cost,
                due_ns,
            },
        );
    }

    /// The shard has panicked: all who wait for it are told, from its tables alone. Returns the
    /// connections that were not read because of it.
    pub fn fail_clients(&mut self, out: &mut Outbox) -> Vec<ConnectionId> {
        let unknown = crate::core::panicked_rejection();
        for waiting in self.pending.take_all().into_iter().chain(self.taken.take_all()) {
            refuse(waiting, &unknown, out);
        }
        let stopped = Rejection::new(ErrorCode::ShardUnavailable, crate::core::PANICKED);
        for one in std::mem::take(&mut self.waiting) {
            out.reject(one.produce.origin, stopped.clone());
        }
        self.refuse_readers(&stopped, out);
        std::mem::take(&mut self.stalled)
    }

    pub(super) fn expire_pending(&mut self, clock: &Clock, out: &mut Outbox) {
        let late = Rejection::new(
            ErrorCode::OutcomeUnknown,
            "the deadline passed before the write was confirmed; it may still be stored",
        );
        for waiting in self.pending.take_expired(clock.now_ns()) {
            refuse(waiting, &late, out);
        }
        self.expire_waiting(clock, out);
    }

    /// What was not even appended is known not to be stored.
    fn expire_waiting(&mut self, clock: &Clock, out: &mut Outbox) {
        let now_ns = clock.now_ns();
        if self.waiting.iter().all(|one| one.deadline_ns > now_ns) {
            return;
        }
        let text = "the deadline passed while the publish waited for the shard's disk; it is not \
                    stored, try again later";
        let late = Rejection::new(ErrorCode::DeadlineExceeded, text);
        for one in std::mem::take(&mut self.waiting) {
            if one.deadline_ns <= now_ns {
                self.waiting_bytes -= bytes_of(&one.produce);
                out.reject(one.produce.origin, late.clone());
            } else {
                self.waiting.push_back(one);
            }
        }
    }

    pub(super) fn fail_pending(&mut self, rejection: &Rejection, out: &mut Outbox) {
        for waiting in self.pending.take_all() {
            refuse(waiting, rejection, out);
        }
    }
}

/// Those that carry one another on as one.
fn joined(runs: impl Iterator<Item = AckRun>) -> impl Iterator<Item = AckRun> {
    let mut runs = runs.peekable();
    std::iter::from_fn(move || {
        let mut run = runs.next()?;
        while runs.next_if(|next| run.join(next)).is_some() {}
        Some(run)
    })
}

fn refuse(waiting: Waiting, rejection: &Rejection, out: &mut Outbox) {
    match waiting {
        Waiting::Ack(run) => {
            // The run's requests are refused one by one; the first carries what all of them count.
            for i in 0..run.count {
                let origin = Origin {
                    connection: run.connection,
                    correlation: run.first_correlation.wrapping_add(u64::from(i)),
                    cost: if i == 0 { run.cost } else { 0 },
                };
                out.reject(origin, rejection.clone());
            }
        }
        Waiting::Reply { to: ReplyTo::Client(origin), .. } => {
            out.reject(origin, rejection.clone());
        }
        Waiting::Answer { to, .. } => {
            let answer = crate::message::ShardAnswer::Partition(Err(rejection.clone()));
            super::requests::send_answer(to, answer, out);
        }
        Waiting::Reply { .. } => {}
    }
}

fn bytes_of(produce: &RemoteProduce) -> usize {
    produce.batches.iter().map(CheckedBatch::len).sum()
}

impl CheckedBatch {
    fn len(&self) -> usize {
        self.bytes.iter().map(bytes::Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use model::CoreId;

    use super::*;

    const COST_BYTES: u32 = 100;

    /// How a publish comes after the one before it.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Next {
        CarriesOn,
        CorrelationGap,
        OffsetGap,
        OtherRecords,
        Later,
    }

    const ALL: [Next; 5] =
        [Next::CarriesOn, Next::CorrelationGap, Next::OffsetGap, Next::OtherRecords, Next::Later];

    fn first() -> AckRun {
        AckRun {
            connection: ConnectionId { core: CoreId(0), index: 1, generation: 1 },
            first_correlation: 7,
            count: 1,
            base_offset: 1_000,
            records: 10,
            time_ms: 5,
            cost: COST_BYTES,
        }
    }

    fn after(before: &AckRun, next: Next) -> AckRun {
        let mut run = *before;
        run.first_correlation += 1;
        run.base_offset += u64::from(before.records);
        match next {
            Next::CarriesOn => {}
            Next::CorrelationGap => run.first_correlation += 1,
            Next::OffsetGap => run.base_offset += 1,
            Next::OtherRecords => run.records += 1,
            Next::Later => run.time_ms += 1,
        }
        run
    }

    /// Publishes of one each, of which the first is [`first`].
    fn row(nexts: &[Next]) -> Vec<AckRun> {
        let mut row = vec![first()];
        for next in nexts {
            row.push(after(&row[row.len() - 1], *next));
        }
        row
    }

    /// What a client makes of an acknowledgement: correlation, offset, records and time of each publish.
    fn each(run: &AckRun) -> impl Iterator<Item = (u64, u64, u32, i64)> {
        let AckRun { first_correlation, count, base_offset, records, time_ms, .. } = *run;
        (0..u64::from(count)).map(move |at| {
            (first_correlation + at, base_offset + at * u64::from(records), records, time_ms)
        })
    }

    fn counts(runs: impl IntoIterator<Item = AckRun>) -> Vec<u32> {
        joined(runs.into_iter()).map(|run| run.count).collect()
    }

    #[test]
    fn publishes_that_carry_one_another_on_are_acknowledged_together() {
        assert!(counts([]).is_empty());
        assert_eq!(counts(row(&[])), [1]);
        let all: Vec<AckRun> = joined(row(&[Next::CarriesOn; 63]).into_iter()).collect();
        assert_eq!(all, [AckRun { count: 64, cost: 64 * COST_BYTES, ..first() }]);
        for gap in &ALL[1..] {
            let [on, gap] = [Next::CarriesOn, *gap];
            assert_eq!(counts(row(&[on, on, gap, on])), [3, 2], "{gap:?}");
            assert_eq!(counts(row(&[gap, on, on, gap])), [1, 3, 1], "{gap:?}");
        }
        let [one, mut two] = [first(), after(&first(), Next::CarriesOn)];
        two.connection.index += 1;
        assert_eq!(counts([one, two]), [1, 1], "another connection");
    }

    /// Of every row of five: each publish is acknowledged once, with its own offset, in order, and what
    /// they count in flight is kept.
    #[test]
    fn what_is_joined_says_of_each_publish_what_it_would_say_alone() {
        let n = ALL.len();
        for number in 0..n.pow(4) {
            let nexts = [1, n, n * n, n * n * n].map(|place| ALL[number / place % n]);
            let row = row(&nexts);
            let runs: Vec<AckRun> = joined(row.iter().copied()).collect();
            let said: Vec<_> = runs.iter().flat_map(each).collect();
            let alone: Vec<_> = row.iter().flat_map(each).collect();
            assert_eq!(said, alone, "{nexts:?}");
            assert_eq!(runs.iter().map(|run| run.count).sum::<u32>(), 5, "{nexts:?}");
            assert_eq!(runs.iter().map(|run| run.cost).sum::<u32>(), 5 * COST_BYTES, "{nexts:?}");
            let gaps = nexts.iter().filter(|next| **next != Next::CarriesOn).count();
            assert_eq!(runs.len(), gaps + 1, "{nexts:?}");
        }
    }

    #[test]
    fn what_would_be_too_much_for_one_acknowledgement_is_two() {
        let mut runs = row(&[Next::CarriesOn; 3]);
        runs[0].cost = u32::MAX - 2 * COST_BYTES;
        let costs: Vec<u32> = joined(runs.iter().copied()).map(|run| run.cost).collect();
        assert_eq!(costs, [u32::MAX, COST_BYTES]);
        assert_eq!(counts(runs), [3, 1]);

        let many = AckRun { count: u32::MAX - 1, ..first() };
        let follows = |before: &AckRun| AckRun {
            first_correlation: before.first_correlation + u64::from(before.count),
            base_offset: before.base_offset + u64::from(before.count) * u64::from(before.records),
            count: 1,
            ..*before
        };
        let next = follows(&many);
        assert_eq!(counts([many, next, follows(&next)]), [u32::MAX, 1]);
    }
}
