//! Messages, whether of this core to itself or of another.

use model::{CoreId, Rejection, Reply, ShardId};

use super::borders::{guarded, panicked_rejection, topics_fixed_rejection};
use super::{Core, open_shard_in};
use crate::connection::Subscription;
use crate::coordinator::TopicAsk;
use crate::message::{
    ConnectionId, Message, Origin, Payload, ReaderKey, RemoteProduce, ReplyTo, ShardAnswer,
    ShardRequest,
};
use crate::shard::ShardHost;

impl Core {
    /// Works off what came through the mesh and what this core has sent itself.
    pub(super) fn drain_messages(&mut self) -> bool {
        let mut worked = false;
        while let Some((from, batch)) = self.out.mesh.receive() {
            worked = true;
            for message in batch {
                self.on_guarded_message(from, message);
            }
        }
        self.drain_local() || worked
    }

    pub(super) fn drain_local(&mut self) -> bool {
        let mut worked = false;
        let own = self.out.core();
        while let Some(message) = self.out.take_local() {
            worked = true;
            self.on_guarded_message(own, message);
        }
        worked
    }

    fn on_guarded_message(&mut self, from: CoreId, message: Message) {
        match Self::concerned(&message) {
            Some(id) => self.with_connection(id, |core| core.on_message(from, message)),
            None => self.on_message(from, message),
        }
    }

    fn on_message(&mut self, from: CoreId, message: Message) {
        let answered = message.answers();
        if answered > 0 && from != self.out.core() {
            self.out.mesh.requests_done(from, answered);
        }
        match message {
            Message::Produce(produce) => self.on_remote_produce(produce),
            Message::Request { shard, reply_to, request } => {
                self.on_shard_request(shard, reply_to, *request);
            }
            Message::TopicRequest { origin, request, deadline_ms } => {
                let asked = TopicAsk { origin, deadline_ns: self.clock.deadline_ns(deadline_ms) };
                let asked = self.with_coordinator(|coordinator, host, clock, out| {
                    coordinator.on_request(clock, asked, *request, host, out);
                });
                if !asked {
                    self.out.reject(origin, topics_fixed_rejection());
                }
            }
            Message::CoreStatus { reply_to } => {
                let status = ShardAnswer::Core(self.core_status());
                self.send_answer(reply_to, status);
            }
            Message::CoreStages { reply_to } => {
                let stages = self.stages.of_core(self.config.core);
                self.send_answer(reply_to, ShardAnswer::Stages(stages));
            }
            Message::Drain { order, reply_to } => {
                self.on_drain(order);
                let status = ShardAnswer::Core(self.core_status());
                self.send_answer(reply_to, status);
            }
            Message::ProduceAck { connection, first_correlation, ack, cost, due_ns } => {
                self.publish_ns = Some(self.clock.now_ns());
                self.scratch.clear();
                protocol::put_produce_ack(&mut self.scratch, &ack, first_correlation);
                if let Some(found) = self.connections.get_mut(connection) {
                    found.output.push(&self.scratch);
                    found.output.acks.add(due_ns, ack.count);
                    self.mark_dirty(connection);
                    self.release(connection, cost);
                }
            }
            Message::Reply { origin, reply } => self.on_reply(origin, &reply),
            Message::Fetched { origin, key, head, payload } => {
                let bytes = payload.bytes();
                self.counters.messages_out += head.next_offset.saturating_sub(head.first_offset);
                self.scratch.clear();
                protocol::put_fetch_head(&mut self.scratch, origin.correlation, &head, bytes);
                self.push_payload(origin.connection, &payload, key);
                self.release(origin.connection, origin.cost);
            }
            Message::Answer { reply_to, answer } => self.on_answer(reply_to, *answer),
            Message::Taken { connection, cost } => self.release(connection, cost),
            Message::Deliver { connection, key, head, payload } => {
                let bytes = payload.bytes();
                if !self.is_subscribed(connection, head.subscription, key) {
                    // It was on its way when the subscription ended.
                    let bytes = bytes as u64;
                    let core = self.map.core_of(key.shard);
                    return self.out.send(core, Message::Sent { key, connection, bytes });
                }
                self.counters.messages_out += head.next_offset.saturating_sub(head.first_offset);
                self.scratch.clear();
                protocol::put_deliver_head(&mut self.scratch, &head, bytes);
                self.push_payload(connection, &payload, key);
            }
            Message::Sent { key, connection, bytes } => {
                self.with_shard(key.shard, |host| host.reader_sent(key, connection, bytes));
            }
            Message::Credit { key, bytes } => {
                self.with_shard(key.shard, |host| host.add_credit(key, bytes));
            }
            Message::Unsubscribe { key } => {
                self.with_shard(key.shard, |host| host.unsubscribe(key));
            }
            Message::Subscribed { origin, subscription, key, offset } => {
                self.on_subscribed(origin, subscription, key, offset);
            }
            Message::ConnectionClosed { connection } => {
                for slot in &mut self.shards {
                    guarded(slot, |host| host.connection_closed(connection, &mut self.out));
                }
            }
            Message::HandOver { socket, peer } => self.take_in(socket, peer),
            Message::ReleaseLogs { backup } => self.release_logs(backup),
            Message::Metadata(change) => self.metadata.apply(change),
            Message::ShardReport(report) => {
                self.with_coordinator(|coordinator, host, _, out| {
                    coordinator.on_report(*report, host, out);
                });
            }
        }
    }

    fn on_remote_produce(&mut self, produce: RemoteProduce) {
        self.publish_ns = Some(self.clock.now_ns());
        let shard = produce.partition.shard;
        let slot = self.slot_of(shard);
        if let Err(rejection) = open_shard_in(&mut self.shards, slot, shard) {
            return self.out.reject(produce.origin, rejection);
        }
        let origin = produce.origin;
        let done = guarded(&mut self.shards[slot], |host| {
            host.produce_remote(&self.clock, produce, &mut self.out);
        });
        if done.is_none() {
            self.out.reject(origin, panicked_rejection());
        }
    }

    fn on_shard_request(&mut self, shard: ShardId, reply_to: ReplyTo, request: ShardRequest) {
        let slot = self.slot_of(shard);
        let form = AnswerForm::of(&request);
        if let Err(rejection) = open_shard_in(&mut self.shards, slot, shard) {
            return self.refuse_shard_request(slot, reply_to, form, rejection);
        }
        let done = guarded(&mut self.shards[slot], |host| {
            host.handle(&mut self.ring, &self.clock, reply_to, request, &mut self.out);
        });
        if done.is_none() {
            self.refuse_shard_request(slot, reply_to, form, panicked_rejection());
        }
    }

    /// The shard is not served: whoever asked is told in the form asked for.
    fn refuse_shard_request(
        &mut self,
        slot: usize,
        reply_to: ReplyTo,
        form: AnswerForm,
        rejection: Rejection,
    ) {
        let answer = match (reply_to, form) {
            (ReplyTo::Client(origin), _) => return self.out.reject(origin, rejection),
            (_, AnswerForm::Described) => ShardAnswer::Described(Vec::new()),
            (_, AnswerForm::Status) => match self.unavailable_status(slot) {
                Some(status) => ShardAnswer::Status(status),
                None => ShardAnswer::Partition(Err(rejection)),
            },
            _ => ShardAnswer::Partition(Err(rejection)),
        };
        self.send_answer(reply_to, answer);
    }

    fn send_answer(&mut self, reply_to: ReplyTo, answer: ShardAnswer) {
        crate::shard::send_answer(reply_to, answer, &mut self.out);
    }

    fn on_answer(&mut self, reply_to: ReplyTo, answer: ShardAnswer) {
        match reply_to {
            ReplyTo::Gather { id, .. } => self.on_gathered(id, answer),
            ReplyTo::Backup { backup, .. } => self.on_backup_answer(backup, answer),
            ReplyTo::Coordinator { step, index } => {
                self.with_coordinator(|coordinator, host, clock, out| {
                    coordinator.on_answer(clock, step, index, answer, host, out);
                });
            }
            ReplyTo::Client(_) => {}
        }
    }

    fn on_reply(&mut self, origin: Origin, reply: &Reply) {
        let id = origin.connection;
        if let Reply::Rejected(_) = reply {
            self.forget_refused_subscription(id, origin.correlation);
        }
        self.push_reply(id, origin.correlation, reply);
        self.release(id, origin.cost);
    }

    /// A subscription that was refused, or has ended, frees its number.
    fn forget_refused_subscription(&mut self, id: ConnectionId, correlation: u64) {
        if let Some(connection) = self.connections.get_mut(id) {
            // Not a search through all: there may be 100,000, and as many refusals.
            if let Some(number) = connection.subscription_of.get(&correlation).copied() {
                connection.forget_subscription(number);
            }
        }
    }

    fn on_subscribed(&mut self, origin: Origin, number: u32, key: ReaderKey, offset: u64) {
        let id = origin.connection;
        let owner = self.map.core_of(key.shard);
        let Some(connection) = self.connections.get_mut(id) else {
            return self.out.send(owner, Message::Unsubscribe { key });
        };
        let Some(held) = connection.subscriptions.get_mut(&number) else {
            // The connection was asked to leave meanwhile.
            self.out.send(owner, Message::Unsubscribe { key });
            let rejection = super::drain::leaving_rejection();
            self.push_reply(id, origin.correlation, &Reply::Rejected(rejection));
            return self.release(id, origin.cost);
        };
        let waiting = std::mem::take(&mut held.credit);
        held.state = Subscription::Running(key);
        if waiting > 0 {
            self.out.send(owner, Message::Credit { key, bytes: waiting });
        }
        let reply = Reply::Subscribed { subscription: number, offset };
        self.push_reply(id, origin.correlation, &reply);
        self.release(id, origin.cost);
    }

    fn is_subscribed(&mut self, id: ConnectionId, number: u32, key: ReaderKey) -> bool {
        self.connections.get_mut(id).is_some_and(|connection| {
            let held = connection.subscriptions.get(&number);
            held.is_some_and(|held| held.state == Subscription::Running(key))
        })
    }

    /// Queues the head in `scratch` and the payload after it.
    fn push_payload(&mut self, id: ConnectionId, payload: &Payload, key: ReaderKey) {
        if !self.is_open(id) {
            return;
        }
        if let Some(connection) = self.connections.get_mut(id) {
            connection.output.push_payload(&self.scratch, payload, Some(key));
            if !payload.slices.is_empty() {
                connection.output.deliveries.add(payload.due_ns, 1);
            }
            self.mark_dirty(id);
        }
    }

    /// Calls an open shard of this core; nothing happens when it is not served.
    fn with_shard(&mut self, shard: ShardId, call: impl FnOnce(&mut ShardHost)) {
        let slot = self.slot_of(shard);
        if let Some(slot) = self.shards.get_mut(slot) {
            guarded(slot, call);
        }
    }
}

/// What a request that its shard cannot take is answered with.
#[derive(Clone, Copy, Debug)]
enum AnswerForm {
    Described,
    Status,
    Partition,
}

impl AnswerForm {
    fn of(request: &ShardRequest) -> Self {
        match request {
            ShardRequest::Describe { .. } => Self::Described,
            ShardRequest::Status => Self::Status,
            _ => Self::Partition,
        }
    }
}
