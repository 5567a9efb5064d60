//! Making segments ready ahead of need: one job at a time, each a row of actions.

use std::collections::VecDeque;

use bytes::Bytes;
use tracing::{info, warn};

use super::{Effect, Segment};
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
    /// A spare segment becomes this one.
    UseReserve {
        slot: usize,
        number: u64,
    },
    MakeReserve {
        slot: usize,
    },
    /// A dropped segment's file becomes a spare one.
    FillReserve {
        old: u64,
        slot: usize,
    },
    MakeBallast,
    GiveBallast,
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
    pub(super) fn make_job(&mut self) -> Job {
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

    pub(super) fn recycle_job(&mut self, old: u64) -> Job {
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

    pub(super) fn use_reserve_job(&mut self, slot: usize, bytes: u64) -> Job {
        let number = self.segments.next_number;
        let file = self.io.new_file();
        let name = names::segment(number);
        let rest = [
            Action::Rename { from: names::RESERVES[slot].to_owned(), to: name.clone() },
            Action::SyncDirectory,
            Action::Open { file, name },
            self.head_action(file, number, 0, bytes),
        ];
        Job::new(Kind::UseReserve { slot, number }, file, bytes, rest)
    }

    pub(super) fn make_reserve_job(&mut self, slot: usize) -> Job {
        let bytes = self.config.reserve_bytes(self.unit);
        self.make_spare(Kind::MakeReserve { slot }, names::RESERVES[slot], bytes)
    }

    pub(super) fn make_ballast_job(&mut self) -> Job {
        let newest = self.checkpoint.file_bytes;
        let bytes = if self.segments.disk_full {
            self.config.ballast_bytes_left(newest, self.unit)
        } else {
            self.config.ballast_bytes(newest, self.unit)
        };
        self.make_spare(Kind::MakeBallast, names::BALLAST, bytes)
    }

    fn make_spare(&mut self, kind: Kind, name: &str, bytes: u64) -> Job {
        let file = self.io.new_file();
        let rest = [
            Action::Create { file, name: name.to_owned(), bytes },
            Action::Sync { file },
            Action::SyncDirectory,
            Action::Close { file },
        ];
        Job::new(kind, file, bytes, rest)
    }

    pub(super) fn give_ballast_job(&mut self) -> Job {
        let file = self.io.new_file();
        let rest = [Action::Remove { name: names::BALLAST.to_owned() }, Action::SyncDirectory];
        Job::new(Kind::GiveBallast, file, 0, rest)
    }

    pub(super) fn fill_reserve_job(&mut self, old: u64, slot: usize) -> Job {
        self.segments.dropped.retain(|number| *number != old);
        let segment = &self.segments.all[&old];
        let (file, bytes) = (segment.file, segment.bytes);
        let (from, to) = (names::segment(old), names::RESERVES[slot].to_owned());
        let rest = [Action::Close { file }, Action::Rename { from, to }, Action::SyncDirectory];
        Job::new(Kind::FillReserve { old, slot }, file, bytes, rest)
    }

    pub(super) fn remove_job(&mut self, old: u64) -> Job {
        self.segments.dropped.retain(|number| *number != old);
        let segment = &self.segments.all[&old];
        let (file, bytes) = (segment.file, segment.bytes);
        let rest = [
            Action::Close { file },
            Action::Remove { name: names::segment(old) },
            Action::SyncDirectory,
        ];
        Job::new(Kind::Remove { old }, file, bytes, rest)
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

    pub(super) fn next_job_action<D: LogDevice>(&mut self, device: &mut D) {
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
        if job.kind != Kind::CleanUp && std::mem::take(&mut self.segments.failing) {
            info!(shard = self.config.shard, "segments are prepared again");
        }
        match job.kind {
            Kind::Make { number } => {
                if std::mem::take(&mut self.segments.disk_full) {
                    info!(shard = self.config.shard, "there is space on the disk again");
                }
                self.add_to_pool(number, 0, &job, false);
            }
            Kind::Recycle { old, number } => {
                let generation = self.segments.all.remove(&old).map_or(1, |s| s.generation + 1);
                self.segments.recycled_total += 1;
                self.add_to_pool(number, generation, &job, false);
            }
            Kind::UseReserve { slot, number } => {
                self.segments.reserve.segments[slot] = None;
                self.add_to_pool(number, 0, &job, true);
            }
            Kind::MakeReserve { slot } => {
                self.segments.reserve_made(slot, job.bytes);
                self.segments.reserve.ballast_failed = false;
                self.manifest.request(Effect::None);
            }
            Kind::FillReserve { old, slot } => {
                self.segments.all.remove(&old);
                self.segments.recycled_total += 1;
                self.segments.reserve_made(slot, job.bytes);
                self.manifest.request(Effect::None);
            }
            Kind::MakeBallast => {
                self.segments.reserve.ballast = Some(job.bytes);
                self.segments.reserve.ballast_failed = false;
                self.segments.reserve.ballast_wanted = false;
            }
            Kind::GiveBallast => {
                self.segments.reserve.ballast = None;
                self.segments.reserve.ballast_wanted = false;
                self.checkpoint.try_again();
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
        if full {
            self.break_pin(device);
        }
        if full && !self.segments.disk_full {
            warn!(shard = self.config.shard, "no space on the disk for a new segment");
        } else if !full && !std::mem::replace(&mut self.segments.failing, true) {
            warn!(shard = self.config.shard, %error, "preparing a segment failed; it is tried again");
        }
        // A number is never tried twice: what has its name now may not be what it should be.
        let clean_up = match job.kind {
            Kind::Make { number } => {
                self.segments.disk_full |= full;
                self.segments.next_number = number + 1;
                Some(names::segment(number))
            }
            Kind::MakeReserve { slot } => {
                self.segments.disk_full |= full;
                self.segments.reserve.ballast_failed = false;
                Some(names::RESERVES[slot].to_owned())
            }
            Kind::MakeBallast => {
                self.segments.disk_full |= full;
                self.segments.reserve.ballast_failed = full;
                Some(names::BALLAST.to_owned())
            }
            // The file's name is not known for sure any more: the next start clears it away.
            Kind::Recycle { number, .. } => {
                self.segments.next_number = number + 1;
                None
            }
            Kind::UseReserve { slot, number } => {
                self.segments.reserve.segments[slot] = None;
                self.segments.next_number = number + 1;
                None
            }
            Kind::GiveBallast => {
                self.segments.reserve.ballast = None;
                None
            }
            Kind::FillReserve { old, .. } | Kind::Remove { old } => {
                info!(shard = self.config.shard, old, "left for the next start");
                None
            }
            Kind::CleanUp => None,
        };
        // What is there already under the name is what an earlier job has left.
        let made = job.done > 0;
        if let Some(name) = clean_up.filter(|_| made || error == DeviceError::Exists) {
            let file = job.file;
            let mut rest = VecDeque::from([Action::Remove { name }, Action::SyncDirectory]);
            if made {
                rest.push_front(Action::Close { file });
            }
            self.segments.job = Some(Job::new(Kind::CleanUp, file, 0, rest));
            self.next_job_action(device);
        } else if full {
            self.start_job(device);
        }
    }
}
