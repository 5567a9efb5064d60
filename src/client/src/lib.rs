//! The Rust client of Corelane, for applications on tokio.
//!
//! - [`Client`]: connections, metadata, topics, status.
//! - [`Producer`]: sends messages in batches, and again after failures without storing them twice.
//! - [`Consumer`]: a stream of records, pushed by the server, as slices of the receive buffer.
//!
//! ```no_run
//! use corelane_client::{Client, Message, StartPosition};
//!
//! # async fn example() -> Result<(), corelane_client::Error> {
//! let client = Client::connect("127.0.0.1:7300").await?;
//! client.create_topic("greetings").send().await?;
//!
//! let producer = client.producer().build()?;
//! let delivery = producer.send(Message::new("greetings").value("hello")).await?;
//! println!("stored at {:?}", delivery.await?.offset);
//!
//! let mut consumer = client.consumer("greetings").start(StartPosition::First).build().await?;
//! if let Some(record) = consumer.next().await {
//!     println!("{:?}", record?.value());
//! }
//! # Ok(())
//! # }
//! ```

mod admin;
mod backoff;
mod backup;
mod client;
mod compression;
mod connection;
mod consumer;
mod error;
mod producer;
mod record;
mod routes;

/// For tests that give it bytes no server sends. No part of the interface.
#[doc(hidden)]
pub mod inside {
    pub use crate::compression::pack;
    pub use crate::consumer::batches::{ReadBatches, read_batches};
}

pub use model::backup::{BackupPoint, SegmentPoint, ShardPoint};
pub use model::reply::{PartitionStatus, ServerStatus, ShardHealth};
pub use model::{
    AckLevel, CoreStages, ErrorCode, Stage, StageHistogram, StartPosition, TopicChange,
    TopicConfig, TopicInfo, TopicName,
};

pub use self::admin::{CreateTopic, TopicDescription, TopicPage};
pub use self::backup::Backup;
pub use self::client::{Client, ClientBuilder, DEFAULT_PORT};
pub use self::compression::{Compression, UnpackLimits, unpack};
pub use self::consumer::{Consumer, ConsumerBuilder, Fetch, Fetched, OffsetReset, Skipped};
pub use self::error::{CompressionError, Error};
pub use self::producer::{Delivery, Message, Partitioner, Producer, ProducerBuilder, Receipt};
pub use self::record::Record;
