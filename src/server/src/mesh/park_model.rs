//! Every interleaving of a core that goes to sleep and those that send to it, and every reordering
//! that the memory model allows: no message is left lying while its receiver sleeps.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

mod atomics {
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
}
// The very source of the real flag, over the model's atomics.
#[allow(clippy::duplicate_mod)]
#[path = "park.rs"]
mod park;

use park::ParkFlag;

/// One receiver. A queue is a flag here: something was pushed. The waker is a count of its wakes.
struct Core {
    parked: ParkFlag,
    queues: Vec<AtomicBool>,
    wakes: AtomicUsize,
}

impl Core {
    fn new(senders: usize) -> Arc<Self> {
        Arc::new(Self {
            parked: ParkFlag::new(),
            queues: (0..senders).map(|_| AtomicBool::new(false)).collect(),
            wakes: AtomicUsize::new(0),
        })
    }

    /// As `MeshEnd::flush`: the push, then the look at the flag.
    fn send(&self, from: usize) {
        self.queues[from].store(true, Ordering::Release);
        if self.parked.lower() {
            self.wakes.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_idle(&self) -> bool {
        self.queues.iter().all(|queue| !queue.load(Ordering::Acquire))
    }
}

fn check(senders: usize) {
    loom::model(move || {
        let core = Core::new(senders);
        let threads: Vec<_> = (0..senders)
            .map(|from| {
                let core = Arc::clone(&core);
                thread::spawn(move || core.send(from))
            })
            .collect();
        let asleep = core.parked.park(|| core.is_idle());
        threads.into_iter().for_each(|sender| sender.join().unwrap());
        let wakes = core.wakes.load(Ordering::Relaxed);
        assert!(!asleep || wakes > 0, "asleep with messages waiting, and nobody wakes it");
        assert!(wakes <= 1, "{wakes} wakes for one sleep");
    });
}

#[test]
fn a_message_sent_around_the_last_look_wakes_the_sleeper() {
    check(1);
}

#[test]
fn of_two_senders_one_wakes_the_sleeper() {
    check(2);
}
