//! Corelane through its own client on tokio.

use std::cell::Cell;

use client::{AckLevel, Client, Message, StartPosition};
use tokio::sync::Mutex;

use super::arrived::arrived;
use super::for_each;
use crate::driver::{Answer, Broker, Consumer, DriverError, Messages, Producer, Shape};
use crate::peer::Level;

/// Room in a batch beside the payloads, for each message.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// What a batch may have without being asked: the client's own default.
const BATCH_BYTES_MIN: usize = 256 * 1024;
/// What the server may send ahead to the consumers of a connection.
const CREDIT_BYTES: u64 = 16 * 1024 * 1024;
/// And to each of them, at least.
const CREDIT_BYTES_MIN: u64 = 256 * 1024;

pub struct Corelane {
    address: String,
    ack: AckLevel,
    control: Client,
}

impl Corelane {
    pub async fn connect(address: &str, level: Level) -> Result<Self, DriverError> {
        let control = connect(address).await?;
        let ack = match level {
            Level::Durable => AckLevel::Durable,
            Level::Memory => AckLevel::Memory,
        };
        Ok(Self { address: address.to_owned(), ack, control })
    }
}

async fn connect(address: &str) -> Result<Client, DriverError> {
    Client::connect(address).await.map_err(DriverError::of("connect to Corelane"))
}

impl Broker for Corelane {
    fn create<'a>(&'a self, topics: &'a [String], made: &'a Cell<usize>) -> Answer<'a, ()> {
        Box::pin(for_each(topics, made, move |topic| async move {
            let created = self.control.create_topic(topic).partitions(1).send().await;
            created.map(drop).map_err(DriverError::of("create a topic"))
        }))
    }

    fn remove<'a>(&'a self, topics: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            let delete = move |topic: &'a str| async move {
                let deleted = self.control.delete_topic(topic).await;
                deleted.map_err(DriverError::of("delete a topic"))
            };
            for_each(topics, &Cell::new(0), delete).await
        })
    }

    fn producer<'a>(&'a self, topics: &'a [String], shape: Shape) -> Answer<'a, Box<dyn Producer>> {
        Box::pin(async move {
            let client = connect(&self.address).await?;
            let request_bytes = shape.batch * (shape.size + RECORD_OVERHEAD_BYTES);
            let producer = client
                .producer()
                .ack(self.ack)
                .batch_bytes(request_bytes.max(BATCH_BYTES_MIN) as u32)
                .build()
                .map_err(DriverError::of("make a producer"))?;
            let (topics, handing_over) = (topics.to_vec(), Mutex::new(()));
            let sender = Sender { _client: client, producer, topics, handing_over };
            Ok(Box::new(sender) as Box<dyn Producer>)
        })
    }

    fn consumers<'a>(
        &'a self,
        topics: &'a [String],
        _: Shape,
    ) -> Answer<'a, Vec<Box<dyn Consumer>>> {
        Box::pin(async move {
            let client = connect(&self.address).await?;
            let credit_bytes = (CREDIT_BYTES / topics.len() as u64).max(CREDIT_BYTES_MIN);
            let mut consumers = Vec::with_capacity(topics.len());
            for topic in topics {
                let consumer = client.consumer(topic).start(StartPosition::First);
                let consumer = consumer.credit_bytes(credit_bytes).build().await;
                let consumer = consumer.map_err(DriverError::of("subscribe"))?;
                let receiver = Receiver { _client: client.clone(), consumer };
                consumers.push(Box::new(receiver) as Box<dyn Consumer>);
            }
            Ok(consumers)
        })
    }
}

struct Sender {
    /// Its connection is the producer's.
    _client: Client,
    producer: client::Producer,
    topics: Vec<String>,
    /// Held while a request's messages are handed over, which may wait between two of them (for
    /// room, or for tokio's budget): the next request's do not come between.
    handing_over: Mutex<()>,
}

impl Producer for Sender {
    fn send(&self, topic: usize, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut deliveries = Vec::with_capacity(messages.count());
            let turn = self.handing_over.lock().await;
            let topic = &self.topics[topic];
            for payload in messages.iter() {
                let sent = self.producer.send(Message::new(topic).value(&payload)).await;
                deliveries.push(sent.map_err(DriverError::of("publish"))?);
            }
            drop(turn);
            for delivery in deliveries {
                delivery.await.map_err(DriverError::of("publish"))?;
            }
            Ok(())
        })
    }
}

struct Receiver {
    _client: Client,
    consumer: client::Consumer,
}

impl Consumer for Receiver {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(arrived(&mut self.consumer, |record| each(record.value().unwrap_or_default())))
    }
}
