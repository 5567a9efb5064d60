//! The host's side of reading: carries out effects on the committed log, and checks that each
//! reader gets every batch once, in order, and nothing that is not committed.

use corelane_shards::{Effect, ReadVerdict, ReaderId};
use model::{ConsumerName, ErrorCode, Offset, StartPosition};

use super::plain::{Batch, PlainPartition};
use super::world::{World, find};

#[derive(Clone, Debug)]
pub enum Wish {
    Subscription { credit: i64 },
    Fetch { min_bytes: u64, max_bytes: u64, deadline_ms: i64 },
}

pub struct SimReader {
    pub stream: u32,
    pub position: Offset,
    pub wish: Wish,
    pub reading: bool,
}

impl World {
    pub fn subscribe(&mut self) {
        let handle = self.some_handle();
        let consumer = ConsumerName::parse(&format!("c{}", self.random.below(3))).unwrap();
        let known = find(&self.shown, handle);
        let (first, next) = known.map_or((0, 0), |p| (p.first, p.next()));
        let (position, expected) = match self.random.below(6) {
            0 => (StartPosition::First, first),
            1 => (StartPosition::Last, known.map_or(0, |p| p.last()).max(first)),
            2 => (StartPosition::Next, next),
            3 => {
                let committed = known.and_then(|p| p.consumers.get(consumer.as_str()));
                let offset = committed.copied().unwrap_or(first).max(first);
                (StartPosition::Committed(consumer), offset)
            }
            _ => {
                let offset = self.random.between(first.saturating_sub(2), next + 2);
                (StartPosition::Offset(offset), offset)
            }
        };
        let refusal = match known {
            None => Some(ErrorCode::UnknownPartition),
            Some(_) if (first..=next).contains(&expected) => None,
            Some(_) => Some(ErrorCode::OffsetOutOfRange),
        };
        let id = self.reader_next;
        self.reader_next += 1;
        let got = self.engine.subscribe(ReaderId(id), handle, &position);
        if self.refused(&got, refusal) {
            return;
        }
        let expected = find(&self.shown, handle).map_or(expected, |p| p.behind(expected));
        assert_eq!(got.unwrap().offset, expected);
        let again = self.engine.subscribe(ReaderId(id), handle, &position);
        assert_eq!(again.unwrap_err().code, ErrorCode::UnknownSubscription);
        let wish = Wish::Subscription { credit: 0 };
        let stream = handle.stream.0;
        self.readers.insert(id, SimReader { stream, position: expected, wish, reading: false });
    }

    pub fn add_credit(&mut self) {
        let ids: Vec<u64> = self.readers.keys().copied().collect();
        let id = self.random.pick(&ids).unwrap_or(0);
        let bytes = self.random.between(1, 900);
        self.engine.add_credit(ReaderId(id), bytes);
        if let Some(SimReader { wish: Wish::Subscription { credit }, .. }) =
            self.readers.get_mut(&id)
        {
            *credit += bytes as i64;
        }
    }

    pub fn unsubscribe(&mut self) {
        let ids: Vec<u64> = self.readers.keys().copied().collect();
        let id = self.random.pick(&ids).unwrap_or(0);
        // The engine may have ended it already, and not been asked yet.
        let ended =
            self.readers.get(&id).is_none_or(|r| !self.shown.partitions.contains_key(&r.stream));
        assert_eq!(self.engine.unsubscribe(ReaderId(id)), !ended);
        if !ended {
            self.readers.remove(&id);
        }
    }

    pub fn fetch(&mut self) {
        let handle = self.some_handle();
        let known = find(&self.shown, handle);
        let (first, next) = known.map_or((0, 0), |p| (p.first, p.next()));
        let near = next.saturating_sub(self.random.below(8));
        let offset = if self.random.percent(90) { near } else { next + self.random.below(3) };
        let refusal = match known {
            None => Some(ErrorCode::UnknownPartition),
            Some(_) if (first..=next).contains(&offset) => None,
            Some(_) => Some(ErrorCode::OffsetOutOfRange),
        };
        let min_bytes = self.random.below(900) as u32;
        let max_bytes = self.random.between(1, 1_500) as u32;
        let deadline_ms = self.clock_ms + self.random.below(400) as i64 - 20;
        let id = self.reader_next;
        self.reader_next += 1;
        let reader = ReaderId(id);
        let got = self.engine.fetch(reader, handle, offset, min_bytes, max_bytes, deadline_ms);
        if self.refused(&got, refusal) {
            return;
        }
        let (min_bytes, max_bytes) = (u64::from(min_bytes.min(max_bytes)), u64::from(max_bytes));
        let wish = Wish::Fetch { min_bytes, max_bytes, deadline_ms };
        let stream = handle.stream.0;
        self.readers.insert(id, SimReader { stream, position: offset, wish, reading: false });
    }

    /// Jumps ahead, often right to the next deadline.
    pub fn tick(&mut self) {
        let deadline_ms = self.engine.next_deadline_ms().unwrap_or(0);
        self.now_ms = self.now_ms.max(deadline_ms).max(self.now_ms + self.random.below(30) as i64);
        self.tell_time();
    }

    pub fn tell_time(&mut self) {
        self.clock_ms = self.clock_ms.max(self.now_ms);
        self.engine.tick(self.now_ms);
    }

    pub fn drain_some_effects(&mut self) {
        for _ in 0..self.random.between(1, 4) {
            let Some(effect) = self.engine.next_effect() else { return };
            self.carry_out(effect);
        }
    }

    /// Until there is nothing left to do; then nobody may be waiting for what is there.
    pub fn drain_effects(&mut self) {
        loop {
            while let Some(effect) = self.engine.next_effect() {
                self.carry_out(effect);
            }
            if self.pending.is_empty() || self.random.percent(50) {
                break;
            }
            let at = self.random.below(self.pending.len() as u64) as usize;
            let read = self.pending.swap_remove(at);
            self.read(read);
        }
        self.check_told();
        for (id, reader) in &self.readers {
            if !reader.reading {
                self.check_waits_rightly(*id, reader);
            }
        }
    }

    fn check_waits_rightly(&self, id: u64, reader: &SimReader) {
        let partition = &self.shown.partitions[&reader.stream];
        match reader.wish {
            Wish::Subscription { credit } => {
                let position = partition.behind(reader.position.max(partition.first));
                let idle = credit <= 0 || position == partition.next();
                assert!(idle, "subscription {id} has credit and something to read, and waits");
            }
            Wish::Fetch { min_bytes, deadline_ms, .. } => {
                assert!(deadline_ms > self.clock_ms, "fetch {id} is late");
                let there: u64 = partition.from(reader.position).map(|batch| batch.bytes).sum();
                let trimmed = reader.position < partition.first;
                assert!(there < min_bytes || trimmed, "fetch {id} waits for what is there");
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        self.note(&effect);
        self.effects += 1;
        match effect {
            Effect::Read { reader, .. } => {
                self.check_read(&effect);
                if self.random.percent(35) {
                    self.engine.read_blocked(reader);
                    self.pending.push(effect);
                } else {
                    self.read(effect);
                }
            }
            Effect::FetchExpired { reader, stream, next_offset } => {
                let fetch = self.readers.remove(&reader.0).unwrap();
                let Wish::Fetch { min_bytes, deadline_ms, .. } = fetch.wish else {
                    panic!("a subscription does not expire")
                };
                assert!(deadline_ms <= self.clock_ms || min_bytes == 0);
                let partition = &self.shown.partitions[&fetch.stream];
                let position = partition.behind(fetch.position);
                assert_eq!((stream.0, next_offset), (fetch.stream, position));
                assert_eq!(next_offset, partition.next());
            }
            Effect::Ended { reader, rejection } => {
                let ended = self.readers.remove(&reader.0).unwrap();
                match self.shown.partitions.get(&ended.stream) {
                    None => assert_eq!(rejection.code, ErrorCode::UnknownPartition),
                    Some(partition) => {
                        assert_eq!(rejection.code, ErrorCode::OffsetOutOfRange);
                        assert!(matches!(ended.wish, Wish::Fetch { .. }));
                        assert!(ended.position < partition.first);
                    }
                }
            }
            Effect::LogStart { stream, first_offset } => {
                let before = self.starts_told.insert(stream.0, first_offset);
                assert!(before.is_none_or(|before| before < first_offset));
            }
            Effect::PartitionRemoved { stream } => {
                assert!(self.removals_told.insert(stream.0), "told twice");
            }
            Effect::TopicsChanged => self.topics_due = false,
        }
    }

    /// A read is asked for once at a time, where its reader stands, and up to the committed end.
    fn check_read(&mut self, effect: &Effect) {
        let Effect::Read { reader, stream, offset, max_bytes, end_offset, .. } = effect else {
            return;
        };
        let partition = &self.shown.partitions[&stream.0];
        let found = self.readers.get_mut(&reader.0).unwrap();
        assert!(!found.reading, "two reads at once for reader {}", reader.0);
        found.reading = true;
        assert_eq!((stream.0, *end_offset), (found.stream, partition.next()));
        assert!(offset < end_offset);
        match &found.wish {
            Wish::Subscription { credit } => {
                assert!(*credit > 0);
                assert_eq!(i64::from(*max_bytes), (*credit).min(600));
                found.position = found.position.max(partition.first);
            }
            Wish::Fetch { max_bytes: most, .. } => assert_eq!(u64::from(*max_bytes), *most),
        }
        found.position = partition.behind(found.position);
        assert_eq!(*offset, found.position);
    }

    /// Reads as the log would, at a moment of its own choosing.
    fn read(&mut self, effect: Effect) {
        let Effect::Read { reader, stream, offset, max_bytes, end_offset, .. } = effect else {
            return;
        };
        let there = self.readers.contains_key(&reader.0);
        let Some(partition) = self.shown.partitions.get(&stream.0).filter(|_| there) else {
            assert_eq!(self.engine.read_done(reader, offset, 0), ReadVerdict::Gone);
            return;
        };
        if offset < partition.first {
            return self.read_trimmed(reader, partition.first);
        }
        let batches = whole_batches(partition, offset, end_offset, u64::from(max_bytes));
        let bytes: u64 = batches.iter().map(|batch| batch.bytes).sum();
        let next = partition.behind(batches.last().unwrap().next());
        assert!(batches[0].base <= offset && offset < batches[0].next(), "a batch was left out");
        assert!(batches.iter().all(|batch| batch.lsn <= self.shown.entries));
        let verdict = self.engine.read_done(reader, next, bytes);
        self.note(&verdict);
        let found = self.readers.get_mut(&reader.0).unwrap();
        found.reading = false;
        match &mut found.wish {
            Wish::Subscription { credit } => {
                assert_eq!(verdict, ReadVerdict::Reply);
                *credit -= bytes as i64;
                found.position = next;
                self.delivered += batches.len() as u64;
            }
            Wish::Fetch { min_bytes, deadline_ms, .. } => {
                let late = *deadline_ms <= self.clock_ms || *min_bytes == 0;
                let answers = late || bytes >= *min_bytes || next < end_offset;
                assert_eq!(verdict == ReadVerdict::Reply, answers);
                assert_eq!(verdict == ReadVerdict::Wait, !answers);
                if answers {
                    self.readers.remove(&reader.0);
                    self.delivered += batches.len() as u64;
                }
            }
        }
    }

    fn read_trimmed(&mut self, reader: ReaderId, first: Offset) {
        let got = self.engine.read_trimmed(reader, first);
        let found = self.readers.get_mut(&reader.0).unwrap();
        found.reading = false;
        if matches!(found.wish, Wish::Fetch { .. }) {
            assert_eq!(got.unwrap().code, ErrorCode::OffsetOutOfRange);
            self.readers.remove(&reader.0);
        } else {
            assert_eq!(got, None);
            found.position = found.position.max(first);
        }
    }
}

/// At least one batch, and no more than fit.
fn whole_batches(
    partition: &PlainPartition,
    offset: Offset,
    end_offset: Offset,
    max_bytes: u64,
) -> Vec<Batch> {
    let mut taken: Vec<Batch> = Vec::new();
    let mut bytes = 0;
    for batch in partition.from(offset).filter(|batch| batch.base < end_offset) {
        bytes += batch.bytes;
        if !taken.is_empty() && bytes > max_bytes {
            break;
        }
        taken.push(batch.clone());
    }
    taken
}
