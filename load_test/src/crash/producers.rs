//! Producers that go on through every crash, and the ledger of what they were promised.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::{AckLevel, Client, Delivery, Error, Producer};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::message::Message;
use super::{CrashError, TOPIC};

/// Messages that one producer has unanswered at most; past this it waits.
const UNDER_WAY_MAX: usize = 2_000;
/// A message is tried for so long: longer than any restart takes.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(100);
const TICK: Duration = Duration::from_millis(5);

/// An acknowledged message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub message: Message,
    pub partition: u32,
    /// Unknown for a repeat whose first offset the server no longer knew.
    pub offset: Option<u64>,
}

/// What has been promised so far, in the order of the acknowledgements.
#[derive(Debug, Default)]
pub struct Ledger {
    acknowledged: Mutex<Vec<Acknowledged>>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Vec<Acknowledged>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn snapshot(&self) -> Vec<Acknowledged> {
        self.lock().clone()
    }
}

/// How a producer works.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub partitions: u32,
    /// Messages a second of one producer at most.
    pub rate: u32,
}

/// Starts producer `number`. It ends when `stop` turns true, with all it sent acknowledged, or
/// with the first message that failed.
pub fn spawn(
    number: u16,
    client: Client,
    pace: Pace,
    ledger: Arc<Ledger>,
    stop: watch::Receiver<bool>,
) -> JoinHandle<Result<u64, CrashError>> {
    tokio::spawn(async move {
        let producer = client
            .producer()
            .ack(AckLevel::Durable)
            .delivery_timeout(DELIVERY_TIMEOUT)
            .build()
            .map_err(CrashError::client("make a producer"))?;
        let under_way = (0..pace.partitions).map(|_| VecDeque::new()).collect();
        Worker { number, producer, pace, ledger, under_way, sequence: 0 }.run(stop).await
    })
}

struct Worker {
    number: u16,
    producer: Producer,
    pace: Pace,
    ledger: Arc<Ledger>,
    /// For each partition, in the order sent.
    under_way: Vec<VecDeque<(Message, Delivery)>>,
    sequence: u64,
}

impl Worker {
    async fn run(mut self, stop: watch::Receiver<bool>) -> Result<u64, CrashError> {
        let per_tick = (u128::from(self.pace.rate) * TICK.as_millis()).div_ceil(1000);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            ticks.tick().await;
            self.reap()?;
            for _ in 0..per_tick {
                if self.under_way.iter().map(VecDeque::len).sum::<usize>() >= UNDER_WAY_MAX {
                    break;
                }
                self.send_one().await?;
            }
        }
        for partition in 0..self.pace.partitions {
            while let Some((message, delivery)) = self.under_way[partition as usize].pop_front() {
                self.note(message, partition, delivery.await)?;
            }
        }
        Ok(self.sequence)
    }

    async fn send_one(&mut self) -> Result<(), CrashError> {
        let message = Message { producer: self.number, sequence: self.sequence };
        let partition = partition_of(message, self.pace.partitions);
        let payload = message.payload();
        let delivery = self
            .producer
            .send(client::Message::new(TOPIC).partition(partition).value(&payload))
            .await
            .map_err(CrashError::client("send a message"))?;
        self.under_way[partition as usize].push_back((message, delivery));
        self.sequence += 1;
        Ok(())
    }

    /// Notes the deliveries that are done.
    fn reap(&mut self) -> Result<(), CrashError> {
        for partition in 0..self.pace.partitions {
            while let Some((message, delivery)) = self.under_way[partition as usize].front_mut() {
                let message = *message;
                let Some(result) = poll_once(delivery) else { break };
                self.under_way[partition as usize].pop_front();
                self.note(message, partition, result)?;
            }
        }
        Ok(())
    }

    fn note(
        &self,
        message: Message,
        partition: u32,
        result: Result<client::Receipt, Error>,
    ) -> Result<(), CrashError> {
        let receipt = result.map_err(CrashError::client("deliver a message"))?;
        if receipt.level != AckLevel::Durable {
            let text = format!("{message:?} was acknowledged {:?}", receipt.level);
            return Err(CrashError::Violated(text));
        }
        let offset = receipt.offset;
        self.ledger.lock().push(Acknowledged { message, partition, offset });
        Ok(())
    }
}

/// A producer's messages go round the partitions.
pub fn partition_of(message: Message, partitions: u32) -> u32 {
    ((message.sequence + u64::from(message.producer)) % u64::from(partitions)) as u32
}

/// The result of a delivery that is done already.
fn poll_once(delivery: &mut Delivery) -> Option<Result<client::Receipt, Error>> {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    match Pin::new(delivery).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}
