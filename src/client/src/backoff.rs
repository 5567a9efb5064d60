//! How long to wait before trying again: exponential, with jitter, bounded.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Waits that double from `first` to `max`, each shortened at random by up to a half so that many
/// clients do not come back at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first, random: RandomState::new().build_hasher().finish() | 1 }
    }

    /// The wait before the next try.
    pub(crate) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.max);
        // Xorshift (Marsaglia): good enough to spread waits.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = whole / 2;
        half + half.mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_bound_and_vary() {
        let (first, max) = (Duration::from_millis(10), Duration::from_millis(80));
        let mut backoff = Backoff::new(first, max);
        for whole in [10, 20, 40, 80, 80].map(Duration::from_millis) {
            let wait = backoff.wait();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= first);
    }
}
