//! Commit, truncation, checkpoints and crashes.

use corelane_shards::Engine;
use corelane_shards::entry::kind;
use model::Lsn;

use super::log::Entry;
use super::plain::Plain;
use super::world::{Checkpoint, World, new_engine};

impl World {
    pub fn commit(&mut self) {
        let (committed, last) = (self.engine.committed_lsn().0, self.log.last().0);
        let upto = self.random.between(committed, last);
        // The log may know more entries than the engine has been told of.
        let said = if upto == last { upto + self.random.below(3) } else { upto };
        self.engine.commit(Lsn(said));
        for entry in &self.log.entries[committed as usize..upto as usize].to_vec() {
            self.shown.apply(entry);
            match entry.head.kind {
                kind::PARTITION_DELETED => {
                    self.removals_due.insert(entry.head.stream.0);
                }
                kind::TOPIC_CREATED..=kind::TOMBSTONE_CLEARED => self.topics_due = true,
                _ => {}
            }
        }
        self.settle_ids();
    }

    /// At rest, the host has been told of every committed log start, removal and topic.
    pub fn check_told(&self) {
        for (stream, partition) in &self.shown.partitions {
            let told = self.starts_told.get(stream).copied().unwrap_or(0);
            assert_eq!(told, partition.first, "the log start of stream {stream}");
        }
        assert_eq!(self.removals_told, self.removals_due);
        assert!(!self.topics_due);
    }

    pub fn truncate(&mut self) {
        let (committed, last) = (self.engine.committed_lsn().0, self.log.last().0);
        let lsn = Lsn(self.random.between(committed, last));
        self.engine.truncate(lsn);
        self.forget_after(lsn);
        self.ids_waiting.retain(|(_, needs)| *needs <= lsn);
        assert_eq!(self.engine.last_lsn(), lsn);
        self.compare_with_fresh_fold();
    }

    fn forget_after(&mut self, lsn: Lsn) {
        self.log.entries.truncate(lsn.0 as usize);
        self.decided = Plain::fold(&self.log.entries);
        self.checkpoint = None;
        self.checkpoints.retain(|checkpoint| checkpoint.end <= lsn);
    }

    /// Begins a checkpoint, or writes its next slice; the world goes on in between.
    pub fn checkpoint_slice(&mut self) {
        let last = self.engine.last_lsn();
        let begin = || (last, self.engine.snapshot(), Vec::new());
        let (start, mut cursor, mut bytes) = self.checkpoint.take().unwrap_or_else(begin);
        let objects_max = self.random.between(1, 4) as usize;
        if self.engine.snapshot_slice(&mut cursor, objects_max, &mut bytes) {
            self.checkpoint = Some((start, cursor, bytes));
            return;
        }
        self.checkpoints.push(Checkpoint { start, end: last, bytes });
        if self.checkpoints.len() > 3 {
            self.checkpoints.remove(0);
        }
    }

    /// The process dies. The log keeps all that is committed and perhaps some more; a new
    /// engine comes up from a checkpoint or from nothing.
    pub fn crash(&mut self) {
        let (committed, last) = (self.engine.committed_lsn(), self.log.last());
        let kept = Lsn(self.random.between(committed.0, last.0));
        self.ids_waiting.clear();
        self.forget_after(kept);
        self.engine = new_engine();
        let mut from = Lsn::ZERO;
        if let Some(checkpoint) = self.random.pick(&self.checkpoints) {
            let mut rest = &checkpoint.bytes[..];
            while !rest.is_empty() {
                let cut = self.random.between(1, rest.len() as u64) as usize;
                self.engine.load(&rest[..cut]).unwrap();
                rest = &rest[cut..];
            }
            self.engine.loaded(checkpoint.start, checkpoint.end).unwrap();
            from = checkpoint.start;
        }
        replay(&mut self.engine, self.log.up_to(kept), from);
        self.shown = self.decided.clone();
        self.readers.clear();
        self.pending.clear();
        assert_eq!(self.engine.next_effect(), None, "replay tells nobody");
        let first_of = |stream: &u32| self.engine.log_start(model::StreamId(*stream)).unwrap();
        let streams = self.shown.partitions.keys();
        self.starts_told = streams.map(|stream| (*stream, first_of(stream))).collect();
        let deleted = self.log.entries.iter().filter(|e| e.head.kind == kind::PARTITION_DELETED);
        self.removals_due = deleted.map(|entry| entry.head.stream.0).collect();
        self.removals_told = self.removals_due.clone();
        self.topics_due = false;
        self.tell_time();
        self.compare_with_fresh_fold();
        self.ask_everything();
    }

    /// The state, as bytes, is that of an engine that has only ever applied the log; and that
    /// engine answers as the plain model does.
    pub fn compare_with_fresh_fold(&mut self) {
        let mut fresh = new_engine();
        replay(&mut fresh, &self.log.entries, Lsn::ZERO);
        let bytes = canonical(&fresh);
        assert!(canonical(&self.engine) == bytes, "the state is not the fold of the log");
        super::answers::check(&fresh, &self.decided, &self.decided);
        let mut loaded = new_engine();
        loaded.load(&bytes).unwrap();
        loaded.loaded(self.log.last(), self.log.last()).unwrap();
        assert!(canonical(&loaded) == bytes, "a checkpoint does not read back");
        super::answers::check(&loaded, &self.decided, &self.decided);
    }
}

fn replay(engine: &mut Engine, entries: &[Entry], from: Lsn) {
    for (at, entry) in entries.iter().enumerate().skip(from.0 as usize) {
        engine.apply(Lsn(at as u64 + 1), &entry.head, &entry.payload).unwrap();
    }
}

/// The whole state as one checkpoint.
fn canonical(engine: &Engine) -> Vec<u8> {
    let (mut cursor, mut bytes) = (engine.snapshot(), Vec::new());
    while engine.snapshot_slice(&mut cursor, 10_000, &mut bytes) {}
    bytes
}
