//! RabbitMQ's quorum queues over AMQP 0.9.1, with publisher confirms.

use std::cell::Cell;
use std::rc::Rc;

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::sync::Mutex;

use super::arrived::arrived;
use super::for_each;
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
    fn create<'a>(&'a self, topics: &'a [String], made: &'a Cell<usize>) -> Answer<'a, ()> {
        Box::pin(for_each(topics, made, move |topic| async move {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let declared =
                self.control.channel.queue_declare(topic.into(), options, arguments).await;
            declared.map(drop).map_err(DriverError::of("declare a queue"))
        }))
    }

    fn remove<'a>(&'a self, topics: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            let delete = move |topic: &'a str| async move {
                let options = QueueDeleteOptions::default();
                let deleted = self.control.channel.queue_delete(topic.into(), options);
                deleted.await.map(drop).map_err(DriverError::of("delete a queue"))
            };
            for_each(topics, &Cell::new(0), delete).await
        })
    }

    fn producer<'a>(&'a self, topics: &'a [String], _: Shape) -> Answer<'a, Box<dyn Producer>> {
        Box::pin(async move {
            let link = Link::open(&self.uri).await?;
            let confirms = link.channel.confirm_select(ConfirmSelectOptions::default()).await;
            confirms.map_err(DriverError::of("ask for confirms"))?;
            let queues = topics.iter().map(|topic| topic.as_str().into()).collect();
            let sender = Sender { link, queues, handing_over: Mutex::new(()) };
            Ok(Box::new(sender) as Box<dyn Producer>)
        })
    }

    /// Without acknowledgements of its own: the quickest way to empty a queue.
    fn consumers<'a>(
        &'a self,
        topics: &'a [String],
        _: Shape,
    ) -> Answer<'a, Vec<Box<dyn Consumer>>> {
        Box::pin(async move {
            let link = Rc::new(Link::open(&self.uri).await?);
            let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            let mut consumers = Vec::with_capacity(topics.len());
            for topic in topics {
                let (queue, arguments) = (topic.as_str().into(), FieldTable::default());
                let consumer = link.channel.basic_consume(queue, "".into(), options, arguments);
                let consumer = consumer.await.map_err(DriverError::of("subscribe"))?;
                let receiver = Receiver { _link: link.clone(), consumer };
                consumers.push(Box::new(receiver) as Box<dyn Consumer>);
            }
            Ok(consumers)
        })
    }

    fn replays(&self) -> bool {
        false
    }
}

struct Sender {
    link: Link,
    queues: Vec<ShortString>,
    /// Held while a request's messages are handed over: the next's do not come between.
    handing_over: Mutex<()>,
}

impl Producer for Sender {
    fn send(&self, topic: usize, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut confirms = Vec::with_capacity(messages.count());
            let turn = self.handing_over.lock().await;
            for payload in messages.iter() {
                let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
                let options = BasicPublishOptions::default();
                let (exchange, queue) = ("".into(), self.queues[topic].clone());
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
    _link: Rc<Link>,
    consumer: lapin::Consumer,
}

impl Consumer for Receiver {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(arrived(&mut self.consumer, |delivery| each(&delivery.data)))
    }
}
