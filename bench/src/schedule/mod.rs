//! When requests are meant to be sent. Pure: time is nanoseconds since the run began, chance comes
//! from a seed.
//!
//! An open schedule goes on whatever becomes of the requests before: latency counts from the
//! intended time, so that a stall is not left out.

mod pattern;

use std::str::FromStr;
use std::sync::Arc;

use fastrand::Rng;

pub use pattern::{Pattern, PatternError, RATE_MAX, RATE_MIN, STRETCHES_MAX, Stretch, Walk};

/// How arrivals are spread at a given rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    #[default]
    Constant,
    /// Independently of each other, as the requests of many strangers are.
    Poisson,
}

impl Arrivals {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        }
    }
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Self::Constant),
            "poisson" => Ok(Self::Poisson),
            other => Err(format!("{other:?} is no kind of arrivals: constant, poisson")),
        }
    }
}

/// An open loop over all connections: rates are of all together.
#[derive(Clone, Debug)]
pub struct OpenLoop {
    pub pattern: Arc<Pattern>,
    pub arrivals: Arrivals,
    /// The same seed gives the same Poisson arrivals.
    pub seed: u64,
}

/// How the requests of one connection are spread over time.
#[derive(Clone, Debug)]
pub struct Schedule(Option<Open>);

#[derive(Clone, Debug)]
struct Open {
    walk: Walk,
    start_ns: u64,
    /// Arrivals of the whole loop from one of this connection to its next, on average.
    step: f64,
    /// Where this connection's first stood among all.
    first: f64,
    /// The same of its next.
    position: f64,
    taken: u64,
    chance: Option<Rng>,
    next_ns: u64,
}

impl Schedule {
    /// The next request goes as soon as there is room for it.
    pub fn closed() -> Self {
        Self(None)
    }

    /// The share of connection `connection` of `connections` in an open loop that begins at
    /// `start_ns`. Constant arrivals take turns; Poisson arrivals are each connection's own.
    pub fn open(of: &OpenLoop, start_ns: u64, connection: usize, connections: usize) -> Self {
        let step = connections.max(1) as f64;
        let mut chance = (of.arrivals == Arrivals::Poisson)
            .then(|| Rng::with_seed(of.seed ^ (connection as u64).wrapping_mul(0x9E37_79B9)));
        let first = match &mut chance {
            None => connection as f64,
            Some(rng) => step * exponential(rng),
        };
        let mut open = Open {
            walk: Walk::new(Arc::clone(&of.pattern)),
            start_ns,
            step,
            first,
            position: first,
            taken: 0,
            chance,
            next_ns: 0,
        };
        open.set_next();
        Self(Some(open))
    }

    /// Whether a request may be sent at `now_ns`.
    #[inline]
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.0.as_ref().is_none_or(|open| open.next_ns <= now_ns)
    }

    /// When the next request is due; `None` when that is a matter of room only.
    #[inline]
    pub fn next_ns(&self) -> Option<u64> {
        self.0.as_ref().map(|open| open.next_ns)
    }

    /// Takes the next request: when it was meant to be sent.
    #[inline]
    pub fn take(&mut self, now_ns: u64) -> u64 {
        let Some(open) = &mut self.0 else { return now_ns };
        let intended_ns = open.next_ns;
        open.taken += 1;
        match &mut open.chance {
            // From the first one each time, so that nothing adds up.
            None => open.position = open.first + open.taken as f64 * open.step,
            Some(rng) => open.position += open.step * exponential(rng),
        }
        open.set_next();
        intended_ns
    }

    /// About how many requests are due at `now_ns` and were not taken.
    pub fn overdue(&self, now_ns: u64) -> u64 {
        let Some(open) = self.0.as_ref().filter(|open| open.next_ns <= now_ns) else { return 0 };
        let seconds = now_ns.saturating_sub(open.start_ns) as f64 / 1e9;
        let beyond = (open.walk.arrivals_at(seconds) - open.position) / open.step;
        beyond.max(0.0) as u64 + 1
    }
}

impl Open {
    fn set_next(&mut self) {
        self.next_ns = self.start_ns + (self.walk.seconds_at(self.position) * 1e9) as u64;
    }
}

/// Exponentially distributed with mean 1.
fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(per_s: f64) -> OpenLoop {
        let pattern = Arc::new(Pattern::constant(per_s).unwrap());
        OpenLoop { pattern, arrivals: Arrivals::Constant, seed: 0 }
    }

    #[test]
    fn a_closed_loop_is_always_due_now() {
        let mut schedule = Schedule::closed();
        assert!(schedule.is_due(0));
        assert_eq!((schedule.take(5), schedule.next_ns(), schedule.overdue(9)), (5, None, 0));
    }

    #[test]
    fn an_open_loop_keeps_its_times_through_a_stall() {
        let mut schedule = Schedule::open(&constant(1e6), 1_000, 0, 1);
        assert!(!schedule.is_due(999) && schedule.is_due(1_000));
        assert_eq!(schedule.take(1_000), 1_000);
        assert_eq!((schedule.is_due(1_500), schedule.next_ns()), (false, Some(2_000)));
        // 10 us late: the requests missed are all due, each with its own time.
        assert_eq!(schedule.overdue(11_999), 10);
        for k in 0..10 {
            assert!(schedule.is_due(11_999));
            assert_eq!(schedule.take(11_999), 2_000 + k * 1_000);
        }
        assert_eq!((schedule.is_due(11_999), schedule.overdue(11_999)), (false, 0));
    }

    #[test]
    fn connections_share_the_rate_and_take_turns() {
        let open = constant(4_000.0);
        let schedules: Vec<_> = (0..4).map(|c| Schedule::open(&open, 0, c, 4)).collect();
        let firsts: Vec<_> = schedules.iter().map(|s| s.next_ns().unwrap()).collect();
        assert_eq!(firsts, [0, 250_000, 500_000, 750_000]);
        let total: u64 = schedules.iter().map(|s| s.overdue(999_999_999)).sum();
        assert_eq!(total, 4_000);
    }

    #[test]
    fn a_long_run_does_not_drift() {
        let mut schedule = Schedule::open(&constant(3.0), 0, 0, 1);
        for _ in 0..3 * 86_400 {
            schedule.take(0);
        }
        let day_ns = 86_400 * 1_000_000_000_u64;
        assert!(schedule.next_ns().unwrap().abs_diff(day_ns) < 1_000);
    }

    /// Counts per millisecond of a Poisson process have a variance equal to their mean, and the
    /// gaps are as often long as e says.
    #[test]
    fn poisson_arrivals_are_poisson_whatever_the_number_of_connections() {
        for connections in [1, 7] {
            let open = OpenLoop { arrivals: Arrivals::Poisson, seed: 42, ..constant(20_000.0) };
            let mut counts = vec![0_f64; 5_000];
            for connection in 0..connections {
                let mut schedule = Schedule::open(&open, 0, connection, connections);
                while schedule.next_ns().unwrap() < 5_000_000_000 {
                    let ns = schedule.take(0);
                    counts[(ns / 1_000_000) as usize] += 1.0;
                }
            }
            let mean = counts.iter().sum::<f64>() / 5_000.0;
            let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 5_000.0;
            assert!((mean - 20.0).abs() < 0.5, "mean {mean}");
            assert!((variance / mean - 1.0).abs() < 0.15, "variance {variance}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals() {
        let times = |seed| {
            let open = OpenLoop { arrivals: Arrivals::Poisson, seed, ..constant(10.0) };
            let mut schedule = Schedule::open(&open, 0, 0, 1);
            (0..100).map(|_| schedule.take(0)).collect::<Vec<_>>()
        };
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
    }

    #[test]
    fn a_ramp_sends_ever_more() {
        let pattern = Arc::new(Pattern::ramp(100.0, 1_000.0, 0.0, 10.0).unwrap());
        let open = OpenLoop { pattern, arrivals: Arrivals::Constant, seed: 0 };
        let mut schedule = Schedule::open(&open, 0, 0, 1);
        let mut counts = [0; 11];
        while schedule.next_ns().unwrap() < 11_000_000_000 {
            counts[(schedule.take(0) / 1_000_000_000) as usize] += 1;
        }
        assert!(counts.windows(2).all(|pair| pair[1] > pair[0]), "{counts:?}");
        assert_eq!(counts.iter().take(10).sum::<i32>(), 5_500);
    }
}
