//! One producer of the client: sends what is due, as far as its window allows.

use std::rc::Rc;
use std::time::Duration;

use client::Message;
use fastrand::Rng;
use tokio::task::JoinHandle;

use super::Run;
use super::lane::{Account, Lane};
use crate::error::BenchError;
use crate::options::Options;
use crate::payload::{self, Stamp};
use crate::run::dice;
use crate::schedule::Schedule;
use crate::workload::{Table, partition_of};

/// It looks at the clock without sleeping when the next message is due sooner: a timer of tokio's
/// is a millisecond or two late.
const SPIN: Duration = Duration::from_millis(2);
/// Messages sent between two looks at the clock, unless it waits; to the lean generator all that
/// goes with one send was meant to be sent at one time.
const CLOCK_EVERY: u32 = 16;
/// Longest sleep, so that the end of the run is seen.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// What a producer came to.
pub struct Sent {
    pub accounts: Vec<Account>,
    /// Messages that were due at the end and had not been sent.
    pub overdue: u64,
}

/// A payload of one size that is stamped anew for each message.
struct Template {
    bytes: Vec<u8>,
    filler_crc: u32,
}

pub struct Producer {
    number: u32,
    producer: client::Producer,
    lanes: Vec<Rc<Lane>>,
    /// By size class.
    templates: Vec<Template>,
    sizes: Table,
    keys: Option<Table>,
    rng: Rng,
    /// The next lane in turn.
    turn: usize,
    in_flight: usize,
    /// Since when there was room for another message.
    free_ns: u64,
}

impl Producer {
    pub fn new(
        number: u32,
        options: &Options,
        producer: client::Producer,
        lanes: Vec<Rc<Lane>>,
        rng: Rng,
    ) -> Self {
        let template = |(size, _): &(usize, f64)| {
            let mut bytes = vec![0; *size];
            payload::fill(&mut bytes, u64::from(number) + 1);
            let filler_crc = payload::filler_crc(&bytes);
            Template { bytes, filler_crc }
        };
        Self {
            number,
            producer,
            lanes,
            templates: options.sizes.classes().iter().map(template).collect(),
            sizes: dice(options, 0).sizes,
            keys: options.keys.map(Table::zipf),
            rng,
            turn: 0,
            in_flight: options.in_flight,
            free_ns: 0,
        }
    }

    /// Sends until the run is over, then waits for what is under way.
    pub async fn run(mut self, mut schedule: Schedule, run: Rc<Run>) -> Result<Sent, BenchError> {
        let lanes = self.lanes.iter().map(|lane| Rc::clone(lane).answers());
        let mut answers = Answers(lanes.map(tokio::task::spawn_local).collect());
        let window = Rc::clone(self.lanes[0].window());
        let (mut now_ns, mut sent) = (run.now_ns(), 0_u32);
        while !run.over.get() {
            if sent.is_multiple_of(CLOCK_EVERY) {
                now_ns = run.now_ns();
            }
            if window.has_failed() {
                answers.check().await?;
            }
            if window.under_way() >= self.in_flight {
                window.wait().await;
                now_ns = run.now_ns();
                self.free_ns = now_ns;
            } else if !schedule.is_due(now_ns) {
                wait_until(schedule.next_ns().unwrap_or(now_ns), now_ns).await;
                now_ns = run.now_ns();
            } else {
                sent = sent.wrapping_add(1);
                let has_time = schedule.next_ns().is_some();
                let intended_ns = schedule.take(now_ns);
                if has_time && run.course.borrow().is_measuring() {
                    let lag_ns = now_ns.saturating_sub(intended_ns.max(self.free_ns));
                    run.course.borrow_mut().lag.record(lag_ns, 1);
                }
                self.send(intended_ns).await?;
            }
        }
        let overdue = schedule.overdue(run.now_ns());
        self.lanes.iter().for_each(|lane| lane.close());
        Ok(Sent { accounts: answers.all().await?, overdue })
    }

    async fn send(&mut self, intended_ns: u64) -> Result<(), BenchError> {
        let (at, key) = self.next_lane();
        let lane = &self.lanes[at];
        let sequence = lane.sequence.replace(lane.sequence.get() + 1);
        let stamp = Stamp { producer: self.number, sequence, intended_ns };
        let template = &mut self.templates[self.sizes.pick(&mut self.rng)];
        payload::seal(&mut template.bytes, &stamp, template.filler_crc);
        let mut message = Message::new(&lane.topic).partition(lane.index).value(&template.bytes);
        message.key = key.as_ref().map(<[u8; 8]>::as_slice);
        let sent = self.producer.send(message).await;
        let delivery = sent.map_err(BenchError::client("publish"))?;
        lane.add(delivery, intended_ns, template.bytes.len());
        Ok(())
    }

    /// The place of the next message's lane, and its key.
    fn next_lane(&mut self) -> (usize, Option<[u8; 8]>) {
        if let Some(keys) = &self.keys {
            let key = keys.pick(&mut self.rng) as u64;
            let (count, first) = (self.lanes.len(), self.lanes[0].partition());
            let at = (partition_of(key, count) + count - first) % count;
            return (at, Some(key.to_be_bytes()));
        }
        let at = self.turn;
        self.turn = if at + 1 == self.lanes.len() { 0 } else { at + 1 };
        (at, None)
    }
}

/// The tasks that take the answers of the lanes. Dropping it ends them.
struct Answers(Vec<JoinHandle<Result<Account, BenchError>>>);

impl Answers {
    /// The error of a lane that has failed.
    async fn check(&mut self) -> Result<(), BenchError> {
        match self.0.iter().position(JoinHandle::is_finished) {
            Some(at) => ended((&mut self.0[at]).await).map(drop),
            None => Ok(()),
        }
    }

    async fn all(mut self) -> Result<Vec<Account>, BenchError> {
        let mut accounts = Vec::with_capacity(self.0.len());
        for task in &mut self.0 {
            accounts.push(ended(task.await)?);
        }
        Ok(accounts)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

fn ended(
    result: Result<Result<Account, BenchError>, tokio::task::JoinError>,
) -> Result<Account, BenchError> {
    result.map_err(|error| BenchError::Options(error.to_string()))?
}

/// Lets others run until `due_ns`, or a little longer.
async fn wait_until(due_ns: u64, now_ns: u64) {
    let left = Duration::from_nanos(due_ns.saturating_sub(now_ns));
    match left.checked_sub(SPIN) {
        Some(sleep) => tokio::time::sleep(sleep.min(SLEEP_MAX)).await,
        None => {
            // Others of this CPU too: the kernel's threads that end a disk's writes.
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
    }
}
