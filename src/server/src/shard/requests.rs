//! Requests to one shard, beside publishes.

use std::sync::Arc;

use model::{
    AckLevel, ErrorCode, Lsn, PartitionIndex, Rejection, Reply, Request, StreamId, TopicId,
};

use ring::Ring;

use super::pending::Waiting;
use super::readers::FetchWant;
use super::{LogJournal, ShardHost};
use crate::clock::Clock;
use crate::message::{Message, Origin, PartitionSpec, ReplyTo, ShardAnswer, ShardRequest};
use crate::outbox::Outbox;

/// What a client wants of a write beside its content.
#[derive(Clone, Copy, Debug)]
struct WriteTerms {
    origin: Origin,
    ack: AckLevel,
    deadline_ns: u64,
}

impl ShardHost {
    /// Does what is asked, or begins to; the answer goes to `reply_to`.
    pub fn handle(
        &mut self,
        ring: &mut Ring,
        clock: &Clock,
        reply_to: ReplyTo,
        request: ShardRequest,
        out: &mut Outbox,
    ) {
        match request {
            ShardRequest::Client { request, deadline_ms } => {
                if let ReplyTo::Client(origin) = reply_to {
                    self.handle_client(clock, origin, request, deadline_ms, out);
                }
            }
            ShardRequest::EnsurePartition { spec, index } => {
                let outcome = self.ensure_partition(clock, &spec, index);
                self.answer_partition(reply_to, outcome, out);
            }
            ShardRequest::AlterPartition { spec, index } => {
                let outcome = self.alter_partition(clock, &spec, index);
                self.answer_partition(reply_to, outcome, out);
            }
            ShardRequest::DeletePartition { topic, index } => {
                let outcome = self.delete_partition(clock, topic, index);
                self.answer_partition(reply_to, outcome, out);
            }
            ShardRequest::Describe { topic } => {
                let described = ShardAnswer::Described(self.engine.describe(topic));
                send_answer(reply_to, described, out);
            }
            ShardRequest::Status => {
                let status = self.status(clock, out.core());
                send_answer(reply_to, ShardAnswer::Status(status), out);
            }
            ShardRequest::PinLog { backup } => {
                let point = self.pin_log(backup);
                send_answer(reply_to, ShardAnswer::Pinned(point), out);
            }
            ShardRequest::KeepLog { backup } => {
                let kept = self.keeps_log(backup);
                send_answer(reply_to, ShardAnswer::LogKept(kept), out);
            }
            ShardRequest::UnpinLog { backup } => {
                let kept = self.unpin_log(ring, backup);
                send_answer(reply_to, ShardAnswer::LogKept(kept), out);
            }
        }
    }

    fn handle_client(
        &mut self,
        clock: &Clock,
        origin: Origin,
        request: Request,
        deadline_ms: u32,
        out: &mut Outbox,
    ) {
        let deadline_ns = clock.deadline_ns(deadline_ms);
        match request {
            Request::Fetch { partition, offset, min_bytes, max_bytes, max_wait_ms } => {
                // A client that will not wait longer gets what there is by then.
                let patience_ms = if deadline_ms == 0 { u32::MAX } else { deadline_ms };
                let wait_ms = max_wait_ms.min(model::limits::FETCH_WAIT_MS_MAX).min(patience_ms);
                let want = FetchWant {
                    offset,
                    min_bytes,
                    max_bytes,
                    deadline_ms: clock.now_ms() + i64::from(wait_ms),
                };
                self.fetch(origin, partition, want, out);
            }
            Request::LookupOffset { partition, position } => {
                self.look_up(origin, partition, &position, out);
            }
            Request::Subscribe { partition, subscription, position, credit_bytes } => {
                self.subscribe(origin, partition, subscription, &position, credit_bytes, out);
            }
            Request::CommitOffset { partition, consumer, offset, ack } => {
                crate::test_faults::maybe_panic("engine", consumer.as_str());
                let mut journal = LogJournal(&mut self.wal);
                let outcome = self.engine.commit_offset(
                    clock.unix_ms(),
                    partition,
                    &consumer,
                    offset,
                    &mut journal,
                );
                let terms = WriteTerms { origin, ack, deadline_ns };
                self.reply_when_durable(terms, outcome, Reply::OffsetCommitted, out);
            }
            Request::CommittedOffset { partition, consumer } => {
                match self.engine.committed_offset(partition, &consumer) {
                    Ok(offset) => out.reply(origin, Reply::Offset { offset }),
                    Err(rejection) => out.reject(origin, rejection),
                }
            }
            Request::InitProducer => {
                let mut journal = LogJournal(&mut self.wal);
                match self.engine.allocate_producer_id(clock.unix_ms(), &mut journal) {
                    Ok((id, lsn)) => {
                        let reply = Reply::Producer { id, epoch: 0 };
                        let ack = AckLevel::Durable;
                        let terms = WriteTerms { origin, ack, deadline_ns };
                        self.reply_when_durable(terms, Ok(lsn), reply, out);
                    }
                    Err(rejection) => out.reject(origin, rejection),
                }
            }
            _ => {
                tracing::error!(shard = %self.id, "a request came to a shard that is not a shard's; please report this line");
                let text = "the server sent this request to the wrong place; please report it";
                out.reject(origin, Rejection::new(ErrorCode::ShardUnavailable, text));
            }
        }
    }

    fn reply_when_durable(
        &mut self,
        terms: WriteTerms,
        outcome: Result<Lsn, Rejection>,
        reply: Reply,
        out: &mut Outbox,
    ) {
        match outcome {
            Err(rejection) => out.reject(terms.origin, rejection),
            Ok(_) if terms.ack != AckLevel::Durable => out.reply(terms.origin, reply),
            Ok(lsn) => {
                let to = ReplyTo::Client(terms.origin);
                let waiting = Waiting::Reply { to, reply: Box::new(reply) };
                self.pending.push(lsn, terms.deadline_ns, waiting);
            }
        }
    }

    fn ensure_partition(
        &mut self,
        clock: &Clock,
        spec: &Arc<PartitionSpec>,
        index: PartitionIndex,
    ) -> Result<(StreamId, Lsn), Rejection> {
        let mut journal = LogJournal(&mut self.wal);
        let created = self.engine.create_partition(
            clock.unix_ms(),
            &topic_spec(spec),
            index,
            &mut journal,
        )?;
        if let Some(label) = self.engine.label(created.0) {
            self.wal.label(created.0, &label);
        }
        Ok(created)
    }

    fn alter_partition(
        &mut self,
        clock: &Clock,
        spec: &Arc<PartitionSpec>,
        index: PartitionIndex,
    ) -> Result<(StreamId, Lsn), Rejection> {
        let mut journal = LogJournal(&mut self.wal);
        let lsn = self.engine.alter_partition(
            clock.unix_ms(),
            spec.topic,
            index,
            spec.config_version,
            &spec.config,
            &mut journal,
        )?;
        Ok((StreamId(0), lsn))
    }

    fn delete_partition(
        &mut self,
        clock: &Clock,
        topic: TopicId,
        index: PartitionIndex,
    ) -> Result<(StreamId, Lsn), Rejection> {
        let mut journal = LogJournal(&mut self.wal);
        let lsn = self.engine.delete_partition(clock.unix_ms(), topic, index, &mut journal)?;
        Ok((StreamId(0), lsn))
    }

    fn answer_partition(
        &mut self,
        to: ReplyTo,
        outcome: Result<(StreamId, Lsn), Rejection>,
        out: &mut Outbox,
    ) {
        match outcome {
            Ok((stream, lsn)) => {
                let answer = Box::new(ShardAnswer::Partition(Ok(stream)));
                self.pending.push(lsn, u64::MAX, Waiting::Answer { to, answer });
            }
            Err(rejection) => send_answer(to, ShardAnswer::Partition(Err(rejection)), out),
        }
    }
}

fn topic_spec(spec: &PartitionSpec) -> shards::TopicSpec {
    shards::TopicSpec {
        id: spec.topic,
        name: spec.name.clone(),
        config: spec.config.clone(),
        config_version: spec.config_version,
    }
}

/// Sends an answer to whoever asked, on whichever core.
pub fn send_answer(to: ReplyTo, answer: ShardAnswer, out: &mut Outbox) {
    let core = match to {
        ReplyTo::Gather { core, .. } | ReplyTo::Backup { core, .. } => core,
        // The coordinator lives with shard 0, which the first core owns.
        ReplyTo::Coordinator { .. } => model::CoreId(0),
        ReplyTo::Client(_) => return,
    };
    out.send(core, Message::Answer { reply_to: to, answer: Box::new(answer) });
}
