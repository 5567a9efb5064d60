//! Whatever the bytes are, parsing them gives a checked value or an error and never panics; and
//! what was written is read back.

use corelane_wal::directory::Superblock;
use corelane_wal::format::block::{BlockHeader, HEADER_BYTES};
use corelane_wal::format::checkpoint::{CheckpointHeader, CheckpointTrailer, ENDS_BYTES};
use corelane_wal::format::entry::{EntryRecord, RECORD_BYTES};
use corelane_wal::format::footer::{
    FooterBody, FooterTrailer, IndexEntry, StreamRecord, TRAILER_BYTES,
};
use corelane_wal::format::manifest::{CheckpointRecord, Manifest, SegmentRecord, SegmentState};
use corelane_wal::format::segment::SegmentHeader;
use corelane_wal::format::{FormatError, names};
use model::StreamId;
use proptest::collection::vec;
use proptest::prelude::*;

const SECRET: [u8; 16] = *b"a secret of 16 b";

/// Gives every structure's parser the same bytes.
fn parse_all(bytes: &[u8]) {
    let _ = BlockHeader::parse(bytes, &SECRET, 1, 4096, 4096);
    let _ = SegmentHeader::parse(bytes, &SECRET, 1);
    let _ = CheckpointHeader::parse(bytes, &SECRET);
    let _ = CheckpointTrailer::parse(bytes, &SECRET);
    let _ = Manifest::parse(bytes, &SECRET);
    let _ = FooterTrailer::parse(bytes, &SECRET, 1, bytes.len() as u64);
    let _ = Superblock::parse(bytes);
    if let Some(record) = bytes.first_chunk::<RECORD_BYTES>() {
        let _ = EntryRecord::decode(record).head.last_offset();
    }
}

fn segment_record() -> impl Strategy<Value = SegmentRecord> {
    (
        any::<u64>(),
        any::<u32>(),
        0..4u8,
        0..1u64 << 31,
        any::<[u64; 3]>(),
        any::<[u32; 2]>(),
        0..=100u64,
    )
        .prop_map(|(number, generation, state, bytes, lsns, words, share)| SegmentRecord {
            number,
            generation,
            state: [
                SegmentState::Pool,
                SegmentState::Active,
                SegmentState::Sealed,
                SegmentState::Dropped,
            ][state as usize],
            bytes,
            first_lsn: lsns[0],
            last_lsn: lsns[1],
            first_sequence: lsns[2],
            previous_crc: words[0],
            data_end: (bytes * share / 100) as u32,
            prepared_bytes: words[1],
            from_reserve: share.is_multiple_of(2),
            footerless: share.is_multiple_of(3),
        })
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let checkpoint = any::<[u64; 2]>().prop_map(|[start, end]| CheckpointRecord { start, end });
    (any::<[u64; 4]>(), any::<u32>(), vec(checkpoint, 0..3), vec(segment_record(), 0..20)).prop_map(
        |(numbers, incarnation, checkpoints, mut segments)| {
            segments.sort_by_key(|record| record.number);
            segments.dedup_by_key(|record| record.number);
            Manifest {
                shard: 3,
                number: numbers[0],
                incarnation,
                unit: 4096,
                durable_lsn: numbers[1],
                next_segment: numbers[2],
                window_bytes: numbers[3],
                checkpoints,
                segments,
            }
        },
    )
}

fn footer() -> impl Strategy<Value = FooterBody> {
    let stream = (1..100u32, any::<u64>(), any::<i64>(), vec(any::<u8>(), 0..20));
    let entry = (any::<u64>(), any::<i64>(), any::<[u32; 2]>());
    vec((stream, vec(entry, 1..4)), 0..8).prop_map(|streams| {
        let mut body = FooterBody::default();
        let mut number = 0;
        for ((step, offset, time, label), entries) in streams {
            number += step;
            body.streams.push(StreamRecord {
                stream: StreamId(number),
                index_start: body.index.len() as u32,
                index_entries: entries.len() as u32,
                label_start: body.labels.len() as u32,
                label_bytes: label.len() as u32,
                batches: step,
                first_offset: offset,
                last_offset: offset,
                bytes: offset,
                max_time_ms: time,
            });
            body.labels.extend_from_slice(&label);
            body.index.extend(entries.into_iter().map(|(offset, time, [block, bytes])| {
                IndexEntry { offset, time_before_ms: time, block, block_bytes: bytes }
            }));
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
        parse_all(&bytes);
    }

    #[test]
    fn arbitrary_bytes_behind_a_magic_number_never_panic(
        which in 0..6usize,
        rest in vec(any::<u8>(), 0..600),
    ) {
        let magics = [b"CLBK", b"CLSG", b"CLCK", b"CLCT", b"CLMF", b"CLFT"];
        let mut bytes = magics[which].to_vec();
        bytes.extend_from_slice(&rest);
        parse_all(&bytes);
    }

    #[test]
    fn arbitrary_names_never_panic(name in "\\PC{0,60}") {
        let _ = (names::parse_segment(&name), names::parse_checkpoint(&name), names::is_torn(&name));
    }

    #[test]
    fn a_manifest_is_read_back_and_any_change_seen(
        manifest in manifest(),
        at in any::<prop::sample::Index>(),
        with in 1..=255u8,
    ) {
        let mut bytes = vec![0xee; manifest.encoded_bytes() + 100];
        manifest.encode(&SECRET, &mut bytes);
        prop_assert_eq!(Manifest::parse(&bytes, &SECRET), Ok(manifest.clone()));
        let at = at.index(manifest.encoded_bytes());
        bytes[at] ^= with;
        prop_assert!(Manifest::parse(&bytes, &SECRET).is_err());
    }

    /// A good checksum over lying numbers: the parser must not follow them outside.
    #[test]
    fn a_footer_is_read_back_and_never_points_outside(
        body in footer(),
        lie in any::<[u32; 4]>(),
    ) {
        let mut bytes = vec![0; body.encoded_bytes()];
        let crc = body.encode(&mut bytes);
        let trailer = FooterTrailer {
            shard: 1,
            number: 2,
            generation: 3,
            body_offset: 8192,
            body_bytes: bytes.len() as u32,
            streams: body.streams.len() as u32,
            index_entries: body.index.len() as u32,
            label_bytes: body.labels.len() as u32,
            body_crc: crc,
            data_end: 8192,
            first_lsn: 1,
            last_lsn: 2,
            last_sequence: 3,
            last_crc: 4,
        };
        let mut last = [0; TRAILER_BYTES];
        trailer.encode(&SECRET, &mut last);
        prop_assert_eq!(FooterTrailer::parse(&last, &SECRET, 2, 1 << 20), Ok(trailer));
        prop_assert_eq!(FooterBody::parse(&bytes, &trailer), Ok(body.clone()));
        for record in &body.streams {
            prop_assert_eq!(body.label(record).len(), record.label_bytes as usize);
        }
        let liar = FooterTrailer {
            body_offset: lie[0],
            body_bytes: lie[1],
            streams: lie[2],
            index_entries: lie[3],
            ..trailer
        };
        liar.encode(&SECRET, &mut last);
        if let Ok(parsed) = FooterTrailer::parse(&last, &SECRET, 2, 1 << 20) {
            let _ = FooterBody::parse(&bytes, &parsed);
        }
        let mut lying = body.clone();
        if let Some(record) = lying.streams.first_mut() {
            record.index_start = lie[0];
            record.label_start = lie[1];
            let mut bytes = vec![0; lying.encoded_bytes()];
            let body_crc = lying.encode(&mut bytes);
            if let Ok(parsed) = FooterBody::parse(&bytes, &FooterTrailer { body_crc, ..trailer }) {
                let _ = parsed.label(&parsed.streams[0]);
            }
        }
    }

    /// Likewise for a block's header.
    #[test]
    fn a_header_with_lying_lengths_is_refused(
        entries in any::<u32>(),
        payload_bytes in any::<u32>(),
        block_bytes in any::<u32>(),
        first_lsn in any::<u64>(),
    ) {
        let header = BlockHeader {
            shard: 0,
            generation: 0,
            segment: 1,
            incarnation: 1,
            entries,
            sequence: 1,
            term: 0,
            index: 1,
            first_lsn,
            durable_lsn: 0,
            payload_bytes,
            block_bytes,
            body_crc: 0,
            table_crc: 0,
            previous_crc: 0,
        };
        // Writing such a header may be refused where its lengths do not even fit their fields.
        if u64::from(payload_bytes) + HEADER_BYTES as u64 > u64::from(u32::MAX) {
            return Ok(());
        }
        let mut bytes = [0; HEADER_BYTES];
        header.encode(&SECRET, 4096, &mut bytes);
        if let Ok((parsed, _)) = BlockHeader::parse(&bytes, &SECRET, 1, 4096, 4096) {
            let body = HEADER_BYTES as u64
                + u64::from(parsed.payload_bytes)
                + u64::from(parsed.entries) * RECORD_BYTES as u64;
            prop_assert_eq!(body.next_multiple_of(4096), u64::from(parsed.block_bytes));
            prop_assert!(parsed.body_end() as u64 <= u64::from(parsed.block_bytes));
            prop_assert!(parsed.first_lsn > 0 && parsed.last_lsn() >= parsed.first_lsn - 1);
        }
    }

    #[test]
    fn checkpoint_ends_are_read_back(start in any::<u64>(), more in any::<u32>(), words in any::<[u64; 2]>()) {
        let mut bytes = [0; ENDS_BYTES];
        let header = CheckpointHeader { shard: 4, start };
        header.encode(&SECRET, &mut bytes);
        prop_assert_eq!(CheckpointHeader::parse(&bytes, &SECRET), Ok(header));
        let trailer = CheckpointTrailer {
            shard: 4,
            start,
            end: start.saturating_add(more.into()),
            body_bytes: words[0],
            pieces: words[1],
            body_crc: more,
        };
        trailer.encode(&SECRET, &mut bytes);
        prop_assert_eq!(CheckpointTrailer::parse(&bytes, &SECRET), Ok(trailer));
        bytes[9] ^= 1;
        prop_assert_eq!(CheckpointTrailer::parse(&bytes, &SECRET), Err(FormatError::Checksum));
    }
}
