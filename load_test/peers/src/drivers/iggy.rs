//! Iggy over TCP. Its client has one request under way on a connection: messages that wait for
//! their turn are joined into one request of their topic.
//!
//! The topics of a connection are in one stream: the server numbers those of a stream with 12 bits,
//! takes more all the same, and then mixes the messages of topics whose numbers are 4,096 apart.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use iggy::prelude::{
    AutoLogin, Client, CompressionAlgorithm, Consumer as ConsumerOf, DEFAULT_ROOT_PASSWORD,
    DEFAULT_ROOT_USERNAME, Identifier, IggyExpiry, IggyMessage, MaxTopicSize, MessageClient,
    Partitioning, PollingStrategy, StreamClient, TcpClient, TcpClientConfigBuilder, TopicClient,
    UserClient,
};
use tokio::sync::{Mutex, oneshot};

use super::for_each;
use crate::driver::{Answer, Broker, Consumer, DriverError, Messages, PATIENCE, Producer, Shape};

const PARTITION: u32 = 0;
/// Payload bytes of one request, beyond which nothing is joined to it.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

pub struct Iggy {
    address: String,
    control: TcpClient,
}

impl Iggy {
    pub async fn connect(address: &str) -> Result<Self, DriverError> {
        Ok(Self { address: address.to_owned(), control: open(address).await? })
    }
}

async fn open(address: &str) -> Result<TcpClient, DriverError> {
    let doing = "connect to Iggy";
    let config = TcpClientConfigBuilder::new()
        .with_server_address(address.to_owned())
        .with_auto_sign_in(AutoLogin::Disabled)
        .with_reconnection_max_retries(Some(0))
        .with_no_delay()
        .build()
        .map_err(DriverError::of(doing))?;
    let client = TcpClient::create(Arc::new(config)).map_err(DriverError::of(doing))?;
    client.connect().await.map_err(DriverError::of(doing))?;
    let signed_in = client.login_user(DEFAULT_ROOT_USERNAME, DEFAULT_ROOT_PASSWORD).await;
    signed_in.map_err(DriverError::of("sign in to Iggy"))?;
    Ok(client)
}

/// The stream of a topic: topics that share one are named `STREAM.NUMBER`.
fn stream_of(topic: &str) -> &str {
    topic.split_once('.').map_or(topic, |(stream, _)| stream)
}

fn name(text: &str) -> Result<Identifier, DriverError> {
    Identifier::named(text).map_err(DriverError::of("name a topic"))
}

impl Broker for Iggy {
    fn create<'a>(&'a self, topics: &'a [String], made: &'a Cell<usize>) -> Answer<'a, ()> {
        Box::pin(async move {
            let Some(first) = topics.first() else { return Ok(()) };
            let created = self.control.create_stream(stream_of(first)).await;
            created.map_err(DriverError::of("create a stream"))?;
            let stream = &name(stream_of(first))?;
            let create = move |topic| async move {
                let created = self.control.create_topic(
                    stream,
                    topic,
                    1,
                    CompressionAlgorithm::None,
                    None,
                    IggyExpiry::NeverExpire,
                    MaxTopicSize::Unlimited,
                );
                created.await.map(drop).map_err(DriverError::of("create a topic"))
            };
            for_each(topics, made, create).await
        })
    }

    fn remove<'a>(&'a self, topics: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            let Some(first) = topics.first() else { return Ok(()) };
            let deleted = self.control.delete_stream(&name(stream_of(first))?).await;
            deleted.map_err(DriverError::of("delete a stream"))
        })
    }

    fn producer<'a>(&'a self, topics: &'a [String], _: Shape) -> Answer<'a, Box<dyn Producer>> {
        Box::pin(async move {
            let client = Mutex::new(open(&self.address).await?);
            let lane =
                |topic: &String| Ok(Lane { topic: name(topic)?, waiting: RefCell::default() });
            let lanes: Result<Vec<Lane>, DriverError> = topics.iter().map(lane).collect();
            let partitioning = Partitioning::partition_id(PARTITION);
            let stream = name(topics.first().map_or("", |first| stream_of(first)))?;
            let sender = Sender { client, stream, lanes: lanes?, partitioning };
            Ok(Box::new(sender) as Box<dyn Producer>)
        })
    }

    fn consumers<'a>(
        &'a self,
        topics: &'a [String],
        shape: Shape,
    ) -> Answer<'a, Vec<Box<dyn Consumer>>> {
        Box::pin(async move {
            let client = Rc::new(open(&self.address).await?);
            let consumer = Identifier::numeric(1).map_err(DriverError::of("name a consumer"))?;
            let consumer = ConsumerOf::new(consumer);
            let receiver = |topic: &String| {
                let (stream, topic) = (name(stream_of(topic))?, name(topic)?);
                let count = shape.batch as u32;
                let (client, consumer) = (client.clone(), consumer.clone());
                let receiver = Receiver { client, consumer, stream, topic, count, offset: 0 };
                Ok(Box::new(receiver) as Box<dyn Consumer>)
            };
            topics.iter().map(receiver).collect()
        })
    }
}

struct Sender {
    /// Held while a request is under way.
    client: Mutex<TcpClient>,
    stream: Identifier,
    lanes: Vec<Lane>,
    partitioning: Partitioning,
}

/// One topic, and what waits for the connection to be sent to it.
struct Lane {
    topic: Identifier,
    waiting: RefCell<Vec<Waiting>>,
}

struct Waiting {
    messages: Messages,
    tell: oneshot::Sender<Result<(), DriverError>>,
}

impl Lane {
    /// What goes in the next request: what has waited longest, no more than a request may have.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        let mut bytes = 0;
        let fits = |one: &&Waiting| {
            bytes += one.messages.bytes();
            bytes <= REQUEST_BYTES_MAX
        };
        let count = waiting.iter().take_while(fits).count().max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }
}

impl Producer for Sender {
    fn send(&self, topic: usize, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            let lane = &self.lanes[topic];
            let (tell, mut told) = oneshot::channel();
            lane.waiting.borrow_mut().push(Waiting { messages, tell });
            loop {
                let client = self.client.lock().await;
                // Another's turn may have taken it along.
                if let Ok(result) = told.try_recv() {
                    return result;
                }
                let joined = lane.take();
                let result = self.request(&client, lane, &joined).await;
                drop(client);
                for one in joined {
                    // Nobody listens only after a first refusal.
                    drop(one.tell.send(result.clone()));
                }
            }
        })
    }
}

impl Sender {
    async fn request(
        &self,
        client: &TcpClient,
        lane: &Lane,
        joined: &[Waiting],
    ) -> Result<(), DriverError> {
        let payloads = joined.iter().flat_map(|one| one.messages.iter());
        let made: Result<Vec<IggyMessage>, _> =
            payloads.map(|payload| IggyMessage::builder().payload(payload).build()).collect();
        let mut made = made.map_err(DriverError::of("publish"))?;
        let Self { stream, partitioning, .. } = self;
        let sent = client.send_messages(stream, &lane.topic, partitioning, &mut made).await;
        sent.map_err(DriverError::of("publish"))
    }
}

struct Receiver {
    client: Rc<TcpClient>,
    consumer: ConsumerOf,
    stream: Identifier,
    topic: Identifier,
    count: u32,
    offset: u64,
}

impl Consumer for Receiver {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(async move {
            let began = Instant::now();
            // The broker answers at once also when there is nothing: its round trip is the pause.
            while began.elapsed() < PATIENCE {
                let Self { client, consumer, stream, topic, count, offset } = self;
                let strategy = PollingStrategy::offset(*offset);
                let polled = client.poll_messages(
                    stream,
                    topic,
                    Some(PARTITION),
                    consumer,
                    &strategy,
                    *count,
                    false,
                );
                let polled = polled.await.map_err(DriverError::of("read"))?;
                if polled.messages.is_empty() {
                    continue;
                }
                for message in &polled.messages {
                    each(&message.payload);
                    self.offset = message.header.offset + 1;
                }
                return Ok(());
            }
            Ok(())
        })
    }
}
