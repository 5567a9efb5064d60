//! Topics and publishes at their limits and past them.

use std::time::Duration;

use model::{AckLevel, Request, TopicConfig, TopicName};
use protocol::{FRAME_HEADER_BYTES, PRODUCE_HEAD_BYTES};

use super::{Arena, Attack};
use crate::torture::seeds;
use crate::torture::wire::Wire;

fn create(name: TopicName, partitions: u32) -> Request {
    Request::CreateTopic { name, partitions, config: TopicConfig::default() }
}

/// Long answers to short questions.
pub struct Describe {
    wires: Vec<Option<Wire>>,
    made: bool,
}

impl Describe {
    pub fn new(connections: usize) -> Self {
        Self { wires: (0..connections).map(|_| None).collect(), made: false }
    }
}

impl Attack for Describe {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(Duration::from_millis(20));
        let Ok(name) = TopicName::parse("hostile-wide") else { return };
        for (at, wire) in self.wires.iter_mut().enumerate() {
            arena.keep_alive(wire);
            let Some(wire) = wire else { continue };
            if !self.made {
                self.made = true;
                wire.ask(&create(name.clone(), 1_000));
            }
            for _ in 0..20 {
                if wire.ask(&Request::DescribeTopic { name: name.clone() }) {
                    arena.sent(1);
                }
            }
            // Some read, so that there is always more to answer.
            if at % 4 == 0 {
                arena.read(wire);
            }
        }
    }
}

/// Topics by the thousand.
#[derive(Default)]
pub struct Churn {
    wire: Option<Wire>,
    next: u64,
}

impl Attack for Churn {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(Duration::from_millis(20));
        arena.keep_alive(&mut self.wire);
        let Some(wire) = &mut self.wire else { return };
        for _ in 0..4 {
            self.next += 1;
            let topic = |number: u64| TopicName::parse(&format!("hostile-churn-{}", number % 200));
            let (Ok(made), Ok(ended)) = (topic(self.next), topic(self.next + 100)) else { return };
            let partitions = match self.next % 50 {
                0 => u32::MAX,
                1 => 100_001,
                2 => 0,
                3 => 500,
                _ => (self.next % 8) as u32,
            };
            wire.ask(&create(made.clone(), partitions));
            let change = model::TopicChange { retention_ms: Some(Some(0)), ..Default::default() };
            wire.ask(&Request::AlterTopic { name: made, change });
            wire.ask(&Request::DeleteTopic { name: ended });
            arena.sent(3);
        }
        arena.read(wire);
    }
}

/// Publishes that are much work for their size.
pub struct Batches {
    wire: Option<Wire>,
    frames: [Vec<u8>; 4],
    next: usize,
}

impl Batches {
    pub fn new(arena: &Arena) -> Self {
        // A count that lies, and a batch that is another's.
        let mut lie = tiny_batches(arena, 100);
        let at = FRAME_HEADER_BYTES + PRODUCE_HEAD_BYTES - 4;
        lie[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let noise = seeds::produce(arena.handle, AckLevel::Memory, &vec![0xFF; 1 << 20]);
        let frames = [tiny_batches(arena, 200_000), tiny_batches(arena, 1_024), lie, noise];
        Self { wire: None, frames, next: 0 }
    }
}

/// Batches of one empty record in one frame.
fn tiny_batches(arena: &Arena, count: u32) -> Vec<u8> {
    let one = seeds::batch(&[b""]);
    let mut frame = seeds::produce(arena.handle, AckLevel::Memory, &one.repeat(count as usize));
    let at = FRAME_HEADER_BYTES + PRODUCE_HEAD_BYTES - 4;
    frame[at..at + 4].copy_from_slice(&count.to_le_bytes());
    frame
}

impl Attack for Batches {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(Duration::from_millis(250));
        arena.keep_alive(&mut self.wire);
        let Some(wire) = &mut self.wire else { return };
        wire.send(&self.frames[self.next % self.frames.len()]);
        self.next += 1;
        arena.sent(1);
        arena.read(wire);
    }
}
