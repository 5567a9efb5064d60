//! The only place of the server that reads clocks. Shards and log get time as a value.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A core's view of time, read once per turn.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    now_ns: u64,
    unix_ms: i64,
}

impl Clock {
    pub fn new() -> Self {
        let mut clock = Self { started: Instant::now(), now_ns: 0, unix_ms: 0 };
        clock.refresh();
        clock
    }

    /// A clock that stands at this time.
    #[cfg(test)]
    pub fn at(now_ns: u64) -> Self {
        Self { started: Instant::now(), now_ns, unix_ms: 1_000 }
    }

    /// Reads both clocks.
    pub fn refresh(&mut self) {
        self.now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.unix_ms = i64::try_from(unix.as_millis()).unwrap_or(i64::MAX);
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

    /// Milliseconds since 1970; may jump with the system's clock.
    pub fn unix_ms(&self) -> i64 {
        self.unix_ms
    }
}
