//! A set's shard as the directory that it is restored to: read only, with the manifest that the
//! set's numbers give.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use wal::device::{Action, Completion, DeviceError, Done, FileId, LogDevice, Ticket};
use wal::format::manifest::{CheckpointRecord, Manifest, SegmentRecord, SegmentState};
use wal::format::names;

use super::set::{BackupSet, SegmentFile, ShardSet};
use super::store::Store;

/// A slot's length, bytes, when its manifest is shorter: what the log makes.
const SLOT_BYTES: usize = 64 * 1024;
/// What a restored log's incarnation is ahead of the original's: both may go on writing, and a block
/// of one must never follow in the other. An original that is opened more often than that meanwhile
/// has lived for years.
const INCARNATION_LEAP: u32 = 65_536;

/// What a file of the restored shard is made from.
#[derive(Debug)]
enum Content {
    Made(Vec<u8>),
    Kept { path: PathBuf, bytes: u64 },
}

/// One shard of a set, as a device to read from.
#[derive(Debug)]
pub(crate) struct SetDisk {
    files: BTreeMap<String, Content>,
    open: BTreeMap<FileId, Opened>,
    ended: VecDeque<Completion>,
    unit: usize,
}

#[derive(Debug)]
enum Opened {
    Made(String),
    Kept { file: File, bytes: u64 },
}

impl SetDisk {
    pub fn new(store: &Store, set: &BackupSet, shard: &ShardSet, secret: &[u8; 16]) -> Self {
        let unit = set.block_bytes as usize;
        let mut files = BTreeMap::new();
        for (name, bytes) in manifests(shard, set.block_bytes, secret) {
            files.insert(name.to_owned(), Content::Made(bytes));
        }
        for segment in &shard.segments {
            let path = store.segment_path(&set.name, shard.shard, segment);
            let content = Content::Kept { path, bytes: segment.bytes };
            files.insert(names::segment(segment.number), content);
        }
        for checkpoint in &shard.checkpoints {
            let path = store.checkpoint_path(&set.name, shard.shard, checkpoint.end);
            let content = Content::Kept { path, bytes: checkpoint.bytes };
            files.insert(names::checkpoint(checkpoint.end), content);
        }
        Self { files, open: BTreeMap::new(), ended: VecDeque::new(), unit }
    }

    /// The file of the backup that a file of the log lies in.
    pub fn path_of(&self, name: &str) -> Option<&PathBuf> {
        match self.files.get(name)? {
            Content::Kept { path, .. } => Some(path),
            Content::Made(_) => None,
        }
    }

    /// The files that are made and not copied.
    pub fn made(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().filter_map(|(name, content)| match content {
            Content::Made(bytes) => Some((name.as_str(), bytes.as_slice())),
            Content::Kept { .. } => None,
        })
    }

    fn act(&mut self, action: Action) -> Result<Done, DeviceError> {
        match action {
            Action::OpenReadOnly { file, name } => self.open(file, name),
            Action::Read { file, offset, mut buffer } => {
                let bytes = self.read(file, offset, &mut buffer)?;
                Ok(Done::Read { buffer, bytes })
            }
            Action::Close { file } => {
                self.open.remove(&file);
                Ok(Done::Nothing)
            }
            Action::List => {
                let listed = self.files.iter().map(|(name, content)| match content {
                    Content::Made(bytes) => (name.clone(), bytes.len() as u64),
                    Content::Kept { bytes, .. } => (name.clone(), *bytes),
                });
                Ok(Done::Listed(listed.collect()))
            }
            _ => Err(refused("change a backup", io::Error::from(ErrorKind::ReadOnlyFilesystem))),
        }
    }

    fn open(&mut self, id: FileId, name: String) -> Result<Done, DeviceError> {
        let (opened, bytes) = match self.files.get(&name) {
            None => return Err(DeviceError::NotFound),
            Some(Content::Made(bytes)) => (Opened::Made(name), bytes.len() as u64),
            Some(Content::Kept { path, bytes }) => {
                let file = File::open(path).map_err(|error| match error.kind() {
                    ErrorKind::NotFound => DeviceError::NotFound,
                    _ => refused("open a backup's file", error),
                })?;
                (Opened::Kept { file, bytes: *bytes }, *bytes)
            }
        };
        self.open.insert(id, opened);
        Ok(Done::Opened { bytes })
    }

    /// What the file of a segment that was not sealed lacks at its end counts as zeros.
    fn read(&self, id: FileId, offset: u64, to: &mut [u8]) -> Result<usize, DeviceError> {
        to.fill(0);
        match self.open.get(&id) {
            None => Err(DeviceError::NotFound),
            Some(Opened::Made(name)) => {
                let Some(Content::Made(bytes)) = self.files.get(name) else { return Ok(0) };
                let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
                let rest = rest.unwrap_or_default();
                let length = rest.len().min(to.len());
                to[..length].copy_from_slice(&rest[..length]);
                Ok(length)
            }
            Some(Opened::Kept { file, bytes }) => {
                let length = bytes.saturating_sub(offset).min(to.len() as u64) as usize;
                let mut filled = 0;
                while filled < length {
                    match file.read_at(&mut to[filled..length], offset + filled as u64) {
                        Ok(0) => break,
                        Ok(read) => filled += read,
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(refused("read a backup's file", error)),
                    }
                }
                Ok(length)
            }
        }
    }
}

impl LogDevice for SetDisk {
    fn submit(&mut self, ticket: Ticket, action: Action) {
        let result = self.act(action);
        self.ended.push_back(Completion { ticket, result });
    }

    fn wait(&mut self) -> Completion {
        self.ended.pop_front().expect("an action is under way")
    }

    fn block_bytes(&self) -> usize {
        self.unit
    }
}

/// Both slots, as a log that was stopped at the set's moment would have left them.
fn manifests(shard: &ShardSet, unit: u32, secret: &[u8; 16]) -> [(&'static str, Vec<u8>); 2] {
    [2, 1].map(|number| {
        let manifest = Manifest {
            shard: shard.shard,
            number,
            incarnation: shard.incarnation.saturating_add(INCARNATION_LEAP),
            unit,
            durable_lsn: shard.durable_lsn,
            next_segment: shard.segments.last().map_or(1, |last| last.number + 1),
            // Nothing was in flight.
            window_bytes: 0,
            checkpoints: (shard.checkpoints.iter())
                .map(|one| CheckpointRecord { start: one.start, end: one.end })
                .collect(),
            segments: shard.segments.iter().map(record).collect(),
        };
        let bytes = manifest.encoded_bytes().max(SLOT_BYTES).next_multiple_of(unit as usize);
        let mut slot = vec![0; bytes];
        manifest.encode(secret, &mut slot);
        (names::MANIFESTS[Manifest::slot(number)], slot)
    })
}

/// A segment without a footer is read through when the log is opened, like one still written.
fn record(segment: &SegmentFile) -> SegmentRecord {
    let sealed = segment.footer.is_some();
    SegmentRecord {
        number: segment.number,
        generation: segment.generation,
        state: if sealed { SegmentState::Sealed } else { SegmentState::Active },
        bytes: segment.bytes,
        first_lsn: segment.first_lsn,
        last_lsn: if sealed { segment.last_lsn } else { 0 },
        first_sequence: segment.first_sequence,
        previous_crc: segment.previous_crc,
        data_end: if sealed { segment.data_end as u32 } else { 0 },
        prepared_bytes: segment.data_end as u32,
        from_reserve: false,
        footerless: false,
    }
}

fn refused(doing: &'static str, error: io::Error) -> DeviceError {
    let errno = error.raw_os_error().unwrap_or(0);
    DeviceError::Io { doing, errno, error: error.to_string() }
}
