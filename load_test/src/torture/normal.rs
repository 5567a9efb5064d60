//! The clients that behave: each publishes at a steady rate to a partition of its own and measures
//! every acknowledgement from the moment its message was meant to be sent; one reads it all back.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use model::{AckLevel, PartitionHandle, Request, StartPosition};
use protocol::{
    BatchBuilder, DELIVER_HEAD_BYTES, DeliverHead, FRAME_HEADER_BYTES, ProduceAck, ProduceHead,
    RecordIter, kind,
};

use super::TortureError;
use super::payload::{self, Stamp};
use super::wire::hello;

/// Messages a second of each producer.
pub const RATE: u64 = 250;
const CREDIT_BYTES: u64 = 16 * 1024 * 1024;
/// Where correlations of publishes begin; the message's sequence is added.
const FIRST_CORRELATION: u64 = 1_000_000;
/// How long the broker may take, once no one attacks any more, to answer all that was sent.
const FINISH_TIMEOUT: Duration = Duration::from_secs(60);
/// What is still unanswered at the end of a window counts with its age from here on.
const OVERDUE: Duration = Duration::from_millis(100);

/// What producers and the reader share.
#[derive(Debug)]
pub struct Shared {
    began: Instant,
    stop: AtomicBool,
    window: Mutex<Histogram<u64>>,
    sent: Vec<AtomicU64>,
    acknowledged: Vec<AtomicU64>,
    found: Vec<AtomicU64>,
    trouble: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn empty() -> Histogram<u64> {
    // A microsecond to ten minutes; the library takes these bounds.
    Histogram::new_with_bounds(1, 600_000_000, 3).unwrap_or_else(|_| unreachable!("constant"))
}

impl Shared {
    fn trouble(&self, text: String) {
        let mut trouble = lock(&self.trouble);
        if trouble.len() < 20 {
            trouble.push(text);
        }
    }

    fn intended(&self, sequence: u64) -> Instant {
        self.began + Duration::from_nanos(sequence * (1_000_000_000 / RATE))
    }
}

/// All of them, running.
#[derive(Debug)]
pub struct Normal {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Normal {
    /// Starts a producer for each partition, and the reader.
    pub fn start(address: SocketAddr, handles: &[PartitionHandle]) -> Result<Self, TortureError> {
        let counters = || handles.iter().map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let shared = Arc::new(Shared {
            began: Instant::now() + Duration::from_millis(200),
            stop: AtomicBool::new(false),
            window: Mutex::new(empty()),
            sent: counters(),
            acknowledged: counters(),
            found: counters(),
            trouble: Mutex::new(Vec::new()),
        });
        let mut threads = Vec::new();
        for (number, handle) in (0..).zip(handles) {
            let stream = connect(address)?;
            let reader = stream.try_clone().map_err(TortureError::io("copy a socket"))?;
            let (acks, sends) = (Arc::clone(&shared), Arc::clone(&shared));
            threads.push(std::thread::spawn(move || read_acks(&acks, number, reader)));
            let handle = *handle;
            threads.push(std::thread::spawn(move || publish(&sends, number, handle, stream)));
        }
        let stream = connect(address)?;
        let (all, handles) = (Arc::clone(&shared), handles.to_vec());
        threads.push(std::thread::spawn(move || consume(&all, &handles, stream)));
        Ok(Self { shared, threads })
    }

    /// Begins a new window of measuring, dropping the last.
    pub fn begin_window(&self) {
        *lock(&self.shared.window) = empty();
    }

    /// What was measured since; what is overdue counts with its age.
    pub fn end_window(&self) -> Histogram<u64> {
        let mut window = std::mem::replace(&mut *lock(&self.shared.window), empty());
        for (sent, acknowledged) in self.shared.sent.iter().zip(&self.shared.acknowledged) {
            let from = acknowledged.load(Ordering::Acquire);
            for sequence in from..sent.load(Ordering::Acquire) {
                let age = self.shared.intended(sequence).elapsed();
                if age > OVERDUE {
                    window.saturating_record(age.as_micros() as u64);
                }
            }
        }
        window
    }

    /// What went wrong so far.
    pub fn trouble(&self) -> Vec<String> {
        lock(&self.shared.trouble).clone()
    }

    /// Stops publishing, waits until everything sent is acknowledged and read back, and checks it.
    pub fn finish(self) -> Result<u64, TortureError> {
        self.shared.stop.store(true, Ordering::Release);
        let began = Instant::now();
        let total = |counters: &[AtomicU64]| {
            counters.iter().map(|count| count.load(Ordering::Acquire)).sum::<u64>()
        };
        let done = || {
            let sent = total(&self.shared.sent);
            sent == total(&self.shared.acknowledged) && sent == total(&self.shared.found)
        };
        while !done() && began.elapsed() < FINISH_TIMEOUT {
            std::thread::sleep(Duration::from_millis(10));
        }
        let complete = done();
        let trouble = self.trouble();
        let (sent, acknowledged, found) =
            (total(&self.shared.sent), total(&self.shared.acknowledged), total(&self.shared.found));
        for thread in self.threads {
            let _ = thread.join();
        }
        if let Some(first) = trouble.first() {
            return Err(TortureError::Normal(first.clone()));
        }
        if !complete {
            return Err(TortureError::Normal(format!(
                "{sent} messages were sent, {acknowledged} acknowledged, {found} read back; by \
                 producer: {:?}, {:?}, {:?}",
                self.shared.sent, self.shared.acknowledged, self.shared.found
            )));
        }
        Ok(sent)
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, TortureError> {
    let mut stream = TcpStream::connect(address).map_err(TortureError::io("connect"))?;
    stream.set_nodelay(true).map_err(TortureError::io("set an option"))?;
    let short = Some(Duration::from_millis(200));
    stream.set_read_timeout(short).map_err(TortureError::io("set an option"))?;
    stream.write_all(&hello()).map_err(TortureError::io("say hello"))?;
    Ok(stream)
}

fn publish(shared: &Shared, number: u32, handle: PartitionHandle, mut stream: TcpStream) {
    let mut sequence = 0;
    while !shared.stop.load(Ordering::Acquire) {
        let at = shared.intended(sequence);
        if let Some(wait) = at.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait.min(Duration::from_millis(50)));
            continue;
        }
        let mut batch = BatchBuilder::new();
        let payload = payload::make(Stamp { producer: number, sequence });
        if batch.append(1_700_000_000_000, None, Some(&payload), []).is_err() {
            return shared.trouble("a normal message did not fit a batch".to_owned());
        }
        let batch = batch.finish(None);
        let ack = Some(AckLevel::Durable);
        let head = ProduceHead { handle, ack, deadline_ms: 0, batch_count: 1 };
        let mut bytes = Vec::new();
        let correlation = FIRST_CORRELATION + sequence;
        protocol::put_produce_head(&mut bytes, correlation, &head, batch.len());
        bytes.extend_from_slice(&batch);
        shared.sent[number as usize].store(sequence + 1, Ordering::Release);
        if let Err(error) = stream.write_all(&bytes) {
            return shared.trouble(format!("producer {number} could not send: {error}"));
        }
        sequence += 1;
    }
}

/// Hands over the frames of a blocking stream until all is done or the connection ends.
fn read_frames(
    shared: &Shared,
    who: &str,
    mut stream: &TcpStream,
    done: impl Fn() -> bool,
    mut frame: impl FnMut(&protocol::FrameHeader, &[u8]) -> Result<(), String>,
) {
    let mut received = Vec::new();
    let mut chunk = vec![0; 256 * 1024];
    let mut stopped_at = None;
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return shared.trouble(format!("{who}: the server closed the connection")),
            Ok(count) => received.extend_from_slice(&chunk[..count]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return shared.trouble(format!("{who}: {error}")),
        }
        let mut at = 0;
        loop {
            match protocol::next_frame(&received[at..]) {
                Ok(None) => break,
                Err(error) => return shared.trouble(format!("{who}: {error}")),
                Ok(Some((header, length))) => {
                    let body = &received[at + FRAME_HEADER_BYTES..at + length];
                    if let Err(text) = frame(&header, body) {
                        return shared.trouble(format!("{who}: {text}"));
                    }
                    at += length;
                }
            }
        }
        received.drain(..at);
        if shared.stop.load(Ordering::Acquire) {
            let since = *stopped_at.get_or_insert_with(Instant::now);
            if done() || since.elapsed() > FINISH_TIMEOUT {
                return;
            }
        }
    }
}

fn read_acks(shared: &Shared, number: u32, stream: TcpStream) {
    let (sent, acknowledged) =
        (&shared.sent[number as usize], &shared.acknowledged[number as usize]);
    let done = || sent.load(Ordering::Acquire) == acknowledged.load(Ordering::Acquire);
    read_frames(shared, &format!("producer {number}"), &stream, done, |header, body| {
        match header.kind {
            kind::HELLO_REPLY => return Ok(()),
            kind::PRODUCE_ACK => {}
            _ => return Err(format!("{:?}", protocol::decode_reply(header, body))),
        }
        let ack = ProduceAck::parse(body).map_err(|error| error.to_string())?;
        let next = acknowledged.load(Ordering::Acquire);
        if ack.level != AckLevel::Durable || header.correlation != FIRST_CORRELATION + next {
            return Err(format!("message {next} was answered with {header:?} {ack:?}"));
        }
        let mut window = lock(&shared.window);
        for i in 0..u64::from(ack.count) {
            let latency = shared.intended(next + i).elapsed();
            window.saturating_record(latency.as_micros() as u64);
        }
        acknowledged.store(next + u64::from(ack.count), Ordering::Release);
        Ok(())
    });
}

fn consume(shared: &Shared, handles: &[PartitionHandle], mut stream: TcpStream) {
    let mut bytes = Vec::new();
    for (subscription, partition) in (0..).zip(handles) {
        let request = Request::Subscribe {
            partition: *partition,
            subscription,
            position: StartPosition::First,
            credit_bytes: CREDIT_BYTES,
        };
        // A fixed small request fits a frame.
        let _ = protocol::put_request(&mut bytes, u64::from(subscription) + 2, &request, 0);
    }
    if let Err(error) = stream.write_all(&bytes) {
        return shared.trouble(format!("the reader could not subscribe: {error}"));
    }
    let done = || {
        let of = |counters: &[AtomicU64]| -> u64 {
            counters.iter().map(|count| count.load(Ordering::Acquire)).sum()
        };
        of(&shared.found) == of(&shared.sent)
    };
    let mut back = &stream;
    read_frames(shared, "the reader", &stream, done, |header, body| {
        match header.kind {
            kind::HELLO_REPLY | kind::SUBSCRIBED => return Ok(()),
            kind::DELIVER => {}
            _ => return Err(format!("{:?}", protocol::decode_reply(header, body))),
        }
        let head = DeliverHead::parse(body).map_err(|error| error.to_string())?;
        let batches = &body[DELIVER_HEAD_BYTES..];
        check_batches(shared, batches)?;
        let (subscription, bytes) = (head.subscription, batches.len() as u64);
        let mut credit = Vec::new();
        let request = Request::Credit { subscription, bytes };
        protocol::put_request(&mut credit, 9, &request, 0).map_err(|error| error.to_string())?;
        back.write_all(&credit).map_err(|error| error.to_string())
    });
}

/// Every batch is whole, and every normal message follows the one before it. Others may publish to
/// the topic as well: their messages do not look like ours.
fn check_batches(shared: &Shared, batches: &[u8]) -> Result<(), String> {
    let parts = [batches];
    for span in protocol::split_batches(&parts, None) {
        let span = span.map_err(|error| error.to_string())?;
        let section =
            &batches[span.range.start + protocol::batch::BATCH_HEADER_BYTES..span.range.end];
        for record in RecordIter::new(&span.header, section) {
            let Ok(record) = record else { continue };
            let Some(stamp) = record.value.and_then(payload::read) else { continue };
            let Some(found) = shared.found.get(stamp.producer as usize) else { continue };
            let next = found.load(Ordering::Acquire);
            if stamp.sequence != next {
                return Err(format!(
                    "producer {} sent {next} next, and {} came",
                    stamp.producer, stamp.sequence
                ));
            }
            found.store(next + 1, Ordering::Release);
        }
    }
    Ok(())
}
