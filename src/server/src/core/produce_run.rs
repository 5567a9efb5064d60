//! Publishes that came in a row on one connection, taken at once: each for itself would look the
//! connection, the shard and its log up anew, which costs more than a small message does.

use protocol::batch::{BATCH_HEADER_BYTES, BatchHeader};
use protocol::{FRAME_HEADER_BYTES, FrameHeader, ProduceHead, WholePublish, kind, whole_publish};
use shards::PlainBatch;
use smallvec::SmallVec;

use super::borders::{guarded, panicked_rejection};
use super::work::{self, Work};
use super::{Core, ShardSlot, produce};
use crate::bounds::{RUN_FRAME_BYTES_MAX, RUN_PUBLISHES_MAX};
use crate::connection::{Connection, Input, Phase};
use crate::message::{ConnectionId, Origin};
use crate::shard::ProduceTerms;

/// As they lie in the receive buffer.
type Publishes<'a> = SmallVec<[(Origin, PlainBatch<'a>); RUN_PUBLISHES_MAX]>;

/// What became of the publishes at the front.
pub(super) enum Run {
    /// They were taken, with so much work.
    Taken(Work),
    /// Nothing has been done; so many frames have to be taken alone, which also finds out what may
    /// be wrong with them.
    Alone(usize),
}

impl Core {
    /// Takes publishes that follow one another in one receive buffer and ask for the same, as far as
    /// `share` goes. `header` is the next frame's.
    pub(super) fn produce_run(
        &mut self,
        id: ConnectionId,
        header: &FrameHeader,
        input: &mut Input,
        share: Work,
    ) -> Run {
        let received = input.front();
        let two = header.length as usize + produce::BATCHES_AT + BATCH_HEADER_BYTES;
        if header.kind != kind::PRODUCE
            || header.length > RUN_FRAME_BYTES_MAX
            || received.len() < two
        {
            return Run::Alone(1);
        }
        let Ok(first) = ProduceHead::parse(&received[FRAME_HEADER_BYTES..]) else {
            return Run::Alone(1);
        };
        // Looked at before any checksum is gone through for nothing.
        if !received[produce::BATCHES_AT..].first_chunk().is_some_and(is_plain) {
            return Run::Alone(1);
        }
        let shard = first.handle.shard;
        let Some(connection) = self.connections.get_mut(id).filter(|one| may_publish(one)) else {
            return Run::Alone(1);
        };
        if !self.map.has(shard) || self.map.core_of(shard) != self.out.core() {
            return Run::Alone(1);
        }
        let received_ns = connection.unparsed_since_ns;
        let room = (self.config.in_flight_bytes_max + 1).saturating_sub(connection.in_flight_bytes);
        let mut publishes = Publishes::new();
        let (mut bytes, mut work) = (0, 0);
        while publishes.len() < RUN_PUBLISHES_MAX && bytes < room && work < share {
            let Some(publish) = whole_publish(&received[bytes..]) else { break };
            let WholePublish { correlation, length, head, header, batch } = publish;
            let Some(batch) = PlainBatch::new(head.handle, &header, batch) else { break };
            if length > RUN_FRAME_BYTES_MAX || !asks_the_same(&first, &head) {
                break;
            }
            publishes.push((Origin { connection: id, correlation, cost: length }, batch));
            bytes += length as usize;
            work += work::of_publish(length);
        }
        if publishes.len() < 2 {
            return Run::Alone(1);
        }
        let terms = ProduceTerms {
            origin: publishes[0].0,
            partition: first.handle,
            ack: first.ack,
            deadline_ms: first.deadline_ms,
            received_ns,
        };
        let slot = self.slot_of(shard);
        let (clock, out) = (&self.clock, &mut self.out);
        let Some(slot) =
            self.shards.get_mut(slot).filter(|slot| matches!(slot, ShardSlot::Open(_)))
        else {
            return Run::Alone(1);
        };
        let taken = guarded(slot, |host| {
            host.admits(bytes, id) && host.produce_run(clock, &terms, &publishes, out)
        });
        match taken {
            Some(false) => return Run::Alone(publishes.len()),
            Some(true) => {}
            None => {
                for (origin, _) in &publishes {
                    self.out.reject(*origin, panicked_rejection());
                }
            }
        }
        let messages: u64 = publishes.iter().map(|(_, batch)| u64::from(batch.records())).sum();
        self.counters.messages_in += messages;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.in_flight_bytes += bytes;
            // The next frame has its own time.
            connection.partial_since_ns = 0;
        }
        drop(publishes);
        input.consume(bytes);
        Run::Taken(work)
    }
}

fn may_publish(connection: &Connection) -> bool {
    connection.phase == Phase::Open && !connection.operator
}

/// Whether a batch's producer does not number its batches.
fn is_plain(header: &[u8; BATCH_HEADER_BYTES]) -> bool {
    BatchHeader::parse(header).is_ok_and(|header| !header.is_idempotent())
}

/// Whether one answer to "which level, by when" is right for both: the topic's own level needs the
/// same partition.
fn asks_the_same(first: &ProduceHead, next: &ProduceHead) -> bool {
    next.handle.shard == first.handle.shard
        && next.ack == first.ack
        && next.deadline_ms == first.deadline_ms
        && (first.ack.is_some() || next.handle == first.handle)
}
