//! NATS JetStream: acknowledged publishes, a pull consumer without acknowledgements of its own.
//!
//! Where every publish is synced, a request of several messages goes as one atomic batch, which the
//! server syncs once.
//!
//! The topics of a connection are the subjects of one stream, as JetStream's are meant: a stream is
//! a directory, files and a task of the server.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Subject;
use async_nats::header::{
    HeaderMap, NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
};
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, StorageType};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::arrived::arrived;
use crate::driver::{Answer, Broker, Consumer, DriverError, Messages, Producer, Shape};
use crate::peer::Level;

/// Publishes that may wait for their acknowledgement: more than any workload has under way.
const ACKS_MAX: usize = 16_384;
const TIMEOUT: Duration = Duration::from_secs(60);
/// Messages asked for at once by a consumer, at least.
const PULL_MESSAGES_MIN: usize = 1_000;
/// Names of batches, which have to differ.
static BATCHES: AtomicU64 = AtomicU64::new(0);

pub struct Nats {
    address: String,
    control: Context,
    level: Level,
}

impl Nats {
    pub async fn connect(address: &str, level: Level) -> Result<Self, DriverError> {
        let control = connect(address).await?;
        // The port answers before JetStream does.
        control.query_account().await.map_err(DriverError::of("reach JetStream"))?;
        Ok(Self { address: address.to_owned(), control, level })
    }
}

async fn connect(address: &str) -> Result<Context, DriverError> {
    let client = async_nats::connect(address).await;
    let client = client.map_err(DriverError::of("connect to NATS"))?;
    let builder = ContextBuilder::new().timeout(TIMEOUT).ack_timeout(TIMEOUT);
    Ok(builder.max_ack_inflight(ACKS_MAX).build(client))
}

/// The stream of a topic: topics that share one are named `STREAM.NUMBER`.
fn stream_of(topic: &str) -> &str {
    topic.split_once('.').map_or(topic, |(stream, _)| stream)
}

impl Broker for Nats {
    fn create<'a>(&'a self, topics: &'a [String], made: &'a Cell<usize>) -> Answer<'a, ()> {
        Box::pin(async move {
            let Some(first) = topics.first() else { return Ok(()) };
            let stream = stream_of(first);
            let subject = if stream == first { stream.to_owned() } else { format!("{stream}.*") };
            let config = Config {
                name: stream.to_owned(),
                subjects: vec![subject],
                storage: StorageType::File,
                num_replicas: 1,
                allow_atomic_publish: true,
                ..Config::default()
            };
            let created = self.control.create_stream(config).await;
            created.map_err(DriverError::of("create a stream"))?;
            made.set(made.get() + topics.len());
            Ok(())
        })
    }

    fn remove<'a>(&'a self, topics: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            let Some(first) = topics.first() else { return Ok(()) };
            let removed = self.control.delete_stream(stream_of(first)).await;
            removed.map(drop).map_err(DriverError::of("delete a stream"))
        })
    }

    fn producer<'a>(&'a self, topics: &'a [String], shape: Shape) -> Answer<'a, Box<dyn Producer>> {
        Box::pin(async move {
            let context = connect(&self.address).await?;
            let in_batches = shape.batch > 1 && self.level == Level::Durable;
            let subjects = topics.iter().map(|topic| topic.as_str().into()).collect();
            let handing_over = Mutex::new(());
            let sender = Sender { context, subjects, in_batches, handing_over };
            Ok(Box::new(sender) as Box<dyn Producer>)
        })
    }

    fn consumers<'a>(
        &'a self,
        topics: &'a [String],
        shape: Shape,
    ) -> Answer<'a, Vec<Box<dyn Consumer>>> {
        Box::pin(async move {
            let doing = "subscribe";
            let context = connect(&self.address).await?;
            let Some(first) = topics.first() else { return Ok(Vec::new()) };
            let stream = context.get_stream(stream_of(first)).await;
            let stream = stream.map_err(DriverError::of(doing))?;
            let config = pull::Config {
                ack_policy: AckPolicy::None,
                deliver_policy: DeliverPolicy::All,
                filter_subjects: topics.to_vec(),
                memory_storage: true,
                ..pull::Config::default()
            };
            let consumer = stream.create_consumer(config).await.map_err(DriverError::of(doing))?;
            let pull = shape.batch.max(PULL_MESSAGES_MIN);
            let messages = consumer.stream().max_messages_per_batch(pull).messages().await;
            let messages = messages.map_err(DriverError::of(doing))?;
            if let [_] = topics {
                return Ok(vec![Box::new(Receiver { messages }) as Box<dyn Consumer>]);
            }
            let all = Rc::new(Mutex::new(Gathered { messages, waiting: HashMap::new() }));
            let receiver = |topic: &String| {
                let (all, subject) = (all.clone(), topic.clone());
                Box::new(SubjectReceiver { all, subject }) as Box<dyn Consumer>
            };
            Ok(topics.iter().map(receiver).collect())
        })
    }
}

struct Sender {
    context: Context,
    subjects: Vec<Subject>,
    /// Whether a request is one atomic batch.
    in_batches: bool,
    /// Held while a request's messages are handed over: the next's do not come between.
    handing_over: Mutex<()>,
}

impl Producer for Sender {
    fn send(&self, topic: usize, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            let turn = self.handing_over.lock().await;
            let acks = if self.in_batches {
                vec![self.publish_batch(&self.subjects[topic], &messages).await?]
            } else {
                self.publish_each(&self.subjects[topic], &messages).await?
            };
            drop(turn);
            for ack in acks {
                ack.await.map_err(DriverError::of("publish"))?;
            }
            Ok(())
        })
    }
}

impl Sender {
    async fn publish_each(
        &self,
        subject: &Subject,
        messages: &Messages,
    ) -> Result<Vec<PublishAckFuture>, DriverError> {
        let mut acks = Vec::with_capacity(messages.count());
        for payload in messages.iter() {
            let sent = self.context.publish(subject.clone(), payload).await;
            acks.push(sent.map_err(DriverError::of("publish"))?);
        }
        Ok(acks)
    }

    /// The last message commits the batch, and its acknowledgement is that of all.
    async fn publish_batch(
        &self,
        subject: &Subject,
        messages: &Messages,
    ) -> Result<PublishAckFuture, DriverError> {
        let doing = "publish a batch";
        let client = self.context.client();
        let id = format!("{}-{}", std::process::id(), BATCHES.fetch_add(1, Ordering::Relaxed));
        let headers = |sequence: usize| {
            let mut headers = HeaderMap::new();
            headers.insert(NATS_BATCH_ID, id.as_str());
            headers.insert(NATS_BATCH_SEQUENCE, sequence.to_string());
            headers
        };
        for (at, payload) in messages.iter().enumerate().take(messages.count() - 1) {
            let sent = client.publish_with_headers(subject.clone(), headers(at + 1), payload);
            sent.await.map_err(DriverError::of(doing))?;
        }
        let mut commit = headers(messages.count());
        commit.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
        let last = messages.iter().last().unwrap_or_default();
        let message = PublishMessage::build().payload(last).headers(commit);
        let sent = self.context.send_publish(subject.clone(), message).await;
        sent.map_err(DriverError::of(doing))
    }
}

struct Receiver {
    messages: pull::Stream,
}

impl Consumer for Receiver {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(arrived(&mut self.messages, |message| each(&message.payload)))
    }
}

/// One of several subjects that are read through one consumer of their stream: the server ends
/// consumers that are not read for seconds, and has not as many as there may be subjects.
struct SubjectReceiver {
    all: Rc<Mutex<Gathered>>,
    subject: String,
}

struct Gathered {
    messages: pull::Stream,
    /// What came for subjects while another was read.
    waiting: HashMap<String, Vec<Bytes>>,
}

impl Consumer for SubjectReceiver {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(async move {
            let Gathered { messages, waiting } = &mut *self.all.lock().await;
            if !waiting.contains_key(&self.subject) {
                arrived(messages, |message| {
                    waiting
                        .entry(message.subject.to_string())
                        .or_default()
                        .push(message.payload.clone());
                })
                .await?;
            }
            let own = waiting.remove(&self.subject).unwrap_or_default();
            own.iter().for_each(|payload| each(payload));
            Ok(())
        })
    }
}
