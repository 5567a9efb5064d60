//! Publishing and reading with the generator: what all kinds of run are made of.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::BenchError;
use crate::generator::{
    AtEnd, Connection, Consumer, Dice, Form, Gap, Generator, Measured, Mill, Mills, Plan, Producer,
    Published, Role, Share,
};
use crate::ledger::Verdict;
use crate::options::{ClientLoad, Options};
use crate::report::ServerMemory;
use crate::run::bed::Bed;
use crate::run::plan::{self, Lane};
use crate::run::topics::Topics;
use crate::through_client;
use crate::wire;
use crate::workload::Table;
use fastrand::Rng;

/// Bytes that one receive may bring: acknowledgements are small, deliveries are not.
const ACK_RECEIVE_BYTES: u32 = 64 * 1024;
const DELIVERY_RECEIVE_BYTES: u32 = 1024 * 1024;
/// Credit of one subscription, bytes; at least two batches.
const CREDIT_BYTES: u64 = 4 * 1024 * 1024;

/// What a publishing load left behind.
#[derive(Debug)]
pub struct Outcome {
    pub measured: Measured,
    /// Messages acknowledged, by partition and producer.
    pub published: Published,
    /// One past the last offset acknowledged, by partition.
    pub ends: Vec<u64>,
    pub memory: Option<ServerMemory>,
}

/// What a reading load saw.
#[derive(Debug)]
pub struct Reading {
    pub measured: Measured,
    pub verdict: Verdict,
    /// Offsets passed over, and not yet told from lost ones.
    pub gaps: Vec<Gap>,
    pub memory: Option<ServerMemory>,
}

/// Publishes by `plan`.
pub fn publish(
    options: &Options,
    bed: &Bed,
    topics: &Topics,
    plan: &Plan,
    stop: &Arc<AtomicBool>,
) -> Result<Outcome, BenchError> {
    if let Some(how) = &options.client {
        return publish_through_client(options, how, bed, topics, plan, stop);
    }
    bed.cpus.on_generator_cpu(|| {
        let mut memory = Marks::begin(bed);
        let connections = producers(options, bed, topics)?;
        memory.connected();
        let mut generator = Generator::new(connections, ACK_RECEIVE_BYTES, Arc::clone(stop))?;
        let measured = generator.run(plan)?;
        let memory = memory.loaded();
        let (published, ends) = outcome(&generator.into_connections(), topics, options.connections);
        Ok(Outcome { measured, published, ends, memory })
    })
}

fn publish_through_client(
    options: &Options,
    how: &ClientLoad,
    bed: &Bed,
    topics: &Topics,
    plan: &Plan,
    stop: &Arc<AtomicBool>,
) -> Result<Outcome, BenchError> {
    bed.cpus.on_generator_cpu(|| {
        let mut memory = Marks::begin(bed);
        let connected = || memory.connected();
        let done = through_client::publish(options, how, bed, topics, plan, connected, stop)?;
        let mut published = vec![vec![0; options.connections]; topics.partitions.len()];
        let mut ends = vec![0; topics.partitions.len()];
        for (number, accounts) in done.accounts.iter().enumerate() {
            for account in accounts {
                let partition = account.partition as usize;
                published[partition][number] = account.acknowledged;
                ends[partition] = account.offset_end.max(ends[partition]);
            }
        }
        let (measured, published) = (done.measured, Arc::new(published));
        Ok(Outcome { measured, published, ends, memory: memory.loaded() })
    })
}

/// The server's resident memory at the marks of a load, where it can be seen.
struct Marks<'a> {
    bed: &'a Bed,
    before: Option<u64>,
    connected: Option<u64>,
}

impl<'a> Marks<'a> {
    fn begin(bed: &'a Bed) -> Self {
        Self { bed, before: bed.meter.resident_bytes(), connected: None }
    }

    fn connected(&mut self) {
        self.connected = self.bed.meter.resident_bytes();
    }

    /// At the end of the load, its connections still open.
    fn loaded(self) -> Option<ServerMemory> {
        Some(ServerMemory {
            before_bytes: self.before?,
            connected_bytes: self.connected?,
            loaded_bytes: self.bed.meter.resident_bytes()?,
        })
    }
}

/// Reads `shares` (by partition; `None`: not to be read) by `plan`.
pub fn read(
    options: &Options,
    bed: &Bed,
    shares: &[Option<Share>],
    at_end: AtEnd,
    published: &Published,
    plan: &Plan,
    stop: &Arc<AtomicBool>,
) -> Result<Reading, BenchError> {
    // A lane wants handles of what it may read only.
    let wanted: Vec<Share> = shares.iter().flatten().copied().collect();
    let handles: Vec<_> = wanted.iter().map(|share| share.handle).collect();
    let mut lanes =
        plan::lanes(options.route, bed.address, &bed.cores, &handles, options.connections)?;
    plan::share_out(&mut lanes, at_end == AtEnd::Stop && options.work != crate::Work::Consume);
    bed.cpus.on_generator_cpu(|| {
        let connections = lanes
            .iter()
            .map(|lane| consumer(options, lane, &wanted, at_end, published))
            .collect::<Result<Vec<_>, _>>()?;
        let mut generator = Generator::new(connections, DELIVERY_RECEIVE_BYTES, Arc::clone(stop))?;
        let measured = generator.run(plan)?;
        let (verdict, gaps) = close(generator.into_connections(), None);
        Ok(Reading { measured, verdict, gaps, memory: None })
    })
}

/// Publishes and reads everything at once, by `plan`.
pub fn publish_and_read(
    options: &Options,
    bed: &Bed,
    topics: &Topics,
    plan: &Plan,
    stop: &Arc<AtomicBool>,
) -> Result<Reading, BenchError> {
    let consumers = options.consumers.unwrap_or(options.connections);
    let (route, address, partitions) = (options.route, bed.address, &topics.partitions);
    let mut lanes = plan::lanes(route, address, &bed.cores, partitions, consumers)?;
    plan::share_out(&mut lanes, true);
    let shares: Vec<Share> = (topics.partitions.iter().zip(0..))
        .map(|(handle, partition)| Share { partition, handle: *handle, from: Some(0), end: None })
        .collect();
    bed.cpus.on_generator_cpu(|| {
        let mut memory = Marks::begin(bed);
        let mut connections = producers(options, bed, topics)?;
        let nothing = Published::default();
        for lane in &lanes {
            connections.push(consumer(options, lane, &shares, AtEnd::Stop, &nothing)?);
        }
        memory.connected();
        let mut generator = Generator::new(connections, DELIVERY_RECEIVE_BYTES, Arc::clone(stop))?;
        let measured = generator.run(plan)?;
        let memory = memory.loaded();
        let connections = generator.into_connections();
        let (published, _) = outcome(&connections, topics, options.connections);
        let (verdict, gaps) = close(connections, Some(&published));
        Ok(Reading { measured, verdict, gaps, memory })
    })
}

fn producers(options: &Options, bed: &Bed, topics: &Topics) -> Result<Vec<Connection>, BenchError> {
    let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let keyed = options.keys.is_some();
    let form = Form { ack: options.ack, batch: options.batch, keyed, time_ms };
    let sizes: Vec<usize> = options.sizes.classes().iter().map(|(size, _)| *size).collect();
    let mills: Arc<Mills> =
        Mill::all(&topics.partitions, &form, &sizes, options.connections)?.into();
    let dice = Dice { keys: options.keys.map(Table::zipf), ..dice(options, 0) };
    let count = options.connections;
    let lanes = plan::lanes(options.route, bed.address, &bed.cores, &topics.partitions, count)?;
    let connect = |(at, lane): (usize, &Lane)| {
        let turn = at * lane.partitions.len() / count;
        let dice = Dice { rng: rng(options, at), ..dice.clone() };
        let (number, mills, targets) = (at as u32, Arc::clone(&mills), &lane.partitions);
        let producer = Producer::new(number, mills, dice, targets, turn, options.in_flight);
        Ok(Connection::new(wire::connect(lane.address, true)?, Role::Producer(producer)))
    };
    lanes.iter().enumerate().map(connect).collect()
}

/// What connection `at` picks its sizes by; no keys.
pub fn dice(options: &Options, at: usize) -> Dice {
    let sizes = Table::new(options.sizes.classes().iter().map(|(_, share)| *share));
    Dice { rng: rng(options, at), sizes, keys: None }
}

pub fn rng(options: &Options, at: usize) -> Rng {
    Rng::with_seed(options.seed.wrapping_add(1 + at as u64))
}

fn consumer(
    options: &Options,
    lane: &Lane,
    shares: &[Share],
    at_end: AtEnd,
    published: &Published,
) -> Result<Connection, BenchError> {
    let shares: Vec<Share> = lane.partitions.iter().map(|at| shares[*at as usize]).collect();
    let batch_bytes = (options.batch * (options.sizes.max() + 32) + 128) as u64;
    let credit = CREDIT_BYTES.max(2 * batch_bytes);
    let producers = options.connections as u32;
    let consumer = Consumer::new(&shares, credit, at_end, producers, Arc::clone(published));
    Ok(Connection::new(wire::connect(lane.address, true)?, Role::Consumer(consumer)))
}

fn outcome(connections: &[Connection], topics: &Topics, producers: usize) -> (Published, Vec<u64>) {
    let mut published = vec![vec![0; producers]; topics.partitions.len()];
    let mut ends = vec![0; topics.partitions.len()];
    for (number, connection) in connections.iter().enumerate() {
        let Role::Producer(producer) = &connection.role else { continue };
        for (partition, messages, end) in producer.outcome() {
            let partition = partition as usize;
            published[partition][number] = messages;
            ends[partition] = end.max(ends[partition]);
        }
    }
    (Arc::new(published), ends)
}

fn close(connections: Vec<Connection>, published: Option<&Published>) -> (Verdict, Vec<Gap>) {
    let (mut verdict, mut gaps) = (Verdict::default(), Vec::new());
    for connection in connections {
        let Role::Consumer(consumer) = connection.role else { continue };
        gaps.extend_from_slice(consumer.gaps());
        verdict.add(&consumer.close(published));
    }
    (verdict, gaps)
}
