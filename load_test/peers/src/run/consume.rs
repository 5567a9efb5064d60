//! One connection's reading: every payload is checked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bench::ledger::{Ledger, Verdict};
use bench::payload;

use super::RunError;
use super::clock::Clock;
use super::produce::Tally;
use crate::driver::Consumer;

/// Nothing came for so long: what is missing is lost.
pub const SILENCE: Duration = Duration::from_secs(5);

/// What a reader is told of the producer of its topic.
#[derive(Debug)]
pub struct Expected {
    /// The number of the one producer of the topic.
    pub producer: u32,
    /// How many messages it has sent, once that is known.
    pub messages: Cell<Option<u64>>,
}

/// Reads a topic from its start.
pub struct Reader {
    consumer: Box<dyn Consumer>,
    ledger: Ledger,
    expected: Rc<Expected>,
    clock: Clock,
    /// Messages that came, the same twice counted twice.
    seen: u64,
    /// One past the last in order that came.
    reached: u64,
}

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All that is expected came, or nothing more for [`SILENCE`]: what is missing is lost.
    Read,
    /// The time was over.
    Late,
}

/// What is to be recorded of what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The rate.
    Rate,
    /// The rate, and the latency from the intended moment of sending.
    Latency,
    Nothing,
}

impl Reader {
    pub fn new(consumer: Box<dyn Consumer>, expected: Rc<Expected>, clock: Clock) -> Self {
        Self { consumer, ledger: Ledger::new(1, true), expected, clock, seen: 0, reached: 0 }
    }

    /// Reads all that is expected, until `until_ns` at most.
    pub async fn read(
        &mut self,
        wanted: Wanted,
        until_ns: u64,
        tally: &Rc<RefCell<Tally>>,
    ) -> Result<Ended, RunError> {
        let silence_ns = SILENCE.as_nanos() as u64;
        let mut heard_ns = self.clock.now_ns();
        loop {
            let now_ns = self.clock.now_ns();
            if let Some(messages) = self.expected.messages.get() {
                let all = self.reached >= messages && self.seen >= messages;
                if all || now_ns >= heard_ns + silence_ns {
                    return Ok(Ended::Read);
                }
            }
            if now_ns >= until_ns {
                return Ok(Ended::Late);
            }
            if self.receive(wanted, tally).await? > 0 {
                heard_ns = self.clock.now_ns();
            }
        }
    }

    async fn receive(
        &mut self,
        wanted: Wanted,
        tally: &Rc<RefCell<Tally>>,
    ) -> Result<u64, RunError> {
        let Self { consumer, ledger, clock, expected, reached, .. } = self;
        let mut arrival = Arrival { now_ns: 0, messages: 0, bytes: 0 };
        let mut each = |bytes: &[u8]| {
            if arrival.messages == 0 {
                arrival.now_ns = clock.now_ns();
            }
            arrival.messages += 1;
            arrival.bytes += bytes.len() as u64;
            match payload::open(bytes) {
                Some(stamp) if stamp.producer == expected.producer => {
                    ledger.seen(0, stamp.sequence);
                    *reached = (*reached).max(stamp.sequence + 1);
                    if wanted == Wanted::Latency {
                        let recorder = &mut tally.borrow_mut().recorder;
                        recorder.latency(stamp.intended_ns, arrival.now_ns, 1);
                    }
                }
                _ => ledger.altered(),
            }
        };
        consumer.receive(&mut each).await?;
        self.seen += arrival.messages;
        if wanted != Wanted::Nothing {
            let recorder = &mut tally.borrow_mut().recorder;
            recorder.count(arrival.now_ns, arrival.messages, arrival.bytes);
        }
        Ok(arrival.messages)
    }

    /// The verdict on what came: of all that was sent, or, out of time, of what came.
    pub fn close(self, ended: Ended) -> Verdict {
        let messages = match ended {
            Ended::Read => self.expected.messages.get().unwrap_or(0),
            Ended::Late => 0,
        };
        self.ledger.close(|_| messages)
    }
}

/// Messages that came together.
struct Arrival {
    /// When the first was handed over.
    now_ns: u64,
    messages: u64,
    bytes: u64,
}
