//! What the unit tests of several rooms share: a small log on a simulated disk.

use model::{EntryHead, Lsn, SpaceUse, StreamId};

use crate::config::WalConfig;
use crate::crc::crc32c;
use crate::device::{Completion, SimDisk};
use crate::fold::Fold;
use crate::read::{Cursor, ReadStep};
use crate::wal::{Room, Wal};

/// Between an entry's start and what the checksum handed over covers, bytes.
const MORE_BYTES: usize = 5;

/// Small segments and groups, so that little data goes through many.
pub(crate) fn config() -> WalConfig {
    WalConfig {
        shard: 1,
        secret: [7; 16],
        segment_bytes: 256 * 1024,
        group_bytes: 16 * 1024,
        writes_in_flight: 2,
        backlog_bytes: 64 * 1024,
        cache_bytes: 8 * 1024 * 1024,
        prepare_bytes: 64 * 1024,
        ..WalConfig::default()
    }
}

/// Remembers the entries it is given; every stream is kept from offset 0.
#[derive(Default)]
pub(crate) struct Memory {
    pub entries: Vec<(Lsn, EntryHead, Vec<u8>)>,
    pub pieces: Vec<Vec<u8>>,
}

impl Fold for Memory {
    type Error = String;

    fn load(&mut self, piece: &[u8]) -> Result<(), String> {
        self.pieces.push(piece.to_vec());
        Ok(())
    }

    fn loaded(&mut self, _: Lsn, _: Lsn) -> Result<(), String> {
        Ok(())
    }

    fn apply(&mut self, lsn: Lsn, head: &EntryHead, payload: &[u8]) -> Result<(), String> {
        self.entries.push((lsn, *head, payload.to_vec()));
        Ok(())
    }

    fn log_start(&self, _: StreamId) -> Option<u64> {
        Some(0)
    }

    fn label(&self, stream: StreamId) -> Option<Vec<u8>> {
        Some(format!("stream {stream}").into_bytes())
    }
}

pub(crate) struct Log {
    pub disk: SimDisk,
    pub wal: Wal,
    pub memory: Memory,
    now_ns: u64,
}

impl Log {
    pub fn new(config: WalConfig) -> Self {
        let mut disk = SimDisk::new(1);
        Wal::create(&mut disk, &config).unwrap();
        Self::open(disk, config)
    }

    pub fn open(mut disk: SimDisk, config: WalConfig) -> Self {
        let mut memory = Memory::default();
        let (wal, _) = Wal::open(&mut disk, config, &mut memory).unwrap();
        let mut log = Self { disk, wal, memory, now_ns: 0 };
        log.settle();
        log
    }

    /// Stops the log and opens it again on the same disk.
    pub fn reopen(mut self, config: WalConfig) -> Self {
        self.wal.shutdown(&mut self.disk);
        while !self.wal.is_shut_down() {
            self.end_one();
        }
        let image = self.disk.image();
        Self::open(SimDisk::from_image(image, 2), config)
    }

    /// A batch of one record, whose payload says which it is.
    pub fn append(&mut self, stream: u32, offset: u64, bytes: usize) -> Lsn {
        assert_eq!(self.wal.room(bytes, SpaceUse::Grows), Room::Yes);
        let payload = payload(stream, offset, bytes);
        self.wal.append(&head(stream, offset), &[&payload])
    }

    /// The same the way of small entries: its start as a number, its end with the checksum known. It
    /// has 21 bytes at least.
    pub fn append_joined(&mut self, stream: u32, offset: u64, bytes: usize) -> Lsn {
        assert_eq!(self.wal.room(bytes, SpaceUse::Grows), Room::Yes);
        let payload = payload(stream, offset, bytes);
        let (start, rest) = payload.split_first_chunk().unwrap();
        let crc = crc32c(&rest[MORE_BYTES..]);
        let start = u128::from_le_bytes(*start);
        self.wal.append_joined::<MORE_BYTES>(&head(stream, offset), start, rest, crc)
    }

    pub fn commit(&mut self) {
        self.wal.commit(&mut self.disk);
    }

    pub fn tick(&mut self) {
        self.now_ns += 5_000_000;
        self.wal.tick(&mut self.disk, self.now_ns);
    }

    pub fn end_one(&mut self) {
        let completion = self.disk.end_one().expect("something is under way");
        self.wal.complete(&mut self.disk, completion);
    }

    /// Ends everything under way without telling the log.
    pub fn ends(&mut self) -> Vec<Completion> {
        std::iter::from_fn(|| self.disk.end_one()).collect()
    }

    /// Commits, and lets time pass until nothing happens any more.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            self.commit();
            self.tick();
            while let Some(completion) = self.disk.end_one() {
                self.wal.complete(&mut self.disk, completion);
            }
        }
    }

    pub fn checkpoint(&mut self, pieces: &[&[u8]]) {
        self.wal.checkpoint_begin(&mut self.disk);
        for piece in pieces {
            self.wal.checkpoint_push(&mut self.disk, piece);
        }
        self.wal.checkpoint_finish(&mut self.disk);
        self.settle();
        assert!(!self.wal.checkpoint_under_way());
    }

    /// Reads on, through disk reads if need be.
    pub fn read(&mut self, cursor: &mut Cursor, max_bytes: usize, end_offset: u64) -> ReadStep {
        loop {
            match self.wal.read(&mut self.disk, cursor, max_bytes, end_offset) {
                ReadStep::Pending => {
                    while self.wal.take_ready() != Some(cursor.id()) {
                        self.end_one();
                    }
                }
                step => return step,
            }
        }
    }

    /// Everything of a stream from `offset` on, read in steps of `max_bytes`.
    pub fn read_all(&mut self, stream: u32, offset: u64, max_bytes: usize) -> Vec<u8> {
        let mut cursor = self.wal.cursor(StreamId(stream), offset);
        let mut all = Vec::new();
        loop {
            match self.read(&mut cursor, max_bytes, u64::MAX) {
                ReadStep::Batches(batches) => {
                    let bytes: usize = batches.slices.iter().map(|slice| slice.len()).sum();
                    assert_eq!(bytes, batches.bytes);
                    batches.slices.iter().for_each(|slice| all.extend_from_slice(slice));
                }
                ReadStep::End => break,
                step => panic!("{step:?}"),
            }
        }
        self.wal.close_cursor(cursor);
        all
    }
}

/// Time moves by one every ten offsets.
pub(crate) fn head(stream: u32, offset: u64) -> EntryHead {
    EntryHead {
        kind: 1,
        flags: 0,
        stream: StreamId(stream),
        base_offset: offset,
        records: 1,
        time_ms: 1_000 + (offset / 10) as i64,
    }
}

pub(crate) fn payload(stream: u32, offset: u64, bytes: usize) -> Vec<u8> {
    let mut payload = vec![stream as u8 ^ offset as u8; bytes.max(12)];
    payload[..4].copy_from_slice(&stream.to_le_bytes());
    payload[4..12].copy_from_slice(&offset.to_le_bytes());
    payload
}
