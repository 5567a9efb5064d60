//! Between cores: one bounded lock-free queue for each ordered pair of cores, carrying batches.
//!
//! A core that finds nothing to do sets its parked flag, looks into its queues once more and then
//! sleeps; a sender writes the sleeper's eventfd only when the flag is up, so that at most one wake
//! is outstanding. Requests are bounded by [`MESH_REQUESTS_MAX`] for each pair, and each request has at
//! most one reply under way, so replies need no bound of their own and a core always drains its
//! inbound queues: two full queues cannot block each other.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use model::CoreId;
use ring::Waker;

use crate::bounds::{MESH_BATCH_MAX, MESH_REQUESTS_MAX};
use crate::connection::Stall;
use crate::message::Message;

mod atomics {
    pub use std::sync::atomic::{AtomicBool, Ordering, fence};
}
mod park;

use park::ParkFlag;

type Batch = Vec<Message>;

/// All queues of the process; made once, before the cores start.
#[derive(Debug)]
pub struct Mesh {
    cores: usize,
    /// `queues[from * cores + to]`.
    queues: Vec<ArrayQueue<Batch>>,
    parked: Vec<ParkFlag>,
    wakers: Vec<std::sync::OnceLock<Waker>>,
}

impl Mesh {
    /// `depth`: batches that fit into one queue.
    pub fn new(cores: usize, depth: usize) -> Arc<Self> {
        Arc::new(Self {
            cores,
            queues: (0..cores * cores).map(|_| ArrayQueue::new(depth)).collect(),
            parked: (0..cores).map(|_| ParkFlag::new()).collect(),
            wakers: (0..cores).map(|_| std::sync::OnceLock::new()).collect(),
        })
    }

    /// Wakes a core if it sleeps. What was written before is seen by the woken core.
    pub fn wake(&self, core: CoreId) {
        let index = usize::from(core.0);
        if self.parked[index].lower()
            && let Some(waker) = self.wakers[index].get()
        {
            waker.wake();
        }
    }

    fn queue(&self, from: usize, to: usize) -> &ArrayQueue<Batch> {
        &self.queues[from * self.cores + to]
    }
}

/// One core's end of the mesh.
#[derive(Debug)]
pub struct MeshEnd {
    mesh: Arc<Mesh>,
    core: CoreId,
    /// Messages to each core, not yet in its queue.
    outboxes: Vec<Batch>,
    /// Requests under way on each core.
    requests: Vec<u32>,
}

impl MeshEnd {
    pub fn new(mesh: Arc<Mesh>, core: CoreId, waker: Waker) -> Self {
        let cores = mesh.cores;
        let _ = mesh.wakers[usize::from(core.0)].set(waker);
        Self {
            mesh,
            core,
            outboxes: (0..cores).map(|_| Vec::new()).collect(),
            requests: vec![0; cores],
        }
    }

    pub fn cores(&self) -> usize {
        self.mesh.cores
    }

    pub fn core(&self) -> CoreId {
        self.core
    }

    /// Whether one more request may go to `to`.
    pub fn has_room(&self, to: CoreId) -> bool {
        self.requests[usize::from(to.0)] < MESH_REQUESTS_MAX && self.room_for_notice(to).is_ok()
    }

    /// Whether a message without an answer, which takes no place, may go to `to`. An error when too
    /// many wait to leave.
    pub fn room_for_notice(&self, to: CoreId) -> Result<(), Stall> {
        let waiting = self.outboxes[usize::from(to.0)].len();
        if waiting < MESH_REQUESTS_MAX as usize { Ok(()) } else { Err(Stall::Mesh(to)) }
    }

    /// Queues a message. A request must have been let in by [`Self::has_room`]; its place is freed
    /// by [`Self::request_done`].
    pub fn send(&mut self, to: CoreId, message: Message) {
        if message.is_request() {
            self.requests[usize::from(to.0)] += 1;
        }
        self.outboxes[usize::from(to.0)].push(message);
    }

    /// `count` requests to `from` have been answered.
    pub fn requests_done(&mut self, from: CoreId, count: u32) {
        let under_way = &mut self.requests[usize::from(from.0)];
        *under_way = under_way.saturating_sub(count);
    }

    /// Moves the outboxes into the queues and wakes the receivers. What does not fit stays for the
    /// next turn. Returns whether all went out.
    pub fn flush(&mut self) -> bool {
        let from = usize::from(self.core.0);
        let mut all_out = true;
        for to in 0..self.mesh.cores {
            if self.outboxes[to].is_empty() {
                continue;
            }
            if self.mesh.queue(from, to).is_full() {
                // Nothing is moved in vain: there may be tens of thousands.
                all_out = false;
                self.mesh.wake(CoreId(u16::try_from(to).unwrap_or(u16::MAX)));
                continue;
            }
            let mut outbox = std::mem::take(&mut self.outboxes[to]);
            let mut sent = false;
            while !outbox.is_empty() {
                let rest = if outbox.len() > MESH_BATCH_MAX {
                    outbox.split_off(MESH_BATCH_MAX)
                } else {
                    Vec::new()
                };
                match self.mesh.queue(from, to).push(outbox) {
                    Ok(()) => {
                        sent = true;
                        outbox = rest;
                    }
                    Err(mut back) => {
                        back.extend(rest);
                        self.outboxes[to] = back;
                        all_out = false;
                        break;
                    }
                }
            }
            if sent || !all_out {
                self.mesh.wake(CoreId(u16::try_from(to).unwrap_or(u16::MAX)));
            }
        }
        all_out
    }

    /// The next batch from any core, and who sent it.
    pub fn receive(&mut self) -> Option<(CoreId, Batch)> {
        let to = usize::from(self.core.0);
        (0..self.mesh.cores).find_map(|from| {
            let batch = self.mesh.queue(from, to).pop()?;
            Some((CoreId(u16::try_from(from).unwrap_or(u16::MAX)), batch))
        })
    }

    /// Whether any core has sent something that is not received yet.
    pub fn has_inbound(&self) -> bool {
        let to = usize::from(self.core.0);
        (0..self.mesh.cores).any(|from| !self.mesh.queue(from, to).is_empty())
    }

    /// Raises the parked flag. Returns false, with the flag down again, when something has come in
    /// meanwhile.
    pub fn park(&self) -> bool {
        let to = usize::from(self.core.0);
        self.mesh.parked[to].park(|| !self.has_inbound())
    }

    pub fn unpark(&self) {
        self.mesh.parked[usize::from(self.core.0)].unpark();
    }

    /// Wakes whoever sleeps on `core`.
    pub fn wake(&self, core: CoreId) {
        self.mesh.wake(core);
    }
}

#[cfg(test)]
mod park_model;
#[cfg(test)]
mod tests;
