//! A small server inside the test: it speaks the protocol, keeps batches in memory, recognises
//! repeats, and fails on demand.

mod connection;
mod log;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use model::reply::CoreAddress;
use model::{CoreId, ErrorCode, PartitionPlace, ShardId, StreamId, TopicId, TopicInfo, TopicName};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use self::log::Log;

/// What to do with one publish instead of serving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Close the connection, nothing stored.
    Drop,
    /// Store, then close the connection.
    StoreAndDrop,
    Refuse(ErrorCode),
    StoreAndRefuse(ErrorCode),
    /// Store and say nothing.
    StoreAndForget,
}

/// A publish as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub stream: StreamId,
    pub core: CoreId,
    pub batch: Vec<u8>,
    pub records: u32,
}

pub struct State {
    pub topics: BTreeMap<TopicName, Arc<TopicInfo>>,
    pub logs: HashMap<(TopicId, StreamId), Log>,
    pub cores: Vec<CoreAddress>,
    /// What goes wrong, by the number of the publish, counted from 0.
    pub faults: HashMap<usize, Fault>,
    pub seen: Vec<Seen>,
    pub connections: usize,
    pub status_calls: usize,
    pub filter: String,
    /// Publishes are stored, but not answered while this is set.
    pub hold_acks: bool,
    /// Frames in which a fault flips a bit of the last batch.
    pub corrupt_deliveries: bool,
    pub shards: u16,
    /// What ends subscriptions.
    end_code: ErrorCode,
    next_id: u64,
}

/// Tells all connections what has happened.
#[derive(Clone, Copy, Default)]
struct Signal {
    /// Connections made before this many closes are to close.
    closes: u64,
    go_aways: u64,
    ends: u64,
    /// New data, or acknowledgements are let go.
    changes: u64,
}

#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    signal: watch::Sender<Signal>,
}

impl Fake {
    /// Listens on a free port of 127.0.0.1, as core 0.
    pub async fn start() -> Self {
        let (listener, address) = listen().await;
        let state = State {
            topics: BTreeMap::new(),
            logs: HashMap::new(),
            cores: Vec::new(),
            faults: HashMap::new(),
            seen: Vec::new(),
            connections: 0,
            status_calls: 0,
            filter: String::new(),
            hold_acks: false,
            corrupt_deliveries: false,
            shards: 1,
            end_code: ErrorCode::Busy,
            next_id: 1,
        };
        let fake = Self {
            address,
            state: Arc::new(Mutex::new(state)),
            signal: watch::Sender::new(Signal::default()),
        };
        fake.accept(listener, CoreId(0));
        fake
    }

    /// Listens on another port as `core` too, and advertises it for `shards`.
    pub async fn add_core(&self, core: CoreId, shards: Vec<ShardId>) {
        let (listener, address) = listen().await;
        self.accept(listener, core);
        self.advertise(core, address.port(), shards);
    }

    pub fn advertise(&self, core: CoreId, port: u16, shards: Vec<ShardId>) {
        let host = "127.0.0.1".to_owned();
        self.state().cores.push(CoreAddress { core, host, port, shards });
    }

    fn accept(&self, listener: TcpListener, core: CoreId) {
        let fake = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                fake.state().connections += 1;
                tokio::spawn(connection::serve(fake.clone(), stream, core));
            }
        });
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Closes every connection there is.
    pub fn disconnect_all(&self) {
        self.signal.send_modify(|signal| signal.closes += 1);
    }

    /// Tells every connection to go away; they stay open.
    pub fn go_away(&self) {
        self.signal.send_modify(|signal| signal.go_aways += 1);
    }

    /// Ends every subscription with an error.
    pub fn end_subscriptions(&self, code: ErrorCode) {
        self.state().end_code = code;
        self.signal.send_modify(|signal| signal.ends += 1);
    }

    /// Lets connections look at the state again.
    pub fn changed(&self) {
        self.signal.send_modify(|signal| signal.changes += 1);
    }

    pub fn create(&self, name: &str, partitions: u32) -> Arc<TopicInfo> {
        self.state().create(TopicName::parse(name).unwrap(), partitions, Default::default())
    }

    /// The values stored in one partition, as text.
    pub fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        let state = self.state();
        let info = &state.topics[topic];
        state.logs[&(info.id, info.partitions[partition].stream)].values()
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl State {
    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub fn create(
        &mut self,
        name: TopicName,
        partitions: u32,
        config: model::TopicConfig,
    ) -> Arc<TopicInfo> {
        let id = TopicId(self.take_id());
        let places = (0..partitions).map(|index| {
            let stream = StreamId(self.take_id() as u32);
            self.logs.insert((id, stream), Log::default());
            PartitionPlace { shard: ShardId(index as u16 % self.shards), stream }
        });
        let partitions = places.collect();
        let info =
            Arc::new(TopicInfo { id, name: name.clone(), config, config_version: 1, partitions });
        self.topics.insert(name, info.clone());
        info
    }
}
