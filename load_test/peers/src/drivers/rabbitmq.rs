//! RabbitMQ's quorum queues over AMQP 0.9.1, with publisher confirms.

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::sync::Mutex;

use super::arrived::arrived;
use crate::driver::{Answer, Broker, Consumer, DriverError, Messages, Producer, Shape};

/// A message that outlives the broker, as AMQP says it.
const PERSISTENT: u8 = 2;

pub struct Rabbitmq {
    uri: String,
    control: Link,
}

/// A connection with its one channel.
struct Link {
    _connection: Connection,
    channel: Channel,
}

impl Link {
    async fn open(uri: &str) -> Result<Self, DriverError> {
        let doing = "connect to RabbitMQ";
        let connection = Connection::connect(uri, ConnectionProperties::default()).await;
        let connection = connection.map_err(DriverError::of(doing))?;
        let channel = connection.create_channel().await.map_err(DriverError::of(doing))?;
        Ok(Self { _connection: connection, channel })
    }
}

impl Rabbitmq {
    pub async fn connect(address: &str) -> Result<Self, DriverError> {
        let uri = format!("amqp://guest:guest@{address}/%2f");
        let control = Link::open(&uri).await?;
        Ok(Self { uri, control })
    }
}

impl Broker for Rabbitmq {
    fn create<'a>(&'a self, topic: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let declared =
                self.control.channel.queue_declare(topic.into(), options, arguments).await;
            declared.map(drop).map_err(DriverError::of("declare a queue"))
        })
    }

    fn remove<'a>(&'a self, topic: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let options = QueueDeleteOptions::default();
            let deleted = self.control.channel.queue_delete(topic.into(), options).await;
            deleted.map(drop).map_err(DriverError::of("delete a queue"))
        })
    }

    fn producer<'a>(&'a self, topic: &'a str, _: Shape) -> Answer<'a, Box<dyn Producer>> {
        Box::pin(async move {
            let link = Link::open(&self.uri).await?;
            let confirms = link.channel.confirm_select(ConfirmSelectOptions::default()).await;
            confirms.map_err(DriverError::of("ask for confirms"))?;
            let sender = Sender { link, queue: topic.into(), handing_over: Mutex::new(()) };
            Ok(Box::new(sender) as Box<dyn Producer>)
        })
    }

    /// Without acknowledgements of its own: the quickest way to empty a queue.
    fn consumer<'a>(&'a self, topic: &'a str, _: Shape) -> Answer<'a, Box<dyn Consumer>> {
        Box::pin(async move {
            let link = Link::open(&self.uri).await?;
            let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            let arguments = FieldTable::default();
            let consumer = link.channel.basic_consume(topic.into(), "".into(), options, arguments);
            let consumer = consumer.await.map_err(DriverError::of("subscribe"))?;
            Ok(Box::new(Receiver { _link: link, consumer }) as Box<dyn Consumer>)
        })
    }

    fn replays(&self) -> bool {
        false
    }
}

struct Sender {
    link: Link,
    queue: ShortString,
    /// Held while a request's messages are handed over: the next's do not come between.
    handing_over: Mutex<()>,
}

impl Producer for Sender {
    fn send(&self, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut confirms = Vec::with_capacity(messages.count());
            let turn = self.handing_over.lock().await;
            for payload in messages.iter() {
                let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
                let options = BasicPublishOptions::default();
                let (exchange, queue) = ("".into(), self.queue.clone());
                let sent =
                    self.link.channel.basic_publish(exchange, queue, options, &payload, properties);
                confirms.push(sent.await.map_err(DriverError::of("publish"))?);
            }
            drop(turn);
            for confirm in confirms {
                match confirm.await.map_err(DriverError::of("publish"))? {
                    Confirmation::Ack(_) => {}
                    other => return Err(DriverError::of("publish")(format!("{other:?}"))),
                }
            }
            Ok(())
        })
    }
}

struct Receiver {
    _link: Link,
    consumer: lapin::Consumer,
}

impl Consumer for Receiver {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(arrived(&mut self.consumer, |delivery| each(&delivery.data)))
    }
}
