//! Reads everything there is and holds it against what was promised and what was shown before.

use std::collections::HashMap;
use std::time::Duration;

use client::{Client, StartPosition};
use tokio::time::timeout;

use super::message::Message;
use super::producers::{Acknowledged, partition_of};
use super::{CrashError, TOPIC};

/// How long one record may keep us waiting.
const RECORD_TIMEOUT: Duration = Duration::from_secs(30);

/// What earlier audits have seen: an offset, once shown, keeps its message for ever.
#[derive(Debug)]
pub struct Audit {
    /// By partition and offset.
    shown: Vec<Vec<Message>>,
}

impl Audit {
    pub fn new(partitions: u32) -> Self {
        Self { shown: vec![Vec::new(); partitions as usize] }
    }

    /// Messages seen by the last check.
    pub fn messages(&self) -> usize {
        self.shown.iter().map(Vec::len).sum()
    }

    /// Checks the running server. `promised` was taken before it was started.
    pub async fn check(
        &mut self,
        client: &Client,
        promised: &[Acknowledged],
    ) -> Result<(), CrashError> {
        let found = read_all(client, self.shown.len()).await?;
        for (partition, messages) in found.iter().enumerate() {
            check_order(partition as u32, messages, self.shown.len() as u32)?;
            check_shown(partition, &self.shown[partition], messages)?;
        }
        check_promised(promised, &found)?;
        self.shown = found;
        Ok(())
    }
}

/// Every message by partition and offset. Offsets must begin at 0 and have no hole.
async fn read_all(client: &Client, partitions: usize) -> Result<Vec<Vec<Message>>, CrashError> {
    let mut found = vec![Vec::new(); partitions];
    let mut consumer = client
        .consumer(TOPIC)
        .start(StartPosition::First)
        .until_end(true)
        .build()
        .await
        .map_err(CrashError::client("read the topic"))?;
    loop {
        let next = timeout(RECORD_TIMEOUT, consumer.next()).await;
        let Some(record) = next.map_err(|_| CrashError::NoRecord(RECORD_TIMEOUT))? else {
            return Ok(found);
        };
        let record = record.map_err(CrashError::client("read the topic"))?;
        let (partition, offset) = (record.partition(), record.offset());
        let place = format!("partition {partition} offset {offset}");
        let Some(messages) = found.get_mut(partition as usize) else {
            return violated(format!("{place}: there is no such partition"));
        };
        if messages.len() as u64 != offset {
            return violated(format!("{place}: offset {} was to come", messages.len()));
        }
        match record.value().and_then(Message::read) {
            Some(message) => messages.push(message),
            None => return violated(format!("{place}: the payload has changed")),
        }
    }
}

/// Each producer's messages: every one, once, in order. The partition follows from the number, so
/// that the next number in a partition is known.
fn check_order(partition: u32, messages: &[Message], partitions: u32) -> Result<(), CrashError> {
    let mut next: HashMap<u16, u64> = HashMap::new();
    for (offset, message) in messages.iter().enumerate() {
        let first = (0..u64::from(partitions)).find(|sequence| {
            partition_of(Message { sequence: *sequence, ..*message }, partitions) == partition
        });
        let expected = next.entry(message.producer).or_insert(first.unwrap_or(0));
        if message.sequence != *expected {
            let kind = if message.sequence < *expected { "repeated or late" } else { "early" };
            return violated(format!(
                "partition {partition} offset {offset}: message {} of producer {} is {kind}; {} \
                 was to come",
                message.sequence, message.producer, *expected
            ));
        }
        *expected += u64::from(partitions);
    }
    Ok(())
}

fn check_shown(partition: usize, shown: &[Message], found: &[Message]) -> Result<(), CrashError> {
    if found.len() < shown.len() {
        return violated(format!(
            "partition {partition} ends at offset {}, but offset {} was shown before",
            found.len(),
            shown.len() - 1
        ));
    }
    match shown.iter().zip(found).position(|(before, now)| before != now) {
        Some(offset) => violated(format!(
            "partition {partition} offset {offset} was used again: it was {:?} and is {:?}",
            shown[offset], found[offset]
        )),
        None => Ok(()),
    }
}

fn check_promised(promised: &[Acknowledged], found: &[Vec<Message>]) -> Result<(), CrashError> {
    for acknowledged in promised {
        let messages = &found[acknowledged.partition as usize];
        let there = match acknowledged.offset {
            Some(offset) => messages.get(offset as usize) == Some(&acknowledged.message),
            None => messages.contains(&acknowledged.message),
        };
        if !there {
            return violated(format!(
                "{acknowledged:?} is not where it was acknowledged; the partition has {} messages",
                messages.len()
            ));
        }
    }
    Ok(())
}

fn violated<T>(text: String) -> Result<T, CrashError> {
    Err(CrashError::Violated(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(numbers: &[(u16, u64)]) -> Vec<Message> {
        numbers
            .iter()
            .map(|(producer, sequence)| Message { producer: *producer, sequence: *sequence })
            .collect()
    }

    #[test]
    fn order_holes_and_repeats_are_found() {
        let check = |numbers| check_order(0, &messages(numbers), 3).is_ok();
        assert!(check(&[(0, 0), (1, 2), (0, 3), (1, 5), (0, 6)]));
        assert!(!check(&[(0, 0), (0, 6)]));
        assert!(!check(&[(0, 0), (0, 0)]));
        assert!(!check(&[(0, 3)]));
        assert!(!check(&[(1, 2), (1, 8), (1, 5)]));
    }

    #[test]
    fn what_was_shown_stays() {
        let check = |before, now| check_shown(0, &messages(before), &messages(now)).is_ok();
        assert!(check(&[(0, 0)], &[(0, 0), (1, 2)]));
        assert!(!check(&[(0, 0), (1, 2)], &[(0, 0)]));
        assert!(!check(&[(0, 0), (1, 2)], &[(0, 0), (2, 1)]));
    }

    #[test]
    fn what_was_promised_is_there() {
        let found = [messages(&[(0, 0), (0, 3)])];
        let check = |sequence, offset| {
            let message = Message { producer: 0, sequence };
            check_promised(&[Acknowledged { message, partition: 0, offset }], &found).is_ok()
        };
        assert!(check(3, Some(1)) && check(0, None));
        assert!(!check(3, Some(0)) && !check(3, Some(2)) && !check(6, None));
    }
}
