//! The bounds that memory has to hold, against the memory there is: where they add up to more than
//! the limit leaves beside the cache they are lowered, so that a full load meets a bound of ours
//! (clients wait) and not the kernel's (the process is killed).

use model::limits::FRAME_BYTES_MAX;

use crate::bounds::{OUTPUT_BYTES_MAX, OUTPUT_BYTES_PER_CORE_MAX, WAITING_BYTES_MAX};
use crate::config::ServerConfig;

const MIB: u64 = 1 << 20;
/// No bound is lowered below one whole frame.
const BOUND_BYTES_MIN: u64 = FRAME_BYTES_MAX as u64;
/// What the process and each core need beside all bounds.
const FIXED_BYTES: u64 = 64 * MIB;
const CORE_BYTES: u64 = 16 * MIB;

/// Lowers what does not fit into the memory limit of this process.
pub fn fit(config: &mut ServerConfig, shards: u16) {
    let limit = match tuning::memory_limit() {
        Ok(limit) => limit.bytes,
        Err(error) => {
            return tracing::warn!(%error, "the memory limit is not known; bounds stay as they are");
        }
    };
    let before = Budgets::of(config, shards);
    let needed = before.sum();
    if needed <= limit {
        return;
    }
    let after = before.lowered_to(limit);
    config.partial_frame_bytes_per_core = usize::try_from(after.partial).unwrap_or(usize::MAX);
    config.storage.backlog_bytes = after.backlog;
    tracing::warn!(
        memory_limit_mib = limit / MIB,
        needed_mib = needed.div_ceil(MIB),
        partial_frame_mib_per_core = after.partial / MIB,
        backlog_mib = after.backlog / MIB,
        "the bounds add up to more than the memory limit and were lowered; clients wait earlier under load"
    );
    if after.sum() > limit {
        tracing::warn!(
            memory_limit_mib = limit / MIB,
            needed_mib = after.sum().div_ceil(MIB),
            "even at their least the bounds add up to more than the memory limit; under full load the kernel may end the server: raise the limit, lower storage.cache_bytes or use fewer cores"
        );
    }
}

/// Bytes of half frames on one core at most: those that have been given room, and what those have
/// sent that wait for it.
pub fn half_frame_bytes_max(partial_frame_bytes: u64) -> u64 {
    partial_frame_bytes.saturating_mul(2)
}

/// Bytes of replies that may wait on one core: like frames in the making.
pub fn output_bytes_per_core_max(partial_frame_bytes: usize) -> usize {
    partial_frame_bytes.clamp(4 * OUTPUT_BYTES_MAX, OUTPUT_BYTES_PER_CORE_MAX)
}

/// Bytes of publishes that may wait for one shard's backlog: as many as that holds.
pub fn waiting_bytes_max(backlog_bytes: u64) -> usize {
    let backlog = usize::try_from(backlog_bytes.max(BOUND_BYTES_MIN)).unwrap_or(usize::MAX);
    backlog.min(WAITING_BYTES_MAX)
}

/// The bounds in bytes.
#[derive(Clone, Copy, Debug)]
struct Budgets {
    cores: u64,
    shards: u64,
    /// Cache, receive buffers, and what is needed beside all bounds.
    fixed: u64,
    /// The bound on frames in the making of each core, and the one on what waits to be.
    partial: u64,
    /// For each shard.
    backlog: u64,
}

impl Budgets {
    fn of(config: &ServerConfig, shards: u16) -> Self {
        let executor = &config.executor;
        let cores = config.placement.cores() as u64;
        let received =
            u64::from(executor.receive_buffers) * u64::from(executor.receive_buffer_bytes);
        let fixed = FIXED_BYTES
            .saturating_add((CORE_BYTES + received).saturating_mul(cores))
            .saturating_add(config.storage.cache_bytes);
        Self {
            cores,
            shards: shards.into(),
            fixed,
            partial: config.partial_frame_bytes_per_core as u64,
            backlog: config.storage.backlog_bytes,
        }
    }

    /// What can be lowered: frames and replies of each core, what waits in each shard.
    fn flexible(&self) -> u64 {
        let partial = usize::try_from(self.partial).unwrap_or(usize::MAX);
        let per_core = half_frame_bytes_max(self.partial)
            .saturating_add(output_bytes_per_core_max(partial) as u64);
        let per_shard = self.backlog.saturating_add(waiting_bytes_max(self.backlog) as u64);
        per_core.saturating_mul(self.cores).saturating_add(per_shard.saturating_mul(self.shards))
    }

    fn sum(&self) -> u64 {
        self.fixed.saturating_add(self.flexible())
    }

    /// All lowered by the same share, none below one frame.
    fn lowered_to(self, limit: u64) -> Self {
        let flexible = self.flexible().max(1);
        let left = limit.saturating_sub(self.fixed).min(flexible);
        let lowered = |bytes: u64| {
            let share = u128::from(bytes) * u128::from(left) / u128::from(flexible);
            u64::try_from(share).unwrap_or(bytes).max(BOUND_BYTES_MIN).min(bytes)
        };
        Self { partial: lowered(self.partial), backlog: lowered(self.backlog), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Budgets =
        Budgets { cores: 2, shards: 2, fixed: 176 * MIB, partial: 64 * MIB, backlog: 64 * MIB };

    #[test]
    fn bounds_shrink_into_the_limit_and_not_below_a_frame() {
        assert_eq!(DEFAULT.sum(), 816 * MIB);
        let half = DEFAULT.lowered_to(496 * MIB);
        assert_eq!((half.partial / MIB, half.backlog / MIB), (32, 32));
        assert!(half.sum() <= 496 * MIB);
        let least = DEFAULT.lowered_to(100 * MIB);
        assert_eq!((least.partial, least.backlog), (BOUND_BYTES_MIN, BOUND_BYTES_MIN));
        let roomy = DEFAULT.lowered_to(u64::MAX);
        assert_eq!((roomy.partial, roomy.backlog), (DEFAULT.partial, DEFAULT.backlog));
    }

    #[test]
    fn what_follows_from_a_bound_follows_it_down() {
        assert_eq!(waiting_bytes_max(u64::MAX), WAITING_BYTES_MAX);
        assert_eq!(waiting_bytes_max(20 * MIB), 20 * MIB as usize);
        assert_eq!(half_frame_bytes_max(64 * MIB), 128 * MIB, "room given, and waiting for it");
        assert_eq!(waiting_bytes_max(0) as u64, BOUND_BYTES_MIN);
        assert_eq!(output_bytes_per_core_max(usize::MAX), OUTPUT_BYTES_PER_CORE_MAX);
        assert_eq!(output_bytes_per_core_max(0), 4 * OUTPUT_BYTES_MAX);
    }
}
