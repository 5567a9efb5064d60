//! One connection's sending: open or closed loop, a window of requests under way.

use std::cell::RefCell;
use std::rc::Rc;

use bench::record::{Latencies, Recorder};
use bench::schedule::Schedule;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::RunError;
use super::clock::{Alarm, Clock};
use super::mill::Mill;
use crate::driver::{Producer, Shape};

/// When a connection stops.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    pub at_ns: u64,
    /// Requests at most.
    pub requests: u64,
}

/// What the connections of a run share.
#[derive(Debug)]
pub struct Tally {
    pub recorder: Recorder,
    /// Whether the latency from send to acknowledgement is the one that is wanted.
    pub records_acks: bool,
    /// How late requests were sent that there was room for.
    pub lag: Latencies,
}

/// What one connection came to.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Messages sent to each of its topics, all of them acknowledged.
    pub messages: Vec<u64>,
    /// Requests that were due and not sent.
    pub overdue: u64,
}

/// Sends until `until`, then waits for what is under way.
pub async fn produce(
    producer: &dyn Producer,
    mut mill: Mill,
    shape: Shape,
    mut schedule: Schedule,
    until: Until,
    clock: Clock,
    tally: Rc<RefCell<Tally>>,
) -> Result<Sent, RunError> {
    let alarm = Alarm::new(clock).map_err(RunError::Clock)?;
    let mut under_way = FuturesUnordered::new();
    let mut requests = 0;
    // Since when there has been room without a break.
    let mut room_since_ns = clock.now_ns();
    loop {
        let now_ns = clock.now_ns();
        let more = now_ns < until.at_ns && requests < until.requests;
        let room = under_way.len() < shape.in_flight;
        if more && room && schedule.is_due(now_ns) {
            let intended_ns = schedule.take(now_ns);
            let lag_ns = now_ns.saturating_sub(intended_ns.max(room_since_ns));
            tally.borrow_mut().lag.record(lag_ns, 1);
            let (topic, messages) = mill.make(intended_ns);
            let sending = producer.send(topic, messages);
            under_way.push(async move { (intended_ns, sending.await) });
            requests += 1;
            continue;
        }
        if under_way.is_empty() && !more {
            break;
        }
        let due_ns = schedule.next_ns().filter(|_| more && room).map(|ns| ns.min(until.at_ns));
        let done = tokio::select! {
            biased;
            Some(done) = under_way.next(), if !under_way.is_empty() => done,
            () = alarm.wait_until(due_ns.unwrap_or(0)), if due_ns.is_some() => continue,
        };
        let (intended_ns, result) = done;
        result?;
        let now_ns = clock.now_ns();
        if !room {
            room_since_ns = now_ns;
        }
        let tally = &mut *tally.borrow_mut();
        if tally.records_acks {
            let messages = shape.batch as u64;
            tally.recorder.latency(intended_ns, now_ns, messages);
            tally.recorder.count(now_ns, messages, messages * shape.size as u64);
        }
    }
    Ok(Sent { messages: mill.into_made(), overdue: schedule.overdue(until.at_ns) })
}
