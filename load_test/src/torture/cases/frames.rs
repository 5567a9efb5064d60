//! Frames and sessions that were good before they were spoiled.

use std::time::{Duration, Instant};

use super::{Arena, Attack};
use crate::torture::seeds::{self, Edges};
use crate::torture::wire::Wire;

const TICK: Duration = Duration::from_millis(10);

/// Spoiled frames at a steady rate.
pub struct Flood {
    wires: Vec<Option<Wire>>,
    seeds: Vec<Vec<u8>>,
    per_tick: u64,
}

impl Flood {
    pub fn new(arena: &Arena, connections: usize, frames_per_second: u64) -> Self {
        let per_tick = frames_per_second * TICK.as_millis() as u64 / 1_000;
        let wires = (0..connections).map(|_| None).collect();
        Self { wires, seeds: seeds::requests(arena.handle), per_tick }
    }
}

impl Attack for Flood {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(TICK);
        for _ in 0..self.per_tick {
            let at = arena.random.between(0, self.wires.len() as u64) as usize;
            let wire = &mut self.wires[at];
            arena.keep_alive(wire);
            let which = arena.random.between(0, self.seeds.len() as u64) as usize;
            let mut frame = self.seeds[which].clone();
            seeds::spoil(&mut frame, &mut arena.random);
            if let Some(wire) = wire
                && wire.send(&frame)
            {
                arena.sent(1);
            }
        }
        for wire in self.wires.iter_mut().flatten() {
            arena.read(wire);
        }
    }
}

/// Edge numbers everywhere.
pub struct Integers {
    edges: Edges,
    wire: Option<Wire>,
}

impl Integers {
    pub fn new(arena: &Arena) -> Self {
        Self { edges: Edges::new(seeds::requests(arena.handle)), wire: None }
    }
}

impl Attack for Integers {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(TICK);
        for _ in 0..50 {
            arena.keep_alive(&mut self.wire);
            let Some(wire) = &mut self.wire else { return };
            if !wire.send(&self.edges.next()) {
                break;
            }
            arena.sent(1);
        }
        if let Some(wire) = &mut self.wire {
            arena.read(wire);
        }
    }
}

/// Sessions under way at once.
const SESSIONS: usize = 32;
const SESSION_TIME_MAX: Duration = Duration::from_millis(300);

/// A good session's bytes, changed as a whole: framing is lost as often as not.
#[derive(Default)]
pub struct Sessions {
    under_way: Vec<(Wire, Instant)>,
}

impl Attack for Sessions {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(TICK);
        while self.under_way.len() < SESSIONS {
            let Some(mut wire) = arena.connect_silent() else { break };
            let bytes = spoiled_session(arena);
            wire.send(&bytes);
            arena.sent(1);
            if arena.random.between(0, 2) == 0 {
                wire.stop_sending();
            }
            self.under_way.push((wire, Instant::now()));
        }
        for (mut wire, since) in std::mem::take(&mut self.under_way) {
            arena.read(&mut wire);
            match since.elapsed() > SESSION_TIME_MAX || wire.ended() {
                true if arena.random.between(0, 2) == 0 => wire.reset(),
                true => drop(wire),
                false => self.under_way.push((wire, since)),
            }
        }
    }
}

fn spoiled_session(arena: &mut Arena) -> Vec<u8> {
    let random = &mut arena.random;
    let seeds = seeds::requests(arena.handle);
    let mut bytes = crate::torture::wire::hello();
    for _ in 0..random.between(1, 20) {
        bytes.extend_from_slice(&seeds[random.between(0, seeds.len() as u64) as usize]);
    }
    for _ in 0..random.between(1, 5) {
        let length = bytes.len() as u64;
        let at = random.between(0, length) as usize;
        let upto = random.between(at as u64, length + 1) as usize;
        match random.between(0, 5) {
            0 => bytes.truncate(at.max(1)),
            1 => drop(bytes.drain(at..upto.min(bytes.len() - 1).max(at))),
            2 => bytes.extend_from_within(at..upto),
            3 => bytes[at..upto].reverse(),
            _ => bytes[at] ^= 1 << random.between(0, 8),
        }
    }
    bytes
}
