//! Corelane through its own client on tokio.

use client::{AckLevel, Client, Message, StartPosition};
use tokio::sync::Mutex;

use super::arrived::arrived;
use crate::driver::{Answer, Broker, Consumer, DriverError, Messages, Producer, Shape};
use crate::peer::Level;

/// Room in a batch beside the payloads, for each message.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// What a batch may have without being asked: the client's own default.
const BATCH_BYTES_MIN: usize = 256 * 1024;
/// What the server may send ahead to one consumer.
const CREDIT_BYTES: u64 = 16 * 1024 * 1024;

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
    fn create<'a>(&'a self, topic: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let created = self.control.create_topic(topic).partitions(1).send().await;
            created.map(drop).map_err(DriverError::of("create a topic"))
        })
    }

    fn remove<'a>(&'a self, topic: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let deleted = self.control.delete_topic(topic).await;
            deleted.map_err(DriverError::of("delete a topic"))
        })
    }

    fn producer<'a>(&'a self, topic: &'a str, shape: Shape) -> Answer<'a, Box<dyn Producer>> {
        Box::pin(async move {
            let client = connect(&self.address).await?;
            let request_bytes = shape.batch * (shape.size + RECORD_OVERHEAD_BYTES);
            let producer = client
                .producer()
                .ack(self.ack)
                .batch_bytes(request_bytes.max(BATCH_BYTES_MIN) as u32)
                .build()
                .map_err(DriverError::of("make a producer"))?;
            let topic = topic.to_owned();
            let sender = Sender { _client: client, producer, topic, handing_over: Mutex::new(()) };
            Ok(Box::new(sender) as Box<dyn Producer>)
        })
    }

    fn consumer<'a>(&'a self, topic: &'a str, _: Shape) -> Answer<'a, Box<dyn Consumer>> {
        Box::pin(async move {
            let client = connect(&self.address).await?;
            let consumer = client.consumer(topic).start(StartPosition::First);
            let consumer = consumer.credit_bytes(CREDIT_BYTES).build().await;
            let consumer = consumer.map_err(DriverError::of("subscribe"))?;
            Ok(Box::new(Receiver { _client: client, consumer }) as Box<dyn Consumer>)
        })
    }
}

struct Sender {
    /// Its connection is the producer's.
    _client: Client,
    producer: client::Producer,
    topic: String,
    /// Held while a request's messages are handed over, which may wait between two of them (for
    /// room, or for tokio's budget): the next request's do not come between.
    handing_over: Mutex<()>,
}

impl Producer for Sender {
    fn send(&self, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut deliveries = Vec::with_capacity(messages.count());
            let turn = self.handing_over.lock().await;
            for payload in messages.iter() {
                let sent = self.producer.send(Message::new(&self.topic).value(&payload)).await;
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
