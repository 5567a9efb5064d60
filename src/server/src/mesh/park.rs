//! The flag of a core that sleeps, and who may lower it. Knows neither queues nor wakers; its
//! atomics come from the module around it, so that a model checker can try every interleaving.

use super::atomics::{AtomicBool, Ordering, fence};

/// Up while the core sleeps, or is about to.
#[derive(Debug)]
pub(crate) struct ParkFlag(AtomicBool);

impl ParkFlag {
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The sleeper: raises the flag, and only then looks once more. False, with the flag down again,
    /// when there is something: what is sent after that look finds the flag up.
    pub fn park(&self, is_idle: impl FnOnce() -> bool) -> bool {
        self.0.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        let idle = is_idle();
        if !idle {
            self.unpark();
        }
        idle
    }

    pub fn unpark(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// A sender, after what it has sent: whether it is the one that has to wake the sleeper.
    pub fn lower(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }
}
