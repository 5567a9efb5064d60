//! Reads what is new in every partition, with a stretch of what was read before, and holds it
//! against what was promised and shown.

use client::{Client, Consumer, OffsetReset, StartPosition};
use tokio::time::timeout;

use super::Plan;
use super::RECORD_TIMEOUT;
use super::ledger::{Ledger, Promised};
use super::message::Message;
use super::trail::{CHUNK, Trail};
use crate::error::{ScenarioError, violated};

/// Messages read again by each audit: a crash that gave an offset out anew did so near the end.
const OVERLAP: u64 = 16 * CHUNK;

#[derive(Debug)]
pub struct Audit {
    partitions: Vec<Audited>,
    /// Records read, repeats included.
    pub records: u64,
}

/// How far one partition has been read.
#[derive(Clone, Copy, Debug)]
struct Audited {
    next: u64,
    /// What the chunk that `next` lies in had in it.
    tail: Option<u64>,
}

impl Audit {
    pub fn new(partitions: u32) -> Self {
        let audited = Audited { next: 0, tail: None };
        Self { partitions: vec![audited; partitions as usize], records: 0 }
    }

    /// Where each partition ended when it was read last.
    pub fn ends(&self) -> Vec<u64> {
        self.partitions.iter().map(|audited| audited.next).collect()
    }

    /// Checks the running server; `whole` reads everything that is kept.
    pub async fn check(
        &mut self,
        client: &Client,
        plan: &Plan,
        ledger: &Ledger,
        promised: &Promised,
        whole: bool,
    ) -> Result<(), ScenarioError> {
        for partition in 0..plan.partitions {
            self.read(client, plan, ledger, partition, whole).await?;
        }
        ledger.check_found(promised, plan.promise)?;
        check_commits(client, plan, ledger, promised).await
    }

    async fn read(
        &mut self,
        client: &Client,
        plan: &Plan,
        ledger: &Ledger,
        partition: u32,
        whole: bool,
    ) -> Result<(), ScenarioError> {
        let before = self.partitions[partition as usize];
        let end = client.lookup_offset(&plan.topic, partition, StartPosition::Next).await;
        let end = end.map_err(ScenarioError::client("look up the end of a partition"))?;
        if end < before.next {
            return violated(format!(
                "partition {partition} ends at offset {end}, but offset {} was shown before",
                before.next - 1
            ));
        }
        let again_from = before.next.saturating_sub(OVERLAP) / CHUNK * CHUNK;
        let start = if whole { StartPosition::First } else { StartPosition::Offset(again_from) };
        let mut consumer = client
            .consumer(&plan.topic)
            .partition(partition)
            .start(start)
            .reset(OffsetReset::First)
            .until_end(true)
            .build()
            .await
            .map_err(ScenarioError::client("read a partition"))?;
        let mut reading = Reading { ledger, partition, before, trail: Trail::new() };
        while let Some((offset, message)) = next_message(&mut consumer).await? {
            if reading.trail.next().is_some_and(|next| next < offset) {
                let first = client.lookup_offset(&plan.topic, partition, StartPosition::First);
                let first = first.await;
                if first.map_err(ScenarioError::client("look up the first offset"))? >= offset {
                    return Err(ScenarioError::Outrun { partition });
                }
            }
            reading.take(offset, message)?;
            self.records += 1;
            // What comes while it is read is for the next audit: the producers may be faster.
            if offset + 1 >= end {
                break;
            }
        }
        let next = reading.trail.next().unwrap_or(end);
        if next < end {
            return violated(format!(
                "partition {partition} ends at offset {end} but reading ended at {next}"
            ));
        }
        self.partitions[partition as usize] = Audited { next, tail: reading.trail.tail() };
        Ok(())
    }
}

/// One partition being read.
struct Reading<'a> {
    ledger: &'a Ledger,
    partition: u32,
    before: Audited,
    trail: Trail,
}

impl Reading<'_> {
    fn take(&mut self, offset: u64, message: Message) -> Result<(), ScenarioError> {
        let (partition, before) = (self.partition, self.before);
        match self.trail.next() {
            Some(next) if next != offset => {
                return violated(format!(
                    "partition {partition}: offset {next} was to come, not {offset}"
                ));
            }
            None if offset > before.next => return Err(ScenarioError::Outrun { partition }),
            _ => {}
        }
        if offset == before.next
            && let (Some(was), Some(is)) = (before.tail, self.trail.tail())
            && !offset.is_multiple_of(CHUNK)
            && was != is
        {
            return violated(format!(
                "partition {partition}: the messages just before offset {offset} are not those \
                 that were shown"
            ));
        }
        if offset >= before.next {
            self.ledger.find(message, partition, offset)?;
        }
        if let Some(chunk) = self.trail.push(offset, message) {
            let noted = self.ledger.books().shown.note(partition, chunk);
            noted.or_else(violated)?;
        }
        Ok(())
    }
}

/// The next record, unpacked and checked against its own checksum.
pub async fn next_message(
    consumer: &mut Consumer,
) -> Result<Option<(u64, Message)>, ScenarioError> {
    let next = timeout(RECORD_TIMEOUT, consumer.next()).await;
    let Some(record) = next.map_err(|_| ScenarioError::NoRecord(RECORD_TIMEOUT))? else {
        return Ok(None);
    };
    let record = record.map_err(ScenarioError::client("read a partition"))?;
    read_record(&record).map(Some)
}

pub fn read_record(record: &client::Record) -> Result<(u64, Message), ScenarioError> {
    match record.value().and_then(Message::read) {
        Some(message) => Ok((record.offset(), message)),
        None => violated(format!(
            "partition {} offset {}: the payload has changed",
            record.partition(),
            record.offset()
        )),
    }
}

/// A confirmed commit is never taken back, and nothing was committed that was not asked for.
async fn check_commits(
    client: &Client,
    plan: &Plan,
    ledger: &Ledger,
    promised: &Promised,
) -> Result<(), ScenarioError> {
    for (follower, confirmed) in promised.commits.iter().enumerate() {
        let name = super::followers::name(follower);
        for (partition, confirmed) in (0..).zip(confirmed) {
            let found = client.committed_offset(&plan.topic, partition, &name).await;
            let found = found.map_err(ScenarioError::client("ask for a committed offset"))?;
            let asked = ledger.books().commits[follower][partition as usize].asked;
            let found = found.unwrap_or(0);
            if found < *confirmed || found > asked {
                return violated(format!(
                    "{name} had offset {confirmed} confirmed in partition {partition} and asked \
                     for {asked} at most; the server says {found}"
                ));
            }
        }
    }
    Ok(())
}
