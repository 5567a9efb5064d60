//! Which core owns which shard.

use model::{CoreId, Rejection, ShardId, TopicName};

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

    /// See [`shards::place_partitions`].
    pub fn place_partitions(
        &self,
        name: &TopicName,
        partitions: u32,
    ) -> Result<Vec<ShardId>, Rejection> {
        shards::place_partitions(name, partitions, self.shards)
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
}
