//! One connection of the fake server.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use model::reply::{PartitionStatus, ServerStatus};
use model::{
    AckLevel, CoreId, CoreStages, ErrorCode, PartitionHandle, PartitionIndex, Rejection, Reply,
    Request, StageHistogram, StartPosition, StreamId, TopicId, TopicInfo,
};
use protocol::{
    DeliverHead, FetchHead, FrameHeader, GoAway, HelloReply, PRODUCE_HEAD_BYTES, ProduceAck,
    ProduceHead, kind,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Fake, Fault, Seen, State};

/// What a frame does to its connection.
enum Then {
    GoOn,
    Close,
}

struct Connection {
    fake: Fake,
    core: CoreId,
    out: Vec<u8>,
    /// Acknowledgements not written yet, by correlation: neighbours are joined to runs.
    acks: Vec<(u64, ProduceAck)>,
    subscriptions: HashMap<u32, Subscription>,
}

struct Subscription {
    correlation: u64,
    log: (TopicId, StreamId),
    position: u64,
    credit: i64,
}

pub async fn serve(fake: Fake, mut stream: TcpStream, core: CoreId) {
    let mut signal = fake.signal.subscribe();
    let born = *signal.borrow_and_update();
    let mut ends = born.ends;
    let mut buffer = BytesMut::new();
    let (acks, subscriptions) = (Vec::new(), HashMap::new());
    let mut connection = Connection { fake, core, out: Vec::new(), acks, subscriptions };
    let mut told_to_go = false;
    loop {
        while let Ok(Some((header, length))) = protocol::next_frame(&buffer) {
            let mut frame = buffer.split_to(length);
            frame.advance(16);
            if let Then::Close = connection.frame(&header, &frame) {
                return;
            }
        }
        connection.put_acks();
        connection.deliver();
        let out = std::mem::take(&mut connection.out);
        if stream.write_all(&out).await.is_err() {
            return;
        }
        tokio::select! {
            read = stream.read_buf(&mut buffer) => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
            }
            changed = signal.changed() => {
                let now = *signal.borrow_and_update();
                if changed.is_err() || now.closes != born.closes {
                    return;
                }
                if now.ends != ends {
                    ends = now.ends;
                    connection.end_subscriptions();
                }
                if now.go_aways != born.go_aways && !told_to_go {
                    told_to_go = true;
                    let (reason, message) = (ErrorCode::ShuttingDown, "bye".to_owned());
                    let go_away = GoAway { reason, close_in_ms: 1000, message };
                    protocol::put_go_away(&mut connection.out, &go_away);
                    // What is subscribed gets nothing more here.
                    connection.subscriptions.clear();
                }
            }
        }
    }
}

impl Connection {
    fn frame(&mut self, header: &FrameHeader, body: &[u8]) -> Then {
        match header.kind {
            kind::HELLO => {
                protocol::parse_hello(body).expect("a good hello");
                let reply = HelloReply { version: 1, core: self.core, ..HelloReply::default() };
                protocol::put_hello_reply(&mut self.out, header.correlation, &reply).unwrap();
                Then::GoOn
            }
            kind::PRODUCE => self.produce(header.correlation, body),
            _ => {
                let (request, _) = protocol::decode_request(header, body).expect("a good request");
                self.request(header.correlation, request);
                Then::GoOn
            }
        }
    }

    fn produce(&mut self, correlation: u64, body: &[u8]) -> Then {
        let head = ProduceHead::parse(body).expect("a good head");
        assert_eq!(head.batch_count, 1);
        let batch = &body[PRODUCE_HEAD_BYTES..];
        let records = protocol::check_batch(&[batch]).expect("a good batch").records_count;
        let fake = self.fake.clone();
        let mut state = fake.state();
        let fault = state.faults.get(&state.seen.len()).copied();
        let stream = head.handle.stream;
        state.seen.push(Seen { stream, core: self.core, batch: batch.to_vec(), records });
        let refuse = |code| Rejection::new(code, "on demand");
        let stored = match fault {
            Some(Fault::Drop) => return Then::Close,
            Some(Fault::Refuse(code)) => Err(refuse(code)),
            _ => match state.logs.get_mut(&(head.handle.topic, stream)) {
                Some(log) => log.append(batch).map_err(refuse),
                None => Err(refuse(ErrorCode::UnknownPartition)),
            },
        };
        let held = state.hold_acks;
        drop(state);
        fake.changed();
        match (fault, stored) {
            (Some(Fault::StoreAndDrop), _) => return Then::Close,
            (Some(Fault::StoreAndForget), _) => return Then::GoOn,
            (Some(Fault::StoreAndRefuse(code)), _) => self.reject(correlation, refuse(code)),
            (_, Err(rejection)) => self.reject(correlation, rejection),
            (_, Ok(_)) if head.ack == Some(AckLevel::None) => {}
            (_, Ok(base_offset)) => {
                let ack = ProduceAck {
                    count: 1,
                    level: head.ack.unwrap_or_default(),
                    base_offset,
                    offset_step: records,
                    shard: head.handle.shard,
                    append_time_ms: 1,
                };
                self.acks.push((correlation, ack));
            }
        }
        if !held {
            self.put_acks();
        }
        Then::GoOn
    }

    /// Writes the acknowledgements, neighbours joined, unless they are held.
    fn put_acks(&mut self) {
        if self.fake.state().hold_acks {
            return;
        }
        let mut runs: Vec<(u64, ProduceAck)> = Vec::new();
        for (correlation, ack) in self.acks.drain(..) {
            if let Some((first, run)) = runs.last_mut()
                && *first + u64::from(run.count) == correlation
                && (run.offset_step, run.level, run.shard)
                    == (ack.offset_step, ack.level, ack.shard)
                && run.base_offset + u64::from(run.count * run.offset_step) == ack.base_offset
            {
                run.count += 1;
                continue;
            }
            runs.push((correlation, ack));
        }
        for (first, run) in runs {
            protocol::put_produce_ack(&mut self.out, &run, first);
        }
    }

    fn end_subscriptions(&mut self) {
        let code = self.fake.state().end_code;
        for (_, subscription) in std::mem::take(&mut self.subscriptions) {
            self.reject(subscription.correlation, Rejection::new(code, "it ends here"));
        }
    }

    fn reject(&mut self, correlation: u64, rejection: Rejection) {
        protocol::put_reply(&mut self.out, correlation, &Reply::Rejected(rejection)).unwrap();
    }

    fn request(&mut self, correlation: u64, request: Request) {
        let fake = self.fake.clone();
        let mut state = fake.state();
        let reply = match request {
            Request::Credit { subscription, bytes } => {
                if let Some(subscription) = self.subscriptions.get_mut(&subscription) {
                    subscription.credit += bytes as i64;
                }
                return;
            }
            Request::Fetch { partition, offset, max_bytes, .. } => {
                return self.fetch(&state, correlation, partition, offset, max_bytes);
            }
            Request::Subscribe { partition, subscription, position, credit_bytes } => {
                let log = (partition.topic, partition.stream);
                locate(&state, partition, &position).map(|offset| {
                    let credit = credit_bytes as i64;
                    let new = Subscription { correlation, log, position: offset, credit };
                    self.subscriptions.insert(subscription, new);
                    Reply::Subscribed { subscription, offset }
                })
            }
            Request::Unsubscribe { subscription } => {
                self.subscriptions.remove(&subscription);
                Ok(Reply::Unsubscribed { subscription })
            }
            request => answer(&mut state, request),
        };
        drop(state);
        let reply = reply.unwrap_or_else(|code| Reply::Rejected(Rejection::new(code, "no")));
        protocol::put_reply(&mut self.out, correlation, &reply).unwrap();
    }

    fn fetch(
        &mut self,
        state: &State,
        correlation: u64,
        partition: PartitionHandle,
        offset: u64,
        max_bytes: u32,
    ) {
        let Some(log) = state.logs.get(&(partition.topic, partition.stream)) else {
            let rejection = Rejection::new(ErrorCode::UnknownPartition, "no");
            return self.reject(correlation, rejection);
        };
        let mut bytes: Vec<u8> = Vec::new();
        let mut head = FetchHead {
            batch_count: 0,
            first_offset: offset,
            next_offset: offset,
            high_watermark: log.next,
            log_start: log.first,
        };
        for stored in log.from(offset) {
            if !bytes.is_empty() && bytes.len() + stored.bytes.len() > max_bytes as usize {
                break;
            }
            bytes.extend(&stored.bytes);
            head.batch_count += 1;
            head.next_offset = stored.header.next_offset();
        }
        protocol::put_fetch_head(&mut self.out, correlation, &head, bytes.len());
        self.out.extend(bytes);
    }

    /// Sends what subscriptions lack, as far as their credit goes: two batches a frame.
    fn deliver(&mut self) {
        let fake = self.fake.clone();
        let state = fake.state();
        for (number, subscription) in &mut self.subscriptions {
            let log = &state.logs[&subscription.log];
            while subscription.credit > 0 && subscription.position < log.next {
                let batches: Vec<_> = log.from(subscription.position).take(2).collect();
                let mut bytes: Vec<u8> =
                    batches.iter().flat_map(|stored| stored.bytes.iter().copied()).collect();
                let next_offset = batches.last().unwrap().header.next_offset();
                let head = DeliverHead {
                    subscription: *number,
                    batch_count: batches.len() as u32,
                    first_offset: batches[0].header.base_offset,
                    next_offset,
                    high_watermark: log.next,
                };
                if state.corrupt_deliveries {
                    *bytes.last_mut().unwrap() ^= 1;
                }
                protocol::put_deliver_head(&mut self.out, &head, bytes.len());
                self.out.extend(&bytes);
                subscription.credit -= bytes.len() as i64;
                subscription.position = next_offset;
            }
        }
    }
}

fn locate(
    state: &State,
    partition: PartitionHandle,
    position: &StartPosition,
) -> Result<u64, ErrorCode> {
    let key = (partition.topic, partition.stream);
    let log = state.logs.get(&key).ok_or(ErrorCode::UnknownPartition)?;
    match position {
        StartPosition::First => Ok(log.first),
        StartPosition::Last => Ok(log.next.saturating_sub(1).max(log.first)),
        StartPosition::Next => Ok(log.next),
        StartPosition::Offset(offset) if (log.first..=log.next).contains(offset) => Ok(*offset),
        StartPosition::Offset(_) => Err(ErrorCode::OffsetOutOfRange),
        StartPosition::Time(_) => Ok(log.first),
        StartPosition::Committed(name) => {
            Ok(log.committed.get(name.as_str()).copied().unwrap_or(log.first))
        }
    }
}

fn answer(state: &mut State, request: Request) -> Result<Reply, ErrorCode> {
    match request {
        Request::Ping => Ok(Reply::Pong),
        Request::InitProducer => Ok(Reply::Producer { id: state.take_id() as i64, epoch: 0 }),
        Request::SetLogFilter { filter } => {
            state.filter = filter;
            Ok(Reply::LogFilterSet)
        }
        Request::Status => {
            state.status_calls += 1;
            Ok(Reply::Status(Box::new(ServerStatus {
                version: "fake".into(),
                ready: true,
                uptime_ms: 1,
                data_dir: String::new(),
                topics: state.topics.len() as u32,
                cores: Vec::new(),
                shards: Vec::new(),
                ..ServerStatus::default()
            })))
        }
        Request::Stages => {
            let buckets = vec![(7, 2)];
            let times = StageHistogram { count: 2, sum_ns: 14, max_ns: 7, buckets };
            let stages = std::array::from_fn(|_| times.clone());
            Ok(Reply::Stages(vec![CoreStages { core: CoreId(1), stages }]))
        }
        Request::Metadata { topics, after, limit } => Ok(metadata(state, &topics, after, limit)),
        Request::CreateTopic { name, .. } if state.topics.contains_key(&name) => {
            Err(ErrorCode::TopicExists)
        }
        Request::CreateTopic { name, partitions, config } => {
            Ok(Reply::Topic(state.create(name, partitions, config)))
        }
        Request::AlterTopic { name, change } => {
            let old = state.topics.get(&name).ok_or(ErrorCode::UnknownTopic)?;
            let new = TopicInfo { config: change.applied_to(&old.config), ..(**old).clone() };
            let new = Arc::new(TopicInfo { config_version: new.config_version + 1, ..new });
            state.topics.insert(name, new.clone());
            Ok(Reply::Topic(new))
        }
        Request::DeleteTopic { name } => {
            let info = state.topics.remove(&name).ok_or(ErrorCode::UnknownTopic)?;
            state.logs.retain(|(topic, _), _| *topic != info.id);
            Ok(Reply::TopicDeleted)
        }
        Request::DescribeTopic { name } => {
            let topic = state.topics.get(&name).ok_or(ErrorCode::UnknownTopic)?.clone();
            let partitions = (0..).zip(&topic.partitions).map(|(index, place)| PartitionStatus {
                index: PartitionIndex(index),
                shard: place.shard,
                first_offset: 0,
                next_offset: state.logs[&(topic.id, place.stream)].next,
                bytes: 0,
                consumers: Vec::new(),
            });
            let partitions = partitions.collect();
            Ok(Reply::TopicDescription { topic, partitions })
        }
        Request::LookupOffset { partition, position } => {
            Ok(Reply::Offset { offset: locate(state, partition, &position)? })
        }
        Request::CommitOffset { partition, consumer, offset, .. } => {
            let log = state.logs.get_mut(&(partition.topic, partition.stream));
            log.ok_or(ErrorCode::UnknownPartition)?.committed.insert(consumer.to_string(), offset);
            Ok(Reply::OffsetCommitted)
        }
        Request::CommittedOffset { partition, consumer } => {
            let log = state.logs.get(&(partition.topic, partition.stream));
            let committed = &log.ok_or(ErrorCode::UnknownPartition)?.committed;
            let offset = committed.get(consumer.as_str()).ok_or(ErrorCode::NoCommittedOffset)?;
            Ok(Reply::Offset { offset: *offset })
        }
        request => unreachable!("{request:?} is served by its connection"),
    }
}

fn metadata(
    state: &State,
    names: &[model::TopicName],
    after: Option<model::TopicName>,
    limit: u32,
) -> Reply {
    let cores = state.cores.clone().into();
    if names.is_empty() {
        let later = state.topics.values().filter(|info| Some(&info.name) > after.as_ref());
        let mut topics: Vec<_> = later.take(limit as usize + 1).cloned().collect();
        let more = topics.len() > limit as usize;
        topics.truncate(limit as usize);
        return Reply::Metadata { cores, topics, unknown: Vec::new(), more };
    }
    let known = |name: &&model::TopicName| state.topics.contains_key(*name);
    let (found, unknown): (Vec<_>, Vec<_>) = names.iter().partition(known);
    let topics = found.into_iter().map(|name| state.topics[name].clone()).collect();
    Reply::Metadata { cores, topics, unknown: unknown.into_iter().cloned().collect(), more: false }
}
