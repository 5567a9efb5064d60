//! What producers, followers and the audit know together.

use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lane::Lane;
use super::message::Message;
use super::trail::Shown;
use super::{Plan, Promise};
use crate::error::{ScenarioError, violated};

#[derive(Debug)]
pub struct Ledger {
    partitions: u32,
    /// Messages a second of each producer that goes by a rate.
    pub rate: AtomicU32,
    books: Mutex<Books>,
}

#[derive(Debug)]
pub struct Books {
    /// By producer and partition.
    lanes: Vec<Lane>,
    pub shown: Shown,
    /// By follower and partition.
    pub commits: Vec<Vec<Commit>>,
    /// Where the partitions end, once nothing more is sent: followers end there.
    pub ends: Option<Vec<u64>>,
    pub acknowledged: u64,
    /// Memory only: nobody knows whether these were stored.
    pub unknown: u64,
    pub sent: u64,
    pub followed: u64,
    /// Followers that began again from what they had committed.
    pub resumed: u64,
}

/// A follower's commits in one partition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Commit {
    /// The newest that was confirmed.
    pub confirmed: u64,
    /// The newest that was asked for.
    pub asked: u64,
}

/// What has been promised at one moment.
#[derive(Clone, Debug)]
pub struct Promised {
    /// By lane, one past the newest acknowledged.
    lanes: Vec<u64>,
    /// By follower and partition.
    pub commits: Vec<Vec<u64>>,
    pub acknowledged: u64,
}

impl Ledger {
    pub fn new(plan: &Plan) -> Self {
        let lanes = usize::from(plan.producers) * plan.partitions as usize;
        let commits = vec![Commit::default(); plan.partitions as usize];
        Self {
            partitions: plan.partitions,
            rate: AtomicU32::new(plan.rate.unwrap_or(0)),
            books: Mutex::new(Books {
                lanes: (0..lanes).map(|_| Lane::new(plan.promise)).collect(),
                shown: Shown::new(plan.partitions),
                commits: vec![commits; usize::from(plan.followers)],
                ends: None,
                acknowledged: 0,
                unknown: 0,
                sent: 0,
                followed: 0,
                resumed: 0,
            }),
        }
    }

    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, message: Message, partition: u32) -> usize {
        usize::from(message.producer) * self.partitions as usize + partition as usize
    }

    /// The message's number among its producer's in its partition.
    fn number(&self, message: Message) -> u64 {
        message.sequence / u64::from(self.partitions)
    }

    pub fn acknowledge(
        &self,
        message: Message,
        partition: u32,
        offset: Option<u64>,
    ) -> Result<(), ScenarioError> {
        let (at, number) = (self.at(message, partition), self.number(message));
        let mut books = self.books();
        books.acknowledged += 1;
        let result = books.lanes[at].acknowledge(number, offset);
        result.or_else(|why| violated(format!("partition {partition}: {message:?}: {why}")))
    }

    pub fn find(&self, message: Message, partition: u32, offset: u64) -> Result<(), ScenarioError> {
        let place = || format!("partition {partition} offset {offset}");
        let at = self.at(message, partition);
        let mut books = self.books();
        let lanes = books.lanes.len();
        let Some(lane) = books.lanes.get_mut(at) else {
            return violated(format!("{}: {message:?} is of no producer ({lanes} lanes)", place()));
        };
        if message.partition(self.partitions) != partition {
            return violated(format!("{}: {message:?} belongs to another partition", place()));
        }
        let result = lane.find(self.number(message), offset);
        result.or_else(|why| violated(format!("{}: {message:?} {why}", place())))
    }

    pub fn promised(&self) -> Promised {
        let books = self.books();
        let confirmed = |commits: &Vec<Commit>| commits.iter().map(|c| c.confirmed).collect();
        Promised {
            lanes: books.lanes.iter().map(Lane::acknowledged_next).collect(),
            commits: books.commits.iter().map(confirmed).collect(),
            acknowledged: books.acknowledged,
        }
    }

    /// Everything promised must have been found by now.
    pub fn check_found(&self, promised: &Promised, promise: Promise) -> Result<(), ScenarioError> {
        if promise == Promise::Memory {
            return Ok(());
        }
        let books = self.books();
        for (at, (lane, promised)) in books.lanes.iter().zip(&promised.lanes).enumerate() {
            if lane.found_next() < *promised {
                let partitions = self.partitions as usize;
                return violated(format!(
                    "partition {}: {} messages of producer {} were acknowledged, {} are there",
                    at % partitions,
                    promised,
                    at / partitions,
                    lane.found_next()
                ));
            }
        }
        Ok(())
    }

    /// Messages found, and numbers that were skipped.
    pub fn found_and_lost(&self) -> (u64, u64) {
        let books = self.books();
        let found = books.lanes.iter().map(Lane::found_count).sum();
        (found, books.lanes.iter().map(Lane::lost).sum())
    }
}
