//! Clients that publish as fast as they can for a moment: some wait for their answers, some leave
//! before. Afterwards all is read back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use client::{Client, Message, StartPosition};

use crate::error::{ScenarioError, violated};
use crate::torture::payload::{self, Stamp};
use crate::traffic::connect;

/// Messages of one client's burst.
pub const MESSAGES: u64 = 2_000;
/// Clients of a round that wait for their answers, and that leave before they have them.
pub const STAYING: u32 = 4;
pub const LEAVING: u32 = 4;
/// How long one that leaves stays after it has handed over its messages, at most.
const LEAVES_AFTER_US_MAX: u64 = 20_000;

/// Publishes about `bytes` and removes them again.
pub async fn fill(address: SocketAddr, bytes: u64) -> Result<(), ScenarioError> {
    const TOPIC: &str = "filling";
    let client = connect(address).await?;
    let topic = client.create_topic(TOPIC).partitions(2).send().await;
    topic.map_err(ScenarioError::client("create a topic"))?;
    let producer = client.producer().build().map_err(ScenarioError::client("make a producer"))?;
    let value = vec![b'f'; 16 * 1024];
    for number in 0..bytes / value.len() as u64 {
        let message = Message::new(TOPIC).partition((number % 2) as u32).value(&value);
        drop(producer.send(message).await.map_err(ScenarioError::client("fill the log"))?);
    }
    producer.close().await.map_err(ScenarioError::client("fill the log"))?;
    client.delete_topic(TOPIC).await.map_err(ScenarioError::client("delete a topic"))
}

/// Publishes a burst and waits until all of it is acknowledged.
pub async fn stay(address: SocketAddr, topic: &str, number: u32) -> Result<(), ScenarioError> {
    let client = connect(address).await?;
    let deliveries = send_all(&client, topic, number).await?;
    for delivery in deliveries.1 {
        delivery.await.map_err(ScenarioError::client("publish a burst"))?;
    }
    Ok(())
}

/// Publishes a burst and is gone before it is answered, its connections cut where they are.
pub fn leave(
    address: SocketAddr,
    topic: String,
    number: u32,
    seed: u64,
) -> thread::JoinHandle<Result<(), ScenarioError>> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ScenarioError::io("start a client's runtime"))?;
        runtime.block_on(async {
            let client = connect(address).await?;
            let _unanswered = send_all(&client, &topic, number).await?;
            let stays = Duration::from_micros(seed % LEAVES_AFTER_US_MAX);
            tokio::time::sleep(stays).await;
            Ok(())
        })
        // The runtime ends here, and with it every task and socket of the client.
    })
}

async fn send_all(
    client: &Client,
    topic: &str,
    number: u32,
) -> Result<(client::Producer, Vec<client::Delivery>), ScenarioError> {
    let producer = client.producer().build().map_err(ScenarioError::client("make a producer"))?;
    let mut deliveries = Vec::with_capacity(MESSAGES as usize);
    for sequence in 0..MESSAGES {
        let value = payload::make(Stamp { producer: number, sequence });
        let sent = producer.send(Message::new(topic).value(&value)).await;
        deliveries.push(sent.map_err(ScenarioError::client("publish a burst"))?);
    }
    Ok((producer, deliveries))
}

/// Reads the topic and holds it against what was published: of those that stayed everything, of
/// those that left a beginning; each message once, in order and unaltered. Returns how many there
/// are.
pub async fn check(address: SocketAddr, topic: &str) -> Result<u64, ScenarioError> {
    let client = connect(address).await?;
    let consumer = client.consumer(topic).start(StartPosition::First).until_end(true).build();
    let mut consumer = consumer.await.map_err(ScenarioError::client("read the bursts"))?;
    let mut next: HashMap<u32, u64> = HashMap::new();
    let mut found = 0;
    while let Some(record) = consumer.next().await {
        let record = record.map_err(ScenarioError::client("read the bursts"))?;
        let Some(stamp) = record.value().and_then(payload::read) else {
            return violated(format!(
                "{topic}: offset {} is no message of a burst",
                record.offset()
            ));
        };
        let expected = next.entry(stamp.producer).or_default();
        if stamp.sequence != *expected || stamp.producer >= STAYING + LEAVING {
            return violated(format!(
                "{topic}: offset {} has {stamp:?}, number {expected} was to come",
                record.offset()
            ));
        }
        *expected += 1;
        found += 1;
    }
    for number in 0..STAYING {
        let count = next.get(&number).copied().unwrap_or(0);
        if count != MESSAGES {
            return violated(format!(
                "{topic}: {count} of {MESSAGES} acknowledged messages of client {number} are there"
            ));
        }
    }
    Ok(found)
}
