//! Reading streams back and comparing them with the truth.

use corelane_wal::{Batches, Cursor, ReadStep, SeekStep, TimeSeek};
use model::StreamId;

use super::{Entry, Host};

impl Host {
    /// Reads one stream, drawn by the dice, from a drawn offset.
    pub fn check_one_stream(&mut self) {
        let alive: Vec<u32> =
            self.streams.iter().filter(|(_, s)| s.alive).map(|(number, _)| *number).collect();
        let Some(number) = alive.get(self.dice.below(alive.len().max(1) as u64) as usize) else {
            return;
        };
        let stream = &self.streams[number];
        let from = stream.log_start + self.dice.below(stream.next_offset - stream.log_start + 1);
        self.check_stream(*number, from);
    }

    /// Reads every stream from its start.
    pub fn check_streams(&mut self) {
        let all: Vec<(u32, u64)> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.alive)
            .map(|(number, stream)| (*number, stream.log_start))
            .collect();
        for (number, start) in all {
            self.check_stream(number, start);
            self.check_times(number, start);
        }
    }

    /// A search by time finds the first batch kept with that time or a later one.
    fn check_times(&mut self, number: u32, start: u64) {
        let holds = |entry: &&Entry| entry.head.stream.0 == number && entry.next_offset() > start;
        let kept: Vec<(u64, i64)> = self
            .truth
            .iter()
            .filter(|entry| entry.head.records > 0)
            .filter(holds)
            .map(|entry| (entry.head.base_offset, entry.head.time_ms))
            .collect();
        let last = self.truth.last().map_or(0, |entry| entry.head.time_ms);
        for time_ms in [0, 1_000 + self.dice.below(last.abs_diff(999)) as i64, last + 1] {
            let first = kept.iter().find(|(_, time)| *time >= time_ms);
            let expected = first.map_or(SeekStep::End, |(offset, _)| SeekStep::Found(*offset));
            let found = self.seek_time(number, time_ms);
            assert_eq!(found, expected, "stream {number}, time {time_ms}, start {start}");
        }
    }

    /// Reads every stream from its start; the first step that is not what it should be.
    pub fn read_everything(&mut self) -> Result<(), Box<ReadStep>> {
        for (number, stream) in self.streams.clone() {
            if stream.alive {
                self.compare_stream(number, stream.log_start)?;
            }
        }
        Ok(())
    }

    fn check_stream(&mut self, number: u32, from: u64) {
        if let Err(step) = self.compare_stream(number, from) {
            panic!("stream {number} from {from}: {step:?}");
        }
    }

    /// What is durable of the stream from `from` on comes back whole, in order and unchanged.
    fn compare_stream(&mut self, number: u32, from: u64) -> Result<(), Box<ReadStep>> {
        let durable = self.wal.durable_lsn().0 as usize;
        let holds = |entry: &&Entry| entry.head.stream.0 == number && entry.head.records > 0;
        let written: Vec<Entry> = self.truth[..durable].iter().filter(holds).cloned().collect();
        let end = written.last().map_or(0, |entry| entry.next_offset());
        let wanted: Vec<&Entry> =
            written.iter().filter(|entry| entry.next_offset() > from).collect();
        let max_bytes = 1 + self.dice.below(20_000) as usize;
        let read = self.read_stream(number, from, end, max_bytes)?;
        let mut bytes = Vec::new();
        let mut next = wanted.first().map_or(from, |entry| entry.head.base_offset);
        for batches in &read {
            let length: usize = batches.slices.iter().map(|slice| slice.len()).sum();
            assert_eq!(batches.bytes, length);
            assert_eq!(batches.first_offset, next);
            assert!(batches.bytes <= max_bytes || batches.entries == 1);
            assert!(batches.next_offset <= end);
            next = batches.next_offset;
            batches.slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        }
        let expected: Vec<u8> =
            wanted.iter().flat_map(|entry| entry.payload.iter().copied()).collect();
        assert_eq!(bytes.len(), expected.len(), "stream {number} from {from} to {end}");
        assert!(bytes == expected, "stream {number} from {from} to {end}");
        let entries: u32 = read.iter().map(|batches| batches.entries).sum();
        assert_eq!(entries as usize, wanted.len());
        Ok(())
    }

    /// All batches from `from` to `end`, or the step that ended the read otherwise.
    pub fn read_stream(
        &mut self,
        number: u32,
        from: u64,
        end: u64,
        max_bytes: usize,
    ) -> Result<Vec<Batches>, Box<ReadStep>> {
        let mut cursor = self.wal.cursor(StreamId(number), from);
        let mut read = Vec::new();
        let outcome = loop {
            match self.read_step(&mut cursor, max_bytes, end) {
                ReadStep::Batches(batches) => {
                    assert!(batches.entries > 0 && batches.next_offset > batches.first_offset);
                    assert_eq!(cursor.offset(), batches.next_offset);
                    read.push(batches);
                }
                ReadStep::End => break Ok(read),
                other => break Err(Box::new(other)),
            }
        };
        self.wal.close_cursor(cursor);
        outcome
    }

    fn read_step(&mut self, cursor: &mut Cursor, max_bytes: usize, end: u64) -> ReadStep {
        loop {
            match self.wal.read(&mut self.disk, cursor, max_bytes, end) {
                ReadStep::Pending => {
                    while self.wal.take_ready() != Some(cursor.id()) {
                        assert!(self.end_one(), "a pending read goes on some time");
                    }
                }
                step => return step,
            }
        }
    }

    /// The first batch of the stream with this time or a later one.
    fn seek_time(&mut self, number: u32, time_ms: i64) -> SeekStep {
        let mut seek = TimeSeek::new(StreamId(number), time_ms);
        loop {
            match self.wal.seek_time(&mut self.disk, &mut seek) {
                SeekStep::Pending => {
                    while self.wal.take_ready() != seek.id() {
                        assert!(self.end_one(), "a pending search goes on some time");
                    }
                }
                step => return step,
            }
        }
    }
}
