//! Opening a log: from the files of a directory to a state that can go on.
//!
//! Nothing is written before all is read and found good. Then the incarnation is raised in the
//! manifest, what was torn is set aside and erased, and a witness is written.

mod blocking;
mod checkpoint;
mod footers;
mod manifest;
mod scan;
mod start;
mod tail;

use model::Lsn;
use tracing::{info, warn};

use self::blocking::Blocking;
use self::scan::{Chain, Place};
use self::tail::{CutRange, Stray};
use crate::config::WalConfig;
use crate::device::{Action, Done, FileId, LogDevice};
use crate::error::OpenError;
use crate::fold::{Fold, Recovered};
use crate::format::block::BlockHeader;
use crate::format::manifest::{CheckpointRecord, Manifest, SegmentRecord, SegmentState};
use crate::format::names;
use crate::index::{Indexes, SegmentIndex, Streams};
use crate::segments::{Segment, Segments, State};
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
        let mut found = read_all(&mut disk, config, fold)?;
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
    /// Opens every segment that the manifest names.
    fn open_segments<D: LogDevice>(&mut self, disk: &mut Blocking<'_, D>) -> Result<(), OpenError> {
        for record in self.manifest.segments.clone() {
            let name = names::segment(record.number);
            if record.state == SegmentState::Dropped {
                if self.listed.iter().any(|(listed, _)| *listed == name) {
                    self.leftovers.push(name);
                }
                continue;
            }
            let damaged =
                |reason: String| Err(OpenError::Damaged { file: name.clone(), offset: 0, reason });
            let Some((file, bytes)) = disk.open(&name)? else {
                return damaged("the manifest names this segment and it is missing".to_owned());
            };
            if bytes != record.bytes {
                return damaged(format!("it has {bytes} bytes and should have {}", record.bytes));
            }
            self.segments.all.insert(record.number, segment_of(&record, file));
        }
        self.segments.next_number = self.manifest.next_segment.max(1);
        Ok(())
    }

    /// Looks at the files that the manifest does not name.
    fn look_at_the_rest<D: LogDevice>(
        &mut self,
        disk: &mut Blocking<'_, D>,
    ) -> Result<(), OpenError> {
        for (name, bytes) in self.listed.clone() {
            if name == names::RESERVE {
                let usable = bytes >= self.config.reserve_bytes(self.unit) / 2;
                if usable && bytes.is_multiple_of(self.unit as u64) {
                    self.segments.reserve = Some(bytes);
                } else {
                    self.leftovers.push(name);
                }
            } else if name == names::CHECKPOINT_TMP {
                self.leftovers.push(name);
            } else if let Some(end) = names::parse_checkpoint(&name) {
                if !self.manifest.checkpoints.iter().any(|kept| kept.end == end) {
                    self.leftovers.push(name);
                }
            } else if let Some(number) = names::parse_segment(&name) {
                self.segments.next_number = self.segments.next_number.max(number + 1);
                if !self.manifest.segments.iter().any(|record| record.number == number) {
                    self.refuse_if_used(disk, number, &name)?;
                    self.leftovers.push(name);
                }
            }
        }
        Ok(())
    }

    /// A segment that the manifest does not know may hold nothing: else the manifest is not the
    /// newest, and what it says cannot be relied on.
    fn refuse_if_used<D: LogDevice>(
        &self,
        disk: &mut Blocking<'_, D>,
        number: u64,
        name: &str,
    ) -> Result<(), OpenError> {
        let Some((file, bytes)) = disk.open(name)? else { return Ok(()) };
        let end = bytes / self.unit as u64 * self.unit as u64;
        // A used segment's blocks begin at its begin.
        let unit = self.unit as u64;
        let secret = &self.config.secret;
        let used = end > unit
            && disk.read(file, unit, self.unit).is_ok_and(|head| {
                BlockHeader::parse(&head, secret, number, unit, self.unit).is_ok()
            });
        disk.must("closing", name, Action::Close { file })?;
        if !used {
            return Ok(());
        }
        let reason = "it holds a part of the log that the manifest does not name".to_owned();
        Err(OpenError::Damaged { file: name.to_owned(), offset: unit, reason })
    }

    /// Loads the newest good checkpoint; returns the entry after which replay begins.
    fn load_checkpoint<D: LogDevice, F: Fold>(
        &mut self,
        disk: &mut Blocking<'_, D>,
        fold: &mut F,
    ) -> Result<Lsn, OpenError> {
        let mut bad = None;
        for record in self.manifest.checkpoints.clone() {
            let name = names::checkpoint(record.end);
            match checkpoint::check(disk, &record, &self.config.secret, self.unit)? {
                Ok(good) => {
                    self.kept.push(CheckpointRecord { start: good.start().0, ..record });
                    if self.report.checkpoint_start.is_none() {
                        self.report.checkpoint_start = Some(good.start());
                        self.report.older_checkpoint_used = bad.is_some();
                        checkpoint::load(disk, good, self.unit, fold)?;
                    } else {
                        checkpoint::close(disk, good)?;
                    }
                }
                Err(reason) => {
                    // The older one takes its place, whatever is wrong with it.
                    disk.read_error = None;
                    warn!(shard = self.config.shard, name, reason, "a checkpoint is bad");
                    bad = Some((name, reason));
                }
            }
        }
        if let (Some((file, reason)), None) = (bad, self.report.checkpoint_start) {
            // The log's begin may have been recycled: only if it is all there can it be replayed.
            let first = self.segments.all.values().next();
            if self.manifest.checkpoints.len() > 1 || first.is_none_or(|s| s.first_sequence > 1) {
                return Err(OpenError::Damaged { file, offset: 0, reason });
            }
        }
        Ok(self.report.checkpoint_start.unwrap_or(Lsn::ZERO))
    }

    /// Reads the footers of the segments before the checkpoint, and the blocks from there on.
    fn read_segments<D: LogDevice, F: Fold>(
        &mut self,
        disk: &mut Blocking<'_, D>,
        start: Lsn,
        fold: &mut F,
    ) -> Result<(), OpenError> {
        let first = self.first_to_replay(start);
        let numbers: Vec<u64> = self.segments.all.keys().copied().collect();
        for number in numbers.iter().copied().filter(|number| *number < first) {
            footers::read_footer_or_blocks(disk, self, number)?;
        }
        let replayed: Vec<u64> = numbers.into_iter().filter(|number| *number >= first).collect();
        self.begin_chain(first, start)?;
        let mut end = None;
        for (at, number) in replayed.iter().copied().enumerate() {
            let reason = self.replay_segment(disk, number, start, fold)?;
            let Some(segment) = self.segments.all.get(&number) else { break };
            let sealed_end = self.sealed_end(number);
            if sealed_end.is_some_and(|sealed| sealed != segment.data_end) {
                return Err(self.damaged(number, segment.data_end, reason));
            }
            let next = replayed.get(at + 1).and_then(|next| self.segments.all.get(next));
            let place = self.place();
            match next {
                Some(next) if place.begins_with(disk, next, &self.chain) => {}
                Some(next) if sealed_end.is_some() => {
                    end = Some((next.number, self.unit as u64, reason));
                    break;
                }
                _ => {
                    end = Some((number, segment.data_end, reason));
                    break;
                }
            }
        }
        self.set_active(end)
    }

    /// The segment that holds the first entry after `start`.
    fn first_to_replay(&self, start: Lsn) -> u64 {
        let used = self.segments.all.values().filter(|s| s.first_lsn > 0);
        let holding = used.filter(|s| s.first_lsn <= start.0 + 1).map(|s| s.number).max();
        holding.or(self.segments.all.keys().next().copied()).unwrap_or(0)
    }

    fn begin_chain(&mut self, first: u64, start: Lsn) -> Result<(), OpenError> {
        let Some(segment) = self.segments.all.get(&first) else { return Ok(()) };
        if segment.first_sequence > 0 {
            self.chain.next_lsn = segment.first_lsn;
            self.chain.next_sequence = segment.first_sequence;
            self.chain.previous_crc = segment.previous_crc;
        }
        if self.chain.next_lsn > start.0 + 1 {
            let reason = format!(
                "the log begins at entry {}, the state is known up to entry {start}",
                self.chain.next_lsn
            );
            return Err(self.damaged(first, self.unit as u64, reason));
        }
        Ok(())
    }

    fn replay_segment<D: LogDevice, F: Fold>(
        &mut self,
        disk: &mut Blocking<'_, D>,
        number: u64,
        start: Lsn,
        fold: &mut F,
    ) -> Result<String, OpenError> {
        let end = self.sealed_end(number).unwrap_or(u64::MAX);
        let mut index = SegmentIndex::default();
        let place =
            Place { secret: &self.config.secret, shard: self.config.shard, unit: self.unit };
        let Some(segment) = self.segments.all.get_mut(&number) else { return Ok(String::new()) };
        let (streams, replayed) = (&mut self.streams, &mut self.report.entries_replayed);
        let reason = place.segment(disk, segment, end, &mut self.chain, |block, offset| {
            scan::index_block(&mut index, streams, block, offset);
            scan::replay(fold, block, start, replayed)
        })?;
        segment.state = State::Sealing;
        self.replayed_bytes += segment.data_end;
        self.indexes.pin(number, index);
        Ok(reason)
    }

    /// The last segment reached is the active one, those after it are the pool.
    fn set_active(&mut self, end: Option<(u64, u64, String)>) -> Result<(), OpenError> {
        let Some((active, position, reason)) = end else { return Ok(()) };
        self.position = position;
        let after: Vec<u64> = self.segments.all.keys().copied().filter(|n| *n > active).collect();
        self.segments.ready = after.into();
        let sealed = self.sealed_end(active).is_some();
        if let Some(segment) = self.segments.all.get_mut(&active) {
            if sealed {
                // Full to its end, and nothing to go on in yet.
                self.position = self.unit as u64;
            } else if segment.state == State::Pool {
                self.segments.ready.push_front(active);
            } else {
                segment.state = State::Active;
                self.segments.active = Some(active);
            }
        }
        self.check_witnesses(active, position, &reason)
    }

    /// A log shorter than anything says it was is damaged.
    fn check_witnesses(&self, active: u64, position: u64, reason: &str) -> Result<(), OpenError> {
        let last = self.chain.next_lsn - 1;
        let sealed = self.manifest.segments.iter().map(|record| record.last_lsn);
        let checkpoints = self.manifest.checkpoints.iter().map(|record| record.end);
        let known = sealed.chain(checkpoints).chain([self.manifest.durable_lsn]).max();
        let known = known.unwrap_or(0);
        if known > last {
            let reason =
                format!("{reason}; the log ends after entry {last}, entry {known} was durable");
            return Err(self.damaged(active, position, reason));
        }
        Ok(())
    }

    /// Where the log ends is known only if every block could be read.
    fn check_reads<D: LogDevice>(&self, disk: &Blocking<'_, D>) -> Result<(), OpenError> {
        let Some((file, error)) = disk.read_error.clone() else { return Ok(()) };
        let segment = self.segments.all.values().find(|segment| segment.file == file);
        let file = segment.map_or_else(|| "a file of the log".to_owned(), Segment::name);
        Err(OpenError::Device { doing: "reading", file, error })
    }

    /// Tells a torn tail from damage.
    fn look_after_the_end<D: LogDevice>(
        &mut self,
        disk: &mut Blocking<'_, D>,
    ) -> Result<(), OpenError> {
        let first = self.segments.active.or(self.segments.ready.front().copied());
        let Some(first) = first else { return self.check_empty() };
        let segments: Vec<&Segment> = self.segments.all.range(first..).map(|(_, s)| s).collect();
        let window = self.manifest.window_bytes.max(self.config.window_bytes(self.unit));
        let place = self.place();
        let strays = tail::strays(disk, place, &segments, self.position, window);
        let claim = strays.iter().find(|s| s.header.durable_lsn >= self.chain.next_lsn);
        if let Some(claim) = claim {
            let reason = format!(
                "there is no whole block for entry {}, and the block at byte {} of {} says that \
                 entry {} was durable",
                self.chain.next_lsn,
                claim.offset,
                names::segment(claim.segment),
                claim.header.durable_lsn
            );
            return Err(self.damaged(first, self.position, reason));
        }
        let torn = tail::torn(&strays, &self.chain);
        let bytes = |number: u64| self.segments.all.get(&number).map_or(0, |s| s.bytes);
        self.cut = tail::ranges(&torn, first, self.position, self.unit as u64, bytes);
        self.strays = strays;
        Ok(())
    }

    fn check_empty(&self) -> Result<(), OpenError> {
        self.check_witnesses(self.segments.next_number, 0, "there are no segments")
    }

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

fn segment_of(record: &SegmentRecord, file: FileId) -> Segment {
    let prepared = u64::from(record.prepared_bytes);
    let mut segment = Segment::pool(record.number, record.generation, file, record.bytes, prepared);
    if record.state != SegmentState::Pool {
        segment.first_lsn = record.first_lsn;
        segment.first_sequence = record.first_sequence;
        segment.previous_crc = record.previous_crc;
        segment.last_lsn = record.last_lsn;
        segment.data_end = u64::from(record.data_end);
    }
    segment
}

/// Tells what was found.
fn log_report(shard: u16, report: &Recovered) {
    match &report.cut {
        None => info!(shard, last_lsn = %report.last_lsn, "log opened"),
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
