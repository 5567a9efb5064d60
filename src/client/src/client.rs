//! The client: how it is built, and the calls that concern no single producer or consumer.

use std::sync::Arc;
use std::time::Duration;

use crate::consumer::ConsumerBuilder;
use crate::error::Error;
use crate::producer::ProducerBuilder;
use crate::routes::Routes;

/// The port that servers listen on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7300;

/// A client of one Corelane server. Cheap to clone; clones share connections and metadata.
///
/// ```no_run
/// # async fn example() -> Result<(), corelane_client::Error> {
/// let client = corelane_client::Client::connect("127.0.0.1:7300").await?;
/// client.create_topic("orders").partitions(8).send().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) routes: Arc<Routes>,
}

impl Client {
    /// Connects to `server` (`HOST:PORT`) with everything else as it is by default.
    pub async fn connect(server: impl Into<String>) -> Result<Self, Error> {
        Self::builder().server(server).build().await
    }

    /// A client with settings of its own.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A producer for any topics; see [`ProducerBuilder`] for what can be set.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.routes.clone())
    }

    /// A consumer of `topic`; see [`ConsumerBuilder`] for what can be set.
    pub fn consumer(&self, topic: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.routes.clone(), topic.into())
    }
}

/// What every call of a client goes by.
#[derive(Clone, Debug)]
pub(crate) struct ClientOptions {
    pub(crate) servers: Vec<String>,
    pub(crate) client_name: String,
    pub(crate) operator: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) direct_connections: bool,
    pub(crate) metadata_age_max: Duration,
    pub(crate) backoff_first: Duration,
    pub(crate) backoff_max: Duration,
}

/// Settings of a [`Client`].
///
/// ```no_run
/// # async fn example() -> Result<(), corelane_client::Error> {
/// use std::time::Duration;
///
/// let client = corelane_client::Client::builder()
///     .server("10.0.0.5:7300")
///     .client_name("billing")
///     .request_timeout(Duration::from_secs(5))
///     .build()
///     .await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    options: ClientOptions,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            options: ClientOptions {
                servers: Vec::new(),
                client_name: concat!("corelane-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
                operator: false,
                connect_timeout: Duration::from_secs(5),
                request_timeout: Duration::from_secs(30),
                direct_connections: true,
                metadata_age_max: Duration::from_secs(300),
                backoff_first: Duration::from_millis(50),
                backoff_max: Duration::from_secs(2),
            },
        }
    }
}

impl ClientBuilder {
    /// Adds an address (`HOST:PORT`) to try; the first that answers is taken. Default:
    /// `127.0.0.1:7300`.
    #[must_use]
    pub fn server(mut self, address: impl Into<String>) -> Self {
        self.options.servers.push(address.into());
        self
    }

    /// How the client is called in the server's logs. Default: `corelane-rust/` and the version.
    #[must_use]
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.options.client_name = name.into();
        self
    }

    /// Whether this client operates the server: it is let in where a bound on connections or a
    /// drain refuses others and stays over a drain, and is served status, log filter, drain and
    /// backup, nothing else. Default: no.
    #[must_use]
    pub fn operator(mut self, operator: bool) -> Self {
        self.options.operator = operator;
        self
    }

    /// Longest time for connecting and the handshake. Default: 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Longest time for a call, retries included. Default: 30 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.options.request_timeout = timeout;
        self
    }

    /// Whether to connect to the cores that own the partitions. Without it everything goes over
    /// one connection and the server passes it on. Default: yes.
    #[must_use]
    pub fn direct_connections(mut self, direct: bool) -> Self {
        self.options.direct_connections = direct;
        self
    }

    /// How long what is known of a topic is used without asking again. Default: 5 minutes.
    #[must_use]
    pub fn metadata_age_max(mut self, age: Duration) -> Self {
        self.options.metadata_age_max = age;
        self
    }

    /// The first wait between two tries and the longest; they double in between and each is
    /// shortened at random by up to a half. Default: 50 ms and 2 s.
    #[must_use]
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.options.backoff_first = first;
        self.options.backoff_max = max.max(first);
        self
    }

    /// Connects. Fails when no server answers; later on the client connects again by itself.
    pub async fn build(mut self) -> Result<Client, Error> {
        if self.options.servers.is_empty() {
            self.options.servers.push(format!("127.0.0.1:{DEFAULT_PORT}"));
        }
        let routes = Arc::new(Routes::new(self.options));
        routes.main().await?;
        Ok(Client { routes })
    }
}
