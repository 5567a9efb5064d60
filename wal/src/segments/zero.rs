//! Writing new segments with zeros ahead of the log, one step at a time: a durable write to
//! written space costs half of one to space that was only allocated.

use bytes::Bytes;
use tracing::warn;

use super::State;
use crate::buffer::AlignedBuffer;
use crate::device::{Action, DeviceError, LogDevice};
use crate::io::Purpose;
use crate::wal::Wal;

/// One step, bytes: small, because blocks wait behind it at the device.
const STEP_BYTES: u64 = 256 * 1024;
/// Steps between two ticks, one after the other.
const STEPS_A_TICK: u32 = 4;
/// How far ahead of the log a step begins at least when the log has caught up, bytes.
const AHEAD_BYTES: u64 = 2 * 1024 * 1024;
/// With less than this prepared ahead of the log the next step follows at once, bytes.
const HURRY_BYTES: u64 = 32 * 1024 * 1024;

/// A step under way.
#[derive(Clone, Copy, Debug)]
struct Step {
    segment: u64,
    from: u64,
    to: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Zeroing {
    step: Option<Step>,
    /// Left until the next tick.
    steps: u32,
    zeros: Option<Bytes>,
    pub failed: bool,
    pub bytes_total: u64,
}

impl Zeroing {
    pub fn is_idle(&self) -> bool {
        self.step.is_none()
    }

    /// Whether a step under way touches these bytes of the segment.
    pub fn touches(&self, segment: u64, from: u64, to: u64) -> bool {
        self.step.is_some_and(|s| s.segment == segment && from < s.to && s.from < to)
    }
}

impl Wal {
    /// Starts the steps of a tick if there is something left to prepare.
    pub(crate) fn zero_ahead<D: LogDevice>(&mut self, device: &mut D) {
        self.zeroing.steps = STEPS_A_TICK;
        self.zero_step(device);
    }

    fn zero_step<D: LogDevice>(&mut self, device: &mut D) {
        if self.zeroing.step.is_some() || self.zeroing.failed || self.failure.is_some() {
            return;
        }
        let Some(step) = self.next_step() else { return };
        let zeros = self
            .zeroing
            .zeros
            .get_or_insert_with(|| AlignedBuffer::zeroed(STEP_BYTES as usize).freeze())
            .slice(..(step.to - step.from) as usize);
        let Some(segment) = self.segments.all.get(&step.segment) else { return };
        let action = Action::Write { file: segment.file, offset: step.from, data: zeros };
        self.zeroing.step = Some(step);
        self.zeroing.steps = self.zeroing.steps.saturating_sub(1);
        self.io.submit(device, Purpose::Zero, action);
    }

    fn next_step(&self) -> Option<Step> {
        let position = self.writer.position;
        self.segments.all.values().filter(|s| s.generation == 0).find_map(|segment| {
            let from = match segment.state {
                // The log is at the border: leave it room, so that it does not wait for a step.
                State::Active
                    if position > self.unit as u64
                        && segment.prepared < position + AHEAD_BYTES / 2 =>
                {
                    (position + AHEAD_BYTES).next_multiple_of(STEP_BYTES)
                }
                State::Active | State::Pool => segment.prepared,
                _ => return None,
            };
            let to = ((from / STEP_BYTES + 1) * STEP_BYTES).min(segment.bytes);
            (from < to).then_some(Step { segment: segment.number, from, to })
        })
    }

    pub(crate) fn zeroed<D: LogDevice>(&mut self, device: &mut D, result: Result<(), DeviceError>) {
        let Some(step) = self.zeroing.step.take() else { return };
        if let Err(error) = result {
            // The log writes there all the same, and finds out for itself.
            warn!(shard = self.config.shard, %error, "zeros could not be written ahead of the log");
            self.zeroing.failed = true;
        } else {
            self.zeroing.bytes_total += step.to - step.from;
            if let Some(segment) = self.segments.all.get_mut(&step.segment) {
                segment.prepared = segment.prepared.max(step.to);
            }
        }
        self.pump(device);
        let near = self.segments.active().is_some_and(|active| {
            active.generation == 0 && active.prepared < self.writer.position + HURRY_BYTES
        });
        if (near || self.zeroing.steps > 0) && !self.stopping {
            self.zero_step(device);
        }
    }
}
