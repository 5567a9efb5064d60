//! Kafka through librdkafka.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::consumer::{Consumer as _, DefaultConsumerContext, StreamConsumer};
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
/// Topics that one request makes or removes.
const TOPICS_AT_ONCE: usize = 100;
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

fn new_topic(name: &str) -> NewTopic<'_> {
    NewTopic::new(name, 1, TopicReplication::Fixed(1)).set("max.message.bytes", MESSAGE_BYTES_MAX)
}

impl Broker for Kafka {
    fn create<'a>(&'a self, topics: &'a [String], made: &'a Cell<usize>) -> Answer<'a, ()> {
        Box::pin(async move {
            let doing = "create topics";
            for some in topics.chunks(TOPICS_AT_ONCE) {
                let new: Vec<NewTopic<'_>> = some.iter().map(|topic| new_topic(topic)).collect();
                let created = self.admin.create_topics(&new, &options()).await;
                let created = created.map_err(DriverError::of(doing))?;
                if let Some((_, code)) = created.into_iter().find_map(Result::err) {
                    return Err(DriverError::of(doing)(code));
                }
                made.set(made.get() + some.len());
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, topics: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            for some in topics.chunks(TOPICS_AT_ONCE) {
                let names: Vec<&str> = some.iter().map(String::as_str).collect();
                let deleted = self.admin.delete_topics(&names, &options()).await;
                deleted.map_err(DriverError::of("delete topics"))?;
            }
            Ok(())
        })
    }

    fn producer<'a>(&'a self, topics: &'a [String], shape: Shape) -> Answer<'a, Box<dyn Producer>> {
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
            Ok(Box::new(Sender { producer, topics: topics.to_vec() }) as Box<dyn Producer>)
        })
    }

    fn consumers<'a>(
        &'a self,
        topics: &'a [String],
        _: Shape,
    ) -> Answer<'a, Vec<Box<dyn Consumer>>> {
        Box::pin(async move {
            let doing = "subscribe";
            let consumer: StreamConsumer = config(&self.address)
                .set("group.id", "peers")
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
            for topic in topics {
                list.add_partition_offset(topic, 0, Offset::Beginning)
                    .map_err(DriverError::of(doing))?;
            }
            consumer.assign(&list).map_err(DriverError::of(doing))?;
            let consumer = Arc::new(consumer);
            let receiver = |topic: &String| {
                let messages = consumer.split_partition_queue(topic, 0);
                let messages = messages.ok_or_else(|| DriverError::of(doing)("no such topic"))?;
                Ok(Box::new(Receiver { messages }) as Box<dyn Consumer>)
            };
            topics.iter().map(receiver).collect()
        })
    }
}

struct Sender {
    producer: FutureProducer,
    topics: Vec<String>,
}

impl Producer for Sender {
    fn send(&self, topic: usize, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut deliveries = Vec::with_capacity(messages.count());
            let topic = &self.topics[topic];
            for payload in messages.iter() {
                let record = FutureRecord::<(), [u8]>::to(topic).partition(0).payload(&payload);
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
    messages: StreamPartitionQueue<DefaultConsumerContext>,
}

impl Consumer for Receiver {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut messages = self.messages.stream();
            arrived(&mut messages, |message| each(message.payload().unwrap_or_default())).await
        })
    }
}
