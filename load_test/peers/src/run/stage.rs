//! Before and after a run: topics are made, taken into use and removed.
//!
//! A broker that is not made for many topics may need minutes for them: each step has its time.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::RunError;
use super::clock::Clock;
use super::mill::Mill;
use crate::driver::{Broker, DriverError, Producer};
use crate::workload::Workload;

/// Makes the topics of each connection.
pub async fn make(
    broker: &dyn Broker,
    topics: &[Vec<String>],
    within: Duration,
) -> Result<(), RunError> {
    let made = Cell::new(0);
    let all = try_join_all(topics.iter().map(|own| broker.create(own, &made)));
    let told = |wanted| RunError::Topics { done: made.get(), wanted, what: "were made", within };
    in_time(all, topics, within, told).await.map(drop)
}

/// Removes them. `false`: not all, for lack of time.
pub async fn remove(
    broker: &dyn Broker,
    topics: &[Vec<String>],
    within: Duration,
) -> Result<bool, DriverError> {
    let all = try_join_all(topics.iter().map(|own| broker.remove(own)));
    match tokio::time::timeout(within, all).await {
        Ok(removed) => removed.map(|_| true),
        Err(_) => Ok(false),
    }
}

/// Producers whose first message to each topic is acknowledged: what clients and brokers do
/// before that, finding a topic's leader for one, is no part of any figure.
pub async fn producers(
    broker: &dyn Broker,
    workload: &Workload,
    topics: &[Vec<String>],
    clock: Clock,
    within: Duration,
) -> Result<Vec<(Box<dyn Producer>, Mill)>, RunError> {
    let opened = Cell::new(0);
    let open = async |at: usize, own: &[String]| {
        let producer = broker.producer(own, workload.shape).await?;
        let mut mill = Mill::new((at * own.len()) as u32, own.len(), workload.shape);
        let mut under_way = FuturesUnordered::new();
        for _ in own {
            if under_way.len() == workload.shape.in_flight {
                under_way.next().await.transpose()?;
                opened.set(opened.get() + 1);
            }
            let (topic, messages) = mill.make(clock.now_ns());
            under_way.push(producer.send(topic, messages));
        }
        while let Some(()) = under_way.next().await.transpose()? {
            opened.set(opened.get() + 1);
        }
        drop(under_way);
        Ok((producer, mill))
    };
    let all = try_join_all(topics.iter().enumerate().map(|(at, own)| open(at, own)));
    let what = "had taken a message";
    let told = |wanted| RunError::Topics { done: opened.get(), wanted, what, within };
    in_time(all, topics, within, told).await
}

/// What `work` comes to; `told` says how far it had come when the time was over.
async fn in_time<T>(
    work: impl Future<Output = Result<T, DriverError>>,
    topics: &[Vec<String>],
    within: Duration,
    told: impl FnOnce(usize) -> RunError,
) -> Result<T, RunError> {
    match tokio::time::timeout(within, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(told(topics.iter().map(Vec::len).sum())),
    }
}
