//! Which shards a topic's partitions go to.

use model::limits::PARTITIONS_MAX;
use model::{ErrorCode, Rejection, ShardId, TopicName};

/// Neighbouring partitions go to neighbouring shards; where a topic begins follows from its name,
/// so that topics with one partition spread.
///
/// # Errors
/// When a topic cannot have so many partitions.
///
/// # Panics
/// When there is no shard.
pub fn place_partitions(
    name: &TopicName,
    partitions: u32,
    shards: u16,
) -> Result<Vec<ShardId>, Rejection> {
    assert!(shards > 0, "partitions need a shard");
    if partitions == 0 || partitions > PARTITIONS_MAX {
        let text =
            format!("a topic has 1 to {PARTITIONS_MAX} partitions; {partitions} were asked for");
        return Err(Rejection::new(ErrorCode::InvalidArgument, text));
    }
    let first = u64::from(protocol::murmur2(name.as_str().as_bytes()));
    Ok((0..u64::from(partitions))
        .map(|i| ShardId(u16::try_from((first + i) % u64::from(shards)).unwrap_or(0)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_spread_over_all_shards() {
        let name = TopicName::parse("orders").unwrap();
        let mut shards = place_partitions(&name, 8, 4).unwrap();
        shards.sort();
        assert_eq!(shards, [0, 0, 1, 1, 2, 2, 3, 3].map(ShardId));
        assert!(place_partitions(&name, 0, 4).is_err());
        assert!(place_partitions(&name, PARTITIONS_MAX + 1, 4).is_err());
    }
}
