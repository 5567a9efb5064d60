//! Closing a full segment: its footer, and its place in the manifest.

use bytes::Bytes;
use tracing::warn;

use super::{Effect, FooterPlace, State};
use crate::buffer::AlignedBuffer;
use crate::device::{Action, DeviceError, LogDevice};
use crate::format::footer::{FooterTrailer, TRAILER_BYTES};
use crate::io::Purpose;
use crate::wal::Wal;

impl Wal {
    /// Writes the footer of the oldest full segment when its blocks are durable.
    pub(crate) fn seal_full_segments<D: LogDevice>(&mut self, device: &mut D) {
        if self.failure.is_some() {
            return;
        }
        let durable = self.writer.durable_sequence;
        // One after the other: what a stream still holds is counted from the oldest on.
        let first = self.segments.in_use().find(|s| s.state == State::Sealing);
        let Some(first) = first.filter(|s| !s.footer_under_way && s.last_sequence <= durable)
        else {
            return;
        };
        let number = first.number;
        // Zeros still under way may land last: over the footer, or over what the file is used
        // for next. There is at most one such step, a full segment gets no other.
        if self.zeroing.touches(number, 0, first.bytes) {
            return;
        }
        let Some((place, data)) = self.build_footer(number) else {
            return self.seal(device, number);
        };
        let Some(segment) = self.segments.all.get_mut(&number) else { return };
        segment.footer_under_way = true;
        segment.footer = Some(place);
        let action = Action::Write { file: segment.file, offset: place.body_offset, data };
        self.io.submit(device, Purpose::Footer { segment: number }, action);
    }

    /// The footer's bytes; without labels when they do not fit, `None` when nothing does. A
    /// segment without a footer is read through when the log is opened.
    fn build_footer(&mut self, number: u64) -> Option<(FooterPlace, Bytes)> {
        let segment = self.segments.all.get(&number)?;
        let index = self.indexes.get(number)?;
        let room = (segment.bytes - segment.data_end) as usize;
        let padded = |bytes: usize| (bytes + TRAILER_BYTES).next_multiple_of(self.unit);
        let mut body = index.to_body(|stream| self.streams.label(stream));
        if padded(body.encoded_bytes()) > room {
            body = index.to_body(|_| &[]);
        }
        let bytes = padded(body.encoded_bytes());
        if bytes > room {
            return None;
        }
        let body_offset = segment.bytes - bytes as u64;
        let mut data = AlignedBuffer::zeroed(bytes);
        let body_crc = body.encode(&mut data);
        let trailer = FooterTrailer {
            shard: self.config.shard,
            number,
            generation: segment.generation,
            body_offset: body_offset as u32,
            body_bytes: body.encoded_bytes() as u32,
            streams: body.streams.len() as u32,
            index_entries: body.index.len() as u32,
            label_bytes: body.labels.len() as u32,
            body_crc,
            data_end: segment.data_end as u32,
            first_lsn: segment.first_lsn,
            last_lsn: segment.last_lsn,
            last_sequence: segment.last_sequence,
            last_crc: segment.last_crc,
        };
        trailer.encode(&self.config.secret, data.last_chunk_mut()?);
        Some((FooterPlace { body_offset, bytes: bytes as u64 }, Bytes::from(data)))
    }

    pub(crate) fn footer_written<D: LogDevice>(
        &mut self,
        device: &mut D,
        number: u64,
        result: Result<(), DeviceError>,
    ) {
        if let Some(segment) = self.segments.all.get_mut(&number) {
            segment.footer_under_way = false;
            if let Err(error) = result {
                warn!(shard = self.config.shard, number, %error, "a footer could not be written");
                segment.footer = None;
            }
        }
        self.seal(device, number);
    }

    /// Everything of the segment is durable: from now on it is only read.
    fn seal<D: LogDevice>(&mut self, device: &mut D, number: u64) {
        let uses = match self.indexes.get(number) {
            Some(index) => index.uses(),
            None => return,
        };
        let Some(segment) = self.segments.all.get_mut(&number) else { return };
        segment.state = State::Sealed;
        segment.uses = uses;
        segment.count_live(&mut self.streams);
        if segment.footer.is_some() {
            self.indexes.unpin(number);
        }
        self.segments.look_for_dropped = true;
        self.manifest.request(Effect::None);
        self.write_manifest(device);
    }
}
