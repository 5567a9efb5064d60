//! Which core owns which shard, and which shards a topic's partitions go to.

use model::limits::PARTITIONS_MAX;
use model::{CoreId, ErrorCode, Rejection, ShardId, TopicName};

/// Fixed for the life of the process. Shard 0 is always the first core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardMap {
    shards: u16,
    cores: u16,
}

impl ShardMap {
    /// # Panics
    /// When either is 0.
    pub fn new(shards: u16, cores: u16) -> Self {
        assert!(shards > 0 && cores > 0, "a server has at least one shard and one core");
        Self { shards, cores }
    }

    pub fn shards(&self) -> u16 {
        self.shards
    }

    pub fn cores(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.cores).map(CoreId)
    }

    pub fn core_of(&self, shard: ShardId) -> CoreId {
        CoreId(shard.0 % self.cores)
    }

    /// Whether there is such a shard.
    pub fn has(&self, shard: ShardId) -> bool {
        shard.0 < self.shards
    }

    /// The shards of `core`, in order.
    pub fn shards_of(&self, core: CoreId) -> Vec<ShardId> {
        (0..self.shards).map(ShardId).filter(|shard| self.core_of(*shard) == core).collect()
    }

    /// Neighbouring partitions go to neighbouring shards; where a topic begins follows from its
    /// name, so that topics with one partition spread.
    pub fn place_partitions(
        &self,
        name: &TopicName,
        partitions: u32,
    ) -> Result<Vec<ShardId>, Rejection> {
        if partitions == 0 || partitions > PARTITIONS_MAX {
            let text = format!(
                "a topic has 1 to {PARTITIONS_MAX} partitions; {partitions} were asked for"
            );
            return Err(Rejection::new(ErrorCode::InvalidArgument, text));
        }
        let first = u64::from(protocol::murmur2(name.as_str().as_bytes()));
        let shards = u64::from(self.shards);
        Ok((0..u64::from(partitions))
            .map(|i| ShardId(u16::try_from((first + i) % shards).unwrap_or(0)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_one_core_and_shard_0_the_first() {
        let map = ShardMap::new(5, 2);
        assert_eq!(map.shards_of(CoreId(0)), [ShardId(0), ShardId(2), ShardId(4)]);
        assert_eq!(map.shards_of(CoreId(1)), [ShardId(1), ShardId(3)]);
        assert_eq!(map.core_of(ShardId(0)), CoreId(0));
    }

    #[test]
    fn partitions_spread_over_all_shards() {
        let map = ShardMap::new(4, 2);
        let name = TopicName::parse("orders").unwrap();
        let mut shards = map.place_partitions(&name, 8).unwrap();
        shards.sort();
        assert_eq!(shards, [0, 0, 1, 1, 2, 2, 3, 3].map(ShardId));
        assert!(map.place_partitions(&name, 0).is_err());
        assert!(map.place_partitions(&name, PARTITIONS_MAX + 1).is_err());
    }
}
