//! Those who come and go in one round.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use client::{OffsetReset, StartPosition};
use model::PartitionHandle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::bursts;
use crate::error::ScenarioError;
use crate::faults::peers::{Crowd, Peer};
use crate::random::Random;
use crate::traffic::{Traffic, connect};

/// Connections that shake hands: a third each asks for all and reads nothing, stops in the middle
/// of a frame, says no more.
const PEERS: usize = 96;
const SLOW_READERS: usize = 8;
/// A slow reader takes a record this often, and so much is sent ahead to it.
const SLOW_EVERY: Duration = Duration::from_millis(10);
const SLOW_CREDIT_BYTES: u64 = 256 * 1024;
const ROUND: Duration = Duration::from_millis(2_500);
/// The normal clients' rate goes up and down this often, by this much.
const WAVE: Duration = Duration::from_millis(250);
const WAVE_HEIGHT: u32 = 4;

/// What has come and gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub connections: u64,
    pub refused: u64,
    pub peers: u64,
    pub slow_records: u64,
    pub burst_messages: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.refused += other.refused;
        self.peers += other.peers;
        self.slow_records += other.slow_records;
        self.burst_messages += other.burst_messages;
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections made and {} refused, {} readers that did not read and others that left \
             in the middle, {} records to slow readers, {} messages in bursts",
            self.connections, self.refused, self.peers, self.slow_records, self.burst_messages
        )
    }
}

/// The guests of a round.
#[derive(Clone, Debug)]
pub struct Guests {
    pub address: SocketAddr,
    /// Theirs alone.
    pub topic: String,
    /// That of the normal clients.
    pub normal: String,
    pub handle: PartitionHandle,
    pub connections: usize,
}

impl Guests {
    /// All at once; returns when the last has gone.
    pub async fn come_and_go(
        &self,
        seed: u64,
        traffic: &Traffic,
        rate: u32,
    ) -> Result<Seen, ScenarioError> {
        let (crowd, peers, slow_records, bursts, ()) = tokio::join!(
            self.crowd(seed),
            self.peers(seed),
            self.read_slowly(),
            self.bursts(seed),
            waves(traffic, rate)
        );
        bursts?;
        let (connections, refused) = crowd;
        let burst_messages = bursts::check(self.address, &self.topic).await?;
        let (peers, slow_records) = (peers?, slow_records?);
        Ok(Seen { connections, refused, peers, slow_records, burst_messages })
    }

    /// Many connections that say nothing: half of them stay a moment, then all are reset.
    async fn crowd(&self, seed: u64) -> (u64, u64) {
        let mut random = Random::new(seed);
        sleep(Duration::from_millis(random.between(0, 500))).await;
        let crowd = Crowd::rush(self.address, self.connections, self.connections / 2).await;
        sleep(Duration::from_millis(random.between(50, 800))).await;
        let counts = (crowd.connected, crowd.refused);
        crowd.disperse();
        counts
    }

    /// Connections that shake hands and then misbehave; half end with a reset, half are closed with
    /// what was sent to them unread.
    async fn peers(&self, seed: u64) -> Result<u64, ScenarioError> {
        let (address, handle) = (self.address, self.handle);
        let connected = tokio::task::spawn_blocking(move || {
            let connect = |at: usize| {
                let mut peer = Peer::connect(address)?;
                match at % 3 {
                    0 => peer.subscribe(handle)?,
                    1 => peer.begin_frame()?,
                    _ => {}
                }
                Ok(peer)
            };
            // One that is refused while the crowd is there is none of the promises.
            (0..PEERS).map(connect).filter_map(std::io::Result::ok).collect::<Vec<_>>()
        });
        let mut peers = connected
            .await
            .map_err(|error| ScenarioError::Ended { who: "a guest", how: error.to_string() })?;
        let leave_at = Instant::now() + Duration::from_millis(500 + seed % 1_000);
        while Instant::now() < leave_at {
            peers.iter_mut().for_each(Peer::push_frame);
            sleep(Duration::from_millis(20)).await;
        }
        let count = peers.len() as u64;
        for (at, peer) in peers.into_iter().enumerate() {
            if at % 2 == 0 {
                peer.reset();
            }
        }
        Ok(count)
    }

    /// Readers of the normal clients' topic that fall behind; returns how much they have read.
    async fn read_slowly(&self) -> Result<u64, ScenarioError> {
        let mut readers = JoinSet::new();
        for _ in 0..SLOW_READERS {
            let (address, topic) = (self.address, self.normal.clone());
            readers.spawn(async move {
                let mut records = 0;
                // Refused, or behind what retention has kept: it goes.
                let _ = timeout(ROUND, read_slowly(address, &topic, &mut records)).await;
                records
            });
        }
        let mut records = 0;
        while let Some(ended) = readers.join_next().await {
            records += ended.map_err(|error| ScenarioError::Ended {
                who: "a slow reader",
                how: error.to_string(),
            })?;
        }
        Ok(records)
    }

    async fn bursts(&self, seed: u64) -> Result<(), ScenarioError> {
        let mut random = Random::new(seed ^ 1);
        let leaving: Vec<_> = (bursts::STAYING..bursts::STAYING + bursts::LEAVING)
            .map(|number| bursts::leave(self.address, self.topic.clone(), number, random.number()))
            .collect();
        let mut staying = JoinSet::new();
        for number in 0..bursts::STAYING {
            let (address, topic) = (self.address, self.topic.clone());
            staying.spawn(async move { bursts::stay(address, &topic, number).await });
        }
        while let Some(ended) = staying.join_next().await {
            ended.map_err(|error| ScenarioError::Ended {
                who: "a client with a burst",
                how: error.to_string(),
            })??;
        }
        while leaving.iter().any(|thread| !thread.is_finished()) {
            sleep(Duration::from_millis(5)).await;
        }
        for thread in leaving {
            let ended = thread.join().map_err(|_| ScenarioError::Ended {
                who: "a client that leaves",
                how: "it panicked".to_owned(),
            })?;
            ended?;
        }
        Ok(())
    }
}

async fn read_slowly(
    address: SocketAddr,
    topic: &str,
    records: &mut u64,
) -> Result<(), ScenarioError> {
    let client = connect(address).await?;
    let consumer = client.consumer(topic).start(StartPosition::First).reset(OffsetReset::First);
    let consumer = consumer.credit_bytes(SLOW_CREDIT_BYTES).build().await;
    let mut consumer = consumer.map_err(ScenarioError::client("read slowly"))?;
    while let Some(record) = consumer.next().await {
        record.map_err(ScenarioError::client("read slowly"))?;
        *records += 1;
        sleep(SLOW_EVERY).await;
    }
    Ok(())
}

/// The normal clients' rate up and down for the length of a round.
async fn waves(traffic: &Traffic, rate: u32) {
    let each = |rate: u32| (rate / u32::from(super::PRODUCERS)).max(1);
    let end = Instant::now() + ROUND;
    while Instant::now() < end {
        traffic.set_rate(each(rate * WAVE_HEIGHT));
        sleep(WAVE).await;
        traffic.set_rate(each(rate));
        sleep(WAVE).await;
    }
}
