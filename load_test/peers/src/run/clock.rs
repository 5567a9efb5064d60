//! Time since a run began, and waiting for a moment of it more exactly than tokio's timer wheel,
//! whose step is a millisecond.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Nanoseconds since the run began; copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    #[inline]
    pub fn now_ns(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    /// The same moment as tokio's timers take it.
    pub fn instant(self, at_ns: u64) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.0 + Duration::from_nanos(at_ns))
    }
}

/// Waits for moments on a clock with a thread that sleeps: a system's sleep is exact to
/// microseconds, and no CPU spins beside the clients' own threads. Copies share it; one waits
/// at a time.
#[derive(Clone, Debug)]
pub struct Alarm {
    clock: Clock,
    /// Moments to be woken at; the thread ends with the last sender.
    moments: mpsc::Sender<u64>,
    rung: Arc<Notify>,
    /// The moment that the thread was told last.
    armed_ns: Rc<Cell<u64>>,
}

impl Alarm {
    pub fn new(clock: Clock) -> io::Result<Self> {
        let (moments, told) = mpsc::channel::<u64>();
        let rung = Arc::new(Notify::new());
        let ring = rung.clone();
        thread::Builder::new().name("alarm".into()).spawn(move || {
            sleep_exactly();
            while let Ok(at_ns) = told.recv() {
                thread::sleep(Duration::from_nanos(at_ns.saturating_sub(clock.now_ns())));
                ring.notify_one();
            }
        })?;
        Ok(Self { clock, moments, rung, armed_ns: Rc::new(Cell::new(0)) })
    }

    /// Returns at `at_ns`, at once when that is past.
    pub async fn wait_until(&self, at_ns: u64) {
        while self.clock.now_ns() < at_ns {
            // A wait that was dropped and is taken up again is armed already.
            if self.armed_ns.replace(at_ns) != at_ns && self.moments.send(at_ns).is_err() {
                tokio::time::sleep_until(self.clock.instant(at_ns)).await;
                return;
            }
            self.rung.notified().await;
        }
    }
}

/// Asks the system not to put off this thread's wake-ups to join them with others, which it may by
/// 50 us. Without the right to ask, it sleeps that much longer.
fn sleep_exactly() {
    let thread = rustix::thread::gettid().as_raw_nonzero();
    let _ = std::fs::write(format!("/proc/{thread}/timerslack_ns"), "1");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_is_never_early_and_comes_again() {
        let clock = Clock::start();
        let alarm = Alarm::new(clock).unwrap();
        for at_ns in [2_000_000, 2_300_000, 1_000_000, 5_000_000] {
            alarm.wait_until(at_ns).await;
            assert!(clock.now_ns() >= at_ns);
        }
        assert!(clock.instant(1_000) < tokio::time::Instant::now());
    }

    #[tokio::test]
    async fn a_wait_that_was_dropped_neither_ends_the_next_early_nor_loses_it() {
        let clock = Clock::start();
        let alarm = Alarm::new(clock).unwrap();
        let begun = clock.now_ns();
        let later = begun + 20_000_000;
        for at_ns in [begun + 3_000_000, later, later] {
            let wait = tokio::time::timeout(Duration::from_millis(1), alarm.wait_until(at_ns));
            assert!(wait.await.is_err() || clock.now_ns() >= at_ns);
        }
        alarm.wait_until(later).await;
        assert!(clock.now_ns() >= later);
    }
}
