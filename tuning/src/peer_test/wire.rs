//! What the two sides say to each other: one request of 16 bytes for each connection, one byte of
//! answer, then the work.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub const REQUEST_BYTES: usize = 16;
const MAGIC: [u8; 8] = *b"corelane";
const VERSION: u8 = 1;
/// The answer to a request that will be served.
pub const ACCEPTED: u8 = 0;
/// Messages of an echo, and writes of a stream, are at most so large.
pub const MESSAGE_BYTES_MAX: u32 = 64 << 10;
/// A silent peer ends the test after this.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);
/// A connection lives at most so long.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);

/// What the listener is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Send every message back.
    Echo,
    /// Take bytes until their end, then say how many came.
    Take,
    /// Send bytes until the other side closes.
    Send,
}

/// One test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub work: Work,
    pub message_bytes: u32,
}

impl Request {
    /// magic (8), version (1), work (1), zero (2), message bytes (4, little-endian)
    pub fn to_bytes(self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = VERSION;
        bytes[9] = match self.work {
            Work::Echo => 1,
            Work::Take => 2,
            Work::Send => 3,
        };
        bytes[12..].copy_from_slice(&self.message_bytes.to_le_bytes());
        bytes
    }

    pub fn parse(bytes: &[u8; REQUEST_BYTES]) -> Result<Self, &'static str> {
        let [m0, m1, m2, m3, m4, m5, m6, m7, version, work, zero_a, zero_b, s0, s1, s2, s3] =
            *bytes;
        if [m0, m1, m2, m3, m4, m5, m6, m7] != MAGIC {
            return Err("it is no `corelane tune net --peer`");
        }
        if version != VERSION || [zero_a, zero_b] != [0, 0] {
            return Err("it is of another version of corelane");
        }
        let work = match work {
            1 => Work::Echo,
            2 => Work::Take,
            3 => Work::Send,
            _ => return Err("it asks for a test that is not known here"),
        };
        let message_bytes = u32::from_le_bytes([s0, s1, s2, s3]);
        if !(1..=MESSAGE_BYTES_MAX).contains(&message_bytes) {
            return Err("its messages are empty or too large");
        }
        Ok(Self { work, message_bytes })
    }
}

/// A socket whose every call ends: at silence, or at the end of the connection's time.
#[derive(Debug)]
pub struct Bounded {
    stream: TcpStream,
    end: Instant,
}

impl Bounded {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(Self { stream, end: Instant::now() + CONNECTION_TIME_MAX })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The timeouts bound one call each; many short ones are bounded here.
    pub fn check_time(&self) -> io::Result<()> {
        if Instant::now() < self.end {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::TimedOut, "the connection's time is over"))
    }

    /// Fills `buffer`; `false` when the other side ended before its first byte.
    pub fn read_whole(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            self.check_time()?;
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    pub fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check_time()?;
        self.stream.read(buffer)
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check_time()?;
        self.stream.write_all(bytes)
    }
}
