//! Who is compared, and at which levels of durability each can be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is true of a message when its acknowledgement comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is on the disk: a sync, or a write that waits for the device, was done first.
    Durable,
    /// It is in the broker's memory or the system's page cache.
    Memory,
}

impl Level {
    pub const ALL: [Self; 2] = [Self::Durable, Self::Memory];

    /// As scripts and files name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Memory => "memory",
        }
    }

    /// For readers.
    pub fn title(self) -> &'static str {
        match self {
            Self::Durable => "acknowledged after fsync",
            Self::Memory => "acknowledged from memory or page cache",
        }
    }
}

/// A broker under comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    Corelane,
    Kafka,
    Nats,
    RabbitmqQuorum,
    RabbitmqStream,
    Redis,
    Iggy,
    Activemq,
}

impl Peer {
    pub const ALL: [Self; 8] = [
        Self::Corelane,
        Self::Kafka,
        Self::Nats,
        Self::RabbitmqQuorum,
        Self::RabbitmqStream,
        Self::Redis,
        Self::Iggy,
        Self::Activemq,
    ];

    /// As flags, files and scripts name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Corelane => "corelane",
            Self::Kafka => "kafka",
            Self::Nats => "nats",
            Self::RabbitmqQuorum => "rabbitmq-quorum",
            Self::RabbitmqStream => "rabbitmq-stream",
            Self::Redis => "redis",
            Self::Iggy => "iggy",
            Self::Activemq => "activemq",
        }
    }

    /// For readers.
    pub fn title(self) -> &'static str {
        match self {
            Self::Corelane => "Corelane",
            Self::Kafka => "Kafka",
            Self::Nats => "NATS JetStream",
            Self::RabbitmqQuorum => "RabbitMQ quorum queues",
            Self::RabbitmqStream => "RabbitMQ streams",
            Self::Redis => "Redis Streams",
            Self::Iggy => "Iggy",
            Self::Activemq => "ActiveMQ",
        }
    }

    /// The client that drives it.
    pub fn client(self) -> &'static str {
        match self {
            Self::Corelane => "corelane-client",
            Self::Kafka => "rdkafka",
            Self::Nats => "async-nats",
            Self::RabbitmqQuorum => "lapin",
            Self::RabbitmqStream => "rabbitmq-stream-client",
            Self::Redis => "redis",
            Self::Iggy => "iggy",
            Self::Activemq => "fe2o3-amqp",
        }
    }

    /// Why it has no figures at `level`; `None` when it has.
    pub fn lacks(self, level: Level) -> Option<&'static str> {
        match (self, level) {
            (Self::RabbitmqStream, Level::Durable) => Some(
                "streams never sync before they confirm: the page cache and replication are what \
                 they offer",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|peer| peer.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no broker known here: {}", known()))
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no level: durable, memory"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for peer in Peer::ALL {
            assert_eq!(peer.as_str().parse(), Ok(peer));
            let json = serde_json::to_string(&peer).unwrap();
            assert_eq!(json.trim_matches('"'), peer.as_str());
        }
        for level in Level::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        assert!("cafka".parse::<Peer>().unwrap_err().contains("rabbitmq-stream"));
    }
}
