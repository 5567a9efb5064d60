//! Named consumers' committed offsets.

use model::limits::CONSUMERS_PER_PARTITION_MAX;
use model::{ConsumerName, ErrorCode, Lsn, Offset, PartitionHandle, Rejection};

use crate::engine::Engine;
use crate::entry::Change;
use crate::journal::Journal;
use crate::rejection;

impl Engine {
    /// Stores the next offset a consumer will read. Offsets up to the committed end are taken,
    /// earlier than the last one or than the first kept too. The same offset again appends
    /// nothing.
    pub fn commit_offset(
        &mut self,
        now_ms: i64,
        partition: PartitionHandle,
        consumer: &ConsumerName,
        offset: Offset,
        journal: &mut impl Journal,
    ) -> Result<Lsn, Rejection> {
        let time_ms = self.stamp(now_ms);
        let found = self.decided(partition)?;
        let (first, next) = (found.shown.first_offset, found.shown.next_offset);
        if offset > next {
            return Err(rejection::offset_out_of_range(offset, first, next));
        }
        match found.consumers.get(consumer) {
            Some(known) if known.offset == offset => return Ok(self.wait_for(found.lsn)),
            None if found.consumers.len() >= CONSUMERS_PER_PARTITION_MAX => {
                let message = format!(
                    "the partition has {CONSUMERS_PER_PARTITION_MAX} named consumers, the most \
                     there may be; use one of their names"
                );
                return Err(rejection::limit(message));
            }
            None => self.expect_memory()?,
            Some(_) => {}
        }
        let change = Change::OffsetCommitted { consumer: consumer.clone(), offset };
        self.record(time_ms, partition.stream, &change, journal)
    }

    /// What the consumer has committed, as far as the log is committed.
    pub fn committed_offset(
        &self,
        partition: PartitionHandle,
        consumer: &ConsumerName,
    ) -> Result<Offset, Rejection> {
        let found = self.revealed(partition)?.consumers.get(consumer);
        found.and_then(|consumer| consumer.shown).ok_or_else(|| {
            let message = format!(
                "the consumer {consumer} has committed no offset in this partition; start it from \
                 the first or the next message"
            );
            Rejection::new(ErrorCode::NoCommittedOffset, message)
        })
    }
}
