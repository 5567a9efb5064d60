//! How fast a run sends: as answers come, or at rates of its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::schedule::{Arrivals, OpenLoop, Pattern, PatternError};

/// How requests are spread over time.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// The next request goes as soon as there is room for it: it flatters a broker that stalls.
    Closed,
    /// Each request has its time, whatever became of the ones before.
    Open { rates: Rates, arrivals: Arrivals },
}

/// Messages per second over all connections.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    Constant(f64),
    /// Evenly from one to the other over the measured time.
    Ramp {
        from: f64,
        to: f64,
    },
    /// One after the other, the measured time shared out.
    Steps(Vec<f64>),
    Bursts {
        base: f64,
        burst: f64,
        length: Duration,
        every: Duration,
    },
}

impl Pace {
    /// Evenly spread arrivals at one rate.
    pub fn constant(rate: f64) -> Self {
        Self::Open { rates: Rates::Constant(rate), arrivals: Arrivals::Constant }
    }

    /// Messages per second over a run; `None` for the closed loop.
    pub fn pattern(
        &self,
        warmup: Duration,
        duration: Duration,
    ) -> Result<Option<Pattern>, PatternError> {
        let Self::Open { rates, .. } = self else { return Ok(None) };
        let (before_s, seconds) = (warmup.as_secs_f64(), duration.as_secs_f64());
        let pattern = match rates {
            Rates::Constant(rate) => Pattern::constant(*rate),
            Rates::Ramp { from, to } => Pattern::ramp(*from, *to, before_s, seconds),
            Rates::Steps(steps) => {
                Pattern::steps(steps, before_s, seconds / steps.len().max(1) as f64)
            }
            Rates::Bursts { base, burst, length, every } => {
                Pattern::bursts(*base, *burst, length.as_secs_f64(), every.as_secs_f64())
            }
        };
        pattern.map(Some)
    }

    /// The open loop of requests of `batch` messages.
    pub fn open_loop(
        &self,
        warmup: Duration,
        duration: Duration,
        batch: usize,
        seed: u64,
    ) -> Result<Option<OpenLoop>, PatternError> {
        let Self::Open { arrivals, .. } = self else { return Ok(None) };
        let Some(pattern) = self.pattern(warmup, duration)? else { return Ok(None) };
        let pattern = Arc::new(pattern.scaled(1.0 / batch as f64));
        Ok(Some(OpenLoop { pattern, arrivals: *arrivals, seed }))
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Open { rates, arrivals } = self else { return f.write_str("closed loop") };
        match rates {
            Rates::Constant(rate) => write!(f, "{rate:.0}/s")?,
            Rates::Ramp { from, to } => write!(f, "ramp from {from:.0} to {to:.0}/s")?,
            Rates::Steps(steps) => {
                let steps: Vec<_> = steps.iter().map(|rate| format!("{rate:.0}")).collect();
                write!(f, "steps of {}/s", steps.join(", "))?;
            }
            Rates::Bursts { base, burst, length, every } => {
                write!(f, "{base:.0}/s with {length:?} of {burst:.0}/s every {every:?}")?;
            }
        }
        write!(f, " ({} arrivals)", arrivals.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_fewer_than_messages_by_the_batch() {
        let second = Duration::from_secs(1);
        let pace = Pace::constant(1000.0);
        let open = pace.open_loop(second, second, 10, 0).unwrap().unwrap();
        assert_eq!(open.pattern.mean_per_s(0.0, 1.0), 100.0);
        assert!(Pace::Closed.open_loop(second, second, 10, 0).unwrap().is_none());
        assert!(Pace::constant(0.0).pattern(second, second).is_err());
    }

    #[test]
    fn ramps_and_steps_fill_the_measured_time() {
        let (warmup, duration) = (Duration::from_secs(2), Duration::from_secs(4));
        for rates in [Rates::Ramp { from: 100.0, to: 300.0 }, Rates::Steps(vec![100.0, 300.0])] {
            let pace = Pace::Open { rates, arrivals: Arrivals::Poisson };
            let pattern = pace.pattern(warmup, duration).unwrap().unwrap();
            assert_eq!(pattern.mean_per_s(0.0, 2.0), 100.0);
            assert_eq!(pattern.mean_per_s(2.0, 6.0), 200.0);
            assert_eq!(pattern.mean_per_s(6.0, 7.0), 300.0);
            assert!(pace.to_string().contains("poisson"), "{pace}");
        }
    }
}
