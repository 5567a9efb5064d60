//! One producer's messages in one partition: what was acknowledged, what was found, and whether the
//! two agree. Kept as runs and forgotten once they have met, so that the length of a run costs no
//! memory.

use std::collections::VecDeque;

use super::Promise;

/// Messages with consecutive numbers at consecutive offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    number: u64,
    count: u64,
    /// `None`: a repeat whose first offset the server no longer knew.
    offset: Option<u64>,
}

/// Runs in the order of their numbers.
#[derive(Debug, Default)]
struct Runs {
    runs: VecDeque<Run>,
}

impl Runs {
    fn push(&mut self, number: u64, offset: Option<u64>) {
        if let Some(last) = self.runs.back_mut()
            && last.number + last.count == number
            && last.offset.map(|offset| offset + last.count) == offset
        {
            last.count += 1;
            return;
        }
        self.runs.push_back(Run { number, count: 1, offset });
    }

    fn drop_front(&mut self, count: u64) {
        let Some(front) = self.runs.front_mut() else { return };
        front.number += count;
        front.count -= count;
        front.offset = front.offset.map(|offset| offset + count);
        if front.count == 0 {
            self.runs.pop_front();
        }
    }
}

/// Numbers count a producer's messages in this partition, from 0.
#[derive(Debug)]
pub struct Lane {
    promise: Promise,
    acknowledged: Runs,
    found: Runs,
    /// One past the newest acknowledged.
    acknowledged_next: u64,
    /// One past the newest found.
    found_next: u64,
    /// Numbers skipped: allowed only where loss is.
    lost: u64,
    found_count: u64,
}

impl Lane {
    pub fn new(promise: Promise) -> Self {
        Self {
            promise,
            acknowledged: Runs::default(),
            found: Runs::default(),
            acknowledged_next: 0,
            found_next: 0,
            lost: 0,
            found_count: 0,
        }
    }

    pub fn acknowledged_next(&self) -> u64 {
        self.acknowledged_next
    }

    pub fn found_next(&self) -> u64 {
        self.found_next
    }

    pub fn lost(&self) -> u64 {
        self.lost
    }

    pub fn found_count(&self) -> u64 {
        self.found_count
    }

    /// The acknowledgement of message `number` came.
    pub fn acknowledge(&mut self, number: u64, offset: Option<u64>) -> Result<(), String> {
        self.acknowledged_next = number + 1;
        if self.promise == Promise::Memory {
            return Ok(());
        }
        self.acknowledged.push(number, offset);
        self.settle()
    }

    /// Message `number` was read at `offset`, after all before it in the partition.
    pub fn find(&mut self, number: u64, offset: u64) -> Result<(), String> {
        if number < self.found_next {
            return Err(format!("is repeated or late; number {} was to come", self.found_next));
        }
        if number > self.found_next {
            if self.promise == Promise::Durable {
                return Err(format!("is early; number {} was to come", self.found_next));
            }
            self.lost += number - self.found_next;
        }
        self.found_next = number + 1;
        self.found_count += 1;
        if self.promise == Promise::Memory {
            return Ok(());
        }
        self.found.push(number, Some(offset));
        self.settle()
    }

    /// Compares as far as both sides go.
    fn settle(&mut self) -> Result<(), String> {
        while let (Some(promised), Some(found)) =
            (self.acknowledged.runs.front(), self.found.runs.front())
        {
            if promised.number != found.number {
                return Err(format!(
                    "number {} was acknowledged where number {} was found",
                    promised.number, found.number
                ));
            }
            if promised.offset.is_some() && promised.offset != found.offset {
                return Err(format!(
                    "number {} was acknowledged at offset {:?} and found at offset {:?}",
                    promised.number, promised.offset, found.offset
                ));
            }
            let count = promised.count.min(found.count);
            self.acknowledged.drop_front(count);
            self.found.drop_front(count);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_and_acknowledged_meet_in_any_order() {
        let mut lane = Lane::new(Promise::Durable);
        for number in 0..10 {
            lane.acknowledge(number, Some(100 + number)).unwrap();
        }
        for number in 0..20 {
            lane.find(number, 100 + number).unwrap();
        }
        assert!(lane.acknowledged.runs.is_empty());
        lane.acknowledge(10, None).unwrap();
        for number in 11..20 {
            lane.acknowledge(number, Some(100 + number)).unwrap();
        }
        assert!(lane.found.runs.is_empty());
        assert_eq!((lane.found_next(), lane.acknowledged_next()), (20, 20));
    }

    #[test]
    fn repeats_holes_and_other_offsets_are_told() {
        let durable = || {
            let mut lane = Lane::new(Promise::Durable);
            lane.find(0, 5).unwrap();
            lane
        };
        assert!(durable().find(0, 6).unwrap_err().contains("repeated"));
        assert!(durable().find(2, 6).unwrap_err().contains("early"));
        assert!(durable().acknowledge(0, Some(6)).unwrap_err().contains("offset"));
        assert!(durable().acknowledge(1, Some(6)).unwrap_err().contains("number 0"));
        durable().acknowledge(0, Some(5)).unwrap();
    }

    #[test]
    fn what_memory_promised_may_be_lost_and_not_repeated() {
        let mut lane = Lane::new(Promise::Memory);
        lane.acknowledge(0, Some(0)).unwrap();
        lane.find(3, 0).unwrap();
        assert_eq!(lane.lost(), 3);
        assert!(lane.find(2, 1).is_err() && lane.find(3, 1).is_err());
    }
}
