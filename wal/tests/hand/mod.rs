//! A log written by hand: blocks, footers and manifests from the format's definitions, without the
//! writer that the broker uses.

use std::path::Path;

use corelane_wal::EntryHead;
use corelane_wal::crc::crc32c;
use corelane_wal::device::sim::Image;
use corelane_wal::format::block::{BlockHeader, HEADER_BYTES, padded_bytes};
use corelane_wal::format::checkpoint::{CheckpointHeader, CheckpointTrailer};
use corelane_wal::format::entry::EntryRecord;
use corelane_wal::format::footer::{
    FooterBody, FooterTrailer, IndexEntry, StreamRecord, TRAILER_BYTES,
};
use corelane_wal::format::manifest::{CheckpointRecord, Manifest, SegmentRecord, SegmentState};
use corelane_wal::format::names;
use corelane_wal::format::segment::SegmentHeader;
use model::StreamId;

pub const SECRET: [u8; 16] = *b"written by hand!";
pub const UNIT: usize = 4096;
pub const SEGMENT_BYTES: u64 = 64 * 1024;
const SHARD: u16 = 0;

#[derive(Clone)]
pub struct HandEntry {
    head: EntryHead,
    payload: Vec<u8>,
}

pub fn batch(stream: u32, base_offset: u64, records: u32, payload: &[u8]) -> HandEntry {
    let stream = StreamId(stream);
    let head = EntryHead { kind: 2, flags: 0, stream, base_offset, records, time_ms: 77 };
    HandEntry { head, payload: payload.to_vec() }
}

pub struct HandLog {
    image: Image,
    manifest: Manifest,
    sequence: u64,
    previous_crc: u32,
    next_lsn: u64,
    at: u64,
    last_block: u64,
    /// Blocks of the segment being written.
    blocks: Vec<(u64, Vec<HandEntry>)>,
}

impl HandLog {
    pub fn new() -> Self {
        let manifest = Manifest {
            shard: SHARD,
            number: 0,
            incarnation: 1,
            unit: UNIT as u32,
            durable_lsn: 0,
            next_segment: 1,
            window_bytes: 1 << 20,
            checkpoints: Vec::new(),
            segments: Vec::new(),
        };
        Self {
            image: Image::default(),
            manifest,
            sequence: 1,
            previous_crc: 0,
            next_lsn: 1,
            at: 0,
            last_block: 0,
            blocks: Vec::new(),
        }
    }

    /// The log with its manifest.
    pub fn image(&self) -> Image {
        let mut image = self.image.clone();
        if self.manifest.segments.is_empty() {
            return image;
        }
        let mut bytes = vec![0; self.manifest.encoded_bytes().next_multiple_of(UNIT)];
        self.manifest.encode(&SECRET, &mut bytes);
        // Changes made by hand are already in a slot of the image.
        if image.file(names::MANIFESTS[0]).is_none() && !self.manifest_is_gone() {
            image.write(names::MANIFESTS[0], 0, &bytes);
        }
        image
    }

    fn manifest_is_gone(&self) -> bool {
        self.manifest.number != 0
    }

    pub fn begin_segment(&mut self, number: u64, generation: u32) {
        self.segment_file(number, generation);
        self.manifest.segments.push(SegmentRecord {
            number,
            generation,
            state: SegmentState::Active,
            bytes: SEGMENT_BYTES,
            first_lsn: self.next_lsn,
            last_lsn: 0,
            first_sequence: self.sequence,
            previous_crc: self.previous_crc,
            data_end: 0,
            prepared_bytes: 0,
            from_reserve: false,
            footerless: false,
        });
        self.at = UNIT as u64;
        self.blocks.clear();
    }

    pub fn pool(&mut self, number: u64) {
        self.segment_file(number, 0);
        let last = *self.manifest.segments.last().unwrap();
        self.manifest.segments.push(SegmentRecord {
            number,
            generation: 0,
            state: SegmentState::Pool,
            first_lsn: 0,
            first_sequence: 0,
            previous_crc: 0,
            ..last
        });
    }

    pub fn unnamed(&mut self, number: u64, with_block: bool) {
        self.segment_file(number, 0);
        if with_block {
            let bytes = self.encode_block(number, 0, UNIT as u64, &[]).0;
            self.image.write(&names::segment(number), UNIT as u64, &bytes);
        }
    }

    fn segment_file(&mut self, number: u64, generation: u32) {
        let name = names::segment(number);
        self.image.write(&name, SEGMENT_BYTES - 1, &[0]);
        let unit = UNIT as u32;
        let header = SegmentHeader { shard: SHARD, number, generation, unit, bytes: SEGMENT_BYTES };
        let mut bytes = [0; 64];
        header.encode(&SECRET, &mut bytes);
        self.image.write(&name, 0, &bytes);
    }

    pub fn block(&mut self, entries: &[HandEntry]) {
        let record =
            *self.manifest.segments.iter().rfind(|r| r.state == SegmentState::Active).unwrap();
        let (bytes, crc) = self.encode_block(record.number, record.generation, self.at, entries);
        self.image.write(&names::segment(record.number), self.at, &bytes);
        self.blocks.push((self.at, entries.to_vec()));
        self.last_block = self.at;
        self.at += bytes.len() as u64;
        self.sequence += 1;
        self.previous_crc = crc;
        self.next_lsn += entries.len() as u64;
    }

    pub fn witness(&mut self) {
        self.block(&[]);
    }

    fn encode_block(
        &self,
        segment: u64,
        generation: u32,
        at: u64,
        entries: &[HandEntry],
    ) -> (Vec<u8>, u32) {
        let payload_bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        let length = padded_bytes(payload_bytes, entries.len(), UNIT);
        let mut bytes = vec![0; HEADER_BYTES];
        entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.payload));
        let table_at = bytes.len();
        for entry in entries {
            let record = EntryRecord {
                head: entry.head,
                payload_bytes: entry.payload.len() as u32,
                payload_crc: crc32c(&entry.payload),
            };
            bytes.extend_from_slice(&record.to_bytes());
        }
        let header = BlockHeader {
            shard: SHARD,
            generation,
            segment,
            incarnation: self.manifest.incarnation,
            entries: entries.len() as u32,
            sequence: self.sequence,
            term: 0,
            index: self.sequence,
            first_lsn: self.next_lsn,
            durable_lsn: self.next_lsn - 1,
            payload_bytes: payload_bytes as u32,
            block_bytes: length as u32,
            body_crc: crc32c(&bytes[HEADER_BYTES..]),
            table_crc: crc32c(&bytes[table_at..]),
            previous_crc: self.previous_crc,
        };
        let crc = header.encode(&SECRET, at, &mut bytes);
        bytes.resize(length, 0);
        (bytes, crc)
    }

    pub fn seal(&mut self) {
        self.seal_with(|_| {});
    }

    pub fn seal_with(&mut self, alter: impl FnOnce(&mut FooterBody)) {
        let mut body = self.footer_body();
        alter(&mut body);
        let record = self.manifest.segments.last_mut().unwrap();
        record.state = SegmentState::Sealed;
        record.last_lsn = self.next_lsn - 1;
        record.data_end = self.at as u32;
        let mut bytes = vec![0; body.encoded_bytes()];
        let body_crc = body.encode(&mut bytes);
        let trailer = FooterTrailer {
            shard: SHARD,
            number: record.number,
            generation: record.generation,
            body_offset: self.at as u32,
            body_bytes: bytes.len() as u32,
            streams: body.streams.len() as u32,
            index_entries: body.index.len() as u32,
            label_bytes: body.labels.len() as u32,
            body_crc,
            data_end: self.at as u32,
            first_lsn: record.first_lsn,
            last_lsn: record.last_lsn,
            last_sequence: self.sequence - 1,
            last_crc: self.previous_crc,
        };
        let mut last = [0; TRAILER_BYTES];
        trailer.encode(&SECRET, &mut last);
        let name = names::segment(record.number);
        self.image.write(&name, self.at, &bytes);
        self.image.write(&name, SEGMENT_BYTES - TRAILER_BYTES as u64, &last);
    }

    fn footer_body(&self) -> FooterBody {
        let mut body = FooterBody::default();
        let mut streams: Vec<StreamId> = self
            .blocks
            .iter()
            .flat_map(|(_, entries)| entries.iter().map(|e| e.head.stream))
            .collect();
        streams.sort();
        streams.dedup();
        for stream in streams {
            let mine: Vec<(u64, &HandEntry)> = self
                .blocks
                .iter()
                .flat_map(|(at, entries)| entries.iter().map(move |entry| (*at, entry)))
                .filter(|(_, entry)| entry.head.stream == stream)
                .collect();
            let (first, last) = (&mine[0], &mine[mine.len() - 1]);
            body.streams.push(StreamRecord {
                stream,
                index_start: body.index.len() as u32,
                index_entries: 1,
                label_start: 0,
                label_bytes: 0,
                batches: mine.len() as u32,
                first_offset: first.1.head.base_offset,
                last_offset: last.1.head.base_offset + u64::from(last.1.head.records) - 1,
                bytes: mine.iter().map(|(_, entry)| entry.payload.len() as u64).sum(),
                max_time_ms: 77,
            });
            body.index.push(IndexEntry {
                offset: first.1.head.base_offset,
                time_before_ms: i64::MIN,
                block: first.0 as u32,
                block_bytes: UNIT as u32,
            });
        }
        body
    }

    pub fn checkpoint(&mut self, start: u64, end: u64, pieces: &[&[u8]]) {
        let mut body = Vec::new();
        for piece in pieces {
            body.extend_from_slice(&(piece.len() as u32).to_le_bytes());
            body.extend_from_slice(piece);
        }
        let trailer = CheckpointTrailer {
            shard: SHARD,
            start,
            end,
            body_bytes: body.len() as u64,
            pieces: pieces.len() as u64,
            body_crc: crc32c(&body),
        };
        body.resize(body.len().next_multiple_of(UNIT), 0);
        let mut file = vec![0; UNIT];
        CheckpointHeader { shard: SHARD, start }.encode(&SECRET, &mut file);
        file.extend_from_slice(&body);
        let trailer_at = file.len();
        file.resize(trailer_at + UNIT, 0);
        trailer.encode(&SECRET, &mut file[trailer_at..]);
        self.image.write(&names::checkpoint(end), 0, &file);
        self.manifest.checkpoints.insert(0, CheckpointRecord { start, end });
    }

    /// Changes one byte of a file.
    pub fn change(&mut self, file: &str, offset: u64) {
        self.image = self.image();
        self.image.flip(file, offset, 6);
    }

    pub fn remove(&mut self, file: &str) {
        self.image = self.image();
        self.image.remove(file);
        if file == names::MANIFESTS[0] {
            self.manifest.number = 2;
        }
    }

    pub fn last_block(&self) -> u64 {
        self.last_block
    }

    /// The next block leaves room for one that is lost.
    pub fn lose_block(&mut self) {
        self.at += UNIT as u64;
        self.sequence += 1;
    }

    pub fn skip_sequence(&mut self) {
        self.sequence += 1;
    }

    pub fn durable_in_manifest(&mut self, lsn: u64) {
        self.manifest.durable_lsn = lsn;
    }
}

/// Writes an image's files into a directory.
pub fn write_to(image: &Image, directory: &Path) {
    for (name, _) in image.names() {
        let bytes = image.file(name).expect("a name has a file");
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}
