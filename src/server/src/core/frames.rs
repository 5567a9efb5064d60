//! From received bytes to requests: every whole frame a connection has is parsed where it lies and
//! routed at once.

use model::{ErrorCode, Rejection, Reply, Request, ShardId};
use protocol::{FRAME_HEADER_BYTES, FrameHeader, kind};

use super::borders::guarded;
use super::produce_run::Run;
use super::{Core, gather, unknown_shard, work};
use crate::bounds::{OUTPUT_BYTES_MAX, OUTPUT_BYTES_SPARED, REQUEST_COST_MIN};
use crate::connection::{HeldSubscription, Input, Phase, Stall, Subscription};
use crate::core::sockets::malformed;
use crate::message::{ConnectionId, DrainOrder, Message, Origin, ReplyTo, ShardRequest};

/// Bodies of requests beside publishes are small; a larger one is refused before it is copied.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// So many messages are worth a write of their own before the turn's end.
const HAND_OVER_MESSAGES: u64 = 256;
/// Of an authentication mechanism's name that is not known, in the answer and the log.
const MECHANISM_CHARS_SHOWN: usize = 64;

impl Core {
    /// Parses what the queued connections have. Returns whether some have more.
    pub(super) fn parse_connections(&mut self) -> bool {
        let mut turn = self.parse_queue.turn();
        let mut handed_over = self.counters.messages_in;
        while let Some((id, share)) = self.parse_queue.next(&mut turn, || self.clock.read_ns()) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.queued = false;
            if !connection.can_parse() {
                continue;
            }
            // Parsed apart from its connection, so that the frame's bytes can be lent out.
            let mut input = std::mem::take(&mut connection.input);
            let mut spent = share;
            self.with_connection(id, |core| spent = core.parse(id, &mut input, share));
            turn.spend(spent);
            self.keep_rest(id, input);
            self.drain_if_done_reading(id);
            if self.counters.messages_in - handed_over >= HAND_OVER_MESSAGES {
                handed_over = self.counters.messages_in;
                self.hand_over();
            }
        }
        !self.parse_queue.is_empty()
    }

    /// What has been appended so far goes to the disk, which works while the rest is parsed.
    fn hand_over(&mut self) {
        for slot in &mut self.shards {
            guarded(slot, |host| host.hand_over(&mut self.ring, &self.clock, &mut self.stages));
        }
        // The turn's end meets the error, if it is one, again.
        let _ = self.ring.submit();
    }

    /// Takes frames until there are no more or their work is more than `share`. Returns the work.
    fn parse(&mut self, id: ConnectionId, input: &mut Input, share: work::Work) -> work::Work {
        let mut done: work::Work = 0;
        // Frames to be taken one by one.
        let mut alone = 0;
        while done < share {
            let Some(connection) = self.connections.get_mut(id) else { return done };
            if !connection.can_parse() {
                return done;
            }
            let waiting = connection.output.pending_bytes();
            let own = connection.output.own_bytes();
            if connection.in_flight_bytes > self.config.in_flight_bytes_max
                || waiting > OUTPUT_BYTES_MAX
                || own > OUTPUT_BYTES_SPARED && self.output_bytes > self.config.output_bytes_max
            {
                self.stall(id, Stall::InFlight);
                return done;
            }
            let header = match input.next_frame() {
                Ok(Some(header)) => header,
                Ok(None) => return done,
                Err(error) => match error.skip_bytes() {
                    None => {
                        self.close_with(id, error.correlation(), &error.rejection());
                        return done;
                    }
                    Some(bytes) if input.available() < bytes as usize => return done,
                    Some(bytes) => {
                        self.refuse(id, error.correlation(), &error.rejection());
                        input.consume(bytes as usize);
                        done += 16 + work::of_answer(bytes as usize);
                        continue;
                    }
                },
            };
            if alone == 0 {
                match self.produce_run(id, &header, input, share - done) {
                    Run::Taken(work) => {
                        done += work;
                        continue;
                    }
                    Run::Alone(frames) => alone = frames,
                }
            }
            alone -= 1;
            if let Err(why) = self.on_frame(id, &header, input) {
                self.stall(id, why);
                return done;
            }
            input.consume(header.length as usize);
            done += work::of_frame(&header);
            if let Some(connection) = self.connections.get_mut(id) {
                // The next frame has its own time.
                connection.partial_since_ns = 0;
                let answered = connection.output.pending_bytes();
                done += work::of_answer(answered.saturating_sub(waiting));
            }
        }
        self.queue_parse_behind(id);
        done
    }

    /// Takes one whole frame. An error: it has to wait, nothing has been done.
    fn on_frame(
        &mut self,
        id: ConnectionId,
        header: &FrameHeader,
        input: &mut Input,
    ) -> Result<(), Stall> {
        if header.kind == kind::PRODUCE {
            return self.on_produce(id, header, input);
        }
        let body_bytes = header.length as usize - FRAME_HEADER_BYTES;
        if body_bytes > REQUEST_BYTES_MAX {
            let text = format!(
                "a request of this kind has at most {REQUEST_BYTES_MAX} bytes; {body_bytes} came"
            );
            self.refuse(id, header.correlation, &Rejection::new(ErrorCode::TooLarge, text));
            return Ok(());
        }
        let parts = input.parts(FRAME_HEADER_BYTES, body_bytes);
        let joined;
        let body: &[u8] = match &parts[..] {
            [] => &[],
            [one] => one,
            several => {
                joined = several.concat();
                &joined
            }
        };
        if header.kind == kind::HELLO {
            self.on_hello(id, header, body);
            return Ok(());
        }
        if !self.greeted(id) {
            let text = "the first frame of a connection must be Hello";
            let rejection = Rejection::new(ErrorCode::HandshakeRequired, text);
            self.close_with(id, header.correlation, &rejection);
            return Ok(());
        }
        match protocol::decode_request(header, body) {
            Ok((request, _)) if self.is_operator(id) && !is_operators(&request) => {
                self.refuse(id, header.correlation, &not_an_operators());
                Ok(())
            }
            Ok((request, deadline_ms)) => {
                self.note_operator_asks(id, &request);
                self.route(id, header, request, deadline_ms)
            }
            Err(rejection) => {
                self.refuse(id, header.correlation, &rejection);
                Ok(())
            }
        }
    }

    /// Whether a long answer had better wait: the core's answers are at their bound, and this
    /// connection has not taken all of its own.
    fn output_is_full(&mut self, id: ConnectionId) -> bool {
        self.output_bytes > self.config.output_bytes_max
            && self.connections.get_mut(id).is_some_and(|c| c.output.own_bytes() > 0)
    }

    pub(super) fn greeted(&mut self, id: ConnectionId) -> bool {
        self.connections.get_mut(id).is_some_and(|connection| connection.phase == Phase::Open)
    }

    /// Answers a request at once with an error.
    pub(super) fn refuse(&mut self, id: ConnectionId, correlation: u64, why: &Rejection) {
        self.scratch.clear();
        protocol::put_error(&mut self.scratch, correlation, why);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.output.push(&self.scratch);
            self.mark_dirty(id);
        }
    }

    fn on_hello(&mut self, id: ConnectionId, header: &FrameHeader, body: &[u8]) {
        let hello = match protocol::parse_hello(body) {
            Ok(hello) => hello,
            Err(error) => {
                return self.close_with(id, header.correlation, &malformed(error.to_string()));
            }
        };
        crate::test_faults::maybe_panic("connection", &hello.client_name);
        if self.greeted(id) {
            let text = "Hello was sent twice on one connection";
            return self.close_with(id, header.correlation, &malformed(text));
        }
        let version = protocol::PROTOCOL_VERSION;
        if hello.version_min > version || hello.version_max < version {
            let text = format!(
                "this server speaks protocol version {version}; the client speaks {} to {}",
                hello.version_min, hello.version_max
            );
            let rejection = Rejection::new(ErrorCode::UnsupportedVersion, text);
            return self.close_with(id, header.correlation, &rejection);
        }
        if !hello.mechanism.is_empty() {
            // The client's own words go into the log: not more of them than a name has.
            let named: String = hello.mechanism.chars().take(MECHANISM_CHARS_SHOWN).collect();
            let text = format!(
                "the authentication mechanism {named:?} is not known here; send an empty one"
            );
            let rejection = Rejection::new(ErrorCode::InvalidArgument, text);
            return self.close_with(id, header.correlation, &rejection);
        }
        let features = hello.features & protocol::FEATURE_OPERATOR;
        let refused = if features == protocol::FEATURE_OPERATOR {
            !self.let_operator_in(id, header.correlation)
        } else {
            self.refuse_greeting(id, header.correlation)
        };
        if refused {
            return;
        }
        self.counters.accepted += 1;
        let reply = protocol::HelloReply {
            version,
            features,
            server_name: "corelane".to_owned(),
            server_version: self.facts.version.clone(),
            core: self.config.core,
            frame_bytes_max: model::limits::FRAME_BYTES_MAX,
            batch_bytes_max: model::limits::BATCH_BYTES_MAX,
            in_flight_bytes_max: self.config.in_flight_bytes_max as u64,
        };
        self.scratch.clear();
        if protocol::put_hello_reply(&mut self.scratch, header.correlation, &reply).is_err() {
            return;
        }
        if let Some(connection) = self.connections.get_mut(id) {
            connection.phase = Phase::Open;
            connection.output.push(&self.scratch);
            self.mark_dirty(id);
        }
        if self.drains.is_on(self.config.core) {
            self.ask_to_leave(id);
        }
    }

    /// Sends a request where it belongs: answered here, by a shard of this core, or by another.
    fn route(
        &mut self,
        id: ConnectionId,
        header: &FrameHeader,
        request: Request,
        deadline_ms: u32,
    ) -> Result<(), Stall> {
        let cost = header.length.max(REQUEST_COST_MIN);
        let origin = Origin { connection: id, correlation: header.correlation, cost };
        match request {
            Request::Ping => self.answer_now(origin, &Reply::Pong),
            Request::Metadata { .. } if self.output_is_full(id) => {
                let text = "clients leave too many answers of this core unread; try again shortly";
                let rejection = Rejection::new(ErrorCode::Busy, text);
                self.answer_now(origin, &Reply::Rejected(rejection));
            }
            Request::Metadata { topics, after, limit } => {
                let reply = self.metadata.answer(&topics, after.as_ref(), limit);
                self.answer_now(origin, &reply);
            }
            Request::SetLogFilter { filter } => {
                let reply = match crate::logging::set_filter(&filter) {
                    Ok(()) => Reply::LogFilterSet,
                    Err(text) => Reply::Rejected(Rejection::new(ErrorCode::InvalidArgument, text)),
                };
                self.answer_now(origin, &reply);
            }
            Request::Drain { core, undo, grace_ms } => {
                self.on_drain_request(origin, DrainOrder { core, undo, grace_ms })?;
            }
            Request::Credit { subscription, bytes } => self.on_credit(id, subscription, bytes)?,
            Request::Unsubscribe { subscription } => self.on_unsubscribe(origin, subscription)?,
            Request::Status => self.begin_gather(origin, gather::Question::Status)?,
            Request::Stages => self.begin_gather(origin, gather::Question::Stages)?,
            Request::BackupBegin { nonce } => self.on_backup_begin(origin, nonce),
            Request::BackupKeep { backup } => self.on_backup_keep(origin, backup),
            Request::BackupEnd { backup } => self.on_backup_end(origin, backup),
            Request::DescribeTopic { name } => match self.metadata.find(&name) {
                Some(topic) => {
                    let topic = std::sync::Arc::clone(topic);
                    self.begin_gather(origin, gather::Question::Describe(topic))?;
                }
                None => self.answer_now(origin, &Reply::Rejected(unknown_topic(&name))),
            },
            Request::CreateTopic { .. }
            | Request::AlterTopic { .. }
            | Request::DeleteTopic { .. } => {
                let core = self.map.core_of(ShardId(0));
                self.reserve(origin, core)?;
                let request = Box::new(request);
                self.out.send(core, Message::TopicRequest { origin, request, deadline_ms });
            }
            Request::InitProducer => {
                self.route_to_shard(origin, ShardId(0), request, deadline_ms)?
            }
            Request::Fetch { partition, .. }
            | Request::LookupOffset { partition, .. }
            | Request::CommitOffset { partition, .. }
            | Request::CommittedOffset { partition, .. } => {
                self.route_to_shard(origin, partition.shard, request, deadline_ms)?;
            }
            Request::Subscribe { partition, subscription, .. } => {
                self.on_subscribe(origin, partition.shard, subscription, request, deadline_ms)?;
            }
        }
        Ok(())
    }

    fn route_to_shard(
        &mut self,
        origin: Origin,
        shard: ShardId,
        request: Request,
        deadline_ms: u32,
    ) -> Result<(), Stall> {
        if !self.map.has(shard) {
            self.answer_now(origin, &Reply::Rejected(unknown_shard(shard)));
            return Ok(());
        }
        let core = self.map.core_of(shard);
        self.reserve(origin, core)?;
        if matches!(request, Request::Fetch { .. })
            && let Some(connection) = self.connections.get_mut(origin.connection)
        {
            connection.note_reader_shard(shard);
        }
        let request = Box::new(ShardRequest::Client { request, deadline_ms });
        let reply_to = ReplyTo::Client(origin);
        self.out.send(core, Message::Request { shard, reply_to, request });
        Ok(())
    }

    /// Takes a place for a request on `core` and counts it against its connection.
    pub(super) fn reserve(&mut self, origin: Origin, core: model::CoreId) -> Result<(), Stall> {
        if !self.out.mesh.has_room(core) {
            return Err(Stall::Mesh(core));
        }
        if let Some(connection) = self.connections.get_mut(origin.connection) {
            connection.in_flight_bytes += origin.cost as usize;
        }
        Ok(())
    }

    fn on_subscribe(
        &mut self,
        origin: Origin,
        shard: ShardId,
        number: u32,
        request: Request,
        deadline_ms: u32,
    ) -> Result<(), Stall> {
        let leaving = self.is_leaving(origin.connection);
        let Some(connection) = self.connections.get_mut(origin.connection) else { return Ok(()) };
        let refused = if leaving {
            Some(super::drain::leaving_rejection())
        } else if connection.subscriptions.contains_key(&number) {
            Some(Rejection::new(
                ErrorCode::UnknownSubscription,
                format!(
                    "subscription {number} exists already on this connection; use another number"
                ),
            ))
        } else if connection.subscriptions.len() >= model::limits::SUBSCRIPTIONS_PER_CONNECTION_MAX
        {
            Some(Rejection::new(
                ErrorCode::LimitReached,
                "this connection has the most subscriptions it may have; open another connection",
            ))
        } else {
            None
        };
        if let Some(rejection) = refused {
            self.answer_now(origin, &Reply::Rejected(rejection));
            return Ok(());
        }
        self.route_to_shard(origin, shard, request, deadline_ms)?;
        if self.map.has(shard)
            && let Some(connection) = self.connections.get_mut(origin.connection)
        {
            connection.note_reader_shard(shard);
            let correlation = origin.correlation;
            let held = HeldSubscription { correlation, state: Subscription::Starting, credit: 0 };
            connection.subscriptions.insert(number, held);
            connection.subscription_of.insert(correlation, number);
        }
        Ok(())
    }

    fn on_credit(&mut self, id: ConnectionId, number: u32, bytes: u64) -> Result<(), Stall> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        // Credit for a subscription that has just ended is no fault.
        let Some(held) = connection.subscriptions.get_mut(&number) else { return Ok(()) };
        match held.state {
            Subscription::Starting => held.credit = held.credit.saturating_add(bytes),
            Subscription::Running(key) => {
                let core = self.map.core_of(key.shard);
                self.out.mesh.room_for_notice(core)?;
                self.out.send(core, Message::Credit { key, bytes });
            }
        }
        Ok(())
    }

    fn on_unsubscribe(&mut self, origin: Origin, number: u32) -> Result<(), Stall> {
        let Some(connection) = self.connections.get_mut(origin.connection) else { return Ok(()) };
        let reply = match connection.subscriptions.get(&number).map(|held| held.state) {
            Some(Subscription::Running(key)) => {
                self.out.mesh.room_for_notice(self.map.core_of(key.shard))?;
                connection.forget_subscription(number);
                self.out.send(self.map.core_of(key.shard), Message::Unsubscribe { key });
                Reply::Unsubscribed { subscription: number }
            }
            Some(Subscription::Starting) => Reply::Rejected(Rejection::new(
                ErrorCode::Busy,
                format!("subscription {number} is still being set up; try again"),
            )),
            None => Reply::Rejected(Rejection::new(
                ErrorCode::UnknownSubscription,
                format!("this connection has no subscription {number}"),
            )),
        };
        self.answer_now(origin, &reply);
        Ok(())
    }

    /// Answers a request that was not counted in flight.
    pub(super) fn answer_now(&mut self, origin: Origin, reply: &Reply) {
        self.push_reply(origin.connection, origin.correlation, reply);
    }

    /// Queues a reply to be sent at the end of the turn.
    pub(super) fn push_reply(&mut self, id: ConnectionId, correlation: u64, reply: &Reply) {
        self.scratch.clear();
        if protocol::put_reply(&mut self.scratch, correlation, reply).is_err() {
            self.scratch.clear();
            let text = "the answer does not fit into a frame; ask for less";
            let rejection = Rejection::new(ErrorCode::TooLarge, text);
            protocol::put_error(&mut self.scratch, correlation, &rejection);
        }
        if let Some(connection) = self.connections.get_mut(id) {
            connection.output.push(&self.scratch);
            self.mark_dirty(id);
        }
    }
}

/// What a connection of an operator is served.
fn is_operators(request: &Request) -> bool {
    use Request::{
        BackupBegin, BackupEnd, BackupKeep, Drain, Metadata, Ping, SetLogFilter, Stages, Status,
    };
    matches!(
        request,
        Ping | Metadata { .. }
            | Status
            | Stages
            | SetLogFilter { .. }
            | Drain { .. }
            | BackupBegin { .. }
            | BackupKeep { .. }
            | BackupEnd { .. }
    )
}

pub(super) fn not_an_operators() -> Rejection {
    let text = "this connection said Hello as an operator's, which is served nothing but status, \
                stages, log filter, drain and backup; connect without that feature";
    Rejection::new(ErrorCode::InvalidArgument, text)
}

fn unknown_topic(name: &model::TopicName) -> Rejection {
    Rejection::new(
        ErrorCode::UnknownTopic,
        format!("there is no topic {name}; create it with `corelane topic create {name}`"),
    )
}
