//! Questions that several cores answer together: status, stages, and a topic's description.

use std::sync::Arc;

use model::reply::{CoreStatus, PartitionStatus, ServerStatus, ShardHealth, ShardStatus};
use model::{CoreStages, Reply, ShardId, TopicInfo};
use slab::Slab;

use super::{Core, ShardSlot};
use crate::bounds::{
    GATHER_PARTITIONS_FREE, GATHER_REST_NS_PER_PARTITION, GATHERS_OF_OPERATORS_MAX,
    GATHERS_PER_CORE_MAX,
};
use crate::connection::Stall;
use crate::message::{
    ConnectionId, DrainOrder, Message, Origin, ReplyTo, ShardAnswer, ShardRequest,
};

/// What is asked.
#[derive(Clone, Debug)]
pub enum Question {
    Status,
    Stages,
    Describe(Arc<TopicInfo>),
    /// No question: every core is to go by this, and says when it does.
    Drain(DrainOrder),
}

#[derive(Debug, Default)]
pub struct Gathers {
    open: Slab<Gather>,
    /// How many of them are operators'.
    operators: usize,
    /// Connections let go on that found no room again: the next to be let go on.
    pub first: Vec<ConnectionId>,
    /// Nothing is asked before, nanoseconds of the core's clock: a wide question has just been.
    rest_until_ns: u64,
}

impl Gathers {
    /// How many more questions may be asked now. Operators have room of their own and no rest:
    /// whatever clients ask, the server can be looked at and drained.
    pub fn room(&self, now_ns: u64, operator: bool) -> usize {
        if operator {
            return GATHERS_OF_OPERATORS_MAX.saturating_sub(self.operators);
        }
        if now_ns < self.rest_until_ns {
            return 0;
        }
        GATHERS_PER_CORE_MAX.saturating_sub(self.open.len() - self.operators)
    }

    /// A topic of many partitions costs the core time: others get several times as much before the
    /// next one.
    fn rest_after(&mut self, question: &Question, now_ns: u64) {
        if let Question::Describe(topic) = question {
            let wide = topic.partitions.len().saturating_sub(GATHER_PARTITIONS_FREE) as u64;
            self.rest_until_ns = now_ns + wide * GATHER_REST_NS_PER_PARTITION;
        }
    }
}

/// Answers that have come in so far.
#[derive(Debug)]
struct Gather {
    origin: Origin,
    operator: bool,
    question: Question,
    awaited: usize,
    cores: Vec<CoreStatus>,
    stages: Vec<CoreStages>,
    shards: Vec<ShardStatus>,
    partitions: Vec<PartitionStatus>,
}

impl Core {
    /// Asks all who have a part of the answer. The connection's request is counted by the messages.
    pub(super) fn begin_gather(&mut self, origin: Origin, question: Question) -> Result<(), Stall> {
        let operator = self.is_operator(origin.connection);
        if self.gathers.room(self.clock.now_ns(), operator) == 0 {
            return Err(Stall::Gathers);
        }
        self.gathers.rest_after(&question, self.clock.now_ns());
        let shards: Vec<ShardId> = match &question {
            Question::Status => (0..self.map.shards()).map(ShardId).collect(),
            Question::Stages | Question::Drain(_) => Vec::new(),
            Question::Describe(topic) => {
                let mut shards: Vec<_> = topic.partitions.iter().map(|p| p.shard).collect();
                shards.sort();
                shards.dedup();
                shards
            }
        };
        let cores: Vec<_> = match &question {
            Question::Status | Question::Stages | Question::Drain(_) => self.map.cores().collect(),
            Question::Describe(_) => Vec::new(),
        };
        if let Some(connection) = self.connections.get_mut(origin.connection) {
            connection.in_flight_bytes += origin.cost as usize;
        }
        let topic = match &question {
            Question::Describe(topic) => Some(topic.id),
            _ => None,
        };
        let asked = question.clone();
        self.gathers.operators += usize::from(operator);
        let id = self.gathers.open.insert(Gather {
            origin,
            operator,
            question,
            awaited: shards.len() + cores.len(),
            cores: Vec::new(),
            stages: Vec::new(),
            shards: Vec::new(),
            partitions: Vec::new(),
        });
        let reply_to =
            ReplyTo::Gather { core: self.out.core(), id: u32::try_from(id).unwrap_or(u32::MAX) };
        for core in cores {
            let message = match &asked {
                Question::Drain(order) => Message::Drain { order: *order, reply_to },
                Question::Stages => Message::CoreStages { reply_to },
                _ => Message::CoreStatus { reply_to },
            };
            self.out.send(core, message);
        }
        for shard in shards {
            let request = Box::new(match topic {
                None => ShardRequest::Status,
                Some(topic) => ShardRequest::Describe { topic },
            });
            self.out.send(self.map.core_of(shard), Message::Request { shard, reply_to, request });
        }
        Ok(())
    }

    /// One part of an answer has come.
    pub(super) fn on_gathered(&mut self, id: u32, answer: ShardAnswer) {
        let Some(gather) = self.gathers.open.get_mut(id as usize) else { return };
        match answer {
            ShardAnswer::Core(status) => gather.cores.push(status),
            ShardAnswer::Stages(stages) => gather.stages.push(stages),
            ShardAnswer::Status(status) => gather.shards.push(status),
            ShardAnswer::Described(partitions) => gather.partitions.extend(partitions),
            _ => {}
        }
        gather.awaited -= 1;
        if gather.awaited > 0 {
            return;
        }
        let mut gather = self.gathers.open.remove(id as usize);
        self.gathers.operators -= usize::from(gather.operator);
        gather.cores.sort_by_key(|core| core.core);
        gather.stages.sort_by_key(|core| core.core);
        gather.shards.sort_by_key(|shard| shard.shard);
        gather.partitions.sort_by_key(|partition| partition.index);
        let reply = match gather.question {
            Question::Describe(topic) => {
                Reply::TopicDescription { topic, partitions: gather.partitions }
            }
            Question::Status => self.server_status(gather.cores, gather.shards),
            Question::Stages => Reply::Stages(gather.stages),
            Question::Drain(_) => Reply::DrainSet,
        };
        self.push_reply(gather.origin.connection, gather.origin.correlation, &reply);
        self.release(gather.origin.connection, gather.origin.cost);
    }

    fn server_status(&self, cores: Vec<CoreStatus>, shards: Vec<ShardStatus>) -> Reply {
        let all_serve = shards.iter().all(|shard| shard.health == ShardHealth::Serving);
        let uptime = self.facts.started.elapsed().as_millis();
        Reply::Status(Box::new(ServerStatus {
            version: self.facts.version.clone(),
            ready: all_serve
                && self.metadata.is_complete()
                && !self.metadata.is_fixed()
                && !self.shutdown.under_way()
                && !self.drains.all(),
            draining: self.drains.all(),
            volatile: self.facts.volatile,
            uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
            data_dir: self.facts.data_dir.clone(),
            topics: u32::try_from(self.metadata.len()).unwrap_or(u32::MAX),
            cores,
            shards,
        }))
    }

    /// The status of a shard of this core that is not served.
    pub(super) fn unavailable_status(&self, slot: usize) -> Option<ShardStatus> {
        let ShardSlot::Unavailable { id, reason, .. } = self.shards.get(slot)? else { return None };
        Some(ShardStatus {
            shard: *id,
            core: self.out.core(),
            health: ShardHealth::Unavailable,
            reason: reason.clone(),
            partitions: 0,
            durable_lsn: 0,
            log_bytes: 0,
            slow: false,
            disk_full: false,
            oldest_write_ms: 0,
        })
    }

    /// Whether a connection still is there to be answered.
    pub(super) fn is_open(&mut self, id: ConnectionId) -> bool {
        self.connections.get_mut(id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use model::CoreId;

    use super::*;

    #[test]
    fn what_clients_ask_takes_no_room_from_operators() {
        let mut gathers = Gathers { rest_until_ns: 1_000, ..Gathers::default() };
        assert_eq!((gathers.room(0, false), gathers.room(0, true)), (0, GATHERS_OF_OPERATORS_MAX));
        let connection = ConnectionId { core: CoreId(0), index: 0, generation: 0 };
        for operator in [false, false, false, false, true] {
            gathers.open.insert(Gather {
                origin: Origin { connection, correlation: 0, cost: 0 },
                operator,
                question: Question::Status,
                awaited: 1,
                cores: Vec::new(),
                stages: Vec::new(),
                shards: Vec::new(),
                partitions: Vec::new(),
            });
            gathers.operators += usize::from(operator);
        }
        let room = (gathers.room(1_000, false), gathers.room(1_000, true));
        assert_eq!(room, (0, GATHERS_OF_OPERATORS_MAX - 1));
    }
}
