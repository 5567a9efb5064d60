//! A client of its own that publishes by the clock and measures each answer from the time its
//! message was meant to be sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use client::{Message, Producer};
use tokio::time::{Instant, sleep_until};

use crate::error::ScenarioError;
use crate::traffic::connect;

const TOPIC: &str = "probe";
const RETENTION_BYTES: u64 = 2 << 20;
const EVERY: Duration = Duration::from_millis(4);
const PAYLOAD: &[u8] = &[b'p'; 100];

/// A probe on a thread of its own, so that the load's work does not count. Ends when dropped.
#[derive(Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), ScenarioError>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    times_us: Mutex<Vec<f64>>,
}

impl Probe {
    /// Makes its topic, and begins.
    pub async fn start(address: SocketAddr) -> Result<Self, ScenarioError> {
        let client = connect(address).await?;
        let topic = client.create_topic(TOPIC).retention_bytes(RETENTION_BYTES);
        topic.send().await.map_err(ScenarioError::client("create the probe's topic"))?;
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("probe".to_owned())
            .spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(ScenarioError::io("start the probe's runtime"))?
                    .block_on(publish(address, of_thread))
            })
            .map_err(ScenarioError::io("start the probe"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The times of the answers since the last call.
    pub fn take_times_us(&self) -> Vec<f64> {
        std::mem::take(&mut *self.shared.times_us.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An error when it has ended by itself.
    pub fn check(&mut self) -> Result<(), ScenarioError> {
        match self.thread.take_if(|thread| thread.is_finished()) {
            Some(_) => self.join_ended(),
            None => Ok(()),
        }
    }

    fn join_ended(&self) -> Result<(), ScenarioError> {
        Err(ScenarioError::Ended { who: "the probe", how: "its client failed".to_owned() })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn publish(address: SocketAddr, shared: Arc<Shared>) -> Result<(), ScenarioError> {
    let client = connect(address).await?;
    let producer = client.producer().build().map_err(ScenarioError::client("make a producer"))?;
    let mut due = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        sleep_until(due).await;
        send(&producer, due, &shared).await?;
        due += EVERY;
    }
    Ok(())
}

/// Sends one message; its answer is waited for elsewhere, so that the next one is in time.
async fn send(
    producer: &Producer,
    due: Instant,
    shared: &Arc<Shared>,
) -> Result<(), ScenarioError> {
    let delivery = producer.send(Message::new(TOPIC).value(PAYLOAD)).await;
    let delivery = delivery.map_err(ScenarioError::client("send the probe's message"))?;
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        if delivery.await.is_ok() {
            let us = due.elapsed().as_secs_f64() * 1e6;
            shared.times_us.lock().unwrap_or_else(PoisonError::into_inner).push(us);
        }
    });
    Ok(())
}
