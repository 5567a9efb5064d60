//! Runs against brokers made here: one that keeps its word, and some that do not.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::*;
use crate::driver::{Answer, Consumer, Messages, PATIENCE, Shape};

/// What a broker does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    LosesOne,
    RepeatsOne,
    AltersOne,
    SwapsTwo,
    /// Acknowledges only after so long.
    Slow(Duration),
    /// Hands each message out once.
    Queue,
    Refuses,
    /// Puts messages in another topic.
    Misroutes,
    /// Makes only two topics of a connection.
    NoManyTopics,
}

#[derive(Default)]
struct Log {
    messages: RefCell<Vec<Bytes>>,
    arrived: Notify,
}

pub struct Fake {
    fault: Fault,
    logs: RefCell<HashMap<String, Rc<Log>>>,
}

impl Fake {
    pub fn make(fault: Fault) -> Rc<dyn Broker> {
        Rc::new(Self { fault, logs: RefCell::default() })
    }

    fn log(&self, topic: &str) -> Result<Rc<Log>, DriverError> {
        let problem = "there is no such topic".to_owned();
        let found = self.logs.borrow().get(topic).cloned();
        found.ok_or(DriverError::Refused { doing: "find a topic", problem })
    }
}

impl Broker for Fake {
    fn create<'a>(&'a self, topics: &'a [String], made: &'a Cell<usize>) -> Answer<'a, ()> {
        if self.fault == Fault::NoManyTopics && topics.len() > 2 {
            made.set(made.get() + 2);
            return Box::pin(std::future::pending());
        }
        made.set(made.get() + topics.len());
        let new = topics.iter().map(|topic| (topic.clone(), Rc::default()));
        self.logs.borrow_mut().extend(new);
        Box::pin(async { Ok(()) })
    }

    fn remove<'a>(&'a self, topics: &'a [String]) -> Answer<'a, ()> {
        let removed = topics.iter().all(|topic| self.logs.borrow_mut().remove(topic).is_some());
        assert!(removed || self.fault == Fault::NoManyTopics);
        Box::pin(async { Ok(()) })
    }

    fn producer<'a>(&'a self, topics: &'a [String], _: Shape) -> Answer<'a, Box<dyn Producer>> {
        let fault = self.fault;
        let logs: Result<Vec<_>, _> = topics.iter().map(|topic| self.log(topic)).collect();
        Box::pin(
            async move { Ok(Box::new(FakeProducer { logs: logs?, fault }) as Box<dyn Producer>) },
        )
    }

    fn consumers<'a>(
        &'a self,
        topics: &'a [String],
        _: Shape,
    ) -> Answer<'a, Vec<Box<dyn Consumer>>> {
        let consumer = |topic: &String| {
            let log = self.log(topic)?;
            Ok(Box::new(FakeConsumer { log, next: 0 }) as Box<dyn Consumer>)
        };
        let consumers = topics.iter().map(consumer).collect();
        Box::pin(async { consumers })
    }

    fn replays(&self) -> bool {
        self.fault != Fault::Queue
    }
}

struct FakeProducer {
    logs: Vec<Rc<Log>>,
    fault: Fault,
}

impl Producer for FakeProducer {
    fn send(&self, topic: usize, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            let log = match self.fault {
                // To the next topic, once.
                Fault::Misroutes if self.logs[topic].messages.borrow().len() == 10 => {
                    &self.logs[(topic + 1) % self.logs.len()]
                }
                _ => &self.logs[topic],
            };
            for payload in messages.iter() {
                self.store(log, payload);
            }
            log.arrived.notify_waiters();
            match self.fault {
                Fault::Refuses => {
                    let problem = "it is full".to_owned();
                    return Err(DriverError::Refused { doing: "publish", problem });
                }
                Fault::Slow(time) => tokio::time::sleep(time).await,
                _ => tokio::task::yield_now().await,
            }
            Ok(())
        })
    }
}

impl FakeProducer {
    /// The fault befalls the eleventh message.
    fn store(&self, log: &Log, payload: Bytes) {
        let mut stored = log.messages.borrow_mut();
        let eleventh = stored.len() == 10;
        match self.fault {
            Fault::LosesOne if eleventh => stored.push(Bytes::new()),
            Fault::AltersOne if eleventh => {
                let mut altered = payload.to_vec();
                altered[30] ^= 1;
                stored.push(altered.into());
            }
            Fault::RepeatsOne if eleventh => stored.extend([payload.clone(), payload]),
            Fault::SwapsTwo if eleventh => {
                let before = stored.pop().unwrap();
                stored.extend([payload, before]);
            }
            _ => stored.push(payload),
        }
    }
}

struct FakeConsumer {
    log: Rc<Log>,
    next: usize,
}

impl Consumer for FakeConsumer {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(async move {
            let arrived = self.log.arrived.notified();
            let stored = self.log.messages.borrow().len();
            if stored == self.next {
                let _ = tokio::time::timeout(PATIENCE, arrived).await;
                return Ok(());
            }
            // As many as a network would bring at once.
            for _ in self.next..stored.min(self.next + 100) {
                let payload = self.log.messages.borrow()[self.next].clone();
                // An empty one stands for one that was lost.
                if !payload.is_empty() {
                    each(&payload);
                }
                self.next += 1;
            }
            tokio::task::yield_now().await;
            Ok(())
        })
    }
}

const SHORT: Extent = Extent {
    warmup: Duration::from_millis(20),
    duration: Duration::from_millis(150),
    preload_bytes: 64 * 1024,
    stage_time_max: Duration::from_secs(60),
};

fn workload(kind: Kind, connections: usize) -> Workload {
    let shape = Shape { size: 64, batch: 5, in_flight: 2 };
    Workload { name: "test", title: "a test", kind, shape, connections, topics_each: 1 }
}

fn many_topics() -> Workload {
    // More than are read back at once.
    Workload { topics_each: 150, ..workload(Kind::Produce, 2) }
}

fn go(fault: Fault, workload: &Workload) -> Result<Outcome, RunError> {
    go_for(SHORT, fault, workload)
}

fn go_for(extent: Extent, fault: Fault, workload: &Workload) -> Result<Outcome, RunError> {
    let broker = Fake::make(fault);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let meter = Meter::of(Some(std::process::id()));
    LocalSet::new().block_on(&runtime, run(&broker, workload, "t", extent, meter))
}

#[test]
fn what_is_sent_is_counted_timed_and_read_back() {
    let outcome = go(Fault::None, &workload(Kind::Produce, 3)).unwrap();
    let Figures { verdict, latency_us, messages, seconds, .. } = outcome.figures;
    assert!(verdict.is_clean(), "{verdict:?}");
    assert!(messages > 0 && verdict.checked >= messages, "{messages} {verdict:?}");
    assert!(latency_us.p50 > 0.0 && latency_us.p50 <= latency_us.p99);
    assert!((seconds - 0.15).abs() < 0.001);
    assert!(outcome.invalid_because.is_empty());
}

#[test]
fn many_topics_are_written_in_turn_and_each_is_read_back() {
    let outcome = go(Fault::None, &many_topics()).unwrap();
    let verdict = outcome.figures.verdict;
    assert!(verdict.is_clean() && verdict.checked >= outcome.figures.messages, "{verdict:?}");
    // Each has had at least the first request.
    assert!(verdict.checked >= 300 * 5);
    let checked = verdict.checked;
    let note = format!(
        "{checked} of {checked} messages were read back and checked, 300 of 300 topics to their end"
    );
    assert_eq!(outcome.notes.iter().filter(|one| **one == note).count(), 1, "{:?}", outcome.notes);
}

#[test]
fn a_message_in_another_topic_is_found() {
    let work = Workload { topics_each: 3, ..workload(Kind::Produce, 1) };
    let verdict = go(Fault::Misroutes, &work).unwrap().figures.verdict;
    assert!(verdict.corrupted > 0 && verdict.lost > 0, "{verdict:?}");
}

#[test]
fn a_broker_that_cannot_make_the_topics_says_how_far_it_came() {
    let impatient = Extent { stage_time_max: Duration::from_millis(50), ..SHORT };
    let error = go_for(impatient, Fault::NoManyTopics, &many_topics()).unwrap_err();
    assert_eq!(error.to_string(), "4 of 300 topics were made in 50ms");
}

#[test]
fn each_fault_of_a_broker_is_found() {
    let verdict = |fault| {
        let verdict = go(fault, &workload(Kind::Produce, 1)).unwrap().figures.verdict;
        (verdict.lost, verdict.duplicated, verdict.reordered, verdict.corrupted)
    };
    assert_eq!(verdict(Fault::RepeatsOne), (0, 1, 0, 0));
    assert_eq!(verdict(Fault::SwapsTwo), (0, 0, 1, 0));
    assert_eq!(verdict(Fault::AltersOne), (1, 0, 0, 1));
}

#[test]
fn a_message_that_never_comes_is_lost() {
    let verdict = go(Fault::LosesOne, &workload(Kind::Produce, 1)).unwrap().figures.verdict;
    assert_eq!((verdict.lost, verdict.duplicated), (1, 0));
}

#[test]
fn a_slow_broker_does_not_hide_behind_the_open_loop() {
    // 200 requests a second of which two may be under way, each for 20 ms: half the rate.
    let kind = Kind::EndToEnd { bytes_per_s: 200.0 * 5.0 * 64.0 };
    let slow = go(Fault::Slow(Duration::from_millis(20)), &workload(kind, 1)).unwrap();
    assert_eq!(slow.figures.rate_kept, Some(false), "{:?}", slow.figures);
    assert!(slow.figures.latency_us.max > 20_000.0, "counts from when requests were due");
    assert!(slow.figures.verdict.is_clean());
}

#[test]
fn an_open_loop_that_is_kept_is_timed_to_the_receipt() {
    let kind = Kind::EndToEnd { bytes_per_s: 200.0 * 5.0 * 64.0 };
    let kept = go(Fault::None, &workload(kind, 2)).unwrap().figures;
    assert!(kept.verdict.is_clean() && kept.verdict.checked > 0, "{kept:?}");
    assert!(kept.rate_asked.is_some_and(|asked| (asked - 1_000.0).abs() < 1e-6));
    assert!(kept.generator.lag_us.is_some());
}

#[test]
fn a_stream_is_read_again_and_a_queue_once() {
    let work = workload(Kind::Consume, 1);
    let stored = 64 * 1024 / (5 * 64) * 5;
    let queue = go(Fault::Queue, &work).unwrap();
    assert!(queue.figures.verdict.is_clean());
    assert_eq!(queue.figures.verdict.checked, stored);
    let stream = go(Fault::None, &work).unwrap();
    assert!(stream.figures.verdict.is_clean(), "{:?}", stream.figures.verdict);
    assert!(stream.figures.verdict.checked > stored, "read more than once");
}

#[test]
fn a_refusal_is_told_and_not_counted() {
    let error = go(Fault::Refuses, &workload(Kind::Produce, 1)).unwrap_err();
    assert_eq!(error.to_string(), "cannot publish: it is full");
}

#[test]
fn a_last_message_that_never_comes_is_lost_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let verdict = LocalSet::new().block_on(&runtime, async {
        let broker = Fake::make(Fault::None);
        let topic = "t".to_owned();
        broker.create(std::slice::from_ref(&topic), &Cell::new(0)).await.unwrap();
        let clock = Clock::start();
        let consumer = broker.consumer(&topic, READ).await.unwrap();
        let producer = broker.producer(std::slice::from_ref(&topic), READ).await.unwrap();
        let (at, messages) = Mill::new(0, 1, READ).make(0);
        producer.send(at, messages).await.unwrap();
        let messages = Cell::new(Some(READ.batch as u64 + 1));
        let expected = Rc::new(Expected { producer: 0, messages });
        let mut reader = Reader::new(consumer, expected, clock);
        let recorder = Recorder::new(0, u64::MAX);
        let tally = Tally { recorder, records_acks: false, lag: Latencies::new() };
        let tally = Rc::new(RefCell::new(tally));
        let ended = reader.read(Wanted::Nothing, u64::MAX, &tally).await.unwrap();
        assert_eq!(ended, Ended::Read);
        reader.close(ended)
    });
    assert_eq!((verdict.checked, verdict.lost), (READ.batch as u64, 1));
}

const READ: Shape = Shape { size: 64, batch: 5, in_flight: 1 };
