//! Latencies of a run: HDR histograms of nanoseconds, three significant digits, up to a minute.

use hdrhistogram::Histogram;
use serde::Serialize;

/// What a latency above this counts as, nanoseconds.
const NS_MAX: u64 = 60_000_000_000;
/// Histograms of one run: connections beyond share them, which bounds memory.
const HISTOGRAMS_MAX: usize = 64;

/// Microseconds at each percentile of a run. All 0 when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyUs {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}

/// One histogram per connection, merged at the end.
#[derive(Debug)]
pub struct Latencies {
    histograms: Vec<Histogram<u64>>,
}

impl Latencies {
    pub fn new(connections: usize) -> Self {
        let count = connections.clamp(1, HISTOGRAMS_MAX);
        Self { histograms: (0..count).map(|_| empty()).collect() }
    }

    /// `count` requests of `connection` took `ns` each.
    pub fn record(&mut self, connection: usize, ns: u64, count: u64) {
        let at = connection % self.histograms.len();
        self.histograms[at].saturating_record_n(ns.max(1), count);
    }

    pub fn summary(&self) -> LatencyUs {
        let mut merged = empty();
        for histogram in &self.histograms {
            // Same bounds on both sides: adding cannot fail.
            let _ = merged.add(histogram);
        }
        if merged.is_empty() {
            return LatencyUs::default();
        }
        let at = |percentile: f64| us(merged.value_at_percentile(percentile));
        LatencyUs {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            p99_99: at(99.99),
            max: us(merged.max()),
        }
    }
}

fn empty() -> Histogram<u64> {
    // The bounds are constants that the library accepts.
    Histogram::new_with_bounds(1, NS_MAX, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// To 0.1 us, which is finer than the histogram above 100 us.
fn us(ns: u64) -> f64 {
    (ns as f64 / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_from_all_connections() {
        let mut latencies = Latencies::new(2);
        latencies.record(0, 100_000, 90);
        latencies.record(1, 900_000, 10);
        let summary = latencies.summary();
        assert!((summary.p50 - 100.0).abs() < 0.2, "{summary:?}");
        assert!((summary.p90 - 100.0).abs() < 0.2, "{summary:?}");
        assert!((summary.p99 - 900.0).abs() < 1.0, "{summary:?}");
        assert!((summary.max - 900.0).abs() < 1.0, "{summary:?}");
        assert_eq!(Latencies::new(1).summary(), LatencyUs::default());
    }

    #[test]
    fn a_latency_beyond_the_range_is_kept_as_the_largest() {
        let mut latencies = Latencies::new(100);
        latencies.record(99, u64::MAX, 1);
        assert!(latencies.summary().max >= 59_000_000.0);
    }
}
