//! The bench's own connections: plain blocking sockets for setting up, handed to the ring for the
//! load.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use model::reply::{CoreAddress, PartitionStatus, ServerStatus};
use model::{CoreStages, Reply, Request, TopicConfig, TopicInfo, TopicName};
use protocol::{
    FRAME_HEADER_BYTES, FrameHeader, Hello, PROTOCOL_VERSION, decode_reply, kind, next_frame,
    parse_hello_reply, put_hello, put_request,
};

use crate::error::BenchError;

/// How long one answer may take when setting up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Topic creations under way at once.
const PIPELINE: usize = 256;

/// Connects and, when `hello`, shakes hands.
pub fn connect(address: SocketAddr, hello: bool) -> Result<TcpStream, BenchError> {
    let mut socket =
        TcpStream::connect(address).map_err(|source| BenchError::Connect { address, source })?;
    let doing = || BenchError::io(format!("setting up the connection to {address}"));
    socket.set_nodelay(true).map_err(doing())?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(doing())?;
    if hello {
        shake_hands(&mut socket)?;
    }
    Ok(socket)
}

fn shake_hands(socket: &mut TcpStream) -> Result<(), BenchError> {
    let hello = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        client_name: "corelane-bench".into(),
        ..Hello::default()
    };
    let mut frame = Vec::new();
    put_hello(&mut frame, 0, &hello).map_err(|e| BenchError::Protocol(e.to_string()))?;
    socket.write_all(&frame).map_err(BenchError::io("sending the hello"))?;
    let (header, body) = read_frame(socket)?;
    if header.kind == kind::HELLO_REPLY {
        parse_hello_reply(&body).map_err(|e| BenchError::Protocol(e.to_string()))?;
        return Ok(());
    }
    match decode(&header, &body)? {
        Reply::Rejected(rejection) => {
            Err(BenchError::Rejected { doing: "shake hands".into(), rejection })
        }
        other => Err(BenchError::Protocol(format!("a hello answered with {other:?}"))),
    }
}

fn read_frame(socket: &mut TcpStream) -> Result<(FrameHeader, Vec<u8>), BenchError> {
    let mut head = [0; FRAME_HEADER_BYTES];
    socket.read_exact(&mut head).map_err(BenchError::io("waiting for an answer"))?;
    let header = match next_frame(&head) {
        Ok(Some((header, _))) => header,
        Ok(None) => FrameHeader::parse(&head).map_err(|e| BenchError::Protocol(e.to_string()))?,
        Err(error) => return Err(BenchError::Protocol(error.to_string())),
    };
    let mut body = vec![0; header.body_bytes()];
    socket.read_exact(&mut body).map_err(BenchError::io("waiting for an answer"))?;
    Ok((header, body))
}

/// Reads a reply frame.
pub fn decode(header: &FrameHeader, body: &[u8]) -> Result<Reply, BenchError> {
    if header.kind == kind::GO_AWAY {
        let message = protocol::parse_go_away(body).map(|g| g.message).unwrap_or_default();
        return Err(BenchError::Closed(format!(": {message}")));
    }
    decode_reply(header, body).map_err(|error| BenchError::Protocol(error.to_string()))
}

/// A connection for setting up and looking on: one request at a time, or pipelined.
#[derive(Debug)]
pub struct Control {
    socket: TcpStream,
    correlation: u64,
}

impl Control {
    pub fn connect(address: SocketAddr) -> Result<Self, BenchError> {
        Ok(Self { socket: connect(address, true)?, correlation: 0 })
    }

    /// Creates topics, many at a time, and returns them in the order of their names.
    pub fn create_topics(
        &mut self,
        names: &[TopicName],
        partitions: u32,
        config: &TopicConfig,
    ) -> Result<Vec<TopicInfo>, BenchError> {
        let mut topics: Vec<Option<TopicInfo>> = vec![None; names.len()];
        let first = self.correlation + 1;
        let mut sent = 0;
        for answered in 0..names.len() {
            let mut frames = Vec::new();
            while sent < names.len() && sent - answered < PIPELINE {
                let name = names[sent].clone();
                let request = Request::CreateTopic { name, partitions, config: config.clone() };
                self.put(&mut frames, &request)?;
                sent += 1;
            }
            self.send(&frames)?;
            let (correlation, reply) = self.receive("create a topic")?;
            let Reply::Topic(topic) = reply else { return Err(surprise(&reply)) };
            let slot = correlation.checked_sub(first).and_then(|at| topics.get_mut(at as usize));
            *slot.ok_or_else(|| BenchError::Protocol("an answer to no request".into()))? =
                Some((*topic).clone());
        }
        let missing = || BenchError::Protocol("two answers to one request".into());
        topics.into_iter().map(|topic| topic.ok_or_else(missing)).collect()
    }

    /// Removes topics; one that is gone already is no error.
    pub fn delete_topics(&mut self, names: &[TopicName]) -> Result<(), BenchError> {
        for names in names.chunks(PIPELINE) {
            let mut frames = Vec::new();
            for name in names {
                self.put(&mut frames, &Request::DeleteTopic { name: name.clone() })?;
            }
            self.send(&frames)?;
            for _ in names {
                let (header, body) = read_frame(&mut self.socket)?;
                decode(&header, &body)?;
            }
        }
        Ok(())
    }

    /// The cores' addresses.
    pub fn cores(&mut self) -> Result<Vec<CoreAddress>, BenchError> {
        let request = Request::Metadata { topics: Vec::new(), after: None, limit: 1 };
        match self.call("describe the cores", &request)? {
            Reply::Metadata { cores, .. } => Ok(cores.to_vec()),
            other => Err(surprise(&other)),
        }
    }

    pub fn describe(&mut self, name: &TopicName) -> Result<Vec<PartitionStatus>, BenchError> {
        let request = Request::DescribeTopic { name: name.clone() };
        match self.call("describe a topic", &request)? {
            Reply::TopicDescription { partitions, .. } => Ok(partitions),
            other => Err(surprise(&other)),
        }
    }

    pub fn status(&mut self) -> Result<ServerStatus, BenchError> {
        match self.call("give its status", &Request::Status)? {
            Reply::Status(status) => Ok(*status),
            other => Err(surprise(&other)),
        }
    }

    /// How long the stages of requests took so far, by core.
    pub fn stages(&mut self) -> Result<Vec<CoreStages>, BenchError> {
        match self.call("tell its stages", &Request::Stages)? {
            Reply::Stages(cores) => Ok(cores),
            other => Err(surprise(&other)),
        }
    }

    fn call(&mut self, doing: &str, request: &Request) -> Result<Reply, BenchError> {
        let mut frame = Vec::new();
        self.put(&mut frame, request)?;
        self.send(&frame)?;
        Ok(self.receive(doing)?.1)
    }

    fn put(&mut self, frames: &mut Vec<u8>, request: &Request) -> Result<(), BenchError> {
        self.correlation += 1;
        put_request(frames, self.correlation, request, 0)
            .map_err(|error| BenchError::Protocol(error.to_string()))
    }

    fn send(&mut self, frames: &[u8]) -> Result<(), BenchError> {
        self.socket.write_all(frames).map_err(BenchError::io("sending a request"))
    }

    fn receive(&mut self, doing: &str) -> Result<(u64, Reply), BenchError> {
        let (header, body) = read_frame(&mut self.socket)?;
        match decode(&header, &body)? {
            Reply::Rejected(rejection) => {
                Err(BenchError::Rejected { doing: doing.into(), rejection })
            }
            reply => Ok((header.correlation, reply)),
        }
    }
}

fn surprise(reply: &Reply) -> BenchError {
    BenchError::Protocol(format!("an answer of the wrong kind: {reply:?}"))
}
