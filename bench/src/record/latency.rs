//! Latencies: an HDR histogram of nanoseconds, three significant digits, up to a minute.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What a latency above this counts as, nanoseconds.
pub(super) const NS_MAX: u64 = 60_000_000_000;
/// Points of a percentile curve for each halving of what lies beyond.
const POINTS_PER_HALVING: u32 = 4;

/// Microseconds at each percentile of a run. All 0 when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyUs {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}

/// A point of a percentile curve: so large a share of all was answered within so many microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// 0 to 1.
    pub quantile: f64,
    pub us: f64,
}

#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    pub fn new() -> Self {
        // The bounds are constants that the library accepts.
        let histogram = Histogram::new_with_bounds(1, NS_MAX, 3);
        Self(histogram.unwrap_or_else(|_| unreachable!("constant bounds")))
    }

    /// `count` things took `ns` each.
    #[inline]
    pub fn record(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns.max(1), count);
    }

    pub fn add(&mut self, other: &Self) {
        // Same bounds on both sides: adding cannot fail.
        let _ = self.0.add(&other.0);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    pub fn clear(&mut self) {
        self.0.reset();
    }

    pub fn summary(&self) -> LatencyUs {
        if self.0.is_empty() {
            return LatencyUs::default();
        }
        let at = |percentile: f64| us(self.0.value_at_percentile(percentile));
        LatencyUs {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            p99_99: at(99.99),
            max: us(self.0.max()),
        }
    }

    /// The whole distribution, ever finer towards its end, up to the last one recorded.
    pub fn curve(&self) -> Vec<CurvePoint> {
        self.0
            .iter_quantiles(POINTS_PER_HALVING)
            .map(|step| CurvePoint {
                quantile: step.quantile(),
                us: us(self.0.highest_equivalent(step.value_iterated_to()).min(self.0.max())),
            })
            .collect()
    }
}

/// To 0.1 us, which is finer than the histogram above 100 us.
pub(super) fn us(ns: u64) -> f64 {
    (ns as f64 / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_from_all_that_was_added() {
        let (mut latencies, mut others) = (Latencies::new(), Latencies::new());
        latencies.record(100_000, 90);
        others.record(900_000, 10);
        latencies.add(&others);
        let summary = latencies.summary();
        assert!((summary.p50 - 100.0).abs() < 0.2, "{summary:?}");
        assert!((summary.p90 - 100.0).abs() < 0.2, "{summary:?}");
        assert!((summary.p99 - 900.0).abs() < 1.0, "{summary:?}");
        assert!((summary.max - 900.0).abs() < 1.0, "{summary:?}");
        assert_eq!(Latencies::new().summary(), LatencyUs::default());
    }

    #[test]
    fn a_latency_beyond_the_range_is_kept_as_the_largest() {
        let mut latencies = Latencies::new();
        latencies.record(u64::MAX, 1);
        assert!(latencies.summary().max >= 59_000_000.0);
    }

    #[test]
    fn the_curve_rises_and_ends_with_the_largest() {
        let mut latencies = Latencies::new();
        (1..=100_000).for_each(|ns| latencies.record(ns * 10, 1));
        let curve = latencies.curve();
        assert!(curve.len() > 20 && curve.len() < 200, "{}", curve.len());
        assert!(curve.windows(2).all(|p| p[0].us <= p[1].us && p[0].quantile <= p[1].quantile));
        assert_eq!(curve.last().map(|p| p.quantile), Some(1.0));
        assert_eq!(curve.last().map(|p| p.us), Some(latencies.summary().max));
        assert!(Latencies::new().curve().is_empty());
    }
}
