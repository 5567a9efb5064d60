//! Publishes that came in a row on one connection, taken at once: each for itself would look the
//! connection, the shard and its log up anew, which costs more than a small message does.

use protocol::batch::BATCH_HEADER_BYTES;
use protocol::{FrameHeader, ProduceHead, WholePublish, kind, whole_publish};
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

impl Core {
    /// Takes publishes that follow one another in one receive buffer and ask for the same, as far as
    /// `share` goes. Returns their work. 0: nothing has been done; the next frame, whose header is
    /// `header`, has to be taken alone, which also finds out what may be wrong with it.
    pub(super) fn produce_run(
        &mut self,
        id: ConnectionId,
        header: &FrameHeader,
        input: &mut Input,
        share: Work,
    ) -> Work {
        let received = input.front();
        let two = header.length as usize + produce::BATCHES_AT + BATCH_HEADER_BYTES;
        if header.kind != kind::PRODUCE || header.length > RUN_FRAME_BYTES_MAX {
            return 0;
        }
        let Some(connection) = self.connections.get_mut(id).filter(|one| may_publish(one)) else {
            return 0;
        };
        if received.len() < two {
            return 0;
        }
        let in_flight_bytes = connection.in_flight_bytes;
        let received_ns = connection.unparsed_since_ns;
        let room = (self.config.in_flight_bytes_max + 1).saturating_sub(in_flight_bytes);
        let mut publishes = Publishes::new();
        let (mut bytes, mut work) = (0, 0);
        let mut first: Option<ProduceHead> = None;
        while publishes.len() < RUN_PUBLISHES_MAX && bytes < room && work < share {
            let Some(publish) = whole_publish(&received[bytes..]) else { break };
            let WholePublish { correlation, length, head, header, batch } = publish;
            let Some(batch) = PlainBatch::new(head.handle, &header, batch) else { break };
            if length > RUN_FRAME_BYTES_MAX
                || first.is_some_and(|first| !asks_the_same(&first, &head))
            {
                break;
            }
            first.get_or_insert(head);
            publishes.push((Origin { connection: id, correlation, cost: length }, batch));
            bytes += length as usize;
            work += work::of_publish(length);
        }
        let (Some(first), 2..) = (first, publishes.len()) else { return 0 };
        let (shard, (origin, _)) = (first.handle.shard, publishes[0]);
        if !self.map.has(shard) || self.map.core_of(shard) != self.out.core() {
            return 0;
        }
        let terms = ProduceTerms {
            origin,
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
            return 0;
        };
        let taken = guarded(slot, |host| {
            host.admits(bytes, id) && host.produce_run(clock, &terms, &publishes, out)
        });
        match taken {
            Some(false) => return 0,
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
        work
    }
}

fn may_publish(connection: &Connection) -> bool {
    connection.phase == Phase::Open && !connection.operator
}

/// Whether one answer to "which level, by when" is right for both: the topic's own level needs the
/// same partition.
fn asks_the_same(first: &ProduceHead, next: &ProduceHead) -> bool {
    next.handle.shard == first.handle.shard
        && next.ack == first.ack
        && next.deadline_ms == first.deadline_ms
        && (first.ack.is_some() || next.handle == first.handle)
}
