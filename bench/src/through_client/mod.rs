//! Publishing through the client crate on tokio: what an application gets, by the same schedule,
//! with the same payloads, checks and records as the lean generator's load.
//!
//! All of it is on the generator's thread. Messages are handed to the client one by one; it gathers
//! them into batches by its own rules.

mod lane;
mod producer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, LocalSet};

use crate::error::BenchError;
use crate::generator::{Course, Measured, Plan, Tally};
use crate::options::{ClientLoad, Options, Route};
use crate::run::{Bed, Topics, rng};
use crate::schedule::Schedule;
use lane::Account;
use producer::Producer;

/// How often the run looks at its clock; tokio's timers are no finer.
const LOOK: Duration = Duration::from_millis(1);
/// Nothing was answered for this long: the run is given up.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// What the client may gather and keep beside the window, bytes.
const BUFFER_BYTES: u32 = 64 * 1024 * 1024;

/// What a load through the client left behind.
pub struct Outcome {
    pub measured: Measured,
    /// By producer: what each of its lanes came to.
    pub accounts: Vec<Vec<Account>>,
}

/// What all tasks of a run see; one thread, so no lock.
pub struct Run {
    began: Instant,
    course: RefCell<Course>,
    /// When the measured part is over: nothing more is sent.
    over: Cell<bool>,
}

impl Run {
    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}

/// Publishes by `plan` with `options.connections` clients. `connected` is called when all are
/// connected.
pub fn publish(
    options: &Options,
    how: &ClientLoad,
    bed: &Bed,
    topics: &Topics,
    plan: &Plan,
    connected: impl FnOnce(),
    stop: &Arc<AtomicBool>,
) -> Result<Outcome, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("starting the client's runtime"))?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let mut producers = Vec::with_capacity(options.connections);
        for _ in 0..options.connections {
            producers.push(connect(options, how, bed).await?);
        }
        connected();
        drive(options, producers, topics, plan, stop).await
    })
}

/// A client with a connection of its own, and its producer.
async fn connect(
    options: &Options,
    how: &ClientLoad,
    bed: &Bed,
) -> Result<client::Producer, BenchError> {
    let builder = client::Client::builder()
        .server(bed.address.to_string())
        .client_name("corelane-bench")
        .direct_connections(options.route == Route::Owner);
    let client = builder.build().await.map_err(BenchError::client("connect"))?;
    let producer = client.producer().ack(options.ack).linger(how.linger);
    producer.buffer_bytes(BUFFER_BYTES).build().map_err(BenchError::client("make a producer"))
}

async fn drive(
    options: &Options,
    producers: Vec<client::Producer>,
    topics: &Topics,
    plan: &Plan,
    stop: &Arc<AtomicBool>,
) -> Result<Outcome, BenchError> {
    let began = Instant::now();
    let from_ns = plan.warmup.as_nanos() as u64;
    let to_ns = plan.duration.map_or(u64::MAX, |d| from_ns.saturating_add(d.as_nanos() as u64));
    let course = Course::new(plan, Tally::new(plan.interval, from_ns, to_ns), 0);
    let run = Rc::new(Run { began, course: RefCell::new(course), over: false.into() });
    let count = producers.len();
    let mut tasks = Vec::with_capacity(count);
    for (at, producer) in producers.into_iter().enumerate() {
        let schedule = match &plan.open {
            Some(open) => Schedule::open(open, 0, at, count),
            None => Schedule::closed(),
        };
        let lanes = lane::all(options, topics, at, &run);
        let producer = Producer::new(at as u32, options, producer, lanes, rng(options, at));
        tasks.push(tokio::task::spawn_local(producer.run(schedule, Rc::clone(&run))));
    }
    let accounts = watch(&run, plan, tasks, stop).await?;
    let Ok(run) = Rc::try_unwrap(run).map_err(drop) else {
        return Err(BenchError::Options("a task of the run is still there after its end".into()));
    };
    let mut measured = run.course.into_inner().finish(plan.open.is_some());
    // Between two sends it looks at the clock without sleeping: its CPU time says nothing.
    measured.generator_cpu_share = measured.generator_cpu_share.filter(|_| plan.open.is_none());
    Ok(Outcome { measured, accounts })
}

/// Takes the marks around the measured part, and waits for the tasks.
async fn watch(
    run: &Rc<Run>,
    plan: &Plan,
    tasks: Vec<JoinHandle<Result<producer::Sent, BenchError>>>,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Vec<Account>>, BenchError> {
    // An error ends the others as well.
    let mut tasks = Tasks(tasks);
    while tasks.0.iter().any(|task| !task.is_finished()) {
        look(run, plan, stop)?;
        if tasks.has_ended_early(run) {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let mut accounts = Vec::with_capacity(tasks.0.len());
    let mut overdue = 0;
    for task in std::mem::take(&mut tasks.0) {
        let sent = task.await.map_err(|error| BenchError::Options(error.to_string()))??;
        overdue += sent.overdue;
        accounts.push(sent.accounts);
    }
    run.course.borrow_mut().overdue = overdue;
    Ok(accounts)
}

struct Tasks(Vec<JoinHandle<Result<producer::Sent, BenchError>>>);

impl Tasks {
    /// One has come to its end before it was told to: it has failed, and the others wait in vain.
    fn has_ended_early(&mut self, run: &Run) -> bool {
        let Some(at) = self.0.iter().position(JoinHandle::is_finished) else { return false };
        if run.over.get() {
            return false;
        }
        self.0.swap(0, at);
        self.0.drain(1..).for_each(|task| task.abort());
        true
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

fn look(run: &Run, plan: &Plan, stop: &AtomicBool) -> Result<(), BenchError> {
    let now_ns = run.now_ns();
    let mut course = run.course.borrow_mut();
    if stop.load(Ordering::Relaxed) {
        if !(plan.may_end_early && course.is_measuring()) {
            return Err(BenchError::Interrupted);
        }
        // The next signal ends everything.
        stop.store(false, Ordering::Relaxed);
        course.partial = true;
        course.tally.recorder.end_at(now_ns);
    }
    if now_ns.saturating_sub(course.alive_ns) > STUCK_AFTER.as_nanos() as u64 {
        let (seconds, waiting) = (STUCK_AFTER.as_secs(), "messages of the client under way".into());
        return Err(BenchError::Stuck { seconds, waiting });
    }
    if now_ns >= course.next_second_ns && course.to.is_none() {
        course.second(now_ns, plan.payload_bytes);
    }
    if course.from.is_none() && now_ns >= course.tally.recorder.from_ns() {
        course.begin(now_ns);
    }
    if course.is_measuring() && now_ns >= course.tally.recorder.to_ns() {
        course.end(now_ns);
        run.over.set(true);
    }
    Ok(())
}
