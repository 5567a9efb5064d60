//! The producer: messages gather in one lane per partition, and each lane sends its batches in
//! order.
//!
//! `lane` holds what gathers, `sender` is the task that sends and retries, `delivery` tells what
//! became of a message.

mod builder;
mod delivery;
mod lane;
mod partitioner;
mod sender;
mod spare;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use ahash::AHashMap;
use model::{TopicName, limits};
use tokio::sync::{OnceCell, Semaphore};

pub use self::builder::ProducerBuilder;
use self::builder::ProducerOptions;
pub use self::delivery::{Delivery, Receipt};
use self::lane::Lane;
pub use self::partitioner::Partitioner;
use self::partitioner::Spread;
use self::sender::Identity;
use self::spare::Spare;
use crate::error::Error;
use crate::routes::Routes;

/// A message to send. It borrows everything: the one copy is into the batch.
///
/// ```
/// use corelane_client::Message;
///
/// let message = Message::new("orders").key("customer-7").value(r#"{"total": 12}"#);
/// assert_eq!(message.topic, "orders");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub topic: &'a str,
    /// `None`: the producer's partitioner decides.
    pub partition: Option<u32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Unix milliseconds; `None`: now.
    pub timestamp_ms: Option<i64>,
}

impl<'a> Message<'a> {
    /// A message without key and value.
    pub fn new(topic: &'a str) -> Self {
        Self { topic, partition: None, key: None, value: None, headers: &[], timestamp_ms: None }
    }

    #[must_use]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    #[must_use]
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    #[must_use]
    pub fn headers(mut self, headers: &'a [(&'a str, &'a [u8])]) -> Self {
        self.headers = headers;
        self
    }

    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    #[must_use]
    pub fn timestamp_ms(mut self, unix_ms: i64) -> Self {
        self.timestamp_ms = Some(unix_ms);
        self
    }

    /// About how many bytes of the producer's buffer it takes: at least what it has in a batch.
    fn buffer_bytes(&self) -> usize {
        /// Lengths, deltas and the message's share of the batch's header.
        const FIXED_BYTES: usize = 48;
        /// The two lengths of a header.
        const PER_HEADER_BYTES: usize = 10;
        let headers = self.headers.iter().map(|(n, v)| n.len() + v.len() + PER_HEADER_BYTES);
        FIXED_BYTES
            + self.key.map_or(0, <[u8]>::len)
            + self.value.map_or(0, <[u8]>::len)
            + headers.sum::<usize>()
    }
}

/// Sends messages in batches, in order for each partition, and sends again what went unanswered
/// without storing it twice.
///
/// Sending twice is recognised by the server: every batch carries the producer's id and a sequence
/// number. That holds as long as this producer lives, for acknowledged levels; messages sent with
/// [`AckLevel::None`](crate::AckLevel::None) are sent once and may be lost.
///
/// ```no_run
/// # async fn example() -> Result<(), corelane_client::Error> {
/// use corelane_client::{Client, Compression, Message};
///
/// let client = Client::connect("127.0.0.1:7300").await?;
/// let producer = client.producer().compression(Compression::Lz4).build()?;
/// // Waits only while the buffer is full.
/// let delivery = producer.send(Message::new("orders").key("7").value("paid")).await?;
/// // Waits until the message is on disk.
/// let receipt = delivery.await?;
/// println!("partition {} offset {:?}", receipt.partition, receipt.offset);
/// producer.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// Dropping a producer sends what it holds in the background; [`Self::close`] waits for it.
pub struct Producer {
    shared: Arc<Shared>,
}

/// What the producer and its lanes share.
struct Shared {
    routes: Arc<Routes>,
    options: ProducerOptions,
    /// Bytes of the buffer that are free.
    memory: Arc<Semaphore>,
    spare: Spare,
    /// The id that lanes begin with; asked for at the first batch.
    identity: OnceCell<Identity>,
    topics: RwLock<AHashMap<TopicName, Arc<Topic>>>,
}

/// A topic as this producer uses it.
struct Topic {
    name: TopicName,
    partitions: AtomicU32,
    spread: Spread,
    lanes: Mutex<AHashMap<u32, Arc<Lane>>>,
}

impl Producer {
    fn new(routes: Arc<Routes>, options: ProducerOptions) -> Self {
        let memory = Arc::new(Semaphore::new(options.buffer_bytes as usize));
        let (spare, identity) = (Spare::new(options.batch_bytes), OnceCell::new());
        let topics = RwLock::default();
        let shared = Shared { routes, options, memory, spare, identity, topics };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a message into its batch. Waits while the buffer is full, and at the first message
    /// for a topic until the server has said what partitions it has.
    ///
    /// What becomes of the message is the [`Delivery`]'s to tell; order is that of the calls, for
    /// each partition.
    pub async fn send(&self, message: Message<'_>) -> Result<Delivery, Error> {
        let topic = self.topic(message.topic).await?;
        let bytes = self.take_memory(&message).await?;
        let result = self.append(&topic, &message, bytes);
        if result.is_err() {
            self.shared.memory.add_permits(bytes as usize);
        }
        result
    }

    fn append(&self, topic: &Arc<Topic>, message: &Message, held: u32) -> Result<Delivery, Error> {
        let partitions = topic.partitions.load(Ordering::Relaxed);
        let partition = match message.partition {
            Some(partition) if partition < partitions => partition,
            Some(partition) => {
                let topic = topic.name.to_string();
                return Err(Error::NoSuchPartition { topic, partition, partitions });
            }
            None => topic.spread.choose(self.shared.options.partitioner, message.key, partitions),
        };
        let timestamp_ms = message.timestamp_ms.unwrap_or_else(now_ms);
        self.lane(topic, partition).append(&self.shared, message, timestamp_ms, held)
    }

    async fn take_memory(&self, message: &Message<'_>) -> Result<u32, Error> {
        let (bytes, max) = (message.buffer_bytes(), self.shared.options.message_bytes_max());
        if bytes > max {
            return Err(Error::MessageTooLarge { bytes, max });
        }
        let bytes = bytes as u32;
        match self.shared.memory.acquire_many(bytes).await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(Error::Closed),
        }
        Ok(bytes)
    }

    async fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let known = {
            let topics = self.shared.topics.read().unwrap_or_else(PoisonError::into_inner);
            topics.get(name).cloned()
        };
        if let Some(topic) = known {
            return Ok(topic);
        }
        let name = TopicName::parse(name)?;
        let info = self.shared.routes.topic(&name, self.shared.routes.deadline()).await?;
        let partitions = (info.partitions.len() as u32).max(1);
        let start = std::process::id() % partitions;
        let topic = Topic {
            name: name.clone(),
            partitions: AtomicU32::new(partitions),
            spread: Spread::starting_at(start),
            lanes: Mutex::default(),
        };
        let mut topics = self.shared.topics.write().unwrap_or_else(PoisonError::into_inner);
        Ok(topics.entry(name).or_insert_with(|| Arc::new(topic)).clone())
    }

    fn lane(&self, topic: &Arc<Topic>, partition: u32) -> Arc<Lane> {
        let mut lanes = topic.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let lane = Arc::new(Lane::new(partition));
            sender::spawn(self.shared.clone(), topic.clone(), lane.clone());
            lane
        };
        lanes.entry(partition).or_insert_with(new).clone()
    }

    fn lanes(&self) -> Vec<Arc<Lane>> {
        let topics = self.shared.topics.read().unwrap_or_else(PoisonError::into_inner);
        let lanes = topics.values().flat_map(|topic| {
            let lanes = topic.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.values().cloned().collect::<Vec<_>>()
        });
        lanes.collect()
    }

    /// Sends everything taken so far without lingering and waits for what becomes of it. The error
    /// is the first failure among the messages still on their way at the call; each
    /// [`Delivery`] tells its own.
    pub async fn flush(&self) -> Result<(), Error> {
        let outcomes: Vec<_> = self.lanes().iter().flat_map(|lane| lane.flush()).collect();
        let mut result = Ok(());
        for outcome in outcomes {
            let done = outcome.wait().await;
            result = result.and(done.map(drop));
        }
        result
    }

    /// Flushes and ends the producer. The error is that of the flush.
    pub async fn close(self) -> Result<(), Error> {
        self.flush().await
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        for lane in self.lanes() {
            lane.close();
        }
    }
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

impl ProducerOptions {
    /// The largest message: what fits an empty batch, and the buffer.
    fn message_bytes_max(&self) -> usize {
        limits::BATCH_BYTES_MAX.min(self.buffer_bytes) as usize
    }
}
