//! A connection of raw frames that never waits: what a decent client would not do.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use model::{Reply, Request};
use protocol::{FRAME_HEADER_BYTES, FrameHeader, Hello};

use super::TortureError;

/// Bytes that wait to be sent on one connection at most: past this a hostile client is held up by
/// the server, as it should be.
const UNSENT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long an orderly question may go unanswered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// One connection. Sockets are not blocking.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    unsent: Vec<u8>,
    received: Vec<u8>,
    correlation: u64,
    ended: bool,
}

/// A frame as it came.
#[derive(Debug)]
pub struct Frame {
    pub header: FrameHeader,
    pub body: Vec<u8>,
}

impl Wire {
    /// Connects and says nothing.
    pub fn silent(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (unsent, received) = (Vec::new(), Vec::new());
        Ok(Self { stream, unsent, received, correlation: 100, ended: false })
    }

    /// Connects and says hello; the answer comes among the other frames.
    pub fn greeted(address: SocketAddr) -> io::Result<Self> {
        let mut wire = Self::silent(address)?;
        wire.send(&hello());
        Ok(wire)
    }

    /// Sends as much as the socket takes, keeps a bounded rest. Whether there was room.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.flush();
        if self.unsent.len() > UNSENT_BYTES_MAX {
            return false;
        }
        self.unsent.extend_from_slice(bytes);
        self.flush();
        true
    }

    /// A request with the next correlation.
    pub fn ask(&mut self, request: &Request) -> bool {
        self.correlation += 1;
        let mut bytes = Vec::new();
        // What does not fit into a frame cannot be asked.
        protocol::put_request(&mut bytes, self.correlation, request, 0).is_ok() && self.send(&bytes)
    }

    fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    sent += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => self.ended = true,
            }
            break;
        }
        self.unsent.drain(..sent);
    }

    /// The frames that have come, at most 64 KiB at a time.
    pub fn frames(&mut self) -> Vec<Frame> {
        self.flush();
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(count) => self.received.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.ended = true,
        }
        let mut frames = Vec::new();
        let mut at = 0;
        while let Ok(Some((header, length))) = protocol::next_frame(&self.received[at..]) {
            let body = self.received[at + FRAME_HEADER_BYTES..at + length].to_vec();
            frames.push(Frame { header, body });
            at += length;
        }
        self.received.drain(..at);
        frames
    }

    /// The server has closed, or the socket failed.
    pub fn ended(&self) -> bool {
        self.ended
    }

    pub fn stop_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends it with a reset rather than an orderly close.
    pub fn reset(self) {
        // Where it is refused the close is an orderly one.
        let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }

    /// Asks and waits for the answer, as a decent client does.
    pub fn answer(&mut self, request: &Request) -> Result<Reply, TortureError> {
        self.ask(request);
        let wanted = self.correlation;
        let began = Instant::now();
        while began.elapsed() < ANSWER_TIMEOUT && !self.ended {
            for frame in self.frames() {
                if frame.header.correlation == wanted {
                    return protocol::decode_reply(&frame.header, &frame.body)
                        .map_err(|error| TortureError::Broken(format!("a reply: {error}")));
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(TortureError::Broken(format!("no answer came to {request:?}")))
    }
}

/// A good first frame.
pub fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    let hello = Hello { version_min: 1, version_max: 1, ..Hello::default() };
    // Short strings always fit.
    let _ = protocol::put_hello(&mut bytes, 1, &hello);
    bytes
}
