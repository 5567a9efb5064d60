//! A publisher and a reader that allocate nothing once they are connected: frames are made once
//! and patched, answers are read into memory kept for them.

use std::io::{Read, Write};
use std::net::TcpStream;

use model::{AckLevel, PartitionHandle, Reply, Request, StartPosition, TopicConfig, TopicName};
use protocol::{
    BatchBuilder, DeliverHead, FRAME_HEADER_BYTES, FetchHead, FrameHeader, Hello, ProduceAck,
    ProduceHead, kind,
};

use crate::server::Server;

/// Where a frame's correlation lies.
const CORRELATION: std::ops::Range<usize> = 8..16;
/// Where a publish's ack level lies.
const ACK: usize = FRAME_HEADER_BYTES + 20;
const PAYLOAD_BYTES: usize = 100;
const IN_FLIGHT_MAX: usize = 64;
const CREDIT_BYTES: u64 = 4 * 1024 * 1024;

/// A connection that has said Hello.
struct Wire {
    socket: TcpStream,
    /// Received; the first `taken` bytes have been looked at, and `filled` are there.
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl Wire {
    fn connect(server: &Server) -> Self {
        let socket = TcpStream::connect(server.address).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut wire = Self { socket, buffer: vec![0; 4 << 20], taken: 0, filled: 0 };
        let hello = Hello { version_min: 1, version_max: 1, ..Hello::default() };
        let mut frame = Vec::new();
        protocol::put_hello(&mut frame, 1, &hello).unwrap();
        wire.socket.write_all(&frame).unwrap();
        assert_eq!(wire.next().0.kind, kind::HELLO_REPLY);
        wire
    }

    fn call(&mut self, request: &Request) -> Reply {
        let mut frame = Vec::new();
        protocol::put_request(&mut frame, 1, request, 0).unwrap();
        self.socket.write_all(&frame).unwrap();
        let (header, body) = self.next();
        protocol::decode_reply(&header, body).unwrap()
    }

    /// The next whole frame.
    fn next(&mut self) -> (FrameHeader, &[u8]) {
        let (header, length) = loop {
            match protocol::next_frame(&self.buffer[self.taken..self.filled]).unwrap() {
                Some(found) => break found,
                None => self.receive(),
            }
        };
        let start = self.taken;
        self.taken += length;
        (header, &self.buffer[start + FRAME_HEADER_BYTES..start + length])
    }

    fn receive(&mut self) {
        self.buffer.copy_within(self.taken..self.filled, 0);
        (self.filled, self.taken) = (self.filled - self.taken, 0);
        let count = self.socket.read(&mut self.buffer[self.filled..]).unwrap();
        assert!(count > 0, "the server has closed the connection");
        self.filled += count;
    }
}

pub struct Publisher {
    wire: Wire,
    /// As many frames as may be in flight.
    frames: Vec<u8>,
    frame_bytes: usize,
    published: u64,
}

impl Publisher {
    /// Makes the topic.
    pub fn connect(server: &Server, topic: &str) -> Self {
        let mut wire = Wire::connect(server);
        let name = TopicName::parse(topic).unwrap();
        let create = Request::CreateTopic { name, partitions: 1, config: TopicConfig::default() };
        let Reply::Topic(_) = wire.call(&create) else { panic!("no topic") };
        let handle = handle(&mut wire, topic);
        let mut builder = BatchBuilder::new();
        builder.append(1, None, Some(&[b'x'; PAYLOAD_BYTES]), []).unwrap();
        let batch = builder.finish(None);
        let head =
            ProduceHead { handle, ack: Some(AckLevel::Durable), deadline_ms: 0, batch_count: 1 };
        let mut frame = Vec::new();
        protocol::put_produce_head(&mut frame, 0, &head, batch.len());
        frame.extend(batch);
        let frames = frame.repeat(IN_FLIGHT_MAX);
        Self { wire, frames, frame_bytes: frame.len(), published: 0 }
    }

    pub fn published(&self) -> u64 {
        self.published
    }

    /// Publishes so many, with at most `in_flight` unanswered, and waits for all answers.
    pub fn publish(&mut self, level: AckLevel, messages: u64, in_flight: u64) {
        let end = self.published + messages;
        let mut sent = self.published;
        while self.published < end {
            let room = in_flight - (sent - self.published);
            let count = room.min(end - sent);
            self.send(level, sent, count as usize);
            sent += count;
            let (header, body) = self.wire.next();
            assert_eq!(header.kind, kind::PRODUCE_ACK);
            let ack = ProduceAck::parse(body).unwrap();
            assert_eq!((header.correlation, ack.base_offset), (self.published, self.published));
            self.published += u64::from(ack.count);
        }
    }

    fn send(&mut self, level: AckLevel, first: u64, count: usize) {
        let frames = &mut self.frames[..count * self.frame_bytes];
        for (frame, correlation) in frames.chunks_mut(self.frame_bytes).zip(first..) {
            frame[CORRELATION].copy_from_slice(&correlation.to_le_bytes());
            frame[ACK] = level as u8;
        }
        self.wire.socket.write_all(frames).unwrap();
    }
}

pub struct Reader {
    wire: Wire,
    handle: PartitionHandle,
    /// The next message.
    offset: u64,
    /// Bytes taken for which no credit has been given back.
    owed_bytes: u64,
    frame: Vec<u8>,
}

impl Reader {
    pub fn connect(server: &Server, topic: &str) -> Self {
        let mut wire = Wire::connect(server);
        let handle = handle(&mut wire, topic);
        Self { wire, handle, offset: 0, owed_bytes: 0, frame: Vec::with_capacity(256) }
    }

    /// From the first message on.
    pub fn subscribe(&mut self) {
        let request = Request::Subscribe {
            partition: self.handle,
            subscription: 1,
            position: StartPosition::First,
            credit_bytes: CREDIT_BYTES,
        };
        let Reply::Subscribed { .. } = self.wire.call(&request) else { panic!("not subscribed") };
    }

    /// Waits for so many messages more.
    pub fn take(&mut self, messages: u64) {
        let end = self.offset + messages;
        while self.offset < end {
            let (header, body) = self.wire.next();
            assert_eq!(header.kind, kind::DELIVER);
            let head = DeliverHead::parse(body).unwrap();
            assert_eq!(head.first_offset, self.offset);
            self.offset = head.next_offset;
            self.owed_bytes += body.len() as u64;
            if self.owed_bytes > CREDIT_BYTES / 8 {
                let credit = Request::Credit { subscription: 1, bytes: self.owed_bytes };
                self.owed_bytes = 0;
                self.send(2, &credit);
            }
        }
    }

    /// Fetches so many messages, some at a time.
    pub fn fetch(&mut self, messages: u64) {
        let end = self.offset + messages;
        while self.offset < end {
            let request = Request::Fetch {
                partition: self.handle,
                offset: self.offset,
                min_bytes: 1,
                max_bytes: 64 * PAYLOAD_BYTES as u32,
                max_wait_ms: 1_000,
            };
            self.send(3, &request);
            let (header, body) = self.wire.next();
            assert_eq!(header.kind, kind::FETCH_REPLY);
            let head = FetchHead::parse(body).unwrap();
            assert!(head.next_offset > self.offset, "{head:?}");
            self.offset = head.next_offset;
        }
    }

    fn send(&mut self, correlation: u64, request: &Request) {
        self.frame.clear();
        protocol::put_request(&mut self.frame, correlation, request, 0).unwrap();
        self.wire.socket.write_all(&self.frame).unwrap();
    }
}

fn handle(wire: &mut Wire, topic: &str) -> PartitionHandle {
    let name = TopicName::parse(topic).unwrap();
    let request = Request::Metadata { topics: vec![name], after: None, limit: 1 };
    let Reply::Metadata { topics, .. } = wire.call(&request) else { panic!("no metadata") };
    let place = topics[0].partitions[0];
    PartitionHandle { topic: topics[0].id, stream: place.stream, shard: place.shard }
}
