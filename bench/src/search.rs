//! The search for the highest rate that keeps an objective, by doubling and then by bisection.
//! Pure: it is told how each rate fared.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::record::LatencyUs;

/// Most rates tried.
pub const PROBES_MAX: usize = 40;

/// A percentile that must not be above a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    pub percentile: Percentile,
    pub limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Percentile {
    P50,
    P90,
    P99,
    P99_9,
    P99_99,
    Max,
}

impl Percentile {
    const ALL: [Self; 6] = [Self::P50, Self::P90, Self::P99, Self::P99_9, Self::P99_99, Self::Max];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P99_9 => "p99.9",
            Self::P99_99 => "p99.99",
            Self::Max => "max",
        }
    }

    pub fn of(self, latency: &LatencyUs) -> f64 {
        match self {
            Self::P50 => latency.p50,
            Self::P90 => latency.p90,
            Self::P99 => latency.p99,
            Self::P99_9 => latency.p99_9,
            Self::P99_99 => latency.p99_99,
            Self::Max => latency.max,
        }
    }
}

impl Objective {
    /// `p99=1ms`; `duration` reads the part after the sign.
    pub fn parse(
        text: &str,
        duration: impl Fn(&str) -> Result<Duration, String>,
    ) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no objective such as p99=1ms or p99.9=5ms");
        let (name, limit) = text.split_once('=').ok_or_else(wrong)?;
        let known = Percentile::ALL.into_iter().find(|percentile| percentile.as_str() == name);
        let percentile = known.ok_or_else(wrong)?;
        let limit = duration(limit)?;
        if limit.is_zero() { Err(wrong()) } else { Ok(Self { percentile, limit }) }
    }

    /// A sentence when `latency` does not keep it.
    pub fn missed(&self, latency: &LatencyUs) -> Option<String> {
        let us = self.percentile.of(latency);
        let limit_us = self.limit.as_secs_f64() * 1e6;
        let name = self.percentile.as_str();
        (us > limit_us).then(|| format!("{name} of {us:.0} us, {limit_us:.0} allowed"))
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} within {:?}", self.percentile.as_str(), self.limit)
    }
}

impl FromStr for Objective {
    type Err = String;

    /// The limit in whole microseconds.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, |us| {
            us.parse().map(Duration::from_micros).map_err(|_| format!("{us:?} is no number"))
        })
    }
}

/// Where a search stands.
#[derive(Clone, Debug)]
pub struct Search {
    min: f64,
    max: f64,
    /// How close the two ends must come, as a share.
    tolerance: f64,
    /// The highest rate that kept the objective, and the lowest that did not.
    kept: Option<f64>,
    missed: Option<f64>,
    probes: usize,
}

impl Search {
    pub fn new(min: f64, max: f64, tolerance: f64) -> Self {
        Self { min, max, tolerance, kept: None, missed: None, probes: 0 }
    }

    /// The next rate to try; `None` when the answer is near enough.
    pub fn next(&self) -> Option<f64> {
        if self.probes >= PROBES_MAX {
            return None;
        }
        match (self.kept, self.missed) {
            (None, None) => Some(self.min),
            (None, Some(_)) => None,
            (Some(kept), None) if kept >= self.max => None,
            (Some(kept), None) => Some((kept * 2.0).min(self.max)),
            (Some(kept), Some(missed)) if missed <= kept * (1.0 + self.tolerance) => None,
            (Some(kept), Some(missed)) => Some((kept * missed).sqrt()),
        }
    }

    /// How `rate` fared. One that was kept before and is not any more lowers the answer.
    pub fn learn(&mut self, rate: f64, kept: bool) {
        self.probes += 1;
        if kept {
            self.kept = Some(self.kept.map_or(rate, |best| best.max(rate)));
        } else {
            self.missed = Some(self.missed.map_or(rate, |least| least.min(rate)));
            if self.kept.is_some_and(|best| best >= rate) {
                self.kept = None;
            }
        }
    }

    pub fn best(&self) -> Option<f64> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates tried against a broker that keeps up to `capacity`.
    fn run(min: f64, max: f64, capacity: f64) -> (Vec<f64>, Option<f64>) {
        let (mut search, mut tried) = (Search::new(min, max, 0.05), Vec::new());
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.learn(rate, rate <= capacity);
        }
        (tried, search.best())
    }

    #[test]
    fn the_answer_is_near_and_below() {
        for capacity in [1_000.0, 1_001.0, 54_321.0, 987_654.0] {
            let (tried, best) = run(1_000.0, 1e9, capacity);
            let best = best.unwrap();
            assert!(best <= capacity && best * 1.05 >= capacity, "{best} of {capacity}");
            assert!(tried.len() < 20, "{tried:?}");
        }
    }

    #[test]
    fn the_ends_are_the_ends() {
        assert_eq!(
            run(1_000.0, 5_000.0, 1e9),
            (vec![1_000.0, 2_000.0, 4_000.0, 5_000.0], Some(5_000.0))
        );
        assert_eq!(run(1_000.0, 5_000.0, 10.0), (vec![1_000.0], None));
    }

    #[test]
    fn a_broker_of_moods_ends_the_search_too() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut search = Search::new(100.0, 1e9, 0.001);
        while let Some(rate) = search.next() {
            search.learn(rate, rng.bool());
        }
        assert!(search.probes <= PROBES_MAX);
    }

    #[test]
    fn objectives_are_read_and_judged() {
        let objective: Objective = "p99.9=1500".parse().unwrap();
        assert_eq!(objective.limit, Duration::from_micros(1500));
        assert_eq!(objective.to_string(), "p99.9 within 1.5ms");
        let latency = LatencyUs { p99: 9_999.0, p99_9: 1_500.0, ..LatencyUs::default() };
        assert_eq!(objective.missed(&latency), None);
        let worse = LatencyUs { p99_9: 1_501.0, ..latency };
        assert_eq!(objective.missed(&worse).unwrap(), "p99.9 of 1501 us, 1500 allowed");
        for wrong in ["", "p99", "p98=1", "p99=0", "p99=x"] {
            assert!(wrong.parse::<Objective>().is_err(), "{wrong}");
        }
    }
}
