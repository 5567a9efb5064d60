//! Peers that do not behave: they ask for everything and read nothing, stop in the middle of a
//! frame, reset their connections, or come by the thousand.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use model::{PartitionHandle, Request, StartPosition};
use protocol::{FrameHeader, Hello, PROTOCOL_VERSION, kind, put_hello, put_request};
use tokio::task::JoinSet;
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a peer that never reads allows the server to send.
const CREDIT_BYTES: u64 = 64 << 20;
/// What a peer that stops in the middle has said it would send.
const FRAME_BYTES: usize = 15 << 20;
/// Connection attempts under way at once.
const ATTEMPTS_AT_ONCE: usize = 1_000;

/// A connection that is never read.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    /// Of a frame it has begun, all but the last.
    frame_bytes_left: usize,
}

impl Peer {
    /// Connects and says hello.
    pub fn connect(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&server, CONNECT_TIMEOUT)?;
        stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
        let mut peer = Self { stream, frame_bytes_left: 0 };
        let hello = Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            client_name: "faults".to_owned(),
            ..Hello::default()
        };
        let mut bytes = Vec::new();
        put_hello(&mut bytes, 1, &hello).map_err(|_| io::ErrorKind::InvalidInput)?;
        peer.stream.write_all(&bytes)?;
        Ok(peer)
    }

    /// Asks for all of a partition.
    pub fn subscribe(&mut self, partition: PartitionHandle) -> io::Result<()> {
        let position = StartPosition::First;
        let request =
            Request::Subscribe { partition, subscription: 1, position, credit_bytes: CREDIT_BYTES };
        let mut bytes = Vec::new();
        put_request(&mut bytes, 2, &request, 0).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.stream.write_all(&bytes)
    }

    /// Begins a frame that will never be whole.
    pub fn begin_frame(&mut self) -> io::Result<()> {
        let header = FrameHeader::new(kind::PRODUCE, 3, FRAME_BYTES);
        let mut bytes = header.length.to_le_bytes().to_vec();
        bytes.extend([header.version, header.flags]);
        bytes.extend(header.kind.to_le_bytes());
        bytes.extend(header.correlation.to_le_bytes());
        self.stream.write_all(&bytes)?;
        self.stream.set_nonblocking(true)?;
        self.frame_bytes_left = FRAME_BYTES - 1;
        self.push_frame();
        Ok(())
    }

    /// Sends as much of the frame as the server takes now. It may also have closed by now.
    pub fn push_frame(&mut self) {
        const ZEROS: &[u8] = &[0; 64 * 1024];
        while self.frame_bytes_left > 0 {
            match self.stream.write(&ZEROS[..self.frame_bytes_left.min(ZEROS.len())]) {
                Ok(written) if written > 0 => self.frame_bytes_left -= written,
                _ => return,
            }
        }
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }
}

/// Many connections that say nothing.
#[derive(Debug, Default)]
pub struct Crowd {
    pub connected: u64,
    pub refused: u64,
    held: Vec<tokio::net::TcpStream>,
}

impl Crowd {
    /// Makes `attempts` connections as fast as it can and keeps the newest `held_max`; the others
    /// are reset.
    pub async fn rush(server: SocketAddr, attempts: usize, held_max: usize) -> Self {
        let mut crowd = Self::default();
        let mut left = attempts;
        while left > 0 {
            let now = left.min(ATTEMPTS_AT_ONCE);
            left -= now;
            let mut tries = JoinSet::new();
            for _ in 0..now {
                tries.spawn(timeout(CONNECT_TIMEOUT, tokio::net::TcpStream::connect(server)));
            }
            while let Some(ended) = tries.join_next().await {
                match ended {
                    Ok(Ok(Ok(stream))) => {
                        crowd.connected += 1;
                        crowd.held.push(stream);
                    }
                    _ => crowd.refused += 1,
                }
            }
            let surplus = crowd.held.len().saturating_sub(held_max);
            crowd.held.drain(..surplus).for_each(reset);
        }
        crowd
    }

    /// Ends them all with resets.
    pub fn disperse(mut self) {
        self.held.drain(..).for_each(reset);
    }
}

fn reset(stream: tokio::net::TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
}
