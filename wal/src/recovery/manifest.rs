//! Finding the manifest that counts.

use super::blocking::Blocking;
use super::misplaced;
use crate::buffer::AlignedBuffer;
use crate::config::WalConfig;
use crate::device::{Action, FileId, LogDevice};
use crate::error::OpenError;
use crate::format::manifest::Manifest;
use crate::format::{FORMAT, FormatError, names};

/// A slot's length when it is made, bytes: room for about a thousand segments.
const SLOT_BYTES: u64 = 64 * 1024;
/// No slot grows longer than this, bytes: a quarter of a million segments.
const SLOT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The manifest and its two files.
pub(super) struct Opened {
    pub manifest: Manifest,
    pub files: [FileId; 2],
}

/// A file's length as it is read: one that was not made to its end may have any.
fn whole_units(bytes: u64, unit: usize) -> usize {
    (bytes.clamp(1, SLOT_BYTES_MAX) as usize).next_multiple_of(unit)
}

/// Whether there is a good manifest, of any shard. What is opened is closed again.
pub(super) fn is_there<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    config: &WalConfig,
) -> Result<bool, OpenError> {
    let mut there = false;
    for name in names::MANIFESTS {
        let Some((file, bytes)) = disk.open(name)? else { continue };
        let data = disk.read(file, 0, whole_units(bytes, disk.device.block_bytes()));
        there |= data.is_ok_and(|data| {
            let parsed = Manifest::parse(&data, &config.secret);
            matches!(parsed, Ok(_) | Err(FormatError::Newer(_)))
        });
        disk.must("closing", name, Action::Close { file })?;
    }
    Ok(there)
}

/// Opens both slots and takes the newer good one. Neither file is changed.
pub(super) fn open<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    config: &WalConfig,
) -> Result<Opened, OpenError> {
    let mut best: Option<Manifest> = None;
    let mut bad: Option<(usize, FormatError)> = None;
    let mut files = [None; 2];
    let mut foreign = 0;
    for (slot, name) in names::MANIFESTS.into_iter().enumerate() {
        let Some((file, bytes)) = disk.open(name)? else { continue };
        files[slot] = Some(file);
        let error = |error| OpenError::Device { doing: "reading", file: name.to_owned(), error };
        let bytes = whole_units(bytes, disk.device.block_bytes());
        let data = disk.read(file, 0, bytes).map_err(error)?;
        match Manifest::parse(&data, &config.secret) {
            Ok(found) => {
                if best.as_ref().is_none_or(|best| best.number < found.number) {
                    best = Some(found);
                }
            }
            Err(FormatError::Newer(found)) => {
                let file = name.to_owned();
                return Err(OpenError::NewerFormat { file, found, known: FORMAT });
            }
            Err(reason) => {
                foreign += usize::from(Manifest::is_whole_but_for_the_secret(&data));
                bad = Some((slot, reason));
            }
        }
    }
    let Some(manifest) = best else {
        return Err(match bad {
            None => OpenError::NotALog,
            Some(_) if foreign == files.len() => misplaced::foreign_manifests(names::MANIFESTS[0]),
            Some((slot, reason)) => OpenError::Damaged {
                file: names::MANIFESTS[slot].to_owned(),
                offset: 0,
                reason: format!("no good manifest is left: {reason}"),
            },
        });
    };
    check(&manifest, config, disk.device.block_bytes())?;
    // A slot that is missing is made before it is written; one is always there.
    let files = [files[0], files[1]].map(|file| file.unwrap_or(FileId(u32::MAX)));
    Ok(Opened { manifest, files })
}

fn check(manifest: &Manifest, config: &WalConfig, needed: usize) -> Result<(), OpenError> {
    let file = names::MANIFESTS[Manifest::slot(manifest.number)].to_owned();
    if manifest.shard != config.shard {
        return Err(misplaced::manifest_of_other_shard(file, manifest.shard, config.shard));
    }
    if needed > manifest.unit as usize {
        return Err(OpenError::BlockSize { recorded: manifest.unit, needed: needed as u32 });
    }
    Ok(())
}

/// Makes the slots that are missing.
pub(super) fn make_missing_slots<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    files: &mut [FileId; 2],
) -> Result<(), OpenError> {
    for (slot, name) in names::MANIFESTS.into_iter().enumerate() {
        if files[slot] == FileId(u32::MAX) {
            let file = disk.new_file();
            let create = Action::Create { file, name: name.to_owned(), bytes: SLOT_BYTES };
            disk.must("making", name, create)?;
            disk.must("syncing", name, Action::SyncDirectory)?;
            files[slot] = file;
        }
    }
    Ok(())
}

/// Makes both slots, each with a manifest of a log with nothing in it.
pub(super) fn create<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    config: &WalConfig,
) -> Result<(), OpenError> {
    let unit = disk.device.block_bytes();
    for number in [0, 1] {
        let name = names::MANIFESTS[number];
        let file = disk.new_file();
        let create = Action::Create { file, name: name.to_owned(), bytes: SLOT_BYTES };
        disk.must("making", name, create)?;
        let manifest = Manifest {
            shard: config.shard,
            number: number as u64,
            incarnation: 0,
            unit: unit as u32,
            durable_lsn: 0,
            next_segment: 1,
            window_bytes: 0,
            checkpoints: Vec::new(),
            segments: Vec::new(),
        };
        let mut data = AlignedBuffer::zeroed(unit);
        manifest.encode(&config.secret, &mut data);
        let write = Action::Write { file, offset: 0, data: data.freeze() };
        disk.must("writing", name, write)?;
        disk.must("syncing", name, Action::Sync { file })?;
        disk.must("closing", name, Action::Close { file })?;
    }
    disk.must("syncing", "the directory", Action::SyncDirectory)?;
    Ok(())
}
