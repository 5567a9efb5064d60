//! How many arrivals a second are meant, as a function of time. Pure.

use std::sync::Arc;

/// A stretch of time whose rate goes evenly from one value to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    pub seconds: f64,
    pub from_per_s: f64,
    pub to_per_s: f64,
}

impl Stretch {
    pub fn even(seconds: f64, per_s: f64) -> Self {
        Self { seconds, from_per_s: per_s, to_per_s: per_s }
    }

    /// Arrivals within it.
    fn arrivals(&self) -> f64 {
        self.seconds * (self.from_per_s + self.to_per_s) / 2.0
    }

    /// Arrivals in its first `seconds`.
    fn arrivals_by(&self, seconds: f64) -> f64 {
        let slope = (self.to_per_s - self.from_per_s) / self.seconds;
        seconds * (self.from_per_s + slope * seconds / 2.0)
    }

    /// Seconds from its begin until `arrivals` have come; the stable form of the quadratic's root.
    fn seconds_to(&self, arrivals: f64) -> f64 {
        if arrivals <= 0.0 {
            return 0.0;
        }
        let slope = (self.to_per_s - self.from_per_s) / self.seconds;
        let under_root = self.from_per_s * self.from_per_s + 2.0 * slope * arrivals;
        (2.0 * arrivals / (self.from_per_s + under_root.max(0.0).sqrt())).min(self.seconds)
    }
}

/// What comes after the last stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The rate it ended with.
    Hold,
    /// The first stretch again.
    Repeat,
}

/// The rate over time, from the first moment of a run on.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    stretches: Vec<Stretch>,
    then: Then,
}

/// Most stretches of one pattern.
pub const STRETCHES_MAX: usize = 1024;
/// Rates allowed, arrivals a second.
pub const RATE_MIN: f64 = 0.001;
pub const RATE_MAX: f64 = 1e9;

/// Why a pattern cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PatternError {
    #[error("a rate of {0} a second cannot be; give one between {RATE_MIN} and {RATE_MAX}")]
    Rate(f64),
    #[error("{0} s is no time that a rate can last; give more than 0")]
    Seconds(f64),
    #[error("{0} rates one after the other; between 1 and {STRETCHES_MAX} are allowed")]
    Count(usize),
    #[error("a burst of {length_s} s every {every_s} s does not end before the next one begins")]
    Burst { length_s: f64, every_s: f64 },
}

impl Pattern {
    /// The same rate for ever.
    pub fn constant(per_s: f64) -> Result<Self, PatternError> {
        Self::new(vec![Stretch::even(1.0, per_s)], Then::Hold)
    }

    /// From one rate to the other within `seconds`, after `before_s` at the first; then on at the
    /// second.
    pub fn ramp(from: f64, to: f64, before_s: f64, seconds: f64) -> Result<Self, PatternError> {
        let ramp = Stretch { seconds, from_per_s: from, to_per_s: to };
        Self::new(led_in(before_s, vec![ramp]), Then::Hold)
    }

    /// One rate after the other, `each_s` long, after `before_s` at the first.
    pub fn steps(rates: &[f64], before_s: f64, each_s: f64) -> Result<Self, PatternError> {
        let steps = rates.iter().map(|rate| Stretch::even(each_s, *rate)).collect();
        Self::new(led_in(before_s, steps), Then::Hold)
    }

    /// `base` with bursts of `burst`, each `length_s` long, one every `every_s`.
    pub fn bursts(
        base: f64,
        burst: f64,
        length_s: f64,
        every_s: f64,
    ) -> Result<Self, PatternError> {
        if length_s >= every_s {
            return Err(PatternError::Burst { length_s, every_s });
        }
        let calm = Stretch::even(every_s - length_s, base);
        Self::new(vec![calm, Stretch::even(length_s, burst)], Then::Repeat)
    }

    fn new(stretches: Vec<Stretch>, then: Then) -> Result<Self, PatternError> {
        if stretches.is_empty() || stretches.len() > STRETCHES_MAX {
            return Err(PatternError::Count(stretches.len()));
        }
        for Stretch { seconds, from_per_s, to_per_s } in &stretches {
            for rate in [from_per_s, to_per_s] {
                if !(RATE_MIN..=RATE_MAX).contains(rate) {
                    return Err(PatternError::Rate(*rate));
                }
            }
            if !(seconds.is_finite() && *seconds > 0.0) {
                return Err(PatternError::Seconds(*seconds));
            }
        }
        Ok(Self { stretches, then })
    }

    /// The same with every rate multiplied by `factor`.
    pub fn scaled(&self, factor: f64) -> Self {
        let scale = |s: &Stretch| Stretch {
            seconds: s.seconds,
            from_per_s: s.from_per_s * factor,
            to_per_s: s.to_per_s * factor,
        };
        Self { stretches: self.stretches.iter().map(scale).collect(), then: self.then }
    }

    /// Arrivals a second on average between two moments, seconds since the begin.
    pub fn mean_per_s(&self, from_s: f64, to_s: f64) -> f64 {
        let walk = Walk::new(Arc::new(self.clone()));
        (walk.arrivals_at(to_s) - walk.arrivals_at(from_s)) / (to_s - from_s).max(1e-9)
    }
}

fn led_in(before_s: f64, mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    if before_s > 0.0
        && let Some(first) = stretches.first()
    {
        stretches.insert(0, Stretch::even(before_s, first.from_per_s));
    }
    stretches
}

/// Goes along a pattern, forwards only.
#[derive(Clone, Debug)]
pub struct Walk {
    pattern: Arc<Pattern>,
    /// The stretch it stands in.
    at: usize,
    /// Where that begins: seconds, and arrivals until then.
    from_s: f64,
    from_arrivals: f64,
}

impl Walk {
    pub fn new(pattern: Arc<Pattern>) -> Self {
        Self { pattern, at: 0, from_s: 0.0, from_arrivals: 0.0 }
    }

    /// When so many arrivals have come, seconds since the begin. May only grow from call to call.
    pub fn seconds_at(&mut self, arrivals: f64) -> f64 {
        loop {
            let stretch = self.pattern.stretches[self.at];
            let since = arrivals - self.from_arrivals;
            if since <= stretch.arrivals() {
                return self.from_s + stretch.seconds_to(since);
            }
            if self.is_held() {
                let beyond = (since - stretch.arrivals()) / stretch.to_per_s;
                return self.from_s + stretch.seconds + beyond;
            }
            self.advance(&stretch);
        }
    }

    /// How many arrivals are meant by `seconds`, which must not lie before where the walk stands.
    pub fn arrivals_at(&self, seconds: f64) -> f64 {
        let mut walk = self.clone();
        loop {
            let stretch = walk.pattern.stretches[walk.at];
            let since = seconds - walk.from_s;
            if since <= stretch.seconds {
                return walk.from_arrivals + stretch.arrivals_by(since.max(0.0));
            }
            if walk.is_held() {
                let beyond = (since - stretch.seconds) * stretch.to_per_s;
                return walk.from_arrivals + stretch.arrivals() + beyond;
            }
            walk.advance(&stretch);
        }
    }

    fn is_held(&self) -> bool {
        self.pattern.then == Then::Hold && self.at + 1 == self.pattern.stretches.len()
    }

    fn advance(&mut self, over: &Stretch) {
        self.from_s += over.seconds;
        self.from_arrivals += over.arrivals();
        self.at = (self.at + 1) % self.pattern.stretches.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(pattern: Pattern) -> Walk {
        Walk::new(Arc::new(pattern))
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn times_and_counts_are_each_others_inverse() {
        let patterns = [
            Pattern::constant(123.0),
            Pattern::ramp(10.0, 1000.0, 2.0, 5.0),
            Pattern::ramp(1000.0, 10.0, 0.0, 5.0),
            Pattern::steps(&[10.0, 500.0, 20.0], 1.0, 3.0),
            Pattern::bursts(10.0, 5000.0, 0.1, 1.0),
        ];
        for pattern in patterns {
            let mut forwards = walk(pattern.unwrap());
            let back = forwards.clone();
            for k in 0..5000 {
                let arrivals = f64::from(k) * 0.7;
                let seconds = forwards.seconds_at(arrivals);
                near(back.arrivals_at(seconds), arrivals);
                near(forwards.arrivals_at(seconds), arrivals);
            }
        }
    }

    #[test]
    fn each_shape_gives_the_counts_it_says() {
        let at = |pattern: Result<Pattern, _>, s| walk(pattern.unwrap()).arrivals_at(s);
        near(at(Pattern::ramp(0.001, 100.0, 0.0, 10.0), 10.0), 500.005);
        near(at(Pattern::ramp(100.0, 200.0, 1.0, 2.0), 4.0), 100.0 + 300.0 + 200.0);
        near(at(Pattern::steps(&[10.0, 20.0], 1.0, 2.0), 5.0), 10.0 + 20.0 + 40.0);
        near(at(Pattern::bursts(100.0, 1000.0, 0.5, 1.0), 10.0), 500.0 + 5000.0);
        let ramp = Pattern::ramp(100.0, 200.0, 1.0, 2.0).unwrap();
        near(ramp.mean_per_s(1.0, 3.0), 150.0);
        near(ramp.scaled(0.5).mean_per_s(1.0, 3.0), 75.0);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e10] {
            assert!(Pattern::constant(rate).is_err(), "{rate}");
        }
        assert_eq!(Pattern::steps(&[], 0.0, 1.0), Err(PatternError::Count(0)));
        assert_eq!(Pattern::ramp(1.0, 2.0, 0.0, 0.0), Err(PatternError::Seconds(0.0)));
        assert!(Pattern::bursts(1.0, 2.0, 1.0, 1.0).is_err());
    }
}
