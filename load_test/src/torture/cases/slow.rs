//! Connections that come and do nothing, or next to nothing.

use std::time::{Duration, Instant};

use model::{AckLevel, Request};
use protocol::kind;

use super::{Arena, Attack};
use crate::torture::seeds;
use crate::torture::wire::Wire;

/// A header that announces a frame of so many bytes.
fn announced(bytes: u32, kind: u16) -> Vec<u8> {
    let mut header = bytes.to_le_bytes().to_vec();
    header.extend([protocol::PROTOCOL_VERSION, 0]);
    header.extend(kind.to_le_bytes());
    header.extend(5u64.to_le_bytes());
    header
}

/// Huge frames, a byte at a time.
pub struct Drip {
    wires: Vec<Option<Wire>>,
}

impl Drip {
    pub fn new(connections: usize) -> Self {
        Self { wires: (0..connections).map(|_| None).collect() }
    }
}

impl Attack for Drip {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(Duration::from_millis(100));
        for (at, wire) in self.wires.iter_mut().enumerate() {
            if arena.stopped() {
                return;
            }
            let fresh = wire.as_ref().is_none_or(Wire::ended);
            arena.keep_alive(wire);
            let Some(wire) = wire else { continue };
            let sent = match (fresh, at % 3) {
                (true, 0) => announced(model::limits::FRAME_BYTES_MAX, kind::PRODUCE),
                (true, 1) => announced(model::limits::FRAME_BYTES_MAX, kind::METADATA),
                // Not even the header is whole.
                (true, _) => vec![0x40],
                (false, _) => vec![0],
            };
            wire.send(&sent);
            arena.sent(u64::from(fresh));
            arena.read(wire);
        }
    }
}

/// Large frames whose end never comes.
pub struct HalfFrames {
    wires: Vec<Option<Wire>>,
    frame: Vec<u8>,
    sent: Vec<usize>,
}

impl HalfFrames {
    pub fn new(arena: &Arena, connections: usize) -> Self {
        let wires = (0..connections).map(|_| None).collect();
        let batch = seeds::batch(&[&vec![7; 7 << 20]]);
        let frame = seeds::produce(arena.handle, AckLevel::Memory, &batch);
        Self { wires, frame, sent: vec![0; connections] }
    }
}

impl Attack for HalfFrames {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(Duration::from_millis(10));
        let last = self.frame.len() - 1;
        for (wire, sent) in self.wires.iter_mut().zip(&mut self.sent) {
            if wire.as_ref().is_none_or(Wire::ended) {
                *sent = 0;
                arena.sent(1);
            }
            arena.keep_alive(wire);
            let Some(wire) = wire else { continue };
            let upto = (*sent + 256 * 1024).min(last);
            if wire.send(&self.frame[*sent..upto]) {
                *sent = upto;
            }
            arena.read(wire);
        }
    }
}

/// Connections that say nothing.
pub struct Silent {
    wires: Vec<Option<Wire>>,
    at: usize,
}

impl Silent {
    pub fn new(connections: usize) -> Self {
        Self { wires: (0..connections).map(|_| None).collect(), at: 0 }
    }
}

impl Attack for Silent {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(Duration::from_millis(10));
        for _ in 0..20 {
            self.at = (self.at + 1) % self.wires.len();
            let wire = &mut self.wires[self.at];
            if let Some(open) = wire {
                arena.read(open);
            }
            if wire.as_ref().is_none_or(Wire::ended) {
                *wire = arena.connect_silent();
            }
        }
    }
}

/// Made and gone.
#[derive(Default)]
pub struct Storm {
    waiting: Vec<Wire>,
}

impl Attack for Storm {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(Duration::from_millis(10));
        for i in 0..10 {
            let wire = if i % 2 == 0 { arena.connect() } else { arena.connect_silent() };
            let Some(mut wire) = wire else { continue };
            if i % 4 == 0 {
                wire.send(&seeds::requests(arena.handle)[i]);
                arena.sent(1);
            }
            match i % 3 {
                0 => wire.reset(),
                1 => drop(wire),
                _ => self.waiting.push(wire),
            }
        }
        if self.waiting.len() > 100 {
            self.waiting.drain(..).for_each(Wire::reset);
        }
    }
}

/// Nothing more is sent, and nothing is read.
#[derive(Default)]
pub struct HalfClosed {
    wires: Vec<(Wire, Instant)>,
}

const HALF_CLOSED: usize = 500;

impl Attack for HalfClosed {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(Duration::from_millis(10));
        let partition = arena.handle;
        for _ in 0..5 {
            if self.wires.len() >= HALF_CLOSED {
                break;
            }
            let Some(mut wire) = arena.connect() else { break };
            let (min_bytes, max_bytes) = (u32::MAX, u32::MAX);
            for max_wait_ms in [0, 60_000] {
                let offset = 0;
                let fetch = Request::Fetch { partition, offset, min_bytes, max_bytes, max_wait_ms };
                wire.ask(&fetch);
            }
            for frame in seeds::requests(partition) {
                wire.send(&frame);
            }
            wire.stop_sending();
            arena.sent(20);
            self.wires.push((wire, Instant::now()));
        }
        self.wires.retain(|(_, since)| since.elapsed() < Duration::from_secs(15));
    }
}
