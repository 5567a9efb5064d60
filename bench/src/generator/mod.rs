//! The load generator: one thread, one ring, many connections.
//!
//! It blocks in one place, builds frames by patching ones made before, and allocates nothing per
//! message. It speaks the protocol and knows nothing of how the other side works.

mod agenda;
mod connection;
mod consumer;
mod course;
mod inbound;
mod mill;
mod producer;
mod tally;
mod window;

pub use connection::{Connection, Role};
pub use consumer::{AtEnd, Consumer, Gap, Published, Share};
pub use course::Course;
pub use mill::{Form, Mill, Mills};
pub use producer::{Dice, Producer};
pub use tally::{Interval, Measured, Tally};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use ring::{Completion, Ring, RingConfig};

use crate::cpu::Meter;
use crate::error::BenchError;
use crate::schedule::{OpenLoop, Schedule};
use agenda::Agenda;

/// Nothing came back for this long: the run is given up.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// What readers still lack when nothing came for this long is lost.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// The generator looks at its clock at least this often.
const WAIT_MAX_NS: u64 = 100_000_000;
/// It does not sleep when the next request is due sooner: waking up takes about as long.
const SPIN_NS: u64 = 100_000;

/// One run of a generator.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Not measured.
    pub warmup: Duration,
    /// Measured; `None`: until producers are spent and consumers done.
    pub duration: Option<Duration>,
    /// When requests are due over all producers; `None`: closed loop.
    pub open: Option<OpenLoop>,
    /// Requests of each producer; `None`: no end.
    pub requests_each: Option<u64>,
    pub interval: Interval,
    /// Name of the phase in the lines of progress; `None`: silent.
    pub progress: Option<&'static str>,
    /// Payload bytes of one message, for the lines of progress.
    pub payload_bytes: f64,
    pub meter: Meter,
    /// Rung when measuring begins and ends.
    pub bell: Option<Sender<()>>,
    /// The first signal ends the measured part and no more; what was measured until then counts.
    pub may_end_early: bool,
}

/// The connections of one run.
#[derive(Debug)]
pub struct Generator {
    ring: DebugRing,
    connections: Vec<Connection>,
    /// Connections to be looked at after this round.
    listed: Vec<usize>,
    agenda: Agenda,
    began: Instant,
    stop: Arc<AtomicBool>,
}

/// A ring has nothing to show.
struct DebugRing(Ring);

impl std::fmt::Debug for DebugRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl Generator {
    /// `receive_bytes`: how much one receive may bring. `stop`: ends the run early when set.
    pub fn new(
        connections: Vec<Connection>,
        receive_bytes: u32,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, BenchError> {
        // About 16 MiB of receive buffers whatever their size, and no fewer than 16.
        let buffers = (16 * 1024 * 1024 / receive_bytes).clamp(16, 1024).next_power_of_two();
        let config = RingConfig {
            entries: 4096,
            receive_buffers: buffers as u16,
            receive_buffer_bytes: receive_bytes,
        };
        let ring = Ring::new(&config)?;
        let (listed, agenda) = (Vec::new(), Agenda::new(connections.len()));
        let (ring, began) = (DebugRing(ring), Instant::now());
        let mut generator = Self { ring, connections, listed, agenda, began, stop };
        for (index, connection) in generator.connections.iter_mut().enumerate() {
            connection.open(index as u64, &mut generator.ring.0)?;
        }
        Ok(generator)
    }

    /// The connections, when a run is over.
    pub fn into_connections(self) -> Vec<Connection> {
        drop(self.ring);
        self.connections
    }

    /// Runs to the end of the plan, and until all that was sent is answered.
    pub fn run(&mut self, plan: &Plan) -> Result<Measured, BenchError> {
        // What is read once is measured from its first byte on.
        if plan.duration.is_some() || self.producers().next().is_some() {
            self.subscribe(plan)?;
        }
        let start_ns = self.now_ns();
        let from_ns = start_ns + plan.warmup.as_nanos() as u64;
        let to_ns = plan.duration.map_or(u64::MAX, |d| from_ns.saturating_add(d.as_nanos() as u64));
        let mut course = Course::new(plan, Tally::new(plan.interval, from_ns, to_ns), start_ns);
        self.start_producers(plan, start_ns);
        self.list_all();
        let mut now_ns = start_ns;
        loop {
            self.pass_boundaries(plan, &mut course, now_ns);
            let quiet_ns = now_ns.saturating_sub(course.alive_ns);
            if course.to.is_some() && self.is_settled(&course.tally, quiet_ns) {
                break;
            }
            self.check_alive(plan, &mut course, now_ns)?;
            let idle = self.turn(&mut course, now_ns)?;
            let began_ns = std::mem::replace(&mut now_ns, self.now_ns());
            if idle && course.is_measuring() {
                course.idle_ns += now_ns - began_ns;
            }
        }
        Ok(course.finish(plan.open.is_some()))
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Sends what is due, waits, takes what has come. Returns whether there was nothing to do but
    /// to wait without sleeping.
    fn turn(&mut self, course: &mut Course, now_ns: u64) -> Result<bool, BenchError> {
        let pumped = self.pump(course, now_ns);
        let slept = self.wait(course, now_ns)?;
        let came = self.drain(course)?;
        Ok(!pumped && !slept && !came)
    }

    /// Waits until the server has answered every subscription.
    fn subscribe(&mut self, plan: &Plan) -> Result<(), BenchError> {
        let (progress, meter, bell) = (None, Meter::None, None);
        let quiet = Plan { progress, meter, bell, may_end_early: false, ..plan.clone() };
        let now_ns = self.now_ns();
        let mut course = Course::new(&quiet, Tally::new(Interval::SendToReceipt, 0, 0), now_ns);
        self.list_all();
        while self.consumers().any(|c| c.unanswered() > 0) {
            let now_ns = self.now_ns();
            self.check_alive(&quiet, &mut course, now_ns)?;
            self.turn(&mut course, now_ns)?;
        }
        Ok(())
    }

    fn start_producers(&mut self, plan: &Plan, start_ns: u64) {
        let count = self.producers().count();
        for (at, producer) in self.producers_mut().enumerate() {
            let schedule = match &plan.open {
                Some(open) => Schedule::open(open, start_ns, at, count),
                None => Schedule::closed(),
            };
            producer.start(schedule, plan.requests_each, start_ns);
        }
    }

    /// Takes the marks at the beginning and end of the measured part, and shows progress.
    fn pass_boundaries(&mut self, plan: &Plan, course: &mut Course, now_ns: u64) {
        if now_ns >= course.next_second_ns && course.to.is_none() {
            course.second(now_ns, plan.payload_bytes);
        }
        if course.from.is_none() && now_ns >= course.tally.recorder.from_ns() {
            course.begin(now_ns);
        }
        let over = |course: &Course| now_ns >= course.tally.recorder.to_ns();
        // A plan with a time has no other end: its connections may be many.
        if course.is_measuring() && (over(course) || (plan.duration.is_none() && self.is_spent())) {
            course.end(now_ns);
            course.overdue = self.producers().map(|p| p.overdue(now_ns)).sum();
            self.producers_mut().for_each(Producer::stop);
        }
    }

    /// Whether the plan has an end of its own and has come to it.
    fn is_spent(&self) -> bool {
        let producers_spent = self.producers().all(|p| p.is_spent() && p.under_way() == 0);
        let consumers_done = self.consumers().all(Consumer::is_done);
        producers_spent && consumers_done
    }

    /// Whether everything sent was answered and, with readers beside, has reached them. What has
    /// not come when nothing has for a while is taken for lost.
    fn is_settled(&self, tally: &Tally, quiet_ns: u64) -> bool {
        let answered = self.producers().all(|p| p.under_way() == 0);
        let readers_follow = tally.interval == Interval::SendToReceipt;
        let all_read = !readers_follow || tally.received >= tally.acknowledged;
        answered && (all_read || quiet_ns > LOST_AFTER.as_nanos() as u64)
    }

    fn check_alive(&self, plan: &Plan, course: &mut Course, now_ns: u64) -> Result<(), BenchError> {
        if self.stop.load(Ordering::Relaxed) {
            if !(plan.may_end_early && course.is_measuring()) {
                return Err(BenchError::Interrupted);
            }
            // The next signal ends everything.
            self.stop.store(false, Ordering::Relaxed);
            course.partial = true;
            course.tally.recorder.end_at(now_ns);
        }
        if now_ns.saturating_sub(course.alive_ns) > STUCK_AFTER.as_nanos() as u64
            && let Some(waiting) = self.waiting()
        {
            return Err(BenchError::Stuck { seconds: STUCK_AFTER.as_secs(), waiting });
        }
        Ok(())
    }

    /// What the other side owes; `None` when it is nothing.
    fn waiting(&self) -> Option<String> {
        let requests: usize = self.producers().map(Producer::under_way).sum();
        if requests > 0 {
            return Some(format!("{requests} requests under way"));
        }
        let subscriptions: usize = self.consumers().map(Consumer::unanswered).sum();
        if subscriptions > 0 {
            return Some(format!("{subscriptions} subscriptions unanswered"));
        }
        self.consumers().find_map(Consumer::waiting)
    }

    /// Sends on the connections that something has happened to, or that have requests due.
    /// Returns whether there were any.
    fn pump(&mut self, course: &mut Course, now_ns: u64) -> bool {
        while let Some(index) = self.agenda.take_due(now_ns) {
            self.list(index);
        }
        let Self { ring, connections, listed, agenda, .. } = self;
        let any = !listed.is_empty();
        let measuring = course.is_measuring();
        for index in listed.drain(..) {
            let connection = &mut connections[index];
            connection.listed = false;
            let lag = measuring.then_some(&mut course.lag);
            connection.pump(index as u64, now_ns, &mut ring.0, lag);
            if let Some(next_ns) = connection.next_ns() {
                agenda.enter(index, next_ns);
            }
        }
        any
    }

    /// Hands over what is to be sent and waits for something to happen. Returns whether it was
    /// ready to sleep.
    fn wait(&mut self, course: &Course, now_ns: u64) -> Result<bool, BenchError> {
        let mut until_ns = now_ns + WAIT_MAX_NS;
        let recorder = &course.tally.recorder;
        for boundary in [recorder.from_ns(), recorder.to_ns(), course.next_second_ns] {
            if boundary > now_ns {
                until_ns = until_ns.min(boundary);
            }
        }
        let due_ns = self.agenda.first_ns().unwrap_or(u64::MAX);
        let sleeps = due_ns > now_ns + SPIN_NS;
        let waited = if sleeps {
            let until_ns = until_ns.min(due_ns - SPIN_NS / 2);
            self.ring.0.wait(Some(Duration::from_nanos(until_ns - now_ns)))
        } else {
            // The kernel's threads that end a disk's writes may share this CPU. Without giving way
            // they would wait for the scheduler's next tick: milliseconds, counted as the server's.
            std::thread::yield_now();
            self.ring.0.submit()
        };
        waited.map(|_| sleeps).map_err(BenchError::io("waiting for the sockets"))
    }

    /// Takes what has come. Returns whether there was anything.
    fn drain(&mut self, course: &mut Course) -> Result<bool, BenchError> {
        let (mut now_ns, mut any) = (None, false);
        while let Some(completion) = self.ring.0.next() {
            any = true;
            let now_ns = *now_ns.get_or_insert_with(|| self.began.elapsed().as_nanos() as u64);
            let index = match completion {
                Completion::Received { token, data } => {
                    let index = token as usize;
                    course.alive_ns = now_ns;
                    self.connections[index].received(&data, now_ns, &mut course.tally)?;
                    index
                }
                Completion::Sent { token, result, .. } => {
                    result.map_err(BenchError::io("sending to the server"))?;
                    self.connections[token as usize].sent(now_ns);
                    token as usize
                }
                Completion::ReceiveEnded { error, .. } => {
                    return Err(BenchError::Closed(
                        error.map(|e| format!(": {e}")).unwrap_or_default(),
                    ));
                }
                _ => continue,
            };
            self.list(index);
        }
        Ok(any)
    }

    fn list(&mut self, index: usize) {
        if !std::mem::replace(&mut self.connections[index].listed, true) {
            self.listed.push(index);
        }
    }

    fn list_all(&mut self) {
        self.listed = (0..self.connections.len()).collect();
        self.connections.iter_mut().for_each(|c| c.listed = true);
    }

    fn producers(&self) -> impl Iterator<Item = &Producer> {
        self.connections.iter().filter_map(|c| match &c.role {
            Role::Producer(producer) => Some(producer),
            Role::Consumer(_) => None,
        })
    }

    fn producers_mut(&mut self) -> impl Iterator<Item = &mut Producer> {
        self.connections.iter_mut().filter_map(|c| match &mut c.role {
            Role::Producer(producer) => Some(producer),
            Role::Consumer(_) => None,
        })
    }

    fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.connections.iter().filter_map(|c| match &c.role {
            Role::Consumer(consumer) => Some(consumer),
            Role::Producer(_) => None,
        })
    }
}
