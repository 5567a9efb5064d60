//! The side that is measured against.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::wire::{ACCEPTED, Bounded, MESSAGE_BYTES_MAX, REQUEST_BYTES, Request, Work};

/// How often a waiting listener looks whether it is to stop.
const LOOK_NS: i64 = 100_000_000;

/// Waits for tests.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
}

/// What happened, for the one who watches.
#[derive(Debug)]
pub enum Event {
    Served {
        peer: SocketAddr,
    },
    /// A sentence.
    Refused {
        peer: SocketAddr,
        why: String,
    },
}

impl Listener {
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves one connection after the other until `stop` is set.
    pub fn serve(&self, stop: &AtomicBool, tell: &mut dyn FnMut(Event)) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let Some((stream, peer)) = self.accept()? else { continue };
            match serve_one(stream, stop) {
                Ok(()) => tell(Event::Served { peer }),
                Err(error) => tell(Event::Refused { peer, why: error.to_string() }),
            }
        }
        Ok(())
    }

    /// `None`: nobody came for a moment.
    fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: LOOK_NS };
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        match self.socket.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(false)?;
                Ok(Some((stream, peer)))
            }
            // It has gone again, or there was no descriptor for it.
            Err(error) if is_passing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
    )
}

fn serve_one(stream: TcpStream, stop: &AtomicBool) -> io::Result<()> {
    let mut socket = Bounded::new(stream)?;
    let mut request = [0; REQUEST_BYTES];
    if !socket.read_whole(&mut request)? {
        return Err(io::Error::other("it said nothing"));
    }
    let request = Request::parse(&request).map_err(io::Error::other)?;
    socket.write_all(&[ACCEPTED])?;
    match request.work {
        Work::Echo => echo(&mut socket, request.message_bytes as usize, stop),
        Work::Take => take(&mut socket, stop),
        Work::Send => send(&mut socket, request.message_bytes as usize, stop),
    }
}

fn echo(socket: &mut Bounded, bytes: usize, stop: &AtomicBool) -> io::Result<()> {
    let mut message = vec![0; bytes];
    while !stop.load(Ordering::Relaxed) && socket.read_whole(&mut message)? {
        socket.write_all(&message)?;
    }
    Ok(())
}

fn take(socket: &mut Bounded, stop: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX as usize];
    let mut taken = 0u64;
    while !stop.load(Ordering::Relaxed) {
        match socket.read_some(&mut buffer)? {
            0 => return socket.write_all(&taken.to_le_bytes()),
            bytes => taken += bytes as u64,
        }
    }
    Ok(())
}

fn send(socket: &mut Bounded, bytes: usize, stop: &AtomicBool) -> io::Result<()> {
    let payload = vec![7; bytes];
    while !stop.load(Ordering::Relaxed) {
        match socket.write_all(&payload) {
            Ok(()) => {}
            // That is how the other side ends it.
            Err(error)
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
