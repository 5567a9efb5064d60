//! The brokers, each behind its own client. All but Corelane's need their feature.

#[cfg(feature = "activemq")]
mod activemq;
mod arrived;
mod corelane;
#[cfg(feature = "iggy")]
mod iggy;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "rabbitmq-stream")]
mod rabbitmq_stream;
#[cfg(feature = "redis")]
mod redis;

use std::cell::Cell;
use std::future::{Future, ready};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::driver::{Broker, DriverError};
use crate::peer::{Level, Peer};

/// How often a broker that may still be starting is asked.
const RETRY: Duration = Duration::from_millis(100);

/// Topics that are made or removed at once where each is a request of its own.
const REQUESTS_AT_ONCE: usize = 16;

/// Whether this build has the client for `peer`.
pub fn is_built_in(peer: Peer) -> bool {
    match peer {
        Peer::Corelane => true,
        Peer::Kafka => cfg!(feature = "kafka"),
        Peer::Nats => cfg!(feature = "nats"),
        Peer::RabbitmqQuorum => cfg!(feature = "rabbitmq"),
        Peer::RabbitmqStream => cfg!(feature = "rabbitmq-stream"),
        Peer::Redis => cfg!(feature = "redis"),
        Peer::Iggy => cfg!(feature = "iggy"),
        Peer::Activemq => cfg!(feature = "activemq"),
    }
}

/// Why `peer` cannot be driven by a build without its client.
pub fn not_built_in(peer: Peer) -> String {
    let feature = match peer {
        Peer::RabbitmqQuorum => "rabbitmq",
        other => other.as_str(),
    };
    format!("this build has no client for it; build with --features {feature}")
}

/// Connects to a broker, trying until `deadline`: it may still be starting.
pub async fn connect(
    peer: Peer,
    address: &str,
    level: Level,
    deadline: Instant,
) -> Result<Rc<dyn Broker>, DriverError> {
    loop {
        match try_connect(peer, address, level).await {
            Ok(broker) => return Ok(broker),
            Err(error) if Instant::now() + RETRY > deadline => return Err(error),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn try_connect(
    peer: Peer,
    address: &str,
    level: Level,
) -> Result<Rc<dyn Broker>, DriverError> {
    match peer {
        Peer::Corelane => Ok(Rc::new(corelane::Corelane::connect(address, level).await?)),
        #[cfg(feature = "kafka")]
        Peer::Kafka => Ok(Rc::new(kafka::Kafka::connect(address).await?)),
        #[cfg(feature = "nats")]
        Peer::Nats => Ok(Rc::new(nats::Nats::connect(address, level).await?)),
        #[cfg(feature = "rabbitmq")]
        Peer::RabbitmqQuorum => Ok(Rc::new(rabbitmq::Rabbitmq::connect(address).await?)),
        #[cfg(feature = "rabbitmq-stream")]
        Peer::RabbitmqStream => Ok(Rc::new(rabbitmq_stream::Streams::connect(address).await?)),
        #[cfg(feature = "redis")]
        Peer::Redis => Ok(Rc::new(redis::Redis::connect(address).await?)),
        #[cfg(feature = "iggy")]
        Peer::Iggy => Ok(Rc::new(iggy::Iggy::connect(address).await?)),
        #[cfg(feature = "activemq")]
        Peer::Activemq => Ok(Rc::new(activemq::Activemq::connect(address, level).await?)),
        #[allow(unreachable_patterns, reason = "a build with every client has no other")]
        other => {
            Err(DriverError::Refused { doing: "drive this broker", problem: not_built_in(other) })
        }
    }
}

/// Does `work` for each of the topics, some at a time, and adds those done to `done`.
async fn for_each<'a, W: Future<Output = Result<(), DriverError>>>(
    topics: &'a [String],
    done: &Cell<usize>,
    mut work: impl FnMut(&'a str) -> W,
) -> Result<(), DriverError> {
    let all =
        stream::iter(topics.iter().map(|topic| work(topic))).buffer_unordered(REQUESTS_AT_ONCE);
    all.try_for_each(|()| {
        done.set(done.get() + 1);
        ready(Ok(()))
    })
    .await
}
