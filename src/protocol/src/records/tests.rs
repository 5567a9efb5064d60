//! Batches built here are batches, and hostile record sections are errors.

use super::*;
use crate::batch::check_batch;
use crate::testing::hex;

#[test]
fn varints_have_the_zigzag_bytes() {
    let cases = [
        (0, "00"),
        (-1, "01"),
        (1, "02"),
        (63, "7e"),
        (64, "8001"),
        (-65, "8101"),
        (i64::MAX, "feffffffffffffffff01"),
        (i64::MIN, "ffffffffffffffffff01"),
    ];
    for (value, bytes) in cases {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert_eq!(out, hex(bytes), "{value}");
        assert_eq!(varint_bytes(value), out.len(), "{value}");
        assert_eq!(Reader { rest: &out }.varint(), Ok(value));
    }
}

#[test]
fn varints_over_their_size_are_errors() {
    let read = |bytes: &str| Reader { rest: &hex(bytes) }.varint();
    assert_eq!(read("ffffffffffffffffff02"), Err(RecordError::Varint));
    assert_eq!(read("ffffffffffffffffffff01"), Err(RecordError::Varint));
    assert_eq!(read("8080"), Err(RecordError::Short));
    assert_eq!(read(""), Err(RecordError::Short));
}

#[test]
fn golden_records() {
    let mut builder = BatchBuilder::new();
    builder.append(1_700_000_000_000, None, Some(b"hello"), []).unwrap();
    builder.append(1_700_000_000_005, Some(b"k"), None, []).unwrap();
    let headers = [("h", Some(&b"v"[..])), ("", None)];
    builder.append(1_699_999_999_999, Some(b""), Some(b""), headers).unwrap();
    let expected = hex("16 00 00 00 01 0a 68656c6c6f 00  0e 00 0a 02 02 6b 01 00 \
         18 00 01 04 00 00 04 02 68 02 76 00 01");
    assert_eq!(builder.records(), expected);
    assert_eq!((builder.count(), builder.batch_bytes()), (3, 61 + expected.len()));

    let batch = builder.finish(Some(Producer { id: 5, epoch: 6, sequence: 7 }));
    let header = check_batch(&[&batch]).unwrap();
    assert_eq!(header.base_timestamp, 1_700_000_000_000);
    assert_eq!(header.max_timestamp, 1_700_000_000_005);
    let producer = (header.producer_id, header.producer_epoch, header.base_sequence);
    assert_eq!(producer, (5, 6, 7));
    let third = RecordIter::new(&header, &batch[61..]).nth(2).unwrap().unwrap();
    assert_eq!(third.timestamp_delta, -1);
    assert_eq!(third.headers.len(), 2);
    assert_eq!(third.headers.collect::<Vec<_>>(), headers);
}

#[test]
fn a_producer_is_changed_with_the_checksum() {
    let mut builder = BatchBuilder::new();
    builder.append(0, None, Some(b"x"), []).unwrap();
    let producer = Producer { id: 1, epoch: 0, sequence: 0 };
    let expected = builder.clone().finish(Some(producer));
    let mut batch = builder.finish(None);
    set_producer(&mut batch, producer);
    assert_eq!(batch, expected);
    set_producer(&mut [0; 60], producer);
}

#[test]
fn a_checksum_that_was_left_for_later_is_right_then_and_used_memory_leaves_no_trace() {
    let mut fresh = BatchBuilder::new();
    let mut used = BatchBuilder::in_buffer(vec![0xAB; 500]).checksum_later();
    for builder in [&mut fresh, &mut used] {
        builder.append(9, Some(b"k"), Some(b"value"), []).unwrap();
    }
    let (fresh, mut used) = (fresh.finish(None), used.finish(None));
    assert!(check_batch(&[&used]).is_err());
    set_producer(&mut used, Producer::NONE);
    assert_eq!(used, fresh);
    check_batch(&[&used]).unwrap();
}

#[test]
fn a_compressed_section_keeps_count_and_times() {
    let mut builder = BatchBuilder::new();
    for value in [b"a", b"b"] {
        builder.append(4, None, Some(value), []).unwrap();
    }
    let batch = builder.finish_compressed(None, Codec::Zstd, b"squeezed");
    let header = check_batch(&[&batch]).unwrap();
    assert_eq!(Codec::of(&header), Some(Codec::Zstd));
    assert_eq!((header.records_count, header.base_timestamp), (2, 4));
    assert_eq!(&batch[61..], b"squeezed");
}

#[test]
fn an_empty_builder_makes_no_batch_and_a_full_one_takes_no_more() {
    assert!(BatchBuilder::new().finish(None).is_empty());
    assert!(BatchBuilder::new().finish_compressed(None, Codec::Lz4, b"x").is_empty());
    let mut builder = BatchBuilder::new();
    let value = vec![0; BATCH_BYTES_MAX as usize / 2];
    builder.append(0, None, Some(&value), []).unwrap();
    let bytes = builder.batch_bytes();
    assert!(builder.append(0, None, Some(&value), []).is_err());
    assert_eq!((builder.count(), builder.batch_bytes()), (1, bytes));
}

/// What reading `records` gives, when the header says there are `count`.
fn read(count: u32, records: &str) -> Result<usize, RecordError> {
    let mut builder = BatchBuilder::new();
    for _ in 0..count {
        builder.append(0, None, None, []).unwrap();
    }
    let section = hex(records);
    let batch = builder.finish_compressed(None, Codec::None, &section);
    let header = BatchHeader::parse(batch.first_chunk().unwrap()).unwrap();
    let mut found = 0;
    for record in RecordIter::new(&header, &section) {
        record?;
        found += 1;
    }
    Ok(found)
}

#[test]
fn hostile_sections_are_errors() {
    assert_eq!(read(1, "0c 00 00 00 01 01 00"), Ok(1));
    assert_eq!(read(2, "0c 00 00 00 01 01 00"), Err(RecordError::Short));
    assert_eq!(read(1, "0c 00 00 00 01 01 00 00"), Err(RecordError::Trailing { bytes: 1 }));
    assert_eq!(read(1, "0e 00 00 00 01 01 00 00"), Err(RecordError::Padding { bytes: 1 }));
    assert_eq!(read(1, "01"), Err(RecordError::Length { length: -1 }));
    assert_eq!(read(1, "0c 00 00 00 03 01 00"), Err(RecordError::Length { length: -2 }));
    assert_eq!(read(1, "feffffffffffffffff01 00"), Err(RecordError::Short));
    assert_eq!(read(1, "14 00 00 00 01 feffffff0f 00"), Err(RecordError::Short));
    let delta = RecordError::OffsetDelta { index: 0, delta: 1 };
    assert_eq!(read(1, "0c 00 00 02 01 01 00"), Err(delta));
    let twice = RecordError::OffsetDelta { index: 1, delta: 0 };
    assert_eq!(read(2, "0c 00 00 00 01 01 00 0c 00 00 00 01 01 00"), Err(twice));
    // A count of headers that no record could hold.
    assert_eq!(read(1, "14 00 00 00 01 01 feffffff0f"), Err(RecordError::Short));
    assert_eq!(read(1, "12 00 00 00 01 01 02 02 ff 01"), Err(RecordError::HeaderName));
    assert_eq!(read(1, "0e 00 00 00 01 01 02 01"), Err(RecordError::Length { length: -1 }));
}
