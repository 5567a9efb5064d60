//! Random operations on random sockets: everything begun ends exactly once, and bytes keep order.

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use bytes::Bytes;
use common::*;
use corelane_ring::{Completion, ReceivedBuffer, Ring};

const STEPS: usize = 30_000;
const SOCKETS: usize = 24;

struct Socket {
    ours: Option<OwnedFd>,
    peer: Option<TcpStream>,
    /// The present, not cancelled receive.
    receiving: Option<u64>,
    sending: bool,
    /// Next byte the peer writes, and next that must come in: they count up.
    written: u8,
    seen: u8,
}

fn socket() -> Socket {
    let (ours, peer) = pair();
    peer.set_nonblocking(true).expect("nonblocking");
    let (ours, peer) = (Some(OwnedFd::from(ours)), Some(peer));
    Socket { ours, peer, receiving: None, sending: false, written: 0, seen: 0 }
}

struct Churn {
    random: Random,
    ring: Ring,
    sockets: Vec<Socket>,
    /// Whose end is still to come, and the socket of each.
    receives: HashMap<u64, usize>,
    sends: HashMap<u64, usize>,
    closes: usize,
    held: Vec<ReceivedBuffer>,
    /// The socket of every receive there ever was.
    origins: HashMap<u64, usize>,
    token: u64,
}

#[test]
fn everything_begun_ends_once() {
    let mut churn = Churn {
        random: Random::new(),
        ring: Ring::new(&config(4, 128)).expect("a ring"),
        sockets: (0..SOCKETS).map(|_| socket()).collect(),
        receives: HashMap::new(),
        sends: HashMap::new(),
        closes: 0,
        held: Vec::new(),
        origins: HashMap::new(),
        token: 0,
    };
    for _ in 0..STEPS {
        churn.step();
    }
    churn.end();
}

impl Churn {
    fn step(&mut self) {
        let at = self.random.below(SOCKETS);
        let fd = self.sockets[at].ours.as_ref().expect("open").as_raw_fd();
        match self.random.below(100) {
            0..25 => self.write(at),
            25..45 => self.receive(at, fd),
            45..55 => self.pause(at, fd),
            55..70 => self.send(at, fd),
            70..73 => {
                self.sockets[at].receiving = None;
                self.ring.cancel_socket(fd);
            }
            73..74 => self.replace(at),
            74..75 => drop(self.sockets[at].peer.take()),
            75..85 => self.read_some(at),
            85..95 => {
                self.ring.submit().expect("submit");
                for _ in 0..self.random.below(8) {
                    self.take_one();
                }
            }
            _ => self.held.truncate(self.random.below(4)),
        }
    }

    fn write(&mut self, at: usize) {
        let socket = &mut self.sockets[at];
        let Some(mut peer) = socket.peer.as_ref() else { return };
        let len = 1 + self.random.below(400);
        let data: Vec<u8> = (0..len).map(|i| socket.written.wrapping_add(i as u8)).collect();
        if let Ok(len) = peer.write(&data) {
            socket.written = socket.written.wrapping_add(len as u8);
        }
    }

    fn read_some(&mut self, at: usize) {
        if let Some(mut peer) = self.sockets[at].peer.as_ref() {
            let _ = peer.read(&mut [0; 4096]);
        }
    }

    fn receive(&mut self, at: usize, fd: RawFd) {
        self.token += 1;
        if let Some(old) = self.sockets[at].receiving.replace(self.token) {
            self.receives.remove(&old);
        }
        self.receives.insert(self.token, at);
        self.origins.insert(self.token, at);
        self.ring.receive(self.token, fd);
    }

    fn pause(&mut self, at: usize, fd: RawFd) {
        if let Some(token) = self.sockets[at].receiving.take() {
            self.receives.remove(&token);
            self.ring.pause_receive(fd);
        }
    }

    fn send(&mut self, at: usize, fd: RawFd) {
        if std::mem::replace(&mut self.sockets[at].sending, true) {
            return;
        }
        self.token += 1;
        self.sends.insert(self.token, at);
        let parts = 1 + self.random.below(9);
        let data = (0..parts).map(|_| Bytes::from(vec![1; self.random.below(200_000)])).collect();
        self.ring.send(self.token, fd, data);
    }

    /// Closes a socket, whatever is in flight on it, and puts a new one in its place. Reports of
    /// the old one are known by their tokens.
    fn replace(&mut self, at: usize) {
        let old = std::mem::replace(&mut self.sockets[at], socket());
        let places = [&mut self.receives, &mut self.sends, &mut self.origins];
        for place in places.into_iter().flat_map(HashMap::values_mut).filter(|place| **place == at)
        {
            *place = SOCKETS;
        }
        self.closes += 1;
        self.ring.close(0, old.ours.expect("open"));
    }

    fn take_one(&mut self) {
        match self.ring.next() {
            None => {}
            Some(Completion::Received { token, data }) => self.check(token, data),
            Some(Completion::ReceiveEnded { token, .. }) => {
                let at = self.receives.remove(&token).expect("a receive that has not ended");
                if let Some(socket) = self.sockets.get_mut(at)
                    && socket.receiving == Some(token)
                {
                    socket.receiving = None;
                }
            }
            Some(Completion::Sent { token, .. }) => {
                let at = self.sends.remove(&token).expect("a send that has not ended");
                if let Some(socket) = self.sockets.get_mut(at) {
                    socket.sending = false;
                }
            }
            Some(Completion::Done { token: 0, result }) => {
                result.expect("close");
                self.closes -= 1;
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    /// No byte is lost or moved, through any number of pauses and cancellations.
    fn check(&mut self, token: u64, data: ReceivedBuffer) {
        let at = self.origins[&token];
        if let Some(socket) = self.sockets.get_mut(at) {
            for byte in data.iter() {
                assert_eq!(*byte, socket.seen, "bytes lost or out of order");
                socket.seen = socket.seen.wrapping_add(1);
            }
        }
        self.held.push(data);
        self.held.truncate(3);
    }

    fn end(&mut self) {
        self.held.clear();
        for at in 0..SOCKETS {
            self.replace(at);
        }
        let mut idle = 0;
        while self.ring.in_flight() > 0 {
            let before = self.ring.in_flight();
            self.ring.wait(Some(Duration::from_millis(20))).expect("wait");
            for _ in 0..100 {
                self.take_one();
            }
            self.held.clear();
            idle = if self.ring.in_flight() == before { idle + 1 } else { 0 };
            assert!(idle < 500, "{before} operations never end");
        }
        assert_eq!((self.receives.len(), self.sends.len(), self.closes), (0, 0, 0));
        // All four buffers are back: as many pieces can be held at once.
        let (mut near, far) = pair();
        near.write_all(&[9; 512]).expect("write");
        self.ring.receive(1, far.as_raw_fd());
        let pieces: Vec<_> = (0..4).map(|_| next(&mut self.ring)).collect();
        for piece in &pieces {
            assert!(matches!(piece, Completion::Received { data, .. } if data.len() == 128));
        }
    }
}
