//! An echo server on a ring, and small helpers.
#![allow(dead_code)]

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use corelane_ring::{Completion, Ring, RingConfig, SendParts};
use rustix::event::{EventfdFlags, eventfd};

/// A test that has not moved for this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn config(receive_buffers: u16, receive_buffer_bytes: u32) -> RingConfig {
    RingConfig { entries: 64, receive_buffers, receive_buffer_bytes }
}

pub fn ring() -> Ring {
    Ring::new(&config(16, 4096)).expect("a ring")
}

pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

/// Two ends of a loopback connection.
pub fn pair() -> (TcpStream, TcpStream) {
    let (listener, address) = listener();
    let near = TcpStream::connect(address).expect("connect");
    let (far, _) = listener.accept().expect("accept");
    for end in [&near, &far] {
        end.set_nodelay(true).expect("nodelay");
        end.set_read_timeout(Some(PATIENCE)).expect("timeout");
    }
    (near, far)
}

/// The next completion, however long it takes.
pub fn next(ring: &mut Ring) -> Completion {
    for _ in 0..1000 {
        if let Some(completion) = ring.next() {
            return completion;
        }
        let before = std::time::Instant::now();
        ring.wait(Some(PATIENCE)).expect("wait");
        assert!(before.elapsed() < PATIENCE, "no completion; {} in flight", ring.in_flight());
    }
    panic!("1000 wake-ups without a completion");
}

/// xorshift64*, seeded from CORELANE_SEED or the clock; the seed is printed.
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        let seed = std::env::var("CORELANE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |now| now.as_nanos() as u64)
        });
        println!("CORELANE_SEED={seed}");
        Random(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Sends everything back on every connection.
#[derive(Default)]
pub struct Echo {
    connections: HashMap<u64, Connection>,
    next_token: u64,
    /// Whether received buffers are sent from where they lie, and so held until sent.
    pub hold_buffers: bool,
}

struct Connection {
    socket: OwnedFd,
    waiting: VecDeque<Bytes>,
    sending: bool,
    ended: bool,
}

pub const ACCEPT: u64 = u64::MAX;
pub const STOP: u64 = u64::MAX - 1;
const CLOSED: u64 = u64::MAX - 2;

impl Echo {
    /// False: told to stop.
    pub fn handle(&mut self, ring: &mut Ring, completion: Completion) -> bool {
        match completion {
            Completion::Accepted { token: ACCEPT, socket } => {
                self.next_token += 1;
                ring.receive(self.next_token, socket.as_raw_fd());
                let waiting = VecDeque::new();
                let connection = Connection { socket, waiting, sending: false, ended: false };
                self.connections.insert(self.next_token, connection);
            }
            Completion::Received { token, data } => {
                let data =
                    if self.hold_buffers { data.freeze() } else { Bytes::copy_from_slice(&data) };
                let connection = self.connections.get_mut(&token).expect("a known token");
                connection.waiting.push_back(data);
                self.go_on(ring, token);
            }
            Completion::Sent { token, result, .. } => {
                let connection = self.connections.get_mut(&token).expect("a known token");
                connection.sending = false;
                if result.is_err() {
                    connection.waiting.clear();
                }
                self.go_on(ring, token);
            }
            Completion::ReceiveEnded { token, .. } => {
                self.connections.get_mut(&token).expect("a known token").ended = true;
                self.go_on(ring, token);
            }
            Completion::Done { token: CLOSED, result } => {
                result.expect("close");
            }
            Completion::Woken { token: STOP } => return false,
            other => panic!("unexpected {other:?}"),
        }
        true
    }

    fn go_on(&mut self, ring: &mut Ring, token: u64) {
        let connection = self.connections.get_mut(&token).expect("a known token");
        if connection.sending {
            return;
        }
        if !connection.waiting.is_empty() {
            let parts: SendParts = connection.waiting.drain(..).collect();
            connection.sending = true;
            ring.send(token, connection.socket.as_raw_fd(), parts);
        } else if connection.ended {
            let connection = self.connections.remove(&token).expect("a known token");
            ring.close(CLOSED, connection.socket);
        }
    }
}

/// An echo server on a thread of its own, stopped when dropped.
pub struct EchoThread {
    pub address: SocketAddr,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl EchoThread {
    pub fn start(config: RingConfig, hold_buffers: bool) -> EchoThread {
        let (listener, address) = listener();
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd"));
        let watched = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut ring = Ring::new(&config).expect("a ring");
            let mut echo = Echo { hold_buffers, ..Echo::default() };
            ring.accept(ACCEPT, listener.as_raw_fd());
            ring.watch_eventfd(STOP, watched.as_raw_fd());
            loop {
                ring.wait(None).expect("wait");
                while let Some(completion) = ring.next() {
                    if !echo.handle(&mut ring, completion) {
                        return;
                    }
                }
            }
        });
        EchoThread { address, stop, thread: Some(thread) }
    }
}

impl Drop for EchoThread {
    fn drop(&mut self) {
        write_eventfd(&self.stop);
        let ended = self.thread.take().expect("started").join();
        if !std::thread::panicking() {
            ended.expect("the echo thread");
        }
    }
}

pub fn write_eventfd(fd: &OwnedFd) {
    rustix::io::write(fd, &1u64.to_ne_bytes()).expect("write an eventfd");
}

/// Writes `data` from another thread while reading as much back, and compares.
pub fn exchange(stream: &TcpStream, data: &[u8]) -> io::Result<()> {
    let mut back = vec![0; data.len()];
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (&mut &*stream).write_all(data));
        (&mut &*stream).read_exact(&mut back)?;
        writer.join().expect("the writer")
    })?;
    assert!(back == data, "echoed bytes differ");
    Ok(())
}

/// Connects with a read timeout.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream
}
