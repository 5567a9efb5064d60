//! Opening a log: from the files of a directory to a state that can go on.
//!
//! Nothing is written before all is read and found good. Then the incarnation is raised in the
//! manifest, what was torn is set aside and erased, and a witness is written.

mod blocking;
mod checkpoint;
mod files;
mod footers;
mod manifest;
mod misplaced;
mod replay;
mod scan;
mod start;
mod tail;

use tracing::{debug, warn};

use self::blocking::Blocking;
use self::scan::{Chain, Place};
use self::tail::{CutRange, Stray};
use crate::config::WalConfig;
use crate::device::{Action, Done, FileId, LogDevice};
use crate::error::OpenError;
use crate::fold::{Fold, Recovered};
use crate::format::manifest::{CheckpointRecord, Manifest, SegmentState};
use crate::format::names;
use crate::index::{Indexes, Streams};
use crate::segments::Segments;
use crate::wal::Wal;

/// Everything recovery has found.
struct Found {
    config: WalConfig,
    unit: usize,
    manifest: Manifest,
    manifest_files: [FileId; 2],
    listed: Vec<(String, u64)>,
    segments: Segments,
    streams: Streams,
    indexes: Indexes,
    /// The checkpoints that are good, the newest first.
    kept: Vec<CheckpointRecord>,
    chain: Chain,
    /// Where the next block goes in the active segment.
    position: u64,
    strays: Vec<Stray>,
    cut: Vec<CutRange>,
    /// Files that no one needs.
    leftovers: Vec<String>,
    /// Bytes of log from the checkpoint's segment on.
    replayed_bytes: u64,
    report: Recovered,
}

impl Wal {
    /// Makes a log with nothing in it. What an interrupted `create` has left is replaced.
    ///
    /// # Errors
    /// `Exists` when there is a log; `Device` when the disk fails.
    pub fn create<D: LogDevice>(device: &mut D, config: &WalConfig) -> Result<(), OpenError> {
        let mut disk = Blocking::new(device);
        if manifest::is_there(&mut disk, config)? {
            return Err(OpenError::Exists);
        }
        for (name, _) in list(&mut disk)? {
            if names::parse_segment(&name).is_some() || names::parse_checkpoint(&name).is_some() {
                return Err(OpenError::Exists);
            }
            if names::MANIFESTS.contains(&name.as_str()) {
                disk.must("removing", &name, Action::Remove { name: name.clone() })?;
            }
        }
        manifest::create(&mut disk, config)
    }

    /// Opens the log, gives the host its state back, and makes the log ready to be written.
    /// Blocks for the disk until then.
    ///
    /// # Errors
    /// `Damaged` when acknowledged data is changed or gone: nothing has been written then. The
    /// others as their names say.
    pub fn open<D: LogDevice, F: Fold>(
        device: &mut D,
        config: WalConfig,
        fold: &mut F,
    ) -> Result<(Wal, Recovered), OpenError> {
        let mut disk = Blocking::new(device);
        let read = read_all(&mut disk, config.clone(), fold);
        let mut found = match read {
            Ok(found) => found,
            Err(error) => return Err(misplaced::explain(&mut disk, &config, error)),
        };
        footers::find_those_replayed(&mut disk, &mut found);
        start::settle(&mut found, fold);
        start::go_on(disk, found)
    }
}

fn list<D: LogDevice>(disk: &mut Blocking<'_, D>) -> Result<Vec<(String, u64)>, OpenError> {
    match disk.must("listing", "the directory", Action::List)? {
        Done::Listed(mut names) => {
            names.sort();
            Ok(names)
        }
        _ => Ok(Vec::new()),
    }
}

/// Reads and checks everything, writes nothing.
fn read_all<D: LogDevice, F: Fold>(
    disk: &mut Blocking<'_, D>,
    config: WalConfig,
    fold: &mut F,
) -> Result<Found, OpenError> {
    let listed = list(disk)?;
    let opened = manifest::open(disk, &config)?;
    let unit = opened.manifest.unit as usize;
    let config = config.bounded(unit);
    let index_budget = config.index_cache_bytes;
    let mut found = Found {
        config,
        unit,
        chain: Chain { next_lsn: 1, next_sequence: 1, previous_crc: 0, incarnation: 0 },
        manifest: opened.manifest,
        manifest_files: opened.files,
        listed,
        segments: Segments::default(),
        streams: Streams::default(),
        indexes: Indexes::new(index_budget),
        kept: Vec::new(),
        position: unit as u64,
        strays: Vec::new(),
        cut: Vec::new(),
        leftovers: Vec::new(),
        replayed_bytes: 0,
        report: Recovered::default(),
    };
    found.open_segments(disk)?;
    found.look_at_the_rest(disk)?;
    let start = found.load_checkpoint(disk, fold)?;
    found.read_segments(disk, start, fold)?;
    found.look_after_the_end(disk)?;
    found.check_reads(disk)?;
    Ok(found)
}

impl Found {
    fn damaged(&self, number: u64, offset: u64, reason: String) -> OpenError {
        OpenError::Damaged { file: names::segment(number), offset, reason }
    }

    fn place(&self) -> Place<'_> {
        Place { secret: &self.config.secret, shard: self.config.shard, unit: self.unit }
    }

    /// Where the manifest says that a sealed segment's blocks end.
    fn sealed_end(&self, number: u64) -> Option<u64> {
        let found = self.manifest.segments.iter().find(|record| record.number == number)?;
        (found.state == SegmentState::Sealed).then_some(u64::from(found.data_end))
    }
}

/// Tells what was found.
fn log_report(shard: u16, report: &Recovered) {
    match &report.cut {
        None => debug!(shard, last_lsn = %report.last_lsn, "log opened"),
        Some(cut) => warn!(
            shard,
            last_lsn = %report.last_lsn,
            file = cut.file,
            offset = cut.offset,
            bytes = cut.bytes,
            "log opened; a torn tail was cut and set aside"
        ),
    }
}
