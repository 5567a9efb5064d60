//! RabbitMQ's streams over their own protocol. Their client asks for one chunk of a stream at a
//! time and opens a connection for each producer and each consumer, which cannot be changed.

use std::cell::Cell;
use std::sync::Arc;

use rabbitmq_stream_client::types::{Delivery, Message, OffsetSpecification};
use rabbitmq_stream_client::{Environment, NoDedup};
use tokio::sync::{Mutex, mpsc};

use super::arrived::arrived;
use super::for_each;
use crate::driver::{Answer, Broker, Consumer, DriverError, Messages, Producer, Shape};

pub struct Streams {
    host: String,
    port: u16,
    control: Environment,
}

impl Streams {
    pub async fn connect(address: &str) -> Result<Self, DriverError> {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let port = port.parse().map_err(DriverError::of("read the port of RabbitMQ"))?;
        let control = open(host, port).await?;
        Ok(Self { host: host.to_owned(), port, control })
    }
}

async fn open(host: &str, port: u16) -> Result<Environment, DriverError> {
    let builder = Environment::builder().host(host).port(port);
    builder.build().await.map_err(DriverError::of("connect to RabbitMQ"))
}

impl Broker for Streams {
    fn create<'a>(&'a self, topics: &'a [String], made: &'a Cell<usize>) -> Answer<'a, ()> {
        Box::pin(for_each(topics, made, move |topic| async move {
            let created = self.control.stream_creator().create(topic).await;
            created.map_err(DriverError::of("create a stream"))
        }))
    }

    fn remove<'a>(&'a self, topics: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            let delete = move |topic: &'a str| async move {
                let deleted = self.control.delete_stream(topic).await;
                deleted.map_err(DriverError::of("delete a stream"))
            };
            for_each(topics, &Cell::new(0), delete).await
        })
    }

    fn producer<'a>(&'a self, topics: &'a [String], shape: Shape) -> Answer<'a, Box<dyn Producer>> {
        Box::pin(async move {
            let environment = open(&self.host, self.port).await?;
            let gathered = shape.batch.max(100);
            let handing_over = Mutex::new(());
            let mut sender = Sender { environment, producers: Vec::new(), handing_over };
            for topic in topics {
                let producer = sender.environment.producer().batch_size(gathered).build(topic);
                let producer = producer.await.map_err(DriverError::of("make a producer"))?;
                sender.producers.push(producer);
            }
            Ok(Box::new(sender) as Box<dyn Producer>)
        })
    }

    fn consumers<'a>(
        &'a self,
        topics: &'a [String],
        _: Shape,
    ) -> Answer<'a, Vec<Box<dyn Consumer>>> {
        Box::pin(async move {
            let environment = open(&self.host, self.port).await?;
            let mut consumers = Vec::with_capacity(topics.len());
            for topic in topics {
                let consumer = environment.consumer().offset(OffsetSpecification::First);
                let consumer = consumer.build(topic).await.map_err(DriverError::of("subscribe"))?;
                let receiver = Receiver { _environment: environment.clone(), consumer };
                consumers.push(Box::new(receiver) as Box<dyn Consumer>);
            }
            Ok(consumers)
        })
    }
}

struct Sender {
    environment: Environment,
    producers: Vec<rabbitmq_stream_client::Producer<NoDedup>>,
    /// Held while a request's messages are handed over: the next's do not come between.
    handing_over: Mutex<()>,
}

impl Producer for Sender {
    fn send(&self, topic: usize, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            let doing = "publish";
            let made = |payload: bytes::Bytes| Message::builder().body(payload.to_vec()).build();
            let all: Vec<Message> = messages.iter().map(made).collect();
            let (tell, mut told) = mpsc::unbounded_channel();
            let tell = Arc::new(tell);
            let turn = self.handing_over.lock().await;
            let sent = self.producers[topic].batch_send(all, move |confirm| {
                let tell = tell.clone();
                // Nobody listens only after a first refusal.
                async move { drop(tell.send(confirm)) }
            });
            sent.await.map_err(DriverError::of(doing))?;
            drop(turn);
            for _ in 0..messages.count() {
                let confirm = told.recv().await.ok_or(DriverError::Ended)?;
                let confirm = confirm.map_err(DriverError::of(doing))?;
                if !confirm.confirmed() {
                    return Err(DriverError::of(doing)(format!("{:?}", confirm.status())));
                }
            }
            Ok(())
        })
    }
}

impl Drop for Sender {
    /// A producer that is dropped open waits for its connection, which this thread serves.
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        for producer in self.producers.drain(..) {
            match &runtime {
                Ok(runtime) => drop(runtime.spawn(producer.close())),
                // Its connection is gone with the runtime, and no answer will come.
                Err(_) => std::mem::forget(producer),
            }
        }
    }
}

struct Receiver {
    _environment: Environment,
    consumer: rabbitmq_stream_client::Consumer,
}

impl Drop for Receiver {
    /// A consumer that is dropped open keeps its connection.
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(self.consumer.handle().close()));
        }
    }
}

impl Consumer for Receiver {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(arrived(&mut self.consumer, |delivery: Delivery| {
            each(delivery.message().data().unwrap_or_default());
        }))
    }
}
