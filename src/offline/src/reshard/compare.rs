//! Whether a partition is what it was.

use model::EntryHead;
use shards::CarriedPartition;
use wal::crc::crc32c;

use super::plan::Planned;

/// What a partition's batches add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub batches: u64,
    pub records: u64,
    chain: u32,
}

impl Tally {
    /// Every byte, every offset, every time and the order count.
    pub fn add(&mut self, head: &EntryHead, payload: &[u8]) {
        self.batches += 1;
        self.records += u64::from(head.records);
        let mut text = [0; 28];
        text[..4].copy_from_slice(&self.chain.to_le_bytes());
        text[4..8].copy_from_slice(&crc32c(payload).to_le_bytes());
        text[8..16].copy_from_slice(&head.base_offset.to_le_bytes());
        text[16..24].copy_from_slice(&head.time_ms.to_le_bytes());
        text[24..28].copy_from_slice(&head.records.to_le_bytes());
        self.chain = crc32c(&text);
    }

    pub fn checksum(&self) -> u32 {
        self.chain
    }
}

/// The first thing that is not as it was.
pub(super) fn difference(
    planned: &Planned,
    found: Option<&(CarriedPartition, Tally)>,
) -> Option<String> {
    let was = &planned.carried;
    let name = format!("partition {} of topic {}", was.record.index, was.record.name);
    let Some((is, tally)) = found else { return Some(format!("{name} is missing")) };
    let (a, b) = (&was.record, &is.record);
    if (a.topic, &a.name, a.index, &a.config, a.config_version)
        != (b.topic, &b.name, b.index, &b.config, b.config_version)
    {
        return Some(format!("{name} has another name or other settings"));
    }
    if *tally != planned.tally {
        return Some(format!(
            "{name} has {} records with the checksum {:08x} instead of {} with {:08x}",
            tally.records,
            tally.checksum(),
            planned.tally.records,
            planned.tally.checksum()
        ));
    }
    if a.next_offset != b.next_offset || b.first_offset > a.first_offset {
        return Some(format!(
            "{name} reaches from offset {} to {} instead of from {} to {}",
            b.first_offset, b.next_offset, a.first_offset, a.next_offset
        ));
    }
    if was.consumers != is.consumers {
        return Some(format!("{name} has other committed offsets"));
    }
    if !was.producers.says_the_same(&is.producers) {
        return Some(format!("{name} remembers other producers"));
    }
    None
}
