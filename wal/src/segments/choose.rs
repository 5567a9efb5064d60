//! Which job comes next.
//!
//! While there is space: segments ready for use, then the reserve. On a full disk the way out of it
//! comes first, and the smallest first: one spare segment, space for checkpoints, then segments.

use super::jobs::Job;
use crate::device::LogDevice;
use crate::wal::Wal;

impl Wal {
    /// Starts the most urgent job if none is under way.
    pub(crate) fn start_job<D: LogDevice>(&mut self, device: &mut D) {
        if self.segments.job.is_some() || self.failure.is_some() {
            return;
        }
        let job = if self.segments.now_wanted() {
            self.job_for_waiting_block()
        } else if self.stopping {
            None
        } else if self.segments.disk_full {
            self.job_on_full_disk()
        } else {
            self.usual_job()
        };
        if let Some(job) = job {
            self.segments.job = Some(job);
            self.next_job_action(device);
        }
    }

    /// A block has no place: whatever gives it one soonest.
    fn job_for_waiting_block(&mut self) -> Option<Job> {
        // One that is made waits for the manifest only.
        if self.segments.naming > 0 {
            return None;
        }
        if let Some(old) = self.recyclable() {
            return Some(self.recycle_job(old));
        }
        if self.segments.disk_full
            && let Some((slot, bytes)) = self.segments.reserve.next()
        {
            return Some(self.use_reserve_job(slot, bytes));
        }
        if let Some(old) = self.unread_dropped() {
            return Some(self.remove_job(old));
        }
        self.may_make().then(|| self.make_job())
    }

    fn job_on_full_disk(&mut self) -> Option<Job> {
        let reserve = &self.segments.reserve;
        if reserve.ballast_wanted && reserve.ballast.is_some() {
            return Some(self.give_ballast_job());
        }
        if reserve.next().is_none()
            && let Some(old) = self.spare_dropped()
        {
            return Some(self.fill_reserve_job(old, 0));
        }
        if self.segments.reserve.ballast.is_none() && !self.checkpoint.no_space {
            if self.may_make() {
                // In turn: commits must go on also where a large checkpoint has no space. Publishes
                // wait for that space, without which nothing is ever freed again.
                let slot = self.segments.reserve.missing();
                let slot = slot.filter(|_| self.segments.reserve.ballast_failed);
                return Some(match slot {
                    Some(slot) => self.make_reserve_job(slot),
                    None => self.make_ballast_job(),
                });
            }
            if let Some(old) = self.unread_dropped() {
                return Some(self.remove_job(old));
            }
        }
        if self.pool() < self.config.pool_segments
            && let Some(old) = self.recyclable()
        {
            return Some(self.recycle_job(old));
        }
        if let Some(slot) = self.segments.reserve.missing() {
            if let Some(old) = self.spare_dropped() {
                return Some(self.fill_reserve_job(old, slot));
            }
            if self.may_make() {
                return Some(self.make_reserve_job(slot));
            }
        }
        self.usual_job()
    }

    fn usual_job(&mut self) -> Option<Job> {
        let pool = self.pool();
        if let Some(old) = self.recyclable().filter(|_| pool < self.config.pool_segments_max) {
            return Some(self.recycle_job(old));
        }
        if let Some(old) = self.unread_dropped() {
            return Some(self.remove_job(old));
        }
        if !self.may_make() {
            return None;
        }
        if pool < self.config.pool_segments {
            return self.segments.dropped.is_empty().then(|| self.make_job());
        }
        if let Some(slot) = self.segments.reserve.missing() {
            return Some(self.make_reserve_job(slot));
        }
        let kept = self.segments.reserve.ballast;
        let wanted = self.config.ballast_bytes(self.checkpoint.file_bytes, self.unit);
        match kept {
            None => Some(self.make_ballast_job()),
            // It has become too small for the checkpoints, and there is space for a larger one.
            Some(bytes) if 2 * bytes < wanted && !self.segments.disk_full => {
                Some(self.give_ballast_job())
            }
            Some(_) => None,
        }
    }

    /// Segments ready for use, or about to be.
    fn pool(&self) -> u32 {
        self.segments.ready.len() as u32 + self.segments.naming
    }

    /// A full disk is looked at again after a while only. What is free then is for a checkpoint
    /// that waits for it, since that frees more.
    fn may_make(&self) -> bool {
        let waits = self.segments.disk_full && self.checkpoint.no_space;
        self.now_ns >= self.segments.retry_at_ns && !waits
    }

    fn is_unread(&self, number: u64) -> bool {
        self.segments.all.get(&number).is_some_and(|segment| !self.io.is_read(segment.file))
    }

    /// A dropped segment that can be used again as it is.
    fn recyclable(&self) -> Option<u64> {
        let first = self.segments.dropped.front().copied()?;
        let fits = self.segments.all.get(&first)?.bytes == self.config.segment_bytes;
        (fits && self.is_unread(first)).then_some(first)
    }

    fn unread_dropped(&self) -> Option<u64> {
        self.segments.dropped.iter().copied().find(|number| self.is_unread(*number))
    }

    /// The smallest dropped segment that can be a spare one.
    fn spare_dropped(&self) -> Option<u64> {
        let least = self.config.reserve_bytes(self.unit) / 2;
        let bytes = |number: &u64| self.segments.all.get(number).map_or(0, |s| s.bytes);
        let dropped = self.segments.dropped.iter().copied();
        dropped.filter(|number| bytes(number) >= least && self.is_unread(*number)).min_by_key(bytes)
    }
}

impl super::Segments {
    /// Whether a block waits and nothing is ready for it.
    fn now_wanted(&self) -> bool {
        self.active.is_none() && self.ready.is_empty() || self.wanted
    }

    /// Marks a sealed segment as not needed.
    pub(crate) fn drop_segment(&mut self, number: u64) {
        if let Some(segment) = self.all.get_mut(&number) {
            segment.state = super::State::Dropped;
            segment.uses = Vec::new();
        }
    }
}
