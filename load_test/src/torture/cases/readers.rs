//! Those who subscribe, fetch and give credit, but not to read.

use std::time::Duration;

use model::{Request, StartPosition, TopicName};

use super::{Arena, Attack};
use crate::torture::seeds;
use crate::torture::wire::Wire;

const TICK: Duration = Duration::from_millis(20);

/// Credit without measure, and none of what it buys is read.
pub struct Credit {
    wires: Vec<Option<Wire>>,
}

impl Credit {
    pub fn new(connections: usize) -> Self {
        Self { wires: (0..connections).map(|_| None).collect() }
    }
}

impl Attack for Credit {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(TICK);
        let partition = arena.handle;
        for (at, wire) in self.wires.iter_mut().enumerate() {
            let fresh = wire.is_none();
            arena.keep_alive(wire);
            let Some(wire) = wire else { continue };
            if fresh {
                for subscription in 0..4 {
                    let credit_bytes = [0, u64::MAX, 1, 1 << 63][subscription as usize];
                    let position = StartPosition::First;
                    let request =
                        Request::Subscribe { partition, subscription, position, credit_bytes };
                    wire.ask(&request);
                }
            }
            for bytes in [u64::MAX, 0, 1 << 63, i64::MAX as u64] {
                wire.ask(&Request::Credit { subscription: (at % 6) as u32, bytes });
            }
            arena.sent(4);
        }
        // Something to deliver.
        if let Some(Some(wire)) = self.wires.first_mut() {
            let batch = seeds::batch(&[&[b'x'; 20_000]]);
            wire.send(&seeds::produce(partition, model::AckLevel::None, &batch));
        }
    }
}

/// As many subscriptions as a connection may have, and more.
#[derive(Default)]
pub struct Subscriptions {
    wires: [Option<Wire>; 2],
    next: [u32; 2],
}

const SUBSCRIPTIONS: u32 = 110_000;

impl Attack for Subscriptions {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(TICK);
        let partition = arena.handle;
        for (wire, next) in self.wires.iter_mut().zip(&mut self.next) {
            if wire.as_ref().is_none_or(Wire::ended) {
                *next = 0;
            }
            arena.keep_alive(wire);
            let Some(wire) = wire else { continue };
            for _ in 0..400 {
                // First all are begun, the last of them too many; then they are ended again.
                let (turn, subscription) = (*next / SUBSCRIPTIONS, *next % SUBSCRIPTIONS);
                let position = match subscription % 11 {
                    // Refused.
                    0 => StartPosition::Offset(u64::MAX),
                    _ => StartPosition::Next,
                };
                let request = match turn % 2 {
                    0 => Request::Subscribe { partition, subscription, position, credit_bytes: 1 },
                    _ => Request::Unsubscribe { subscription },
                };
                if !wire.ask(&request) {
                    break;
                }
                *next = next.wrapping_add(1);
                arena.sent(1);
            }
            arena.read(wire);
        }
    }
}

/// Long polls for what will never be there.
pub struct Waiting {
    wires: Vec<Option<Wire>>,
}

impl Waiting {
    pub fn new(connections: usize) -> Self {
        Self { wires: (0..connections).map(|_| None).collect() }
    }
}

impl Attack for Waiting {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(TICK);
        let partition = arena.handle;
        for wire in &mut self.wires {
            arena.keep_alive(wire);
            let Some(wire) = wire else { continue };
            for _ in 0..150 {
                let wait = Request::Fetch {
                    partition,
                    offset: 0,
                    min_bytes: u32::MAX,
                    max_bytes: u32::MAX,
                    max_wait_ms: u32::MAX,
                };
                if !wire.ask(&wait) {
                    break;
                }
                arena.sent(1);
            }
            arena.read(wire);
        }
        if let Some(Some(wire)) = self.wires.first_mut() {
            let batch = seeds::batch(&[&[b'x'; 100]]);
            wire.send(&seeds::produce(partition, model::AckLevel::None, &batch));
        }
    }
}

/// Everything is asked for, nothing is read.
pub struct Unread {
    wires: Vec<Option<Wire>>,
    at: usize,
}

impl Unread {
    pub fn new(connections: usize) -> Self {
        Self { wires: (0..connections).map(|_| None).collect(), at: 0 }
    }
}

impl Attack for Unread {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(TICK);
        let partition = arena.handle;
        let Ok(hostile) = TopicName::parse("hostile") else { return };
        let fetch = Request::Fetch {
            partition,
            offset: 0,
            min_bytes: 1,
            max_bytes: u32::MAX,
            max_wait_ms: 0,
        };
        for _ in 0..10 {
            self.at = (self.at + 1) % self.wires.len();
            let wire = &mut self.wires[self.at];
            arena.keep_alive(wire);
            let Some(wire) = wire else { continue };
            for _ in 0..50 {
                for request in [
                    Request::Ping,
                    Request::Metadata { topics: Vec::new(), after: None, limit: 1_000 },
                    Request::Metadata { topics: vec![hostile.clone()], after: None, limit: 1 },
                    fetch.clone(),
                    Request::Status,
                ] {
                    if wire.ask(&request) {
                        arena.sent(1);
                    }
                }
            }
        }
    }
}
