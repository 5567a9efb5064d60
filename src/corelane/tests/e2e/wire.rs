//! A connection of raw frames, for what no decent client would do.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use model::{AckLevel, PartitionHandle, PartitionIndex, Rejection, Reply, Request, TopicName};
use protocol::{
    BatchBuilder, FRAME_HEADER_BYTES, FrameHeader, GoAway, Hello, ProduceAck, ProduceHead, kind,
};

use crate::harness::DEADLINE;

/// A frame as received.
#[derive(Clone, Debug)]
pub struct Frame {
    pub header: FrameHeader,
    pub body: Vec<u8>,
}

impl Frame {
    #[track_caller]
    pub fn reply(&self) -> Reply {
        protocol::decode_reply(&self.header, &self.body).unwrap()
    }

    /// The error that it must be.
    #[track_caller]
    pub fn rejection(&self) -> Rejection {
        match self.reply() {
            Reply::Rejected(rejection) => rejection,
            other => panic!("expected an error, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn ack(&self) -> ProduceAck {
        if self.header.kind != kind::PRODUCE_ACK {
            panic!("expected an acknowledgement, got {:?}", self.reply());
        }
        ProduceAck::parse(&self.body).unwrap()
    }

    #[track_caller]
    pub fn go_away(&self) -> GoAway {
        assert_eq!(self.header.kind, kind::GO_AWAY, "{self:?}");
        protocol::parse_go_away(&self.body).unwrap()
    }
}

pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    correlation: u64,
}

impl Wire {
    /// Connects and says nothing.
    pub fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { stream, received: Vec::new(), correlation: 0 }
    }

    /// Connects and shakes hands.
    pub fn open(address: SocketAddr) -> Self {
        let mut wire = Self::silent(address);
        wire.send(&hello());
        let reply = wire.frame();
        assert_eq!(reply.header.kind, kind::HELLO_REPLY, "{reply:?}");
        wire
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends what the server may not want to read to its end.
    pub fn send_anyway(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn stop_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next frame; `None` when the server has closed.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((header, length)) = protocol::next_frame(&self.received).unwrap() {
                let body = self.received[FRAME_HEADER_BYTES..length].to_vec();
                self.received.drain(..length);
                return Some(Frame { header, body });
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                // A signal, as after the process was stopped for a while.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("reading a frame: {error}"),
            }
        }
    }

    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        self.next().expect("a frame before the connection's end")
    }

    /// The server must close, after frames that are given back.
    pub fn until_closed(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    pub fn next_correlation(&mut self) -> u64 {
        self.correlation += 1;
        self.correlation
    }

    #[track_caller]
    pub fn request(&mut self, request: &Request) -> Frame {
        let correlation = self.next_correlation();
        let mut bytes = Vec::new();
        protocol::put_request(&mut bytes, correlation, request, 30_000).unwrap();
        self.send(&bytes);
        let frame = self.frame();
        assert_eq!(frame.header.correlation, correlation, "{frame:?}");
        frame
    }

    /// It is served as any other.
    #[track_caller]
    pub fn check_alive(&mut self) {
        assert_eq!(self.request(&Request::Ping).reply(), Reply::Pong);
    }

    /// The handle of a partition of a topic that exists.
    pub fn handle(&mut self, topic: &str, partition: u32) -> PartitionHandle {
        let topics = vec![TopicName::parse(topic).unwrap()];
        match self.request(&Request::Metadata { topics, after: None, limit: 1 }).reply() {
            Reply::Metadata { topics, .. } => topics[0].handle(PartitionIndex(partition)).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a publish and waits for its answer.
    #[track_caller]
    pub fn produce(&mut self, handle: PartitionHandle, ack: AckLevel, batch: &[u8]) -> Frame {
        let correlation = self.next_correlation();
        self.send(&produce_frame(handle, Some(ack), correlation, batch));
        let frame = self.frame();
        assert_eq!(frame.header.correlation, correlation, "{frame:?}");
        frame
    }
}

pub fn hello() -> Vec<u8> {
    hello_as(0)
}

pub fn operator_hello() -> Vec<u8> {
    hello_as(protocol::FEATURE_OPERATOR)
}

pub fn hello_as(features: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let hello = Hello { version_min: 1, version_max: 1, features, ..Hello::default() };
    protocol::put_hello(&mut bytes, 0, &hello).unwrap();
    bytes
}

/// A batch of these values.
pub fn batch<V: AsRef<[u8]>>(values: &[V]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.append(1_700_000_000_000, None, Some(value.as_ref()), []).unwrap();
    }
    builder.finish(None)
}

pub fn produce_frame(
    handle: PartitionHandle,
    ack: Option<AckLevel>,
    correlation: u64,
    batch: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let head = ProduceHead { handle, ack, deadline_ms: 0, batch_count: 1 };
    protocol::put_produce_head(&mut bytes, correlation, &head, batch.len());
    bytes.extend_from_slice(batch);
    bytes
}
