//! Keeping the manifest: one writing at a time, the two slots in turn, and what waits for it.

use bytes::Bytes;
use tracing::error;

use crate::buffer::AlignedBuffer;
use crate::device::{Action, DeviceError, FileId, LogDevice};
use crate::format::manifest::{CheckpointRecord, Manifest};
use crate::format::names;
use crate::io::Purpose;
use crate::wal::Wal;

/// What may happen once a manifest that says so is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The segment may be written.
    Ready(u64),
    /// The segment's file may be used again.
    Dropped(u64),
    /// This older checkpoint's file may go.
    CheckpointGone(CheckpointRecord),
    /// The last one before the log is closed.
    Stopped,
    None,
}

#[derive(Debug)]
pub(crate) struct ManifestKeeper {
    pub files: [FileId; 2],
    /// The number of the newest one written or being written.
    pub number: u64,
    pub incarnation: u32,
    pub under_way: bool,
    dirty: bool,
    /// Effects by the number of the manifest they wait for.
    waiting: Vec<(u64, Effect)>,
}

impl ManifestKeeper {
    pub fn new(files: [FileId; 2], number: u64, incarnation: u32) -> Self {
        Self { files, number, incarnation, under_way: false, dirty: false, waiting: Vec::new() }
    }

    /// The state has changed: the next manifest says so, and then `effect` may happen.
    pub fn request(&mut self, effect: Effect) {
        self.dirty = true;
        if effect != Effect::None {
            self.waiting.push((self.number + 1, effect));
        }
    }
}

impl Wal {
    /// Writes the manifest if something has changed and none is being written.
    pub(crate) fn write_manifest<D: LogDevice>(&mut self, device: &mut D) {
        if !self.manifest.dirty || self.manifest.under_way || self.failure.is_some() {
            return;
        }
        self.manifest.dirty = false;
        self.manifest.under_way = true;
        self.manifest.number += 1;
        let number = self.manifest.number;
        let file = self.manifest.files[Manifest::slot(number)];
        let action = Action::Write { file, offset: 0, data: self.manifest_bytes() };
        self.io.submit(device, Purpose::Manifest { number }, action);
    }

    /// The manifest as it is to be written now, in whole blocks.
    pub(crate) fn manifest_bytes(&self) -> Bytes {
        let manifest = self.manifest_now();
        let mut data = AlignedBuffer::zeroed(manifest.encoded_bytes().next_multiple_of(self.unit));
        manifest.encode(&self.config.secret, &mut data);
        data.freeze()
    }

    fn manifest_now(&self) -> Manifest {
        Manifest {
            shard: self.config.shard,
            number: self.manifest.number,
            incarnation: self.manifest.incarnation,
            unit: self.unit as u32,
            durable_lsn: self.writer.durable_lsn,
            next_segment: self.segments.next_number,
            window_bytes: self.config.window_bytes(self.unit),
            checkpoints: self.checkpoint.kept.clone(),
            segments: self.segments.all.values().map(|segment| segment.record()).collect(),
        }
    }

    pub(crate) fn manifest_written<D: LogDevice>(
        &mut self,
        device: &mut D,
        number: u64,
        result: Result<(), DeviceError>,
    ) {
        self.manifest.under_way = false;
        if let Err(error) = result {
            error!(shard = self.config.shard, %error, "the manifest could not be written");
            let name = names::MANIFESTS[Manifest::slot(number)];
            self.fail(name.to_owned(), 0, error);
            return;
        }
        let mut at = 0;
        while at < self.manifest.waiting.len() {
            if self.manifest.waiting[at].0 <= number {
                let (_, effect) = self.manifest.waiting.remove(at);
                self.apply_effect(device, effect);
            } else {
                at += 1;
            }
        }
        self.write_manifest(device);
    }

    fn apply_effect<D: LogDevice>(&mut self, device: &mut D, effect: Effect) {
        match effect {
            Effect::Ready(number) => {
                self.segments.naming -= 1;
                self.segments.ready.push_back(number);
                self.pump(device);
            }
            Effect::Dropped(number) => self.segments.dropped.push_back(number),
            Effect::CheckpointGone(old) => self.remove_checkpoint(device, old),
            Effect::Stopped => self.manifest_stopped = true,
            Effect::None => {}
        }
    }
}
