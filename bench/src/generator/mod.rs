//! The load generator: one thread, one ring, many connections.
//!
//! It blocks in one place, builds frames by patching ones made before, and allocates nothing per
//! message. It speaks the protocol and knows nothing of how the other side works.

mod connection;
mod consumer;
mod inbound;
mod mill;
mod producer;
mod tally;
mod window;

pub use connection::{Connection, Role};
pub use consumer::{AtEnd, Consumer, Gap, Published, Share};
pub use mill::Mill;
pub use producer::Producer;
pub use tally::{Interval, Measured};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ring::{Completion, Ring, RingConfig};

use crate::cpu::Meter;
use crate::error::BenchError;
use crate::schedule::Schedule;
use tally::{Mark, Tally};

/// Nothing came back for this long: the run is given up.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// What readers still lack when nothing came for this long is lost.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// The generator looks at its clock at least this often.
const WAIT_MAX_NS: u64 = 100_000_000;
/// It does not sleep when the next request is due sooner: waking up takes about as long.
const SPIN_NS: u64 = 100_000;
const SECOND_NS: u64 = 1_000_000_000;

/// One run of a generator.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Not measured.
    pub warmup: Duration,
    /// Measured; `None`: until producers are spent and consumers done.
    pub duration: Option<Duration>,
    /// Requests per second over all producers; `None`: closed loop.
    pub requests_per_s: Option<f64>,
    /// Requests of each producer; `None`: no end.
    pub requests_each: Option<u64>,
    pub interval: Interval,
    /// Name of the phase in the lines of progress; `None`: silent.
    pub progress: Option<&'static str>,
    /// Payload bytes of one message, for the lines of progress.
    pub size: usize,
    pub meter: Meter,
}

/// The connections of one run.
#[derive(Debug)]
pub struct Generator {
    ring: DebugRing,
    connections: Vec<Connection>,
    /// Connections to be looked at after this round.
    listed: Vec<usize>,
    began: Instant,
    open_loop: bool,
    stop: Arc<AtomicBool>,
}

/// A ring has nothing to show.
struct DebugRing(Ring);

impl std::fmt::Debug for DebugRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

/// What ends the loop, and when.
struct Course {
    tally: Tally,
    from: Option<Mark>,
    to: Option<Mark>,
    overdue: u64,
    next_second_ns: u64,
    last_line: Mark,
    /// When something last came in.
    alive_ns: u64,
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
        let (listed, began, open_loop) = (Vec::new(), Instant::now(), false);
        let mut generator =
            Self { ring: DebugRing(ring), connections, listed, began, open_loop, stop };
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
        self.subscribe()?;
        let start_ns = self.now_ns();
        let from_ns = start_ns + plan.warmup.as_nanos() as u64;
        let to_ns = plan.duration.map_or(u64::MAX, |d| from_ns.saturating_add(d.as_nanos() as u64));
        let mut course = Course {
            tally: Tally::new(plan.interval, self.connections.len(), from_ns, to_ns),
            from: None,
            to: None,
            overdue: 0,
            next_second_ns: start_ns + SECOND_NS,
            last_line: Mark { at_ns: start_ns, ..Mark::default() },
            alive_ns: start_ns,
        };
        self.start_producers(plan, start_ns);
        self.list_all();
        loop {
            let now_ns = self.now_ns();
            self.pass_boundaries(plan, &mut course, now_ns);
            let quiet_ns = now_ns.saturating_sub(course.alive_ns);
            if course.to.is_some() && self.is_settled(&course.tally, quiet_ns) {
                break;
            }
            self.check_alive(&course, now_ns)?;
            self.pump(now_ns);
            self.wait(&course, now_ns)?;
            self.drain(&mut course)?;
        }
        let (from, to) = (course.from.unwrap_or_default(), course.to.unwrap_or_default());
        Ok(course.tally.measured(&from, &to, course.overdue))
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Waits until the server has answered every subscription.
    fn subscribe(&mut self) -> Result<(), BenchError> {
        let now_ns = self.now_ns();
        let mut course = Course {
            tally: Tally::new(Interval::SendToReceipt, 1, 0, 0),
            from: None,
            to: None,
            overdue: 0,
            next_second_ns: u64::MAX,
            last_line: Mark::default(),
            alive_ns: now_ns,
        };
        self.list_all();
        while self.consumers().any(|c| c.unanswered() > 0) {
            let now_ns = self.now_ns();
            self.check_alive(&course, now_ns)?;
            self.pump(now_ns);
            self.wait(&course, now_ns)?;
            self.drain(&mut course)?;
        }
        Ok(())
    }

    fn start_producers(&mut self, plan: &Plan, start_ns: u64) {
        let count = self.producers().count();
        self.open_loop = plan.requests_per_s.is_some();
        for (at, producer) in self.producers_mut().enumerate() {
            let schedule = match plan.requests_per_s {
                Some(rate) => Schedule::open(start_ns, rate, at, count),
                None => Schedule::Closed,
            };
            producer.start(schedule, plan.requests_each);
        }
    }

    /// Takes the marks at the beginning and end of the measured part, and prints progress.
    fn pass_boundaries(&mut self, plan: &Plan, course: &mut Course, now_ns: u64) {
        if course.from.is_none() && now_ns >= course.tally.from_ns {
            course.from = Some(course.tally.mark(now_ns, plan.meter.read()));
        }
        if course.from.is_some()
            && course.to.is_none()
            && (now_ns >= course.tally.to_ns || self.is_spent())
        {
            course.to = Some(course.tally.mark(now_ns, plan.meter.read()));
            course.overdue = self.producers().map(|p| p.overdue(now_ns)).sum();
            self.producers_mut().for_each(Producer::stop);
        }
        if now_ns >= course.next_second_ns && course.to.is_none() {
            course.next_second_ns = now_ns + SECOND_NS;
            let mark = course.tally.mark(now_ns, None);
            if let Some(name) = plan.progress {
                let phase = if course.from.is_none() { "warm-up" } else { name };
                print_second(
                    phase,
                    &course.last_line,
                    &mark,
                    course.tally.recent_max_ns,
                    plan.size,
                );
            }
            course.tally.recent_max_ns = 0;
            course.last_line = mark;
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

    fn check_alive(&self, course: &Course, now_ns: u64) -> Result<(), BenchError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(BenchError::Interrupted);
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
    fn pump(&mut self, now_ns: u64) {
        let Self { ring, connections, listed, .. } = self;
        for index in listed.drain(..) {
            let connection = &mut connections[index];
            connection.listed = false;
            connection.pump(index as u64, now_ns, &mut ring.0);
        }
    }

    fn wait(&mut self, course: &Course, now_ns: u64) -> Result<(), BenchError> {
        let mut until_ns = now_ns + WAIT_MAX_NS;
        for boundary in [course.tally.from_ns, course.tally.to_ns, course.next_second_ns] {
            if boundary > now_ns {
                until_ns = until_ns.min(boundary);
            }
        }
        let due_ns = if self.open_loop { self.list_due(now_ns) } else { u64::MAX };
        let waited = if due_ns <= now_ns + SPIN_NS {
            self.ring.0.submit()
        } else {
            let until_ns = until_ns.min(due_ns - SPIN_NS / 2);
            self.ring.0.wait(Some(Duration::from_nanos(until_ns - now_ns)))
        };
        waited.map_err(BenchError::io("waiting for the sockets"))
    }

    /// Lists the connections whose next request is due soon; returns when the first of all is.
    fn list_due(&mut self, now_ns: u64) -> u64 {
        let mut due_ns = u64::MAX;
        for (index, connection) in self.connections.iter_mut().enumerate() {
            let Role::Producer(producer) = &connection.role else { continue };
            let Some(next_ns) = producer.next_ns() else { continue };
            due_ns = due_ns.min(next_ns);
            if next_ns <= now_ns + SPIN_NS && !connection.listed {
                connection.listed = true;
                self.listed.push(index);
            }
        }
        due_ns
    }

    fn drain(&mut self, course: &mut Course) -> Result<(), BenchError> {
        let mut now_ns = None;
        while let Some(completion) = self.ring.0.next() {
            let index = match completion {
                Completion::Received { token, data } => {
                    let now_ns =
                        *now_ns.get_or_insert_with(|| self.began.elapsed().as_nanos() as u64);
                    let index = token as usize;
                    course.alive_ns = now_ns;
                    self.connections[index].received(index, &data, now_ns, &mut course.tally)?;
                    index
                }
                Completion::Sent { token, result, .. } => {
                    result.map_err(BenchError::io("sending to the server"))?;
                    self.connections[token as usize].sent();
                    token as usize
                }
                Completion::ReceiveEnded { error, .. } => {
                    return Err(BenchError::Closed(
                        error.map(|e| format!(": {e}")).unwrap_or_default(),
                    ));
                }
                _ => continue,
            };
            if !self.connections[index].listed {
                self.connections[index].listed = true;
                self.listed.push(index);
            }
        }
        Ok(())
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

fn print_second(phase: &str, from: &Mark, to: &Mark, max_ns: u64, size: usize) {
    let seconds = (to.at_ns - from.at_ns) as f64 / 1e9;
    let acknowledged = (to.acknowledged - from.acknowledged) as f64 / seconds;
    let received = (to.received - from.received) as f64 / seconds;
    let rate = if received > 0.0 { received } else { acknowledged };
    let megabytes = rate * size as f64 / 1e6;
    let at = to.at_ns as f64 / 1e9;
    eprintln!(
        "{at:6.1} s  {phase:<8} {rate:>12.0} msg/s {megabytes:>9.1} MB/s  slowest {:>9.1} us",
        max_ns as f64 / 1e3
    );
}
