//! Whether the disk is slow: how long the oldest write of the log has been under way.

use tracing::{info, warn};

use crate::wal::Wal;

/// The disk is called slow until no write was for this many times the limit, so that a disk whose
/// every write is slow is said to be so once.
const CALM_LIMITS: u64 = 3;
const MS: u64 = 1_000_000;

#[derive(Debug, Default)]
pub(crate) struct Slowness {
    /// Since when the disk has been slow.
    pub since_ns: Option<u64>,
    /// When a write was last too old.
    last_ns: u64,
}

impl Wal {
    /// How long the oldest write under way has taken so far, nanoseconds; 0 without one.
    pub(crate) fn oldest_write_age_ns(&self) -> u64 {
        let oldest = self.writer.in_flight.front();
        oldest.map_or(0, |oldest| self.now_ns.saturating_sub(oldest.since_ns))
    }

    /// Marks the log, and says so once when that changes.
    pub(crate) fn watch_slowness(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let (shard, limit) = (self.config.shard, self.config.slow_after_ns);
        let age = self.oldest_write_age_ns();
        let slowness = &mut self.writer.slowness;
        if age >= limit {
            slowness.last_ns = self.now_ns;
            if slowness.since_ns.is_none() {
                slowness.since_ns = Some(self.now_ns);
                let (age_ms, limit_ms) = (age / MS, limit / MS);
                warn!(
                    shard,
                    age_ms,
                    limit_ms,
                    "the disk is slow: a log write has been under way for {age_ms} ms"
                );
            }
        } else if let Some(since) = slowness.since_ns
            && self.now_ns.saturating_sub(slowness.last_ns) >= CALM_LIMITS * limit
        {
            slowness.since_ns = None;
            let slow_ms = slowness.last_ns.saturating_sub(since) / MS;
            info!(shard, slow_ms, "the disk is fast enough again");
        }
    }
}
