//! Making segments ready ahead of need: one job at a time, each a row of actions.

use std::collections::VecDeque;

use bytes::Bytes;
use tracing::{info, warn};

use super::{Effect, Segment, State};
use crate::buffer::AlignedBuffer;
use crate::device::{Action, DeviceError, FileId, LogDevice};
use crate::format::names;
use crate::format::segment::SegmentHeader;
use crate::io::Purpose;
use crate::wal::Wal;

/// How long after a failed job the next one starts, nanoseconds.
const RETRY_AFTER_NS: u64 = 500_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A new file for this segment.
    Make {
        number: u64,
    },
    /// A dropped segment's file for this one.
    Recycle {
        old: u64,
        number: u64,
    },
    /// The reserve becomes this segment.
    UseReserve {
        number: u64,
    },
    MakeReserve,
    Remove {
        old: u64,
    },
    /// Clears away what a failed job has left.
    CleanUp,
}

/// A job under way: the actions not yet submitted.
#[derive(Debug)]
pub(crate) struct Job {
    kind: Kind,
    file: FileId,
    bytes: u64,
    rest: VecDeque<Action>,
    /// Actions that have ended well.
    done: u32,
}

impl Job {
    fn new(kind: Kind, file: FileId, bytes: u64, actions: impl Into<VecDeque<Action>>) -> Self {
        Self { kind, file, bytes, rest: actions.into(), done: 0 }
    }
}

impl Wal {
    /// Starts the most urgent job if none is under way.
    pub(crate) fn start_job<D: LogDevice>(&mut self, device: &mut D) {
        let segments = &self.segments;
        let waiting = segments.now_wanted();
        if segments.job.is_some() || self.failure.is_some() || (self.stopping && !waiting) {
            return;
        }
        // A full disk is looked at again after a while; what frees it is done at once.
        let may_make = self.now_ns >= segments.retry_at_ns;
        let pool = segments.ready.len() as u32 + segments.naming;
        let recyclable = segments.dropped.front().copied().filter(|old| self.fits_pool(*old));
        let job = if pool < self.config.pool_segments {
            match recyclable {
                Some(old) => Some(self.recycle_job(old)),
                None if waiting && segments.disk_full && segments.reserve.is_some() => {
                    self.use_reserve_job()
                }
                None if segments.dropped.is_empty() && may_make => Some(self.make_job()),
                None => self.remove_job(),
            }
        } else {
            match recyclable {
                Some(old) if pool < self.config.pool_segments_max => Some(self.recycle_job(old)),
                _ if !segments.dropped.is_empty() => self.remove_job(),
                _ if segments.reserve.is_none() && may_make && !self.stopping => {
                    Some(self.make_reserve_job())
                }
                _ => None,
            }
        };
        if let Some(job) = job {
            self.segments.job = Some(job);
            self.next_job_action(device);
        }
    }

    fn fits_pool(&self, old: u64) -> bool {
        self.segments.all.get(&old).is_some_and(|segment| {
            segment.bytes == self.config.segment_bytes && !self.io.is_read(segment.file)
        })
    }

    fn make_job(&mut self) -> Job {
        let number = self.segments.next_number;
        let file = self.io.new_file();
        let bytes = self.config.segment_bytes;
        let name = names::segment(number);
        let rest = [
            Action::Create { file, name, bytes },
            Action::Sync { file },
            Action::SyncDirectory,
            self.head_action(file, number, 0, bytes),
        ];
        Job::new(Kind::Make { number }, file, bytes, rest)
    }

    fn recycle_job(&mut self, old: u64) -> Job {
        self.segments.dropped.retain(|number| *number != old);
        let number = self.segments.next_number;
        let segment = &self.segments.all[&old];
        let (file, bytes, generation) = (segment.file, segment.bytes, segment.generation + 1);
        let rest = [
            Action::Rename { from: names::segment(old), to: names::segment(number) },
            Action::SyncDirectory,
            self.head_action(file, number, generation, bytes),
        ];
        Job::new(Kind::Recycle { old, number }, file, bytes, rest)
    }

    fn use_reserve_job(&mut self) -> Option<Job> {
        let bytes = self.segments.reserve?;
        let number = self.segments.next_number;
        let file = self.io.new_file();
        let name = names::segment(number);
        let rest = [
            Action::Rename { from: names::RESERVE.to_owned(), to: name.clone() },
            Action::SyncDirectory,
            Action::Open { file, name },
            self.head_action(file, number, 0, bytes),
        ];
        Some(Job::new(Kind::UseReserve { number }, file, bytes, rest))
    }

    fn make_reserve_job(&mut self) -> Job {
        let file = self.io.new_file();
        let bytes = self.config.reserve_bytes(self.unit);
        let name = names::RESERVE.to_owned();
        let rest = [
            Action::Create { file, name, bytes },
            Action::Sync { file },
            Action::SyncDirectory,
            Action::Close { file },
        ];
        Job::new(Kind::MakeReserve, file, bytes, rest)
    }

    fn remove_job(&mut self) -> Option<Job> {
        let unread = |number: &u64| {
            self.segments.all.get(number).is_some_and(|segment| !self.io.is_read(segment.file))
        };
        let old = self.segments.dropped.iter().copied().find(unread)?;
        self.segments.dropped.retain(|number| *number != old);
        let segment = &self.segments.all[&old];
        let (file, bytes) = (segment.file, segment.bytes);
        let rest = [
            Action::Close { file },
            Action::Remove { name: names::segment(old) },
            Action::SyncDirectory,
        ];
        Some(Job::new(Kind::Remove { old }, file, bytes, rest))
    }

    fn head_action(&self, file: FileId, number: u64, generation: u32, bytes: u64) -> Action {
        let header = SegmentHeader {
            shard: self.config.shard,
            number,
            generation,
            unit: self.unit as u32,
            bytes,
        };
        let mut data = AlignedBuffer::zeroed(self.unit);
        header.encode(&self.config.secret, &mut data);
        Action::Write { file, offset: 0, data: Bytes::from(data) }
    }

    fn next_job_action<D: LogDevice>(&mut self, device: &mut D) {
        let Some(job) = &mut self.segments.job else { return };
        match job.rest.pop_front() {
            Some(action) => self.io.submit(device, Purpose::Job, action),
            None => self.job_done(device),
        }
    }

    /// One action of the job has ended.
    pub(crate) fn job_step<D: LogDevice>(
        &mut self,
        device: &mut D,
        result: Result<(), DeviceError>,
    ) {
        match result {
            Ok(()) => {
                if let Some(job) = &mut self.segments.job {
                    job.done += 1;
                }
                self.next_job_action(device);
            }
            Err(error) => self.job_failed(device, error),
        }
    }

    fn job_done<D: LogDevice>(&mut self, device: &mut D) {
        let Some(job) = self.segments.job.take() else { return };
        match job.kind {
            Kind::Make { number } => {
                self.segments.disk_full = false;
                self.add_to_pool(number, 0, &job, false);
            }
            Kind::Recycle { old, number } => {
                let generation = self.segments.all.remove(&old).map_or(1, |s| s.generation + 1);
                self.segments.recycled_total += 1;
                self.add_to_pool(number, generation, &job, false);
            }
            Kind::UseReserve { number } => {
                self.segments.reserve = None;
                self.add_to_pool(number, 0, &job, true);
            }
            Kind::MakeReserve => {
                self.segments.disk_full = false;
                self.segments.reserve = Some(job.bytes);
            }
            Kind::Remove { old } => {
                self.segments.all.remove(&old);
                self.segments.removed_total += 1;
                // What was removed may be what was wanted.
                self.segments.retry_at_ns = 0;
                self.manifest.request(Effect::None);
            }
            Kind::CleanUp => {}
        }
        self.write_manifest(device);
        self.start_job(device);
    }

    fn add_to_pool(&mut self, number: u64, generation: u32, job: &Job, from_reserve: bool) {
        let prepared = if generation > 0 { job.bytes } else { self.unit as u64 };
        let mut segment = Segment::pool(number, generation, job.file, job.bytes, prepared);
        segment.from_reserve = from_reserve;
        self.segments.all.insert(number, segment);
        self.segments.next_number = number + 1;
        self.segments.naming += 1;
        self.manifest.request(Effect::Ready(number));
    }

    fn job_failed<D: LogDevice>(&mut self, device: &mut D, error: DeviceError) {
        let Some(job) = self.segments.job.take() else { return };
        self.segments.retry_at_ns = self.now_ns + RETRY_AFTER_NS;
        self.segments.last_error = Some(error.clone());
        let full = error == DeviceError::NoSpace;
        if full && !self.segments.disk_full {
            warn!(shard = self.config.shard, "no space on the disk for a new segment");
        } else if !full {
            warn!(shard = self.config.shard, job = ?job.kind, %error, "preparing a segment failed");
        }
        // A number is never tried twice: what has its name now may not be what it should be.
        let clean_up = match job.kind {
            Kind::Make { number } => {
                self.segments.disk_full |= full;
                self.segments.next_number = number + 1;
                Some(names::segment(number))
            }
            Kind::MakeReserve => {
                self.segments.disk_full |= full;
                Some(names::RESERVE.to_owned())
            }
            // The file's name is not known for sure any more: the next start clears it away.
            Kind::Recycle { number, .. } => {
                self.segments.next_number = number + 1;
                None
            }
            Kind::UseReserve { number } => {
                self.segments.reserve = None;
                self.segments.next_number = number + 1;
                None
            }
            Kind::Remove { old } => {
                info!(shard = self.config.shard, old, "left for the next start");
                None
            }
            Kind::CleanUp => None,
        };
        if let Some(name) = clean_up.filter(|_| job.done > 0) {
            let file = job.file;
            let rest = [Action::Close { file }, Action::Remove { name }, Action::SyncDirectory];
            self.segments.job = Some(Job::new(Kind::CleanUp, file, 0, rest));
            self.next_job_action(device);
        } else if full {
            self.start_job(device);
        }
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
            segment.state = State::Dropped;
            segment.uses = Vec::new();
        }
    }
}
