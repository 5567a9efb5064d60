//! Servers that are broken or mean no good: the client ends with an error in time, keeps within its
//! bounds, and never panics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corelane_client::{Client, Error, Message, StartPosition};
use model::reply::CoreAddress;
use model::{
    CoreId, ErrorCode, PartitionPlace, Rejection, Reply, ShardId, StreamId, TopicId, TopicInfo,
    TopicName,
};
use protocol::{FRAME_HEADER_BYTES, FrameHeader, GoAway, HelloReply, kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TIMEOUT: Duration = Duration::from_secs(2);
/// No call may take longer, whatever the server does.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers one frame with any bytes; `None` closes the connection.
type Answer = Arc<dyn Fn(&FrameHeader, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

struct Hostile {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Hostile {
    async fn start(
        answer: impl Fn(&FrameHeader, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (answer, count): (Answer, _) = (Arc::new(answer), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&answer)));
            }
        });
        Self { address, connections }
    }

    async fn client(&self) -> Result<Client, Error> {
        Client::builder()
            .server(self.address.to_string())
            .backoff(Duration::from_millis(1), Duration::from_millis(50))
            .connect_timeout(TIMEOUT)
            .request_timeout(TIMEOUT)
            .build()
            .await
    }
}

async fn serve(mut stream: TcpStream, answer: Answer) {
    let mut received = Vec::new();
    loop {
        while let Ok(Some((header, length))) = protocol::next_frame(&received) {
            let body: Vec<u8> = received.drain(..length).skip(FRAME_HEADER_BYTES).collect();
            let Some(bytes) = answer(&header, &body) else { return };
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
        if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

fn hello_reply(correlation: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reply = HelloReply {
        version: 1,
        core: CoreId(0),
        frame_bytes_max: 1 << 24,
        batch_bytes_max: 1 << 23,
        in_flight_bytes_max: 1 << 25,
        features: 0,
        server_name: String::new(),
        server_version: String::new(),
    };
    protocol::put_hello_reply(&mut bytes, correlation, &reply).unwrap();
    bytes
}

fn reply(correlation: u64, reply: &Reply) -> Vec<u8> {
    let mut bytes = Vec::new();
    protocol::put_reply(&mut bytes, correlation, reply).unwrap();
    bytes
}

fn header(length: u32, kind: u16, correlation: u64) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend([1, 0]);
    bytes.extend(kind.to_le_bytes());
    bytes.extend(correlation.to_le_bytes());
    bytes
}

fn topic(name: &str, shard: u16) -> Arc<TopicInfo> {
    let place = PartitionPlace { shard: ShardId(shard), stream: StreamId(1) };
    Arc::new(TopicInfo {
        id: TopicId(1),
        name: TopicName::parse(name).unwrap(),
        config: model::TopicConfig::default(),
        config_version: 1,
        partitions: std::iter::once(place).collect(),
    })
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("an end in time")
}

/// Uses everything the client has, once.
async fn use_all(client: &Client) -> Vec<Error> {
    let mut errors = Vec::new();
    errors.extend(client.topic("t").await.err());
    errors.extend(client.status().await.err());
    errors.extend(client.describe_topic("t").await.err());
    errors.extend(client.fetch("t", 0, 0).max_wait(Duration::ZERO).send().await.err());
    let producer = client.producer().delivery_timeout(TIMEOUT).build().unwrap();
    match producer.send(Message::new("t").value("x")).await {
        Ok(delivery) => errors.extend(delivery.await.err()),
        Err(error) => errors.push(error),
    }
    let consumer = client.consumer("t").start(StartPosition::First);
    match consumer.reconnect_timeout(Some(TIMEOUT)).until_end(true).build().await {
        Ok(mut consumer) => {
            let next = tokio::time::timeout(TIMEOUT * 2, consumer.next()).await;
            errors.extend(next.ok().flatten().and_then(Result::err));
        }
        Err(error) => errors.push(error),
    }
    errors
}

#[tokio::test]
async fn a_handshake_that_is_none_is_an_error() {
    let answers: Vec<(&str, Vec<u8>)> = vec![
        ("garbage", vec![0xAB; 100]),
        ("a frame beyond the limit", header((1 << 24) + 1, kind::HELLO_REPLY, 1)),
        ("a length below the header's", header(3, kind::HELLO_REPLY, 1)),
        ("the largest frame, of which nothing comes", header(1 << 24, kind::HELLO_REPLY, 1)),
        ("another kind", header(16, kind::PONG, 1)),
        ("an unknown kind", header(16, 0x7777, 1)),
        ("half a reply", hello_reply(1)[..20].to_vec()),
    ];
    for (what, bytes) in answers {
        let server = Hostile::start(move |_, _| Some(bytes.clone())).await;
        let result = in_time(server.client()).await;
        assert!(result.is_err(), "{what}");
    }
}

#[tokio::test]
async fn replies_to_what_no_one_asked_are_dropped() {
    let server = Hostile::start(|header, _| {
        let asked = header.correlation;
        Some(match header.kind {
            kind::HELLO => hello_reply(asked),
            _ => [0, asked + 1_000, u64::MAX]
                .map(|correlation| reply(correlation, &Reply::Offset { offset: 1 }))
                .concat(),
        })
    })
    .await;
    let client = server.client().await.unwrap();
    let began = Instant::now();
    let error = in_time(client.topic("t")).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(began.elapsed() >= TIMEOUT);
}

#[tokio::test]
async fn replies_of_another_kind_are_errors() {
    let server = Hostile::start(|header, _| {
        Some(match header.kind {
            kind::HELLO => hello_reply(header.correlation),
            _ => reply(header.correlation, &Reply::Pong),
        })
    })
    .await;
    let client = server.client().await.unwrap();
    let errors = in_time(use_all(&client)).await;
    assert_eq!(errors.len(), 6, "{errors:?}");
}

#[tokio::test]
async fn lists_that_lie_are_errors_before_they_are_memory() {
    // A metadata reply with 4,294,967,295 cores in a few bytes.
    let server = Hostile::start(|asked, _| {
        Some(match asked.kind {
            kind::HELLO => hello_reply(asked.correlation),
            _ => {
                let body = [&[0; 4][..], &u32::MAX.to_le_bytes(), &[0; 100]].concat();
                let length = (FRAME_HEADER_BYTES + body.len()) as u32;
                [header(length, kind::METADATA_REPLY, asked.correlation), body].concat()
            }
        })
    })
    .await;
    let client = server.client().await.unwrap();
    let error = in_time(client.topic("t")).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

/// Every topic is said to live on another core, which is always the same server and always sends
/// the client on.
#[tokio::test]
async fn endless_redirections_end_with_the_deadline() {
    let address = Arc::new(std::sync::OnceLock::<SocketAddr>::new());
    let (known, asked) = (Arc::clone(&address), AtomicUsize::new(0));
    let server = Hostile::start(move |header, _| {
        let number = asked.fetch_add(1, Ordering::Relaxed) as u16;
        let port = known.get().map_or(1, SocketAddr::port);
        let core = CoreId(number.wrapping_add(1));
        let cores =
            [CoreAddress { core, host: "127.0.0.1".into(), port, shards: vec![ShardId(0)] }];
        let moved = Rejection::new(ErrorCode::UnknownPartition, "it lives elsewhere now");
        Some(match header.kind {
            kind::HELLO => hello_reply(header.correlation),
            kind::METADATA => {
                let topics = vec![topic("t", 0)];
                let (cores, unknown) = (cores.to_vec().into(), Vec::new());
                let metadata = Reply::Metadata { cores, topics, unknown, more: false };
                reply(header.correlation, &metadata)
            }
            _ => {
                let mut away = Vec::new();
                let reason = ErrorCode::ShuttingDown;
                let message = "go elsewhere".to_owned();
                protocol::put_go_away(&mut away, &GoAway { reason, close_in_ms: 0, message });
                [reply(header.correlation, &Reply::Rejected(moved)), away].concat()
            }
        })
    })
    .await;
    address.set(server.address).unwrap();
    let client = server.client().await.unwrap();
    let errors = in_time(use_all(&client)).await;
    assert!(errors.len() >= 4, "{errors:?}");
    let connections = server.connections.load(Ordering::Relaxed);
    assert!(connections < 2_000, "{connections} connections");
}

/// Batches that no one asked for, more than the credit, and batches that are none.
#[tokio::test]
async fn deliveries_beyond_what_was_asked_end_the_connection() {
    let deliveries: Vec<Vec<u8>> = vec![
        vec![0xFF; 100],
        vec![0; 1 << 20],
        // A batch header whose length is negative.
        [&[0; 8][..], &(-5i32).to_be_bytes(), &[0; 60]].concat(),
    ];
    for batches in deliveries {
        let server = Hostile::start(move |header, _| {
            let asked = header.correlation;
            Some(match header.kind {
                kind::HELLO => hello_reply(asked),
                kind::METADATA => {
                    let topics = vec![topic("t", 0)];
                    let (cores, unknown) = (Vec::new().into(), Vec::new());
                    reply(asked, &Reply::Metadata { cores, topics, unknown, more: false })
                }
                kind::LOOKUP_OFFSET => reply(asked, &Reply::Offset { offset: 100 }),
                kind::SUBSCRIBE => {
                    let mut bytes = reply(asked, &Reply::Subscribed { subscription: 1, offset: 0 });
                    for _ in 0..200 {
                        let head = protocol::DeliverHead { subscription: 1, ..Default::default() };
                        protocol::put_deliver_head(&mut bytes, &head, batches.len());
                        bytes.extend_from_slice(&batches);
                    }
                    bytes
                }
                _ => Vec::new(),
            })
        })
        .await;
        let client = server.client().await.unwrap();
        let consumer = client.consumer("t").start(StartPosition::First);
        let consumer = consumer.reconnect_timeout(Some(TIMEOUT));
        let mut consumer = in_time(consumer.build()).await.unwrap();
        let first = in_time(consumer.next()).await;
        assert!(matches!(first, Some(Err(_))), "{first:?}");
    }
}

/// Good replies with bytes changed, by the hundred. `CORELANE_SEED` repeats a run.
#[tokio::test]
async fn spoiled_replies_never_panic() {
    let seed = std::env::var("CORELANE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("CORELANE_SEED={seed}");
    let runs = (0..24).map(|run| tokio::spawn(spoiled(seed.wrapping_add(run))));
    for run in runs.collect::<Vec<_>>() {
        in_time(run).await.expect("no panic");
    }
}

async fn spoiled(seed: u64) {
    let random = std::sync::Mutex::new(seed);
    let server = Hostile::start(move |header, _| {
        let asked = header.correlation;
        let good = match header.kind {
            kind::HELLO => return Some(hello_reply(asked)),
            kind::METADATA => {
                let topics = vec![topic("t", 0), topic("u", 3)];
                let host = "127.0.0.1".to_owned();
                let shards = vec![ShardId(0)];
                let cores = vec![CoreAddress { core: CoreId(0), host, port: 1, shards }].into();
                reply(asked, &Reply::Metadata { cores, topics, unknown: Vec::new(), more: true })
            }
            kind::INIT_PRODUCER => reply(asked, &Reply::Producer { id: 1, epoch: 0 }),
            kind::LOOKUP_OFFSET => reply(asked, &Reply::Offset { offset: 100 }),
            kind::SUBSCRIBE => reply(asked, &Reply::Subscribed { subscription: 1, offset: 0 }),
            kind::PRODUCE => {
                let mut bytes = Vec::new();
                let ack = protocol::ProduceAck {
                    count: 1,
                    level: model::AckLevel::Durable,
                    base_offset: 1,
                    offset_step: 1,
                    shard: ShardId(0),
                    append_time_ms: 1,
                };
                protocol::put_produce_ack(&mut bytes, &ack, asked);
                bytes
            }
            _ => reply(asked, &Reply::Topic(topic("t", 0))),
        };
        let mut random = random.lock().unwrap();
        let mut bytes = good;
        for _ in 0..3 {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            let number = *random >> 20;
            let at = 4 + number as usize % (bytes.len() - 4);
            bytes[at] ^= 1 << (number % 8);
        }
        Some(bytes)
    })
    .await;
    if let Ok(client) = server.client().await {
        use_all(&client).await;
    }
}
