//! The only place of the server that reads clocks. Shards and log get time as a value.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A system clock that is behind by less is corrected in the usual way and not worth a word.
const BEHIND_MS_QUIET: i64 = 1_000;

/// A core's view of time, read once per turn.
///
/// Where the system's clock has jumped back, Unix time goes on at half speed until that has caught
/// up: append times keep their order, and whoever waits for a time does not wait for ever.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    now_ns: u64,
    unix_ms: i64,
    /// What of a millisecond has passed at half speed.
    unix_rest_ns: u64,
    /// The system's clock has jumped back and not caught up.
    is_behind: bool,
    #[cfg(test)]
    driven: Option<Driven>,
}

/// Time for a test: it moves when it is read, and then only.
#[cfg(test)]
#[derive(Debug)]
struct Driven {
    now_ns: std::cell::Cell<u64>,
    step_ns: u64,
}

impl Clock {
    /// `started`: the server's start, the same for all cores, so that one core's times mean
    /// something to another.
    pub fn new(started: Instant) -> Self {
        let unix_ms = system_unix_ms();
        Self {
            started,
            now_ns: 0,
            unix_ms,
            unix_rest_ns: 0,
            is_behind: false,
            #[cfg(test)]
            driven: None,
        }
    }

    /// A clock that stands at this time.
    #[cfg(test)]
    pub fn at(now_ns: u64) -> Self {
        let started = Instant::now() - std::time::Duration::from_nanos(now_ns);
        Self { now_ns, unix_ms: 1_000, ..Self::new(started) }
    }

    /// A clock that goes on by `step_ns` whenever it is read, and never else.
    #[cfg(test)]
    pub fn driven(now_ns: u64, step_ns: u64) -> Self {
        let driven = Driven { now_ns: std::cell::Cell::new(now_ns), step_ns };
        Self { driven: Some(driven), ..Self::at(now_ns) }
    }

    /// Reads both clocks.
    pub fn refresh(&mut self) {
        let before_ns = self.now_ns;
        self.now_ns = self.read_ns();
        match self.follow(system_unix_ms(), self.now_ns.saturating_sub(before_ns)) {
            Followed::Quietly => {}
            Followed::JumpedBack { ms } => tracing::warn!(
                seconds = ms / 1_000,
                "the system's clock has jumped back; append times and retention go on at half \
                 speed until it has caught up (is a time service running?)"
            ),
            Followed::CaughtUp => tracing::info!("the system's clock has caught up"),
        }
    }

    /// Takes the system's time over where it is later than what has passed at half speed. Says
    /// what is worth a line, once a jump.
    fn follow(&mut self, system_ms: i64, passed_ns: u64) -> Followed {
        let rest_ns = self.unix_rest_ns + passed_ns / 2;
        let passed_ms = i64::try_from(rest_ns / 1_000_000).unwrap_or(i64::MAX);
        let slow_ms = self.unix_ms.saturating_add(passed_ms);
        let behind_ms = slow_ms.saturating_sub(system_ms);
        if behind_ms <= 0 {
            (self.unix_ms, self.unix_rest_ns) = (system_ms, 0);
        } else {
            (self.unix_ms, self.unix_rest_ns) = (slow_ms, rest_ns % 1_000_000);
        }
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

    /// Unix time is at least this: the log of a shard has got there. Says so where the system's
    /// clock is behind it: set back while the server was stopped, or too far ahead before.
    pub fn start_from(&mut self, shard: model::ShardId, newest_ms: i64) {
        let behind_ms = newest_ms.saturating_sub(self.unix_ms);
        if behind_ms > BEHIND_MS_QUIET {
            self.is_behind = true;
            tracing::warn!(
                %shard,
                seconds = behind_ms / 1_000,
                "the system's clock is behind the shard's newest entry; append times and \
                 retention go on from there at half speed until it has caught up (set the clock \
                 right)"
            );
        }
        self.unix_ms = self.unix_ms.max(newest_ms);
    }

    /// Lets time pass for a test.
    #[cfg(test)]
    pub fn age(&mut self, by: std::time::Duration) {
        if let Some(Driven { now_ns, .. }) = &self.driven {
            now_ns.set(now_ns.get() + by.as_nanos() as u64);
        }
        self.started -= by;
        self.refresh();
    }

    /// Nanoseconds since the server started, when this turn began; never goes back.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The same at this very moment, for what is timed within a turn.
    pub fn read_ns(&self) -> u64 {
        #[cfg(test)]
        if let Some(Driven { now_ns, step_ns }) = &self.driven {
            now_ns.set(now_ns.get() + step_ns);
            return now_ns.get();
        }
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since the server started; never goes back nor jumps: for whatever waits.
    pub fn now_ms(&self) -> i64 {
        i64::try_from(self.now_ns / 1_000_000).unwrap_or(i64::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn clock(unix_ms: i64) -> Clock {
        Clock { unix_ms, ..Clock::new(Instant::now()) }
    }

    #[test]
    fn after_a_jump_back_time_goes_on_at_half_speed_and_is_said_once() {
        let mut clock = clock(1_000_000);
        assert!(matches!(clock.follow(1_001_000, SECOND_NS), Followed::Quietly));
        assert_eq!(clock.unix_ms(), 1_001_000);
        // Ten minutes back.
        let mut system_ms = 401_000;
        assert!(matches!(clock.follow(system_ms, 0), Followed::JumpedBack { ms: 600_000 }));
        assert_eq!(clock.unix_ms(), 1_001_000);
        for second in 1..1_200 {
            system_ms += 1_000;
            let before_ms = clock.unix_ms();
            assert!(matches!(clock.follow(system_ms, SECOND_NS), Followed::Quietly), "{second}");
            assert_eq!(clock.unix_ms() - before_ms, 500, "at half speed");
        }
        system_ms += 1_000;
        assert!(matches!(clock.follow(system_ms, SECOND_NS), Followed::CaughtUp));
        assert_eq!(clock.unix_ms(), system_ms);
        assert!(matches!(clock.follow(0, 0), Followed::JumpedBack { .. }), "the next jump");
    }

    #[test]
    fn many_short_turns_add_up() {
        let mut clock = clock(1_000_000);
        for _ in 0..1_000 {
            clock.follow(0, 1_000_001);
        }
        assert_eq!(clock.unix_ms(), 1_000_500);
    }

    #[test]
    fn a_small_correction_is_not_worth_a_word() {
        let mut clock = clock(1_000_000);
        assert!(matches!(clock.follow(999_500, 0), Followed::Quietly));
        assert_eq!(clock.unix_ms(), 1_000_000);
        clock.start_from(model::ShardId(0), 2_000_000);
        assert_eq!(clock.unix_ms(), 2_000_000);
        assert!(matches!(clock.follow(1_000_000, 0), Followed::Quietly), "said at the start");
    }
}
