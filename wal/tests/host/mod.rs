//! A small host of the log: streams that get batches, are trimmed and removed, and a checkpoint of
//! them. It keeps the truth beside the log: every entry ever appended, by LSN.

#![allow(dead_code)] // Each test program uses a part of it.

pub mod fold;
pub mod read;
pub mod rest;

use std::collections::BTreeMap;
use std::sync::Arc;

use corelane_wal::crc::crc32c;
use corelane_wal::device::sim::{Dice, SimDisk};
use corelane_wal::{EntryHead, OpenError, Room, Wal, WalConfig};
use model::{Lsn, SpaceUse, StreamId};

use fold::{Replay, Stream, fold_truth};

/// Numbers of the host's kinds of entry.
pub const KIND_STREAM_MADE: u8 = 1;
pub const KIND_BATCH: u8 = 2;
pub const KIND_TRIMMED: u8 = 3;
pub const KIND_REMOVED: u8 = 4;
pub const KIND_NOTE: u8 = 5;

/// The flag of entries that free space.
const FREES_SPACE: u8 = 1;
const STREAMS_MAX: u64 = 5;
/// So many entries in a row are handed over the same way.
const WAY_ENTRIES: usize = 8;

/// An entry as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub head: EntryHead,
    /// Shared: thousands of images are compared with the same entries.
    pub payload: Arc<[u8]>,
    /// What its stream's digest starts from and comes to with it, kept for the same reason.
    pub digest: (u64, u64),
}

impl Entry {
    pub fn space_use(&self) -> SpaceUse {
        match self.head.kind {
            KIND_NOTE => SpaceUse::GoesOn,
            KIND_TRIMMED | KIND_REMOVED => SpaceUse::Frees,
            _ => SpaceUse::Grows,
        }
    }

    /// One past the last offset it holds.
    pub fn next_offset(&self) -> u64 {
        self.head.base_offset + u64::from(self.head.records)
    }
}

pub struct Host {
    pub disk: SimDisk,
    pub wal: Wal,
    pub dice: Dice,
    /// Entry `i` has LSN `i + 1`.
    pub truth: Vec<Entry>,
    /// After all of `truth`.
    pub streams: BTreeMap<u32, Stream>,
    /// (crash point, LSN): from this point on everything up to this LSN must survive.
    pub promised: Vec<(usize, u64)>,
    /// (crash point, LSN): from this point on entries up to this LSN may survive.
    pub appended: Vec<(usize, u64)>,
    /// Entries whose effects outside the log have been made.
    revealed: usize,
    /// Streams the checkpoint under way still has to take.
    checkpoint: Option<Vec<u32>>,
    pub checkpoints_begun: u32,
    now_ns: u64,
    /// In every payload, so that no two entries ever written are alike.
    nonce: u64,
    pub check_reads: bool,
    /// Nothing is trimmed or removed, so no segment is used again.
    pub keeps_all: bool,
    /// The disk's point when the opening of the log began.
    pub made_at: usize,
}

/// Segments of 64 KiB, groups of 8 KiB: a few hundred entries go through many of both.
pub fn config() -> WalConfig {
    WalConfig {
        shard: 3,
        secret: *b"a secret of 16 b",
        segment_bytes: 64 * 1024,
        group_bytes: 8 * 1024,
        writes_in_flight: 3,
        backlog_bytes: 48 * 1024,
        cache_bytes: 256 * 1024,
        prepare_bytes: 16 * 1024,
        pool_segments: 1,
        pool_segments_max: 3,
        index_cache_bytes: 64 * 1024,
        witness_after_ns: 20_000_000,
        slow_after_ns: 1_000_000_000,
    }
}

/// The seed from CORELANE_SEED, or `default`; printed, so that a failure can be run again.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("CORELANE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(default);
    println!("CORELANE_SEED={seed}");
    seed
}

/// An empty log on an empty disk; the creation is part of the disk's recording.
pub fn created(seed: u64) -> SimDisk {
    let mut disk = SimDisk::new(seed);
    Wal::create(&mut disk, &config()).unwrap();
    disk
}

impl Host {
    /// Opens the log on `disk` and checks what comes back: at least the first `promised` entries
    /// of `truth`, at most all, in order and unchanged.
    pub fn open(
        mut disk: SimDisk,
        truth: &[Entry],
        promised: u64,
        seed: u64,
    ) -> Result<Host, OpenError> {
        let made_at = disk.points() - 1;
        let mut replay = Replay::new(truth);
        let (mut wal, recovered) = Wal::open(&mut disk, config(), &mut replay)?;
        let last = recovered.last_lsn.0;
        assert!(last >= promised, "entries up to {promised} were promised, {last} are left");
        assert!(last <= truth.len() as u64, "entries up to {last}, only {} written", truth.len());
        assert_eq!(replay.last, last, "the last entry replayed is the last one recovered");
        assert_eq!(wal.durable_lsn(), recovered.last_lsn);
        assert_eq!(wal.appended_lsn(), recovered.last_lsn);
        let truth = truth[..last as usize].to_vec();
        let streams = fold_truth(&truth);
        assert_eq!(replay.streams, streams, "the state is the fold of all entries kept");
        // A host says these for every stream it has, after every start.
        for (number, stream) in &streams {
            if stream.alive {
                wal.label(StreamId(*number), &fold::label(*number));
                wal.set_log_start(StreamId(*number), stream.log_start);
            }
        }
        let opened_at = disk.points() - 1;
        Ok(Host {
            disk,
            wal,
            dice: Dice::new(seed),
            revealed: truth.len(),
            truth,
            streams,
            promised: vec![(0, promised), (opened_at, last)],
            appended: vec![(0, last)],
            checkpoint: None,
            checkpoints_begun: 0,
            now_ns: 1,
            nonce: seed << 32,
            check_reads: true,
            keeps_all: false,
            made_at,
        })
    }

    /// One step of a run, drawn by the dice.
    pub fn step(&mut self) {
        match self.dice.below(16) {
            0..=5 => self.append_some(),
            6..=8 => self.commit(),
            9..=12 => {
                self.end_one();
            }
            13 => self.tick(),
            14 => self.checkpoint_step(),
            _ if self.check_reads && self.dice.chance(4) => self.check_one_stream(),
            _ => self.commit(),
        }
    }

    pub fn commit(&mut self) {
        self.wal.commit(&mut self.disk);
    }

    pub fn tick(&mut self) {
        self.now_ns += 1_000_000 * (1 + self.dice.below(30));
        self.wal.tick(&mut self.disk, self.now_ns);
    }

    /// Lets one disk action end and tells the log; false when none is under way.
    pub fn end_one(&mut self) -> bool {
        let Some(completion) = self.disk.end_one() else { return false };
        // Whatever the log says durable now rests on what had ended at this point.
        let point = self.disk.points() - 1;
        let before = self.wal.durable_lsn();
        self.wal.complete(&mut self.disk, completion);
        let durable = self.wal.durable_lsn();
        assert!(before <= durable && durable <= self.wal.appended_lsn());
        if durable > before {
            self.promised.push((point, durable.0));
        }
        self.reveal();
        true
    }

    /// Commits, and lets everything end.
    pub fn settle(&mut self) {
        self.commit();
        while self.end_one() {
            self.commit();
        }
        let failed = self.wal.failure().is_some();
        assert!(failed || self.wal.durable_lsn() == self.wal.appended_lsn());
    }

    /// Stops the log as a host does that is asked to.
    pub fn shut_down(&mut self) {
        self.wal.shutdown(&mut self.disk);
        while !self.wal.is_shut_down() {
            assert!(self.end_one(), "the log stops once its actions have ended");
        }
    }

    /// What must and what may be there after a crash at `point`.
    pub fn bounds(&self, point: usize) -> (u64, u64) {
        let at = |list: &[(usize, u64)]| {
            list.iter().filter(|(from, _)| *from <= point).map(|(_, lsn)| *lsn).max().unwrap_or(0)
        };
        (at(&self.promised), at(&self.appended))
    }

    pub fn append_some(&mut self) {
        for _ in 0..=self.dice.below(4) {
            let entry = self.draw_entry();
            if self.wal.room(entry.payload.len(), entry.space_use()) != Room::Yes {
                return;
            }
            self.append(entry);
        }
    }

    pub fn append(&mut self, mut entry: Entry) {
        let lsn = self.hand_over(&entry);
        entry.digest = fold::digest_with(&self.streams, lsn.0, &entry);
        self.truth.push(entry);
        assert_eq!(lsn, Lsn(self.truth.len() as u64), "numbers follow each other");
        fold::apply(&mut self.streams, lsn.0, &self.truth[lsn.0 as usize - 1]);
        self.appended.push((self.disk.points() - 1, lsn.0));
    }

    /// Each of the ways in for some entries in a row. Not drawn, and the same on the disk.
    fn hand_over(&mut self, entry: &Entry) -> Lsn {
        const MORE_BYTES: usize = 5;
        let Entry { head, payload, .. } = entry;
        let (first, second) = payload.split_at(payload.len() / 3);
        match (self.truth.len() / WAY_ENTRIES % 3, payload.split_first_chunk()) {
            (0, Some((start, rest))) if rest.len() >= MORE_BYTES => {
                let (start, crc) = (u128::from_le_bytes(*start), crc32c(&rest[MORE_BYTES..]));
                self.wal.append_joined::<MORE_BYTES>(head, start, rest, crc)
            }
            (1, _) => {
                let crc = crc32c(second);
                self.wal.append_covered(head, &[first, second], second.len(), crc)
            }
            _ => self.wal.append(head, &[first, second]),
        }
    }

    /// Drops what is appended and not handed to the disk, above `lsn`. Not while a checkpoint is made:
    /// it takes streams as they are.
    pub fn truncate(&mut self, lsn: u64) {
        assert!(self.checkpoint.is_none() && !self.wal.checkpoint_under_way());
        let kept = self.wal.truncate(Lsn(lsn)).0;
        assert!(kept >= self.wal.durable_lsn().0 && kept <= self.truth.len() as u64);
        assert_eq!(self.wal.appended_lsn(), Lsn(kept));
        self.truth.truncate(kept as usize);
        self.streams = fold_truth(&self.truth);
        // None of the others has been on the disk.
        self.appended.iter_mut().for_each(|(_, last)| *last = kept.min(*last));
    }

    fn draw_entry(&mut self) -> Entry {
        let made = self.streams.len() as u64;
        let alive: Vec<u32> =
            self.streams.iter().filter(|(_, s)| s.alive).map(|(number, _)| *number).collect();
        if alive.is_empty() || (made < STREAMS_MAX && self.dice.chance(10)) {
            let number = self.streams.keys().last().map_or(1, |last| last + 1);
            return self.entry(KIND_STREAM_MADE, number, fold::label(number));
        }
        let number = alive[self.dice.below(alive.len() as u64) as usize];
        let stream = &self.streams[&number];
        match self.dice.below(40) {
            0 if !self.keeps_all => {
                let length = stream.next_offset - stream.log_start;
                let start = stream.log_start + self.dice.below(length + 1);
                self.entry(KIND_TRIMMED, number, start.to_le_bytes().to_vec())
            }
            1 if made > 2 && !self.keeps_all && self.dice.chance(4) => {
                self.entry(KIND_REMOVED, number, Vec::new())
            }
            2 => self.entry(KIND_NOTE, 0, Vec::new()),
            _ => self.batch(number),
        }
    }

    fn batch(&mut self, stream: u32) -> Entry {
        // Mostly small; some past a sector, a few past a whole group.
        let filler = match self.dice.below(12) {
            0..=7 => self.dice.below(300),
            8..=10 => self.dice.below(3_000),
            _ => self.dice.below(14_000),
        };
        let records = 1 + self.dice.below(3) as u32;
        self.sized_batch(stream, records, filler as usize)
    }

    pub fn sized_batch(&mut self, stream: u32, records: u32, filler: usize) -> Entry {
        let base_offset = self.streams[&stream].next_offset;
        self.nonce += 1;
        let mut payload = Vec::with_capacity(32 + filler);
        payload.extend_from_slice(&(32 + filler as u32).to_le_bytes());
        payload.extend_from_slice(&stream.to_le_bytes());
        payload.extend_from_slice(&base_offset.to_le_bytes());
        payload.extend_from_slice(&u64::from(records).to_le_bytes());
        payload.extend_from_slice(&self.nonce.to_le_bytes());
        let mut fill = Dice::new(self.nonce);
        payload.extend((0..filler).map(|_| fill.roll() as u8));
        let mut entry = self.entry(KIND_BATCH, stream, payload);
        entry.head.base_offset = base_offset;
        entry.head.records = records;
        entry
    }

    pub fn entry(&self, kind: u8, stream: u32, payload: Vec<u8>) -> Entry {
        let last = self.truth.last().map_or(1_000, |entry| entry.head.time_ms);
        // Some share a time; not drawn, so that a fixed run has fixed entries.
        let time_ms = last + (self.truth.len() % 7 % 3) as i64;
        let frees = matches!(kind, KIND_TRIMMED | KIND_REMOVED);
        let flags = if frees { FREES_SPACE } else { 0 };
        let stream = StreamId(stream);
        let head = EntryHead { kind, flags, stream, base_offset: 0, records: 0, time_ms };
        Entry { head, digest: (0, fold::digest(0, &payload)), payload: payload.into() }
    }

    /// Nothing of an entry is seen outside before it is durable.
    fn reveal(&mut self) {
        while (self.revealed as u64) < self.wal.durable_lsn().0 {
            let entry = &self.truth[self.revealed];
            let stream = entry.head.stream;
            match entry.head.kind {
                KIND_STREAM_MADE => self.wal.label(stream, &entry.payload),
                KIND_TRIMMED => self.wal.set_log_start(stream, fold::offset_in(&entry.payload)),
                KIND_REMOVED => self.wal.remove_stream(stream),
                _ => {}
            }
            self.revealed += 1;
        }
    }

    /// A slice of a checkpoint's work: each stream is taken as it is at that moment.
    pub fn checkpoint_step(&mut self) {
        match self.checkpoint.take() {
            None if self.wal.checkpoint_under_way() => {}
            None => {
                if self.wal.checkpoint_due() || self.dice.chance(4) {
                    let start = self.wal.checkpoint_begin(&mut self.disk);
                    assert!(start <= self.wal.appended_lsn());
                    self.checkpoints_begun += 1;
                    self.checkpoint = Some(self.streams.keys().copied().collect());
                }
            }
            Some(rest) if !self.wal.checkpoint_room() => self.checkpoint = Some(rest),
            Some(mut rest) => match rest.pop() {
                Some(number) => {
                    let piece =
                        fold::piece(number, self.truth.len() as u64, &self.streams[&number]);
                    self.wal.checkpoint_push(&mut self.disk, &piece);
                    self.checkpoint = Some(rest);
                }
                None => self.wal.checkpoint_finish(&mut self.disk),
            },
        }
    }

    pub fn checkpoint_whole(&mut self) {
        while self.checkpoint.is_some() || self.wal.checkpoint_under_way() {
            self.checkpoint_step();
            self.commit();
            self.end_one();
        }
        let begun = self.checkpoints_begun;
        while self.checkpoints_begun == begun || self.checkpoint.is_some() {
            self.checkpoint_step();
            self.end_one();
        }
        self.settle();
        assert!(!self.wal.checkpoint_under_way(), "a checkpoint ends when all is durable");
    }
}
