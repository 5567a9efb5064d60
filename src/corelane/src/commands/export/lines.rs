//! A batch as lines of JSON.

use client::{UnpackLimits, unpack};
use offline::export::FoundBatch;
use protocol::batch::BATCH_HEADER_BYTES;
use protocol::{BatchHeader, Codec, RecordIter, RecordRef, check_batch};
use serde_json::{Value, json};

use crate::args::offline::ExportBytes;

pub struct Lines {
    bytes: ExportBytes,
    from_offset: u64,
    text: Vec<u8>,
}

impl Lines {
    pub fn new(bytes: ExportBytes, from_offset: u64) -> Self {
        Self { bytes, from_offset, text: Vec::new() }
    }

    /// The batch's records, each in a line. The error is a sentence.
    pub fn of(&mut self, batch: &FoundBatch<'_>) -> Result<&[u8], String> {
        self.text.clear();
        let place = format!("topic {}, partition {}", batch.topic, batch.partition);
        let header = check_batch(&[batch.payload])
            .map_err(|error| format!("{place}: a batch cannot be read: {error}"))?;
        let bad = |error: String| {
            format!("{place}: the batch at offset {} cannot be read: {error}", header.base_offset)
        };
        let packed = batch.payload.get(BATCH_HEADER_BYTES..).unwrap_or_default();
        let unpacked;
        let section = match Codec::of(&header) {
            Some(Codec::None) => packed,
            Some(codec) => {
                unpacked = unpack(codec, packed, &UnpackLimits::default())
                    .map_err(|error| bad(error.to_string()))?;
                &unpacked
            }
            None => return Err(bad("its compression is not known".to_owned())),
        };
        for record in RecordIter::new(&header, section) {
            let record = record.map_err(|error| bad(error.to_string()))?;
            let offset = header.base_offset.saturating_add(record.offset_delta.into());
            if offset >= self.from_offset {
                let line = self.line(batch, &header, offset, &record);
                self.text.extend_from_slice(line.to_string().as_bytes());
                self.text.push(b'\n');
            }
        }
        Ok(&self.text)
    }

    fn line(
        &self,
        batch: &FoundBatch<'_>,
        header: &BatchHeader,
        offset: u64,
        record: &RecordRef<'_>,
    ) -> Value {
        let headers =
            record.headers.map(|(key, value)| json!({ "key": key, "value": self.shown(value) }));
        json!({
            "topic": batch.topic.as_str(),
            "partition": batch.partition.0,
            "offset": offset,
            "timestamp": header.base_timestamp.saturating_add(record.timestamp_delta),
            "key": self.shown(record.key),
            "value": self.shown(record.value),
            "headers": headers.collect::<Vec<_>>(),
        })
    }

    fn shown(&self, bytes: Option<&[u8]>) -> Option<String> {
        bytes.map(|bytes| match self.bytes {
            ExportBytes::Base64 => base64(bytes),
            ExportBytes::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        })
    }
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let six = (bits >> (18 - 6 * at)) & 63;
            text.push(if at <= three.len() { LETTERS[six as usize] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}
