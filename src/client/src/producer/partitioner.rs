//! Which partition a message goes to when it names none.

use std::sync::atomic::{AtomicU32, Ordering};

use protocol::partition_of_key;

/// How messages are spread over the partitions of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// By the key's murmur2 hash, as Kafka's clients do it; without a key as [`Self::Sticky`].
    #[default]
    KeyHash,
    /// One after the other, whatever the key.
    RoundRobin,
    /// All to one partition until its batch is sent, then to the next, whatever the key: larger
    /// batches.
    Sticky,
}

/// Where a topic's spreading stands.
#[derive(Debug, Default)]
pub(super) struct Spread {
    next: AtomicU32,
}

impl Spread {
    /// Begins at `start`, so that many producers do not all begin at partition 0.
    pub(super) fn starting_at(start: u32) -> Self {
        Self { next: AtomicU32::new(start) }
    }

    /// `partitions` is at least 1.
    pub(super) fn choose(&self, how: Partitioner, key: Option<&[u8]>, partitions: u32) -> u32 {
        match (how, key) {
            (Partitioner::KeyHash, Some(key)) => partition_of_key(key, partitions),
            (Partitioner::RoundRobin, _) => self.next.fetch_add(1, Ordering::Relaxed) % partitions,
            (Partitioner::KeyHash | Partitioner::Sticky, _) => {
                self.next.load(Ordering::Relaxed) % partitions
            }
        }
    }

    /// A batch of `partition` is on its way: what sticks to it moves on.
    pub(super) fn batch_sealed(&self, how: Partitioner, partition: u32, partitions: u32) {
        let now = self.next.load(Ordering::Relaxed);
        if how != Partitioner::RoundRobin && now % partitions == partition {
            // Losing the race means that someone else has moved on already.
            let _ = self.next.compare_exchange(
                now,
                now.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_land_where_kafka_puts_them() {
        let spread = Spread::default();
        // murmur2("foobar") & 0x7fffffff = 1357151166.
        assert_eq!(spread.choose(Partitioner::KeyHash, Some(b"foobar"), 10), 6);
        assert_eq!(spread.choose(Partitioner::KeyHash, Some(b"foobar"), 7), 1_357_151_166 % 7);
    }

    #[test]
    fn round_robin_takes_turns() {
        let spread = Spread::starting_at(2);
        let chosen: Vec<_> =
            (0..4).map(|_| spread.choose(Partitioner::RoundRobin, Some(b"k"), 3)).collect();
        assert_eq!(chosen, [2, 0, 1, 2]);
    }

    #[test]
    fn sticky_stays_until_the_batch_is_sealed() {
        let spread = Spread::default();
        let choose = || spread.choose(Partitioner::Sticky, None, 3);
        assert_eq!([choose(), choose()], [0, 0]);
        spread.batch_sealed(Partitioner::Sticky, 2, 3);
        assert_eq!(choose(), 0);
        spread.batch_sealed(Partitioner::Sticky, 0, 3);
        assert_eq!([choose(), choose()], [1, 1]);
        assert_eq!(spread.choose(Partitioner::KeyHash, None, 3), 1);
    }
}
