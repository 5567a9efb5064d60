//! Which connection a request takes: what is known of topics and cores, and the connections to
//! them.
//!
//! A partition's requests go straight to the core that owns it. Where that core cannot be reached
//! they go over the first connection, and the server passes them on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::AHashMap;
use model::reply::CoreAddress;
use model::{CoreId, Reply, Request, ShardId, TopicInfo, TopicName};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::client::ClientOptions;
use crate::connection::Connection;
use crate::error::Error;

/// How long a core that could not be reached directly is left alone.
const DIRECT_RETRY_AFTER: Duration = Duration::from_secs(30);
/// A core that does not answer must not hold up what the first connection can carry.
const DIRECT_CONNECT_MAX: Duration = Duration::from_secs(1);
/// Topics remembered at most; past this all are asked for again.
const TOPICS_KNOWN_MAX: usize = 100_000;
/// Cores that are ever connected to directly; the partitions of others go over the first
/// connection.
const DIRECT_CORES_MAX: usize = 1_024;

pub(crate) struct Routes {
    options: ClientOptions,
    /// The connection to a server given by the user. Held while connecting, so that one caller
    /// connects and the others wait for it.
    main: tokio::sync::Mutex<Option<Connection>>,
    direct: Mutex<AHashMap<CoreId, Arc<tokio::sync::Mutex<Direct>>>>,
    known: Mutex<Known>,
    /// That direct connections fail is said once.
    warned: AtomicBool,
}

#[derive(Default)]
struct Known {
    cores: Arc<[CoreAddress]>,
    topics: AHashMap<TopicName, KnownTopic>,
}

impl Known {
    fn remember(&mut self, info: &Arc<TopicInfo>, since: Instant) {
        if self.topics.len() >= TOPICS_KNOWN_MAX && !self.topics.contains_key(&info.name) {
            self.topics.clear();
        }
        self.topics.insert(info.name.clone(), KnownTopic { info: info.clone(), since });
    }
}

#[derive(Clone)]
struct KnownTopic {
    info: Arc<TopicInfo>,
    since: Instant,
}

#[derive(Default)]
struct Direct {
    connection: Option<Connection>,
    failed_at: Option<Instant>,
}

impl Routes {
    pub(crate) fn new(options: ClientOptions) -> Self {
        Self {
            options,
            main: tokio::sync::Mutex::new(None),
            direct: Mutex::default(),
            known: Mutex::default(),
            warned: AtomicBool::new(false),
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.options.backoff_first, self.options.backoff_max)
    }

    /// When a call that begins now has to be over.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.options.request_timeout
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to one of the servers given by the user, made again when it is gone. One
    /// try for each server; the last one's error.
    pub(crate) async fn main(&self) -> Result<Connection, Error> {
        let mut main = self.main.lock().await;
        if let Some(connection) = main.as_ref().filter(|connection| connection.is_usable()) {
            return Ok(connection.clone());
        }
        let mut last = Error::Closed;
        for address in &self.options.servers {
            match self.open(address, self.options.connect_timeout).await {
                Ok(connection) => {
                    *main = Some(connection.clone());
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn open(&self, address: &str, within: Duration) -> Result<Connection, Error> {
        let features = if self.options.operator { protocol::FEATURE_OPERATOR } else { 0 };
        Connection::open(address, &self.options.client_name, features, within).await
    }

    /// The best connection for a shard's partitions: to its core, or else the first one.
    pub(crate) async fn to_shard(&self, shard: ShardId) -> Result<Connection, Error> {
        let Some(address) = self.core_of(shard).filter(|_| self.options.direct_connections) else {
            return self.main().await;
        };
        if address.port == 0 {
            return self.main().await;
        }
        let slot = {
            let mut direct = self.direct.lock().unwrap_or_else(PoisonError::into_inner);
            if direct.len() >= DIRECT_CORES_MAX && !direct.contains_key(&address.core) {
                None
            } else {
                Some(direct.entry(address.core).or_default().clone())
            }
        };
        let Some(slot) = slot else { return self.main().await };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.connection.as_ref().filter(|open| open.is_usable()) {
            return Ok(connection.clone());
        }
        slot.connection = None;
        let main = self.main().await?;
        let rested = slot.failed_at.is_none_or(|at| at.elapsed() >= DIRECT_RETRY_AFTER);
        if main.hello().core == address.core || !rested {
            return Ok(main);
        }
        let target = direct_address(&address, main.address());
        match self.open(&target, self.options.connect_timeout.min(DIRECT_CONNECT_MAX)).await {
            // Handed on by a core that is being drained: that is a hop as well, so it is not kept,
            // and the core is tried again later.
            Ok(connection) if connection.hello().core != address.core => {
                slot.failed_at = Some(Instant::now());
                Ok(main)
            }
            Ok(connection) => {
                *slot = Direct { connection: Some(connection.clone()), failed_at: None };
                Ok(connection)
            }
            Err(error) => {
                slot.failed_at = Some(Instant::now());
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "core {} cannot be reached directly: {error}; its partitions are used \
                         over {}, which costs the server a hop",
                        address.core,
                        main.address()
                    );
                }
                Ok(main)
            }
        }
    }

    fn core_of(&self, shard: ShardId) -> Option<CoreAddress> {
        self.known().cores.iter().find(|core| core.shards.contains(&shard)).cloned()
    }

    /// What is known of a topic, asked for when it is not known or too old. Retries until
    /// `deadline`.
    pub(crate) async fn topic(
        &self,
        name: &TopicName,
        deadline: Instant,
    ) -> Result<Arc<TopicInfo>, Error> {
        let known = self.known().topics.get(name).cloned();
        match known {
            Some(KnownTopic { info, since }) if since.elapsed() < self.options.metadata_age_max => {
                Ok(info)
            }
            _ => self.refresh_topic(name, deadline).await,
        }
    }

    /// Asks for a topic, whatever is known.
    pub(crate) async fn refresh_topic(
        &self,
        name: &TopicName,
        deadline: Instant,
    ) -> Result<Arc<TopicInfo>, Error> {
        let request = Request::Metadata { topics: vec![name.clone()], after: None, limit: 1 };
        match self.call(None, &request, deadline).await?.0 {
            Reply::Metadata { topics, .. } => {
                let info = topics.into_iter().find(|info| info.name == *name);
                info.ok_or_else(|| Error::unknown_topic(name.as_str()))
            }
            reply => Err(unexpected(&reply)),
        }
    }

    /// Remembers what a reply says of cores and topics.
    fn learn(&self, reply: &Reply) {
        let since = Instant::now();
        let mut known = self.known();
        match reply {
            Reply::Metadata { cores, topics, unknown, .. } => {
                known.cores = cores.clone();
                for info in topics {
                    known.remember(info, since);
                }
                for name in unknown {
                    known.topics.remove(name);
                }
            }
            Reply::Topic(info) => known.remember(info, since),
            _ => {}
        }
    }

    /// Sends a request to the core of `shard` (or to any), again and again until it is answered,
    /// refused for good, or `deadline` is over. The second value is true when an earlier try may
    /// have been carried out.
    pub(crate) async fn call(
        &self,
        shard: Option<ShardId>,
        request: &Request,
        deadline: Instant,
    ) -> Result<(Reply, bool), Retried> {
        let mut backoff = self.backoff();
        let mut ambiguous = false;
        loop {
            let connection = match shard {
                Some(shard) => self.to_shard(shard).await,
                None => self.main().await,
            };
            let result = match connection {
                Ok(connection) => connection.call(request, deadline).await,
                Err(error) => Err(error),
            };
            let error = match result {
                Ok(reply) => {
                    self.learn(&reply);
                    return Ok((reply, ambiguous));
                }
                Err(error) => error,
            };
            let wait = backoff.wait();
            let in_time = Instant::now() + wait < deadline;
            if !error.is_retryable() || !in_time {
                return Err(Retried { error, ambiguous });
            }
            ambiguous |= error.is_ambiguous();
            tokio::time::sleep(wait).await;
        }
    }
}

/// A call that failed, perhaps after tries that may have been carried out.
#[derive(Debug)]
pub(crate) struct Retried {
    pub(crate) error: Error,
    pub(crate) ambiguous: bool,
}

impl From<Retried> for Error {
    fn from(retried: Retried) -> Self {
        retried.error
    }
}

/// A reply that does not belong to the request.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    tracing::debug!("unexpected reply: {reply:?}");
    Error::lost("the server", "it answered with a reply that does not belong to the request")
}

/// Where to connect for a core. A server that listens everywhere advertises no host of its own:
/// then it is the one already connected to.
fn direct_address(core: &CoreAddress, main: &str) -> String {
    let host = match core.host.as_str() {
        "" | "0.0.0.0" | "::" | "[::]" => {
            main.rsplit_once(':').map_or(main, |(host, _)| host).to_owned()
        }
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    format!("{host}:{}", core.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_cores() {
        let address = |host: &str, main| {
            let core =
                CoreAddress { core: CoreId(0), host: host.into(), port: 7302, shards: vec![] };
            direct_address(&core, main)
        };
        assert_eq!(address("db.local", "1.2.3.4:7300"), "db.local:7302");
        assert_eq!(address("0.0.0.0", "1.2.3.4:7300"), "1.2.3.4:7302");
        assert_eq!(address("::", "[::1]:7300"), "[::1]:7302");
        assert_eq!(address("fe80::1", "[::1]:7300"), "[fe80::1]:7302");
    }
}
