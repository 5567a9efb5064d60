//! A broker small enough to be obviously right, for tests: memory only, one thread a connection.
//! It can be told to misbehave.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::reply::{CoreAddress, PartitionStatus, ServerStatus};
use model::{
    AckLevel, CoreId, PartitionHandle, PartitionIndex, PartitionPlace, Reply, Request, ShardId,
    StartPosition, StreamId, TopicId, TopicInfo,
};
use protocol::batch::BATCH_HEADER_BYTES;
use protocol::{
    BatchHeader, DeliverHead, FrameHeader, HelloReply, PRODUCE_HEAD_BYTES, ProduceAck, ProduceHead,
    check_batch, decode_request, kind, next_frame, put_deliver_head, put_hello_reply,
    put_produce_ack, put_reply,
};

/// What it does wrong, on the tenth batch of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Acknowledges it and does not keep it.
    Lose,
    Repeat,
    /// Keeps it with a bit changed.
    Alter,
    /// Acknowledges it twice.
    AckTwice,
}

pub struct Fake {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    topics: Vec<Arc<TopicInfo>>,
    /// By stream, from 1.
    logs: Vec<Log>,
}

#[derive(Default)]
struct Log {
    batches: Vec<(BatchHeader, Vec<u8>)>,
    produced: usize,
    next_offset: u64,
}

struct Subscription {
    number: u32,
    stream: u32,
    /// The next batch.
    at: usize,
    credit: i64,
}

impl Fake {
    pub fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let state = Arc::new(Mutex::new(State::default()));
        std::thread::spawn({
            let (state, stop) = (Arc::clone(&state), Arc::clone(&stop));
            move || {
                for socket in listener.incoming().flatten() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let (state, stop) = (Arc::clone(&state), Arc::clone(&stop));
                    std::thread::spawn(move || serve(socket, &state, &stop, fault));
                }
            }
        });
        Self { address, state, stop }
    }

    /// Batches taken so far.
    pub fn produced(&self) -> usize {
        self.state.lock().unwrap().logs.iter().map(|log| log.produced).sum()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Ends the accept.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut socket: TcpStream, state: &Mutex<State>, stop: &AtomicBool, fault: Fault) {
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let (mut input, mut subscriptions) = (Vec::new(), Vec::new());
    let mut piece = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        match socket.read(&mut piece) {
            Ok(0) => return,
            Ok(bytes) => input.extend_from_slice(&piece[..bytes]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        let mut out = Vec::new();
        let mut state = state.lock().unwrap();
        let mut at = 0;
        while let Some((header, length)) = next_frame(&input[at..]).unwrap() {
            let body = &input[at + 16..at + length];
            handle(&header, body, &mut state, &mut subscriptions, fault, &mut out);
            at += length;
        }
        input.drain(..at);
        subscriptions.iter_mut().for_each(|s| deliver(s, &state, &mut out));
        drop(state);
        if socket.write_all(&out).is_err() {
            return;
        }
    }
}

fn handle(
    header: &FrameHeader,
    body: &[u8],
    state: &mut State,
    subscriptions: &mut Vec<Subscription>,
    fault: Fault,
    out: &mut Vec<u8>,
) {
    let correlation = header.correlation;
    match header.kind {
        kind::HELLO => {
            let reply = HelloReply { version: 1, ..HelloReply::default() };
            put_hello_reply(out, correlation, &reply).unwrap();
        }
        kind::PRODUCE => produce(correlation, body, state, fault, out),
        _ => {
            let (request, _) = decode_request(header, body).unwrap();
            if let Some(reply) = answer(request, state, subscriptions) {
                put_reply(out, correlation, &reply).unwrap();
            }
        }
    }
}

fn produce(correlation: u64, body: &[u8], state: &mut State, fault: Fault, out: &mut Vec<u8>) {
    let head = ProduceHead::parse(body).unwrap();
    let mut batch = body[PRODUCE_HEAD_BYTES..].to_vec();
    let mut header = check_batch(&[&batch]).unwrap();
    let log = &mut state.logs[head.handle.stream.0 as usize - 1];
    log.produced += 1;
    let fault = if log.produced == 10 { fault } else { Fault::None };
    let ack = ProduceAck {
        count: 1,
        level: head.ack.unwrap_or(AckLevel::Durable),
        base_offset: log.next_offset,
        offset_step: header.records_count,
        shard: ShardId(0),
        append_time_ms: 0,
    };
    put_produce_ack(out, &ack, correlation);
    if fault == Fault::AckTwice {
        put_produce_ack(out, &ack, correlation);
    }
    let copies = match fault {
        Fault::Lose => 0,
        Fault::Repeat => 2,
        _ => 1,
    };
    if fault == Fault::Lose {
        log.next_offset += u64::from(header.records_count);
    }
    if fault == Fault::Alter {
        let last = batch.len() - 4;
        batch[last] ^= 1;
    }
    for _ in 0..copies {
        header.base_offset = log.next_offset;
        batch[..8].copy_from_slice(&log.next_offset.to_be_bytes());
        log.next_offset += u64::from(header.records_count);
        log.batches.push((header, batch.clone()));
    }
}

fn answer(
    request: Request,
    state: &mut State,
    subscriptions: &mut Vec<Subscription>,
) -> Option<Reply> {
    Some(match request {
        Request::Metadata { .. } => {
            let (core, host) = (CoreId(0), "127.0.0.1".to_owned());
            let core = CoreAddress { core, host, port: 0, shards: vec![ShardId(0)] };
            let cores = Arc::from([core]);
            Reply::Metadata { cores, topics: vec![], unknown: vec![], more: false }
        }
        Request::CreateTopic { name, partitions, config } => {
            let first = state.logs.len() as u32 + 1;
            state.logs.extend((0..partitions).map(|_| Log::default()));
            let place = |p| PartitionPlace { shard: ShardId(0), stream: StreamId(first + p) };
            let partitions = (0..partitions).map(place).collect();
            let id = TopicId(state.topics.len() as u64 + 1);
            let info = Arc::new(TopicInfo { id, name, config, config_version: 1, partitions });
            state.topics.push(Arc::clone(&info));
            Reply::Topic(info)
        }
        Request::DescribeTopic { name } => {
            let topic = state.topics.iter().find(|t| t.name == name).unwrap().clone();
            let status = |(index, place): (usize, &PartitionPlace)| PartitionStatus {
                index: PartitionIndex(index as u32),
                shard: ShardId(0),
                first_offset: 0,
                next_offset: state.logs[place.stream.0 as usize - 1].next_offset,
                bytes: 0,
                consumers: vec![],
            };
            let partitions = topic.partitions.iter().enumerate().map(status).collect();
            Reply::TopicDescription { topic, partitions }
        }
        Request::DeleteTopic { .. } => Reply::TopicDeleted,
        Request::Status => Reply::Status(Box::new(ServerStatus {
            version: "fake".into(),
            ready: true,
            uptime_ms: 0,
            data_dir: ".".into(),
            topics: 0,
            cores: vec![],
            shards: vec![],
            ..ServerStatus::default()
        })),
        Request::Stages => Reply::Stages(Vec::new()),
        Request::Subscribe { partition, subscription, position, credit_bytes } => {
            let PartitionHandle { stream: StreamId(stream), .. } = partition;
            assert_eq!(position, StartPosition::First);
            let credit = credit_bytes as i64;
            subscriptions.push(Subscription { number: subscription, stream, at: 0, credit });
            Reply::Subscribed { subscription, offset: 0 }
        }
        Request::Credit { subscription, bytes } => {
            let found = subscriptions.iter_mut().find(|s| s.number == subscription);
            found.unwrap().credit += bytes as i64;
            return None;
        }
        Request::Unsubscribe { subscription } => {
            subscriptions.retain(|s| s.number != subscription);
            Reply::Unsubscribed { subscription }
        }
        other => panic!("the bench does not send {other:?}"),
    })
}

/// One batch a frame, while there is credit.
fn deliver(subscription: &mut Subscription, state: &State, out: &mut Vec<u8>) {
    let log = &state.logs[subscription.stream as usize - 1];
    while subscription.credit > 0
        && let Some((header, batch)) = log.batches.get(subscription.at)
    {
        assert!(batch.len() >= BATCH_HEADER_BYTES);
        let head = DeliverHead {
            subscription: subscription.number,
            batch_count: 1,
            first_offset: header.base_offset,
            next_offset: header.next_offset(),
            high_watermark: log.next_offset,
        };
        put_deliver_head(out, &head, batch.len());
        out.extend_from_slice(batch);
        subscription.credit -= batch.len() as i64;
        subscription.at += 1;
    }
}
