//! Kafka through librdkafka.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::arrived::arrived;
use crate::driver::{Answer, Broker, Consumer, DriverError, Messages, Producer, Shape};

const TIMEOUT: Duration = Duration::from_secs(60);
/// Room in a batch beside the payloads, for each message.
const RECORD_OVERHEAD_BYTES: usize = 128;
/// The library's own default.
const BATCH_BYTES_MIN: usize = 1_000_000;
/// What a topic takes; above what any batch of a workload has.
const MESSAGE_BYTES_MAX: &str = "8388608";

pub struct Kafka {
    address: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Kafka {
    pub async fn connect(address: &str) -> Result<Self, DriverError> {
        let doing = "connect to Kafka";
        let admin: AdminClient<_> = config(address).create().map_err(DriverError::of(doing))?;
        // A topic that is not there: it is the answer that counts.
        let options = options();
        let asked =
            tokio::time::timeout(Duration::from_secs(5), admin.delete_topics(&["-"], &options));
        match asked.await {
            Ok(Ok(_)) => Ok(Self { address: address.to_owned(), admin }),
            Ok(Err(error)) => Err(DriverError::of(doing)(error)),
            Err(_) => Err(DriverError::of(doing)("no broker answered")),
        }
    }
}

fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("socket.nagle.disable", "true")
        .set("message.max.bytes", MESSAGE_BYTES_MAX)
        .set("log_level", "3");
    config
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

impl Broker for Kafka {
    fn create<'a>(&'a self, topic: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1))
                .set("max.message.bytes", MESSAGE_BYTES_MAX);
            let created = self.admin.create_topics([&new], &options()).await;
            let created = created.map_err(DriverError::of("create a topic"))?;
            let refused = created.into_iter().find_map(Result::err);
            refused.map_or(Ok(()), |(_, code)| Err(DriverError::of("create a topic")(code)))
        })
    }

    fn remove<'a>(&'a self, topic: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let deleted = self.admin.delete_topics(&[topic], &options()).await;
            deleted.map(drop).map_err(DriverError::of("delete a topic"))
        })
    }

    fn producer<'a>(&'a self, topic: &'a str, shape: Shape) -> Answer<'a, Box<dyn Producer>> {
        Box::pin(async move {
            let request_bytes = shape.batch * (shape.size + RECORD_OVERHEAD_BYTES);
            let producer: FutureProducer = config(&self.address)
                .set("acks", "all")
                // As Corelane's client and Kafka's own do: nothing twice, nothing out of order.
                .set("enable.idempotence", "true")
                .set("linger.ms", if shape.is_lockstep() { "0" } else { "1" })
                .set("batch.size", request_bytes.max(BATCH_BYTES_MIN).to_string())
                .set("batch.num.messages", "10000")
                .set("queue.buffering.max.messages", "1000000")
                .set("queue.buffering.max.kbytes", "1048576")
                .set("message.timeout.ms", TIMEOUT.as_millis().to_string())
                .create()
                .map_err(DriverError::of("make a producer"))?;
            Ok(Box::new(Sender { producer, topic: topic.to_owned() }) as Box<dyn Producer>)
        })
    }

    fn consumer<'a>(&'a self, topic: &'a str, _: Shape) -> Answer<'a, Box<dyn Consumer>> {
        Box::pin(async move {
            let doing = "subscribe";
            let consumer: StreamConsumer = config(&self.address)
                .set("group.id", topic)
                .set("enable.auto.commit", "false")
                .set("fetch.min.bytes", "1")
                .set("fetch.wait.max.ms", "100")
                .set("fetch.queue.backoff.ms", "1")
                .set("fetch.message.max.bytes", MESSAGE_BYTES_MAX)
                .set("queued.min.messages", "1000000")
                .set("queued.max.messages.kbytes", "262144")
                .create()
                .map_err(DriverError::of(doing))?;
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, 0, Offset::Beginning)
                .map_err(DriverError::of(doing))?;
            consumer.assign(&list).map_err(DriverError::of(doing))?;
            Ok(Box::new(Receiver { consumer }) as Box<dyn Consumer>)
        })
    }
}

struct Sender {
    producer: FutureProducer,
    topic: String,
}

impl Producer for Sender {
    fn send(&self, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut deliveries = Vec::with_capacity(messages.count());
            for payload in messages.iter() {
                let record =
                    FutureRecord::<(), [u8]>::to(&self.topic).partition(0).payload(&payload);
                let queued = self.producer.send_result(record);
                let queued = queued.map_err(|(error, _)| DriverError::of("publish")(error));
                deliveries.push(queued?);
            }
            for delivery in deliveries {
                let delivered = delivery.await.map_err(DriverError::of("publish"))?;
                delivered.map_err(|(error, _)| DriverError::of("publish")(error))?;
            }
            Ok(())
        })
    }
}

impl Drop for Sender {
    /// The library's thread would go on with what nobody waits for.
    fn drop(&mut self) {
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}

struct Receiver {
    consumer: StreamConsumer,
}

impl Consumer for Receiver {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut messages = self.consumer.stream();
            arrived(&mut messages, |message| each(message.payload().unwrap_or_default())).await
        })
    }
}
