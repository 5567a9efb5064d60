//! What was measured: latencies of a whole run and second by second. Knows nothing of who was
//! measured or how; a recorder for each thread, merged at the end.

mod latency;
mod series;

pub use latency::{CurvePoint, Latencies, LatencyUs};
pub use series::{INTERVALS_MAX, Point, Series};

/// Records the measured part of a run. Times are nanoseconds since the run began.
#[derive(Clone, Debug)]
pub struct Recorder {
    from_ns: u64,
    to_ns: u64,
    messages: u64,
    bytes: u64,
    latencies: Latencies,
    series: Series,
}

impl Recorder {
    /// What is meant to happen in `from_ns..to_ns` is measured.
    pub fn new(from_ns: u64, to_ns: u64) -> Self {
        let (latencies, series) = (Latencies::new(), Series::new(from_ns));
        Self { from_ns, to_ns, messages: 0, bytes: 0, latencies, series }
    }

    pub fn from_ns(&self) -> u64 {
        self.from_ns
    }

    pub fn to_ns(&self) -> u64 {
        self.to_ns
    }

    /// The measured part ends earlier than was meant.
    pub fn end_at(&mut self, to_ns: u64) {
        self.to_ns = self.to_ns.min(to_ns);
    }

    /// `count` things meant to begin at `intended_ns` were over at `now_ns`.
    #[inline]
    pub fn latency(&mut self, intended_ns: u64, now_ns: u64, count: u64) {
        if (self.from_ns..self.to_ns).contains(&intended_ns) {
            let ns = now_ns.saturating_sub(intended_ns);
            self.latencies.record(ns, count);
            // What came after the end belongs to the last interval.
            self.series.latency(now_ns.min(self.to_ns - 1), ns, count);
        }
    }

    /// `messages` of `bytes` payload bytes together were acknowledged or received at `now_ns`.
    #[inline]
    pub fn count(&mut self, now_ns: u64, messages: u64, bytes: u64) {
        if (self.from_ns..self.to_ns).contains(&now_ns) {
            self.messages += messages;
            self.bytes += bytes;
            self.series.count(now_ns, messages, bytes);
        }
    }

    /// Adds what another thread has recorded of the same run.
    pub fn merge(&mut self, other: &Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.latencies.add(&other.latencies);
        self.series.add(&other.series);
    }

    /// Messages counted in the measured part.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Their payload bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    pub fn series(&self) -> &Series {
        &self.series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_measured_part_counts_and_threads_add_up() {
        let mut all = Recorder::new(1_000, 2_000_000);
        all.count(999, 5, 50);
        all.latency(999, 5_000, 5);
        let mut other = all.clone();
        for recorder in [&mut all, &mut other] {
            recorder.count(1_500, 2, 20);
            recorder.latency(1_000, 101_000, 2);
            // Meant in time, over late: that is what is measured.
            recorder.latency(1_999_999, 9_000_000, 1);
            recorder.count(9_000_000, 1, 10);
        }
        all.merge(&other);
        assert_eq!((all.messages(), all.bytes(), all.latencies().count()), (4, 40, 6));
        let max = all.latencies().summary().max;
        assert!((max - 7_000.0).abs() < 10.0, "{max}");
        all.end_at(1_800);
        all.count(1_900, 1, 1);
        assert_eq!((all.messages(), all.to_ns()), (4, 1_800));
    }
}
