//! The way of a publish from its frame to the owning shard.

use model::limits::BATCHES_PER_PUBLISH_MAX;
use model::{ErrorCode, Rejection};
use protocol::batch::BATCH_HEADER_BYTES;
use protocol::{
    BATCHES_AT, FRAME_HEADER_BYTES, FrameHeader, PRODUCE_HEAD_BYTES, ProduceHead, check_batch,
    split_batches,
};
use smallvec::SmallVec;

use super::borders::{guarded, panicked_rejection};
use super::{Core, open_shard_in, unknown_shard};
use crate::connection::{Input, Parts, Stall};
use crate::core::sockets::malformed;
use crate::message::{CheckedBatch, ConnectionId, Message, Origin, RemoteProduce};
use crate::shard::{BatchSlices, ProduceTerms};

impl Core {
    /// Checks the batches and appends them, here or on the core that owns the partition.
    pub(super) fn on_produce(
        &mut self,
        id: ConnectionId,
        header: &FrameHeader,
        input: &mut Input,
    ) -> Result<(), Stall> {
        if !self.may_publish(id) {
            self.refuse_publisher(id, header.correlation);
            return Ok(());
        }
        let length = header.length as usize;
        if length < BATCHES_AT + BATCH_HEADER_BYTES {
            let rejection = malformed("the publish ends before its first batch");
            self.refuse(id, header.correlation, &rejection);
            return Ok(());
        }
        let head = match parse_head(input) {
            Ok(head) => head,
            Err(rejection) => {
                self.refuse(id, header.correlation, &rejection);
                return Ok(());
            }
        };
        if head.batch_count > BATCHES_PER_PUBLISH_MAX {
            let text = format!(
                "the publish says it has {} batches; at most {BATCHES_PER_PUBLISH_MAX} are allowed",
                head.batch_count
            );
            let rejection = Rejection::new(ErrorCode::TooLarge, text);
            self.refuse(id, header.correlation, &rejection);
            return Ok(());
        }
        let shard = head.handle.shard;
        if !self.map.has(shard) {
            self.refuse(id, header.correlation, &unknown_shard(shard));
            return Ok(());
        }
        let origin =
            Origin { connection: id, correlation: header.correlation, cost: header.length };
        let core = self.map.core_of(shard);
        let batches_bytes = length - BATCHES_AT;
        if core == self.out.core() {
            self.produce_here(origin, &head, input, batches_bytes)
        } else {
            self.reserve(origin, core)?;
            self.produce_there(core, origin, &head, input, batches_bytes);
            Ok(())
        }
    }

    /// One look at the connection, since this is asked for every publish.
    fn may_publish(&mut self, id: ConnectionId) -> bool {
        self.connections.get_mut(id).is_some_and(|connection| connection.may_publish())
    }

    fn refuse_publisher(&mut self, id: ConnectionId, correlation: u64) {
        if self.greeted(id) {
            return self.refuse(id, correlation, &super::frames::not_an_operators());
        }
        let text = "the first frame of a connection must be Hello";
        let rejection = Rejection::new(ErrorCode::HandshakeRequired, text);
        self.close_with(id, correlation, &rejection);
    }

    fn produce_here(
        &mut self,
        origin: Origin,
        head: &ProduceHead,
        input: &Input,
        batches_bytes: usize,
    ) -> Result<(), Stall> {
        let shard = head.handle.shard;
        let slot = self.slot_of(shard);
        let admitted = self
            .shards
            .get_mut(slot)
            .and_then(|slot| guarded(slot, |host| host.admits(batches_bytes, origin.connection)));
        match admitted {
            Some(true) => {}
            Some(false) => return Err(Stall::Backlog(shard)),
            None => {
                // Not served, or no more since a moment ago. Nothing has been written, and nothing
                // counted in flight yet.
                if let Err(rejection) = open_shard_in(&mut self.shards, slot, shard) {
                    self.out.reject(Origin { cost: 0, ..origin }, rejection);
                }
                return Ok(());
            }
        }
        let mut received_ns = 0;
        if let Some(connection) = self.connections.get_mut(origin.connection) {
            connection.in_flight_bytes += origin.cost as usize;
            received_ns = connection.unparsed_since_ns;
        }
        let parts = input.parts(BATCHES_AT, batches_bytes);
        let terms = ProduceTerms {
            origin,
            partition: head.handle,
            ack: head.ack,
            deadline_ms: head.deadline_ms,
            received_ns,
        };
        if head.batch_count == 1 {
            match check_batch(&parts) {
                Ok(header) => {
                    self.counters.messages_in += u64::from(header.records_count);
                    let one = std::iter::once(BatchSlices { header, bytes: &parts });
                    self.append(slot, &terms, one);
                }
                Err(error) => self.out.reject(origin, error.into()),
            }
            return Ok(());
        }
        match check_all(&parts, head.batch_count) {
            Ok(spans) => {
                self.counters.messages_in += records(&spans);
                let slices: Vec<Parts<'_>> = spans
                    .iter()
                    .map(|s| input.parts(BATCHES_AT + s.range.start, s.range.len()))
                    .collect();
                let batches = spans
                    .iter()
                    .zip(&slices)
                    .map(|(span, bytes)| BatchSlices { header: span.header, bytes });
                self.append(slot, &terms, batches);
            }
            Err(rejection) => self.out.reject(origin, rejection),
        }
        Ok(())
    }

    fn append<'a>(
        &mut self,
        slot: usize,
        terms: &ProduceTerms,
        batches: impl Iterator<Item = BatchSlices<'a>>,
    ) {
        let done = guarded(&mut self.shards[slot], |host| {
            host.produce(&self.clock, terms, batches, &mut self.out);
        });
        if done.is_none() {
            self.out.reject(terms.origin, panicked_rejection());
        }
    }

    fn produce_there(
        &mut self,
        core: model::CoreId,
        origin: Origin,
        head: &ProduceHead,
        input: &mut Input,
        batches_bytes: usize,
    ) {
        let spans = match check_all(&input.parts(BATCHES_AT, batches_bytes), head.batch_count) {
            Ok(spans) => spans,
            Err(rejection) => return self.out.reject(origin, rejection),
        };
        self.counters.messages_in += records(&spans);
        let batches = spans
            .iter()
            .map(|span| CheckedBatch {
                header: span.header,
                bytes: input.shared(BATCHES_AT + span.range.start, span.range.len()),
            })
            .collect();
        let connection = self.connections.get_mut(origin.connection);
        let produce = RemoteProduce {
            origin,
            partition: head.handle,
            ack: head.ack,
            deadline_ms: head.deadline_ms,
            received_ns: connection.map_or(0, |connection| connection.unparsed_since_ns),
            batches,
        };
        self.out.send(core, Message::Produce(produce));
    }
}

type Spans = SmallVec<[protocol::BatchSpan; 1]>;

fn parse_head(input: &Input) -> Result<ProduceHead, Rejection> {
    let parsed = match input.contiguous(FRAME_HEADER_BYTES, PRODUCE_HEAD_BYTES) {
        Some(bytes) => ProduceHead::parse(bytes),
        None => {
            let mut bytes = [0u8; PRODUCE_HEAD_BYTES];
            input.copy_to(FRAME_HEADER_BYTES, &mut bytes);
            ProduceHead::parse(&bytes)
        }
    };
    parsed.map_err(Rejection::from)
}

/// Every batch, with its checksum checked; the same number as the frame says.
fn check_all(parts: &[&[u8]], count: u32) -> Result<Spans, Rejection> {
    split_batches(parts, Some(count))
        .map(|span| span.map_err(|error| Rejection::new(error.code(), error.to_string())))
        .collect()
}

fn records(spans: &Spans) -> u64 {
    spans.iter().map(|span| u64::from(span.header.records_count)).sum()
}
