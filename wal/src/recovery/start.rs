//! From what recovery has found to a log that goes on.

use model::Lsn;

use super::blocking::Blocking;
use super::{Found, log_report, manifest, tail};
use crate::buffer::AlignedBuffer;
use crate::cache::{Chunks, Tail};
use crate::checkpoint::Checkpointing;
use crate::crc::Joiner;
use crate::device::{Action, DeviceError, LogDevice};
use crate::error::OpenError;
use crate::fold::{Fold, Recovered};
use crate::format::manifest::Manifest;
use crate::format::names;
use crate::io::Io;
use crate::read::Readers;
use crate::segments::{ManifestKeeper, State, Zeroing};
use crate::stats::WalStats;
use crate::wal::Wal;
use crate::writer::{OpenGroup, Writer};

/// Asks the host which streams exist and where they begin.
pub(super) fn settle<F: Fold>(found: &mut Found, fold: &F) {
    for id in found.streams.ids() {
        match fold.log_start(id) {
            None => drop(found.streams.remove(id)),
            Some(log_start) => {
                found.streams.entry(id).log_start = log_start;
                found.streams.set_label(id, &fold.label(id).unwrap_or_default());
            }
        }
    }
    for segment in found.segments.all.values_mut().filter(|s| s.state == State::Sealed) {
        segment.count_live(&mut found.streams);
    }
    let segments = &mut found.segments;
    segments.look_for_dropped = true;
    // Written into the reserve when it was closed: full until a segment can be made.
    segments.disk_full = segments.active().is_some_and(|active| active.from_reserve);
}

/// Writes what must be written before the first entry, and makes the log.
pub(super) fn go_on<D: LogDevice>(
    mut disk: Blocking<'_, D>,
    mut found: Found,
) -> Result<(Wal, Recovered), OpenError> {
    let incarnation = found.manifest.incarnation.max(found.chain.incarnation) + 1;
    found.report.incarnation = incarnation;
    found.report.last_lsn = Lsn(found.chain.next_lsn - 1);
    if !found.cut.is_empty() {
        let lsn = found.chain.next_lsn;
        let unit = found.unit as u64;
        found.report.cut = Some(tail::set_aside(&mut disk, &found.cut, lsn, incarnation, unit));
    }
    clear_away(&mut disk, &found)?;
    manifest::make_missing_slots(&mut disk, &mut found.manifest_files)?;

    let strays = std::mem::take(&mut found.strays);
    let chain = found.chain;
    let mut report = std::mem::take(&mut found.report);
    let mut wal = Wal::assemble(found, incarnation);
    wal.raise_incarnation(&mut disk)?;
    tail::erase(&mut disk, &tail::torn(&strays, &chain), wal.unit)?;

    wal.io = Io::after(disk.next_ticket, disk.next_file);
    wal.make_ready(disk.device)?;
    report.log_bytes = wal.segments.log_bytes();
    log_report(wal.config.shard, &report);
    Ok((wal, report))
}

fn clear_away<D: LogDevice>(disk: &mut Blocking<'_, D>, found: &Found) -> Result<(), OpenError> {
    let torn = tail::too_many(&found.listed);
    if torn.is_empty() && found.leftovers.is_empty() {
        return Ok(());
    }
    for name in found.leftovers.iter().chain(&torn) {
        disk.must("removing", name, Action::Remove { name: name.clone() })?;
    }
    disk.must("syncing", "the directory", Action::SyncDirectory).map(drop)
}

impl Wal {
    fn assemble(found: Found, incarnation: u32) -> Self {
        let Found { config, unit, chain, .. } = found;
        let chunks = Chunks::new(config.cache_bytes, config.group_bytes as usize);
        let readers = Readers::new(config.cache_bytes, chunks.chunk_bytes());
        let last_lsn = chain.next_lsn - 1;
        let writer = Writer {
            unit,
            group_bytes: config.group_bytes as usize,
            rest: AlignedBuffer::zeroed(0),
            open: OpenGroup::default(),
            joiner: Joiner::default(),
            closed: Default::default(),
            closed_bytes: 0,
            in_flight: Default::default(),
            next_lsn: chain.next_lsn,
            submitted_lsn: last_lsn,
            durable_lsn: last_lsn,
            durable_sequence: chain.next_sequence - 1,
            sequence: chain.next_sequence,
            previous_crc: chain.previous_crc,
            witnessed_lsn: last_lsn,
            position: found.position,
            commit_wanted: false,
            idle_since_ns: None,
            slowness: Default::default(),
            leave: None,
        };
        let number = found.manifest.number;
        Self {
            unit,
            io: Io::default(),
            writer,
            manifest: ManifestKeeper::new(found.manifest_files, number, incarnation),
            zeroing: Zeroing::default(),
            segments: found.segments,
            streams: found.streams,
            indexes: found.indexes,
            chunks,
            tail: Tail::default(),
            readers,
            checkpoint: Checkpointing::recovered(found.kept, found.replayed_bytes, &found.listed),
            changes: Default::default(),
            pin: Default::default(),
            failure: None,
            stats: WalStats::default(),
            now_ns: 0,
            stopping: false,
            stop_asked: false,
            manifest_stopped: false,
            config,
        }
    }

    /// Durable when this returns: no block of an earlier opening can follow what is written now.
    fn raise_incarnation<D: LogDevice>(
        &mut self,
        disk: &mut Blocking<'_, D>,
    ) -> Result<(), OpenError> {
        self.manifest.number += 1;
        let slot = Manifest::slot(self.manifest.number);
        let file = self.manifest.files[slot];
        let data = self.manifest_bytes();
        let write = Action::Write { file, offset: 0, data };
        disk.must("writing", names::MANIFESTS[slot], write).map(drop)
    }

    /// The first segment, its first bytes prepared, and a witness on the disk.
    fn make_ready<D: LogDevice>(&mut self, device: &mut D) -> Result<(), OpenError> {
        if self.segments.active.is_none() && self.segments.ready.is_empty() {
            let new = self.segments.all.is_empty();
            self.start_job(device);
            self.drive(device, |wal| !wal.segments.ready.is_empty())?;
            if new {
                let until = self.config.prepare_bytes.min(self.config.segment_bytes);
                let prepared = move |wal: &Wal| {
                    wal.zeroing.failed || wal.segments.all.values().any(|s| s.prepared >= until)
                };
                while !prepared(self) {
                    self.zero_ahead(device);
                    self.drive(device, |wal| wal.zeroing.is_idle())?;
                }
            }
        }
        if self.submit_witness(device) {
            self.drive(device, |wal| wal.writer.in_flight.is_empty())?;
        }
        Ok(())
    }

    /// Waits for the device until `done`.
    fn drive<D: LogDevice>(
        &mut self,
        device: &mut D,
        done: impl Fn(&Wal) -> bool,
    ) -> Result<(), OpenError> {
        while !done(self) {
            if let Some(failure) = &self.failure {
                return Err(OpenError::Device {
                    doing: "writing",
                    file: failure.file.clone(),
                    error: failure.error.clone(),
                });
            }
            if self.io.count() == 0 {
                return Err(OpenError::Device {
                    doing: "making",
                    file: "a segment".to_owned(),
                    error: self.segments.last_error.clone().unwrap_or(DeviceError::NoSpace),
                });
            }
            let completion = device.wait();
            self.complete(device, completion);
        }
        Ok(())
    }
}
