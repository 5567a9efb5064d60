//! Handing groups to the disk, in order, as many at once as the settings allow.

use bytes::Bytes;

use super::{Group, InFlight, WriteEnd};
use crate::buffer::AlignedBuffer;
use crate::crc::{JOIN_BYTES_MIN, Joiner, crc32c};
use crate::device::{Action, LogDevice};
use crate::format::block::{Block, BlockHeader, HEADER_BYTES};
use crate::format::entry::{EntryRecord, RECORD_BYTES};
use crate::io::Purpose;
use crate::wal::Wal;

impl Wal {
    /// Asks that everything appended so far goes to the disk: at once if fewer than
    /// `writes_in_flight` blocks are under way, else as soon as one of them has ended. Blocks that
    /// need leave wait for it.
    pub fn commit<D: LogDevice>(&mut self, device: &mut D) {
        self.want_commit();
        self.pump(device);
    }

    /// As [`Self::commit`], at the next [`Self::write`].
    pub fn want_commit(&mut self) {
        if !self.writer.open.is_empty() {
            self.writer.commit_wanted = true;
        }
    }

    /// Hands blocks that are full, or that a commit was wanted of, to the disk. The others go on
    /// filling.
    pub fn write<D: LogDevice>(&mut self, device: &mut D) {
        self.pump(device);
    }

    /// Whether there are entries that no commit was wanted of.
    pub fn has_unwritten(&self) -> bool {
        !self.writer.open.is_empty() && !self.writer.commit_wanted
    }

    /// Hands over what is due.
    pub(crate) fn pump<D: LogDevice>(&mut self, device: &mut D) {
        self.segments.wanted = false;
        let active = self.segments.active;
        while self.failure.is_none()
            && self.writer.leave != Some(0)
            && self.writer.in_flight.len() < self.config.writes_in_flight as usize
        {
            if self.writer.closed.is_empty() {
                if !self.writer.commit_wanted {
                    break;
                }
                self.writer.close_group();
            }
            let Some(group) = self.writer.closed.pop_front() else { break };
            let padded = group.memory.len();
            if !self.place_block(padded, &group.table) {
                self.writer.closed.push_front(group);
                self.segments.wanted = true;
                self.start_job(device);
                break;
            }
            let (from, active) = (self.writer.position, self.segments.active.unwrap_or(0));
            if self.zeroing.touches(active, from, from + padded as u64) {
                self.writer.closed.push_front(group);
                break;
            }
            self.writer.closed_bytes -= padded as u64;
            if let Some(leave) = &mut self.writer.leave {
                *leave -= 1;
            }
            self.submit_block(device, group);
        }
        if self.segments.active != active {
            // The pool has given one away: the next is made now, not at the next tick.
            self.start_job(device);
        }
        self.write_manifest(device);
    }

    /// Writes a block without entries, which says how far the log is durable. False when there
    /// is no place for one now.
    pub(crate) fn submit_witness<D: LogDevice>(&mut self, device: &mut D) -> bool {
        if self.writer.has_waiting() || !self.place_block(self.unit, &[]) {
            return false;
        }
        let from = self.writer.position;
        let active = self.segments.active.unwrap_or(0);
        if self.zeroing.touches(active, from, from + self.unit as u64) {
            return false;
        }
        if self.writer.rest.len() < self.unit {
            self.writer.rest = AlignedBuffer::zeroed(0);
            self.writer.rest = self.chunks.take(self.unit, &mut self.tail);
        }
        let memory = self.writer.rest.split_to(self.unit);
        let first_lsn = self.writer.next_lsn;
        self.submit_block(device, Group { memory, table: Vec::new(), payload_bytes: 0, first_lsn });
        self.stats.witnesses += 1;
        self.write_manifest(device);
        true
    }

    /// Completes the block in its memory and hands it to the disk. It has its place.
    fn submit_block<D: LogDevice>(&mut self, device: &mut D, mut group: Group) {
        let Some(active) = self.segments.active_mut() else { return };
        let writer = &mut self.writer;
        assert_eq!(group.first_lsn, writer.submitted_lsn + 1, "a gap in the log");
        let (body_crc, table_crc) = fill(&mut group, &mut writer.joiner);
        let header = BlockHeader {
            shard: self.config.shard,
            generation: active.generation,
            segment: active.number,
            incarnation: self.manifest.incarnation,
            entries: group.table.len() as u32,
            sequence: writer.sequence,
            term: 0,
            index: writer.sequence,
            first_lsn: group.first_lsn,
            durable_lsn: writer.durable_lsn,
            payload_bytes: group.payload_bytes as u32,
            block_bytes: group.memory.len() as u32,
            body_crc,
            table_crc,
            previous_crc: writer.previous_crc,
        };
        let offset = writer.position;
        let header_crc = header.encode(&self.config.secret, offset, &mut group.memory);

        writer.previous_crc = header_crc;
        writer.sequence += 1;
        writer.submitted_lsn = header.last_lsn();
        writer.witnessed_lsn = header.durable_lsn;
        writer.position += u64::from(header.block_bytes);
        writer.idle_since_ns = None;
        active.last_lsn = header.last_lsn();
        active.last_sequence = header.sequence;
        active.last_crc = header_crc;
        active.data_end = writer.position;
        self.checkpoint.log_bytes_since += u64::from(header.block_bytes);
        self.stats.blocks += 1;
        if active.generation == 0 {
            self.stats.fresh_bytes_written += u64::from(header.block_bytes);
        } else {
            self.stats.recycled_bytes_written += u64::from(header.block_bytes);
        }

        let memory = group.memory.memory().clone();
        let bytes = Bytes::from(group.memory);
        let file = active.file;
        writer.in_flight.push_back(InFlight {
            sequence: header.sequence,
            segment: header.segment,
            offset,
            last_lsn: header.last_lsn(),
            since_ns: self.now_ns,
            end: WriteEnd::UnderWay,
        });
        let action = Action::Write { file, offset, data: bytes.clone() };
        self.io.submit(device, Purpose::Block { sequence: header.sequence }, action);

        self.add_to_index(&header, offset, &group.table);
        self.tail.push(offset, Block { header, header_crc, bytes }, &memory);
        self.writer.open.recycle(group.table);
    }

    fn add_to_index(&mut self, header: &BlockHeader, offset: u64, table: &[[u8; RECORD_BYTES]]) {
        let Some(index) = self.indexes.get_mut(header.segment) else { return };
        let records = table.iter().map(EntryRecord::decode);
        index.add_block(offset as u32, header.block_bytes, records, |stream, first_offset| {
            let stream = self.streams.entry(stream);
            stream.segments.push_back((header.segment, first_offset));
            stream.label.len()
        });
    }
}

/// Puts the table after the payloads and zeros after it; the checksums of body and table.
fn fill(group: &mut Group, joiner: &mut Joiner) -> (u32, u32) {
    let table_start = HEADER_BYTES + group.payload_bytes;
    let table_end = table_start + group.table.len() * RECORD_BYTES;
    group.memory[table_start..table_end].copy_from_slice(group.table.as_flattened());
    group.memory[table_end..].fill(0);
    let table_crc = crc32c(&group.memory[table_start..table_end]);
    let payloads = || {
        let records = group.table.iter().map(EntryRecord::decode);
        records.map(|record| (record.payload_crc, record.payload_bytes as usize))
    };
    let small = group.payload_bytes < group.table.len() * JOIN_BYTES_MIN;
    if small || !joiner.are_worth(payloads().map(|(_, bytes)| bytes)) {
        return (crc32c(&group.memory[HEADER_BYTES..table_end]), table_crc);
    }
    let payloads_crc =
        payloads().fold(crc32c(&[]), |sum, (crc, bytes)| joiner.join(sum, crc, bytes));
    // Tables have lengths of their own: the next payloads are to find theirs prepared.
    let table_bytes = group.table.len() * RECORD_BYTES;
    (Joiner::default().join(payloads_crc, table_crc, table_bytes), table_crc)
}
