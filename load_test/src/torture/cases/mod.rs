//! The attacks, one after the other: what each does, and what it may cost the server.

mod frames;
mod names;
mod readers;
mod slow;
mod topics;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::{PartitionHandle, Reply};
use protocol::kind;

use super::wire::{Frame, Wire};
use crate::random::Random;

const MIB: u64 = 1024 * 1024;
/// Error codes are below this.
const CODES: usize = 64;

/// One way of misusing a broker.
pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    /// What the server may keep for it beside its named buffers: state that was asked for and
    /// granted, such as subscriptions, at their limits.
    pub state_bytes_max: u64,
    pub make: fn(&mut Arena) -> Box<dyn Attack>,
}

/// Goes on for as long as it is called.
pub trait Attack {
    /// One portion, which takes some milliseconds at most.
    fn step(&mut self, arena: &mut Arena);
}

pub const CASES: &[Case] = &[
    Case {
        name: "frames",
        about: "10,000 spoiled frames a second over 8 connections",
        state_bytes_max: 0,
        make: |arena| Box::new(frames::Flood::new(arena, 8, 10_000)),
    },
    Case {
        name: "sessions",
        about: "whole sessions with bytes changed, cut, doubled or swapped",
        state_bytes_max: 0,
        make: |_| Box::new(frames::Sessions::default()),
    },
    Case {
        name: "integers",
        about: "edge numbers at every place of every request, 5,000 frames a second",
        state_bytes_max: 0,
        make: |arena| Box::new(frames::Integers::new(arena)),
    },
    Case {
        name: "names",
        about: "names with dots, dashes, slashes, unicode, and 65,535 bytes, in every request",
        state_bytes_max: 0,
        make: |_| Box::new(names::Names::default()),
    },
    Case {
        name: "lists",
        about: "metadata requests with a mebibyte of names, and pages of every size",
        state_bytes_max: 0,
        make: |_| Box::new(names::Lists::new()),
    },
    Case {
        name: "filters",
        about: "log filters that are long or costly to understand",
        state_bytes_max: 0,
        make: |_| Box::new(names::Filters::default()),
    },
    Case {
        name: "slowloris",
        about: "500 connections that announce huge frames and send a byte at a time",
        state_bytes_max: 0,
        make: |_| Box::new(slow::Drip::new(500)),
    },
    Case {
        name: "half-frames",
        about: "40 connections that send all but the end of an 8 MiB frame, and wait",
        state_bytes_max: 0,
        make: |arena| Box::new(slow::HalfFrames::new(arena, 40)),
    },
    Case {
        name: "no-hello",
        about: "2,000 connections that never say hello",
        state_bytes_max: 16 * MIB,
        make: |_| Box::new(slow::Silent::new(2_000)),
    },
    Case {
        name: "storm",
        about: "connections made and reset, 1,000 a second",
        state_bytes_max: 0,
        make: |_| Box::new(slow::Storm::default()),
    },
    Case {
        name: "half-closed",
        about: "requests whose sender closes its half and never reads",
        state_bytes_max: 16 * MIB,
        make: |_| Box::new(slow::HalfClosed::default()),
    },
    Case {
        name: "credit",
        about: "credit of 2^64 - 1 again and again, of 0, for nothing, and nothing read",
        state_bytes_max: 0,
        make: |_| Box::new(readers::Credit::new(50)),
    },
    Case {
        name: "subscriptions",
        about: "100,000 subscriptions on one connection, ended and begun again, and refused ones",
        state_bytes_max: 128 * MIB,
        make: |_| Box::new(readers::Subscriptions::default()),
    },
    Case {
        name: "waiting",
        about: "fetches that wait a minute for more than there will be, without end",
        state_bytes_max: 128 * MIB,
        make: |_| Box::new(readers::Waiting::new(4)),
    },
    Case {
        name: "unread",
        about: "300 connections that ask for all they can and read nothing",
        state_bytes_max: 0,
        make: |_| Box::new(readers::Unread::new(300)),
    },
    Case {
        name: "describe",
        about: "descriptions of a topic with 1,000 partitions, pipelined and not read",
        state_bytes_max: 16 * MIB,
        make: |_| Box::new(topics::Describe::new(20)),
    },
    Case {
        name: "topics",
        about: "topics created, altered and deleted without a pause, past every limit",
        state_bytes_max: 64 * MIB,
        make: |_| Box::new(topics::Churn::default()),
    },
    Case {
        name: "batches",
        about: "publishes of thousands of tiny batches, and batches that lie",
        state_bytes_max: 0,
        make: |arena| Box::new(topics::Batches::new(arena)),
    },
];

/// What happened to the attackers, over all of them.
#[derive(Debug)]
pub struct Tally {
    pub connections: AtomicU64,
    pub connections_refused: AtomicU64,
    pub connections_ended: AtomicU64,
    pub frames: AtomicU64,
    pub replies: AtomicU64,
    errors: [AtomicU64; CODES],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            connections: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            connections_ended: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            replies: AtomicU64::new(0),
            errors: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Tally {
    /// Error replies by their code's name.
    pub fn errors(&self) -> Vec<(&'static str, u64)> {
        let count = |code: &model::ErrorCode| self.errors[*code as usize].load(Ordering::Relaxed);
        let all = model::ErrorCode::ALL.iter().filter(|code| (**code as usize) < CODES);
        all.map(|code| (code.as_str(), count(code))).filter(|(_, count)| *count > 0).collect()
    }
}

/// Where an attack takes place.
pub struct Arena {
    pub address: SocketAddr,
    /// A partition of the attackers' own topic.
    pub handle: PartitionHandle,
    pub random: Random,
    pub tally: Arc<Tally>,
    pub stop: Arc<AtomicBool>,
    pub next_tick: Instant,
    /// When the window began.
    pub began: Instant,
    /// What all attackers of the window together may send; `None`: as much as they can.
    pub frames_per_second: Option<NonZeroU64>,
}

impl Arena {
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits for the next tick of `every`; after a delay it goes on from now.
    pub fn tick(&mut self, every: Duration) {
        let now = Instant::now();
        self.next_tick = (self.next_tick + every).max(now);
        std::thread::sleep(self.next_tick - now);
    }

    /// A connection that has said hello; `None` when none can be had.
    pub fn connect(&self) -> Option<Wire> {
        self.count(Wire::greeted(self.address))
    }

    /// A connection that has said nothing.
    pub fn connect_silent(&self) -> Option<Wire> {
        self.count(Wire::silent(self.address))
    }

    fn count(&self, made: std::io::Result<Wire>) -> Option<Wire> {
        let counter = match made {
            Ok(_) => &self.tally.connections,
            Err(_) => &self.tally.connections_refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        made.ok()
    }

    /// Counts what was sent, and waits until the attackers' rate allows the next.
    pub fn sent(&self, frames: u64) {
        let total = self.tally.frames.fetch_add(frames, Ordering::Relaxed) + frames;
        let Some(rate) = self.frames_per_second else { return };
        let due = self.began + Duration::from_secs_f64(total as f64 / rate.get() as f64);
        while let Some(wait) = due.checked_duration_since(Instant::now())
            && !self.stopped()
        {
            std::thread::sleep(wait.min(Duration::from_millis(20)));
        }
    }

    /// Reads what has come and counts it.
    pub fn read(&self, wire: &mut Wire) -> Vec<Frame> {
        let frames = wire.frames();
        for frame in &frames {
            self.tally.replies.fetch_add(1, Ordering::Relaxed);
            if frame.header.kind == kind::ERROR
                && let Ok(Reply::Rejected(rejection)) =
                    protocol::decode_reply(&frame.header, &frame.body)
                && let Some(count) = self.tally.errors.get(rejection.code as usize)
            {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        frames
    }

    /// Puts a new connection in the place of one that has ended.
    pub fn keep_alive(&self, wire: &mut Option<Wire>) {
        if wire.as_ref().is_none_or(Wire::ended) {
            if wire.is_some() {
                self.tally.connections_ended.fetch_add(1, Ordering::Relaxed);
            }
            *wire = self.connect();
        }
    }
}
