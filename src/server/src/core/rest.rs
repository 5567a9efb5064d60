//! A core that has done what there was to do: it looks a little longer, or sleeps in its ring.

use std::io;
use std::time::{Duration, Instant};

use super::idle::{Awaited, INTERRUPTED_NS, LOOKS_PER_READING};
use super::{Core, ShardSlot};

impl Core {
    /// Returns when there may be something to do.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        if !self.idle.is_on() {
            return self.sleep();
        }
        let awaited = self.awaited();
        let began = Instant::now();
        let span_ns = self.idle.span_ns(awaited, self.clock.now_ns());
        let found = span_ns > 0 && {
            self.ring.submit()?;
            self.look(awaited, began, span_ns)
        };
        if !found {
            self.sleep()?;
        }
        self.idle.ended(awaited, ns(began.elapsed()));
        Ok(())
    }

    /// Hands over what was queued and sleeps, in one call of the ring itself; see
    /// docs/decisions/0005.
    fn sleep(&mut self) -> io::Result<()> {
        if self.out.mesh.park() {
            self.ring.wait(None)?;
            self.out.mesh.unpark();
        }
        Ok(())
    }

    /// Looks at the ring and the other cores' queues, without a system call for it, until there is
    /// something or the span is over. Returns whether there is.
    fn look(&mut self, awaited: Awaited, began: Instant, span_ns: u64) -> bool {
        let mut before_ns = 0;
        loop {
            for _ in 0..LOOKS_PER_READING {
                if self.ring.has_queued() || self.out.mesh.has_inbound() {
                    self.idle.found(awaited);
                    return true;
                }
                std::hint::spin_loop();
            }
            let now_ns = ns(began.elapsed());
            if now_ns - before_ns > INTERRUPTED_NS && self.idle.has_waited(run_delay_ns()) {
                self.idle.interrupted(self.clock.now_ns() + now_ns);
                return false;
            }
            if now_ns >= span_ns {
                self.idle.in_vain(awaited);
                return false;
            }
            before_ns = now_ns;
            // The kernel's own thread that ends a write may be waiting for this very CPU.
            rustix::thread::sched_yield();
        }
    }

    fn awaited(&self) -> Awaited {
        let writing = |slot: &ShardSlot| matches!(slot, ShardSlot::Open(host) if host.is_writing());
        if self.shards.iter().any(writing) { Awaited::Disk } else { Awaited::Arrival }
    }
}

/// How long this thread has been ready to run and did not, since it began. `None`: the kernel does
/// not count it.
fn run_delay_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

fn ns(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
