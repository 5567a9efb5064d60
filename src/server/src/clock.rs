//! The only place of the server that reads clocks. Shards and log get time as a value.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A system clock that is behind by less is corrected in the usual way and not worth a word.
const BEHIND_MS_QUIET: i64 = 1_000;

/// A core's view of time, read once per turn.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    now_ns: u64,
    unix_ms: i64,
    /// The system's clock has jumped back and not caught up.
    is_behind: bool,
}

impl Clock {
    pub fn new() -> Self {
        let (started, unix_ms) = (Instant::now(), system_unix_ms());
        Self { started, now_ns: 0, unix_ms, is_behind: false }
    }

    /// A clock that stands at this time.
    #[cfg(test)]
    pub fn at(now_ns: u64) -> Self {
        Self { started: Instant::now(), now_ns, unix_ms: 1_000, is_behind: false }
    }

    /// Reads both clocks.
    pub fn refresh(&mut self) {
        self.now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match self.follow(system_unix_ms()) {
            Followed::Quietly => {}
            Followed::JumpedBack { ms } => tracing::warn!(
                seconds = ms / 1_000,
                "the system's clock has jumped back; append times and retention stand still until \
                 it has caught up (is a time service running?)"
            ),
            Followed::CaughtUp => tracing::info!("the system's clock has caught up"),
        }
    }

    /// Takes the system's time over where it is later. Says what is worth a line, once a jump.
    fn follow(&mut self, system_ms: i64) -> Followed {
        let behind_ms = self.unix_ms.saturating_sub(system_ms);
        self.unix_ms = self.unix_ms.max(system_ms);
        match (self.is_behind, behind_ms) {
            (false, ms) if ms > BEHIND_MS_QUIET => {
                self.is_behind = true;
                Followed::JumpedBack { ms }
            }
            (true, ms) if ms <= 0 => {
                self.is_behind = false;
                Followed::CaughtUp
            }
            _ => Followed::Quietly,
        }
    }

    /// Lets time pass for a test.
    #[cfg(test)]
    pub fn age(&mut self, by: std::time::Duration) {
        self.started -= by;
        self.refresh();
    }

    /// Nanoseconds since this core started; never goes back.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// When `wait_ms` from now have passed, by [`Self::now_ns`]; 0 stands for no limit.
    pub fn deadline_ns(&self, wait_ms: u32) -> u64 {
        match wait_ms {
            0 => u64::MAX,
            ms => self.now_ns + u64::from(ms) * 1_000_000,
        }
    }

    /// Milliseconds since 1970; never goes back, may jump ahead with the system's clock.
    pub fn unix_ms(&self) -> i64 {
        self.unix_ms
    }
}

enum Followed {
    Quietly,
    JumpedBack { ms: i64 },
    CaughtUp,
}

fn system_unix_ms() -> i64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(unix.as_millis()).unwrap_or(i64::MAX)
}

/// Says when the newest message of a shard is later than the system's clock: set back while the
/// server was stopped, or too far ahead before.
pub fn warn_if_behind(shard: model::ShardId, newest_ms: i64) {
    let behind_ms = newest_ms.saturating_sub(system_unix_ms());
    if behind_ms > BEHIND_MS_QUIET {
        tracing::warn!(
            %shard,
            seconds = behind_ms / 1_000,
            "the system's clock is behind the shard's newest entry; append times and retention \
             stand still until it has caught up (set the clock right)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(unix_ms: i64) -> Clock {
        Clock { started: Instant::now(), now_ns: 0, unix_ms, is_behind: false }
    }

    #[test]
    fn time_never_goes_back_and_a_jump_is_said_once() {
        let mut clock = clock(1_000_000);
        assert!(matches!(clock.follow(1_000_010), Followed::Quietly));
        assert_eq!(clock.unix_ms(), 1_000_010);
        assert!(matches!(clock.follow(400_000), Followed::JumpedBack { ms: 600_010 }));
        assert_eq!(clock.unix_ms(), 1_000_010);
        for system_ms in [400_001, 300_000, 1_000_009] {
            assert!(matches!(clock.follow(system_ms), Followed::Quietly), "said once");
            assert_eq!(clock.unix_ms(), 1_000_010);
        }
        assert!(matches!(clock.follow(1_000_011), Followed::CaughtUp));
        assert!(matches!(clock.follow(0), Followed::JumpedBack { .. }));
    }

    #[test]
    fn a_small_correction_is_not_worth_a_word() {
        let mut clock = clock(1_000_000);
        assert!(matches!(clock.follow(999_500), Followed::Quietly));
        assert_eq!(clock.unix_ms(), 1_000_000);
    }
}
