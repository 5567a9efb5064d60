//! One producer's messages to one partition, between the client and the record.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use client::Delivery;
use tokio::sync::Notify;

use super::Run;
use crate::error::BenchError;
use crate::options::Options;
use crate::run::Topics;

/// How many messages a producer has under way, over all its lanes.
#[derive(Debug, Default)]
pub struct Window {
    under_way: Cell<usize>,
    /// The producer waits for one to be answered.
    waits: Cell<bool>,
    /// A lane has ended with an error: it will answer no more.
    failed: Cell<bool>,
    answered: Notify,
}

impl Window {
    pub fn under_way(&self) -> usize {
        self.under_way.get()
    }

    pub fn has_failed(&self) -> bool {
        self.failed.get()
    }

    fn fail(&self) {
        self.failed.set(true);
        self.answered.notify_one();
    }

    fn leave(&self) {
        self.under_way.set(self.under_way.get() - 1);
        if self.waits.take() {
            self.answered.notify_one();
        }
    }

    /// Waits until a message is answered, or will never be.
    pub async fn wait(&self) {
        self.waits.set(true);
        self.answered.notified().await;
    }
}

/// What a lane came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    /// Where the partition stands in the run's list.
    pub partition: u32,
    pub acknowledged: u64,
    /// One past the last offset.
    pub offset_end: u64,
}

/// A message that was handed to the client.
struct Sent {
    delivery: Delivery,
    intended_ns: u64,
    bytes: u64,
}

pub struct Lane {
    pub topic: Rc<str>,
    /// Of its topic.
    pub index: u32,
    /// The sequence of the next message.
    pub sequence: Cell<u64>,
    waiting: RefCell<VecDeque<Sent>>,
    /// Something was added, or it is closed.
    changed: Notify,
    closed: Cell<bool>,
    account: Cell<Account>,
    window: Rc<Window>,
    run: Rc<Run>,
}

/// The lanes of producer `at`: one for each partition, all with one window.
pub fn all(options: &Options, topics: &Topics, at: usize, run: &Rc<Run>) -> Vec<Rc<Lane>> {
    let (window, each) = (Rc::<Window>::default(), options.partitions);
    let names: Vec<Rc<str>> = topics.names.iter().map(|name| Rc::from(name.as_str())).collect();
    let lane = |partition: usize| {
        let account = Account { partition: partition as u32, ..Account::default() };
        Rc::new(Lane {
            topic: Rc::clone(&names[partition / each]),
            index: (partition % each) as u32,
            sequence: Cell::new(0),
            waiting: RefCell::default(),
            changed: Notify::new(),
            closed: Cell::new(false),
            account: Cell::new(account),
            window: Rc::clone(&window),
            run: Rc::clone(run),
        })
    };
    // Producers begin at different partitions.
    let count = topics.partitions.len();
    let turn = at * count / options.connections;
    (turn..count).chain(0..turn).map(lane).collect()
}

impl Lane {
    pub fn window(&self) -> &Rc<Window> {
        &self.window
    }

    /// Where its partition stands in the run's list.
    pub fn partition(&self) -> usize {
        self.account.get().partition as usize
    }

    pub fn add(&self, delivery: Delivery, intended_ns: u64, bytes: usize) {
        self.window.under_way.set(self.window.under_way.get() + 1);
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            self.changed.notify_one();
        }
        waiting.push_back(Sent { delivery, intended_ns, bytes: bytes as u64 });
    }

    /// Nothing more will be added.
    pub fn close(&self) {
        self.closed.set(true);
        self.changed.notify_one();
    }

    /// Takes the answers in the order of sending; returns when it is closed and all are there.
    pub async fn answers(self: Rc<Self>) -> Result<Account, BenchError> {
        let mut now_ns = 0;
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            match next {
                Some(sent) => {
                    let answered = self.answer(sent, &mut now_ns).await;
                    answered.inspect_err(|_| self.window.fail())?;
                }
                None if self.closed.get() => return Ok(self.account.get()),
                None => {
                    self.changed.notified().await;
                    now_ns = 0;
                }
            }
        }
    }

    /// `now_ns`: when it last had to wait; what is there without waiting came by then.
    async fn answer(&self, mut sent: Sent, now_ns: &mut u64) -> Result<(), BenchError> {
        let mut waited = *now_ns == 0;
        let receipt = std::future::poll_fn(|context| {
            let polled = Pin::new(&mut sent.delivery).poll(context);
            waited |= polled.is_pending();
            polled
        });
        let receipt = receipt.await.map_err(BenchError::client("publish"))?;
        if waited {
            *now_ns = self.run.now_ns();
        }
        let mut account = self.account.get();
        // One that was sent again long ago has no offset any more.
        if let Some(offset) = receipt.offset {
            if offset < account.offset_end {
                let end = account.offset_end;
                return Err(BenchError::Protocol(format!(
                    "an acknowledgement with offset {offset}, which was given out before (up to {end})"
                )));
            }
            account.offset_end = offset + 1;
        }
        account.acknowledged += 1;
        self.account.set(account);
        let mut course = self.run.course.borrow_mut();
        course.alive_ns = *now_ns;
        course.tally.acknowledged(sent.intended_ns, *now_ns, 1, 1, sent.bytes);
        drop(course);
        self.window.leave();
        Ok(())
    }
}
