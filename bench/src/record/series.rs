//! A run second by second. A long run's seconds are joined, so that the series stays short.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::latency::{NS_MAX, us};

/// Most intervals kept; when there are more, each two become one.
pub const INTERVALS_MAX: usize = 600;
const SECOND_NS: u64 = 1_000_000_000;
/// Latencies are kept from here on, nanoseconds: to 1%, which bounds the memory of an interval.
const NS_MIN: u64 = 1_000;

/// What happened in one interval of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When it began, seconds since measuring began.
    pub at_s: f64,
    pub messages_per_s: f64,
    pub bytes_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    pub max_us: f64,
}

#[derive(Clone, Debug)]
pub struct Series {
    from_ns: u64,
    interval_ns: u64,
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    messages: u64,
    bytes: u64,
    latencies: Option<Box<Histogram<u32>>>,
}

impl Series {
    /// Intervals count from `from_ns`.
    pub fn new(from_ns: u64) -> Self {
        Self { from_ns, interval_ns: SECOND_NS, slots: Vec::new() }
    }

    #[inline]
    pub fn count(&mut self, now_ns: u64, messages: u64, bytes: u64) {
        let slot = self.slot(now_ns);
        slot.messages += messages;
        slot.bytes += bytes;
    }

    #[inline]
    pub fn latency(&mut self, now_ns: u64, ns: u64, count: u64) {
        self.slot(now_ns).record(ns, count);
    }

    fn slot(&mut self, now_ns: u64) -> &mut Slot {
        let mut at = (now_ns.saturating_sub(self.from_ns) / self.interval_ns) as usize;
        while at >= INTERVALS_MAX {
            self.widen();
            at = (now_ns.saturating_sub(self.from_ns) / self.interval_ns) as usize;
        }
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, Slot::default);
        }
        &mut self.slots[at]
    }

    /// Joins each two intervals to one.
    fn widen(&mut self) {
        let mut slots = std::mem::take(&mut self.slots).into_iter();
        while let Some(mut first) = slots.next() {
            if let Some(second) = slots.next() {
                first.add(&second);
            }
            self.slots.push(first);
        }
        self.interval_ns *= 2;
    }

    /// Adds what another recorder of the same run has seen.
    pub fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        while other.interval_ns < self.interval_ns {
            other.widen();
        }
        while self.interval_ns < other.interval_ns {
            self.widen();
        }
        if self.slots.len() < other.slots.len() {
            self.slots.resize_with(other.slots.len(), Slot::default);
        }
        for (mine, theirs) in self.slots.iter_mut().zip(&other.slots) {
            mine.add(theirs);
        }
    }

    /// The series up to `to_ns`, and how long an interval is, seconds. The last interval counts
    /// for as long as it was.
    pub fn points(&self, to_ns: u64) -> (f64, Vec<Point>) {
        let interval_s = self.interval_ns as f64 / 1e9;
        let total_ns = to_ns.saturating_sub(self.from_ns);
        let point = |(at, slot): (usize, &Slot)| {
            let begin_ns = at as u64 * self.interval_ns;
            let length_ns = total_ns.saturating_sub(begin_ns).min(self.interval_ns);
            // What came just after the end would be a rate of its own.
            (length_ns * 10 >= self.interval_ns || at == 0)
                .then(|| slot.point(begin_ns as f64 / 1e9, length_ns.max(1) as f64 / 1e9))
        };
        (interval_s, self.slots.iter().enumerate().filter_map(point).collect())
    }
}

impl Slot {
    fn record(&mut self, ns: u64, count: u64) {
        let latencies = self.latencies.get_or_insert_with(empty);
        latencies.saturating_record_n(ns, count.min(u64::from(u32::MAX)) as u32);
    }

    fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        if let Some(theirs) = &other.latencies {
            let mine = self.latencies.get_or_insert_with(empty);
            // Same bounds on both sides: adding cannot fail.
            let _ = mine.add(&**theirs);
        }
    }

    fn point(&self, at_s: f64, seconds: f64) -> Point {
        let at = |percentile: f64| {
            self.latencies.as_ref().map_or(0.0, |l| us(l.value_at_percentile(percentile)))
        };
        Point {
            at_s,
            messages_per_s: self.messages as f64 / seconds,
            bytes_per_s: self.bytes as f64 / seconds,
            p50_us: at(50.0),
            p99_us: at(99.0),
            p99_9_us: at(99.9),
            max_us: at(100.0),
        }
    }
}

fn empty() -> Box<Histogram<u32>> {
    // The bounds are constants that the library accepts.
    let histogram = Histogram::new_with_bounds(NS_MIN, NS_MAX, 2);
    Box::new(histogram.unwrap_or_else(|_| unreachable!("constant bounds")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_rate_and_percentiles() {
        let mut series = Series::new(5 * SECOND_NS);
        for second in 0..3_u64 {
            let now_ns = (5 + second) * SECOND_NS + 1;
            series.count(now_ns, 100 * (second + 1), 1000);
            series.latency(now_ns, (second + 1) * 1_000_000, 1);
        }
        let (interval_s, points) = series.points(7 * SECOND_NS + SECOND_NS / 2);
        assert_eq!((interval_s, points.len()), (1.0, 3));
        assert_eq!((points[1].at_s, points[1].messages_per_s), (1.0, 200.0));
        assert!((points[1].p99_us - 2_000.0).abs() < 20.0, "{points:?}");
        // Half a second long.
        assert_eq!(points[2].messages_per_s, 600.0);
    }

    #[test]
    fn a_long_series_is_joined_and_loses_nothing() {
        let mut series = Series::new(0);
        for second in 0..3_000 {
            series.count(second * SECOND_NS, 1, 1);
        }
        let (interval_s, points) = series.points(3_000 * SECOND_NS);
        assert_eq!((interval_s, points.len()), (8.0, 375));
        assert!(points.iter().all(|p| p.messages_per_s == 1.0));
        let mut short = Series::new(0);
        short.count(SECOND_NS, 8, 0);
        short.latency(SECOND_NS, 50_000, 3);
        short.add(&series);
        assert_eq!(short.points(3_000 * SECOND_NS).1[0].messages_per_s, 2.0);
        series.add(&short);
        assert_eq!(series.points(3_000 * SECOND_NS).1[1].messages_per_s, 2.0);
    }
}
