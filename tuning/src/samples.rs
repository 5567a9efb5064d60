//! Latencies of a self-test, kept one by one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Latencies in nanoseconds, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    sorted_ns: Vec<u32>,
}

/// The percentiles that every report shows, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}

impl Samples {
    pub fn new(mut latencies_ns: Vec<u32>) -> Self {
        latencies_ns.sort_unstable();
        Self { sorted_ns: latencies_ns }
    }

    pub fn as_ns(&self) -> &[u32] {
        &self.sorted_ns
    }

    /// The smallest sample that at least `percent` of all do not exceed, in microseconds; 0 when
    /// there are none.
    pub fn percentile_us(&self, percent: f64) -> f64 {
        // In whole thousandths of a percent: 99.9 has no exact float, and a rank one too high is a
        // different sample.
        let thousandths = (percent * 1000.0).round() as usize;
        let rank = (self.sorted_ns.len() * thousandths).div_ceil(100_000);
        let at = rank.clamp(1, self.sorted_ns.len().max(1)) - 1;
        self.sorted_ns.get(at).map_or(0.0, |ns| f64::from(*ns) / 1000.0)
    }

    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            p50: self.percentile_us(50.0),
            p90: self.percentile_us(90.0),
            p99: self.percentile_us(99.0),
            p99_9: self.percentile_us(99.9),
            p99_99: self.percentile_us(99.99),
            max: self.percentile_us(100.0),
        }
    }
}

/// A duration as a sample; what is over 4.29 s counts as that.
pub(crate) fn sample_ns(latency: Duration) -> u32 {
    u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_that_were_taken() {
        let samples = Samples::new((1..=1000).rev().map(|us| us * 1000).collect());
        let expected = Percentiles {
            p50: 500.0,
            p90: 900.0,
            p99: 990.0,
            p99_9: 999.0,
            p99_99: 1000.0,
            max: 1000.0,
        };
        assert_eq!(samples.percentiles(), expected);
        assert_eq!(Samples::new(vec![5]).percentiles().p50, 0.005);
        assert_eq!(Samples::default().percentiles(), Percentiles::default());
        assert_eq!(sample_ns(Duration::from_secs(9)), u32::MAX);
    }
}
