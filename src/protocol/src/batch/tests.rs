//! A batch built by hand from the public description of the format, and what is refused.

use super::*;
use crate::testing::hex;

/// Two records, "hello" and key "k" with an absent value; the checksum was computed with a
/// bitwise CRC32C written for this purpose, see `bitwise_crc32c`.
const HEADER_BEFORE_CRC: &str = "0000000000000007 00000046 00000003 02";
const HEADER_AFTER_CRC: &str = "0000 00000001 0000018bcfe56800 0000018bcfe56805 \
                                ffffffffffffffff ffff ffffffff 00000002";
/// length 11, attributes 0, time 0, offset 0, no key, "hello", no headers;
/// length 7, attributes 0, time +5, offset 1, key "k", no value, no headers.
const RECORDS: &str = "16 00 00 00 01 0a 68656c6c6f 00  0e 00 0a 02 02 6b 01 00";

/// The definition itself: reflected polynomial 0x82F63B78, one bit at a time.
fn bitwise_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

fn batch_of(before: &str, after: &str, records: &str) -> Vec<u8> {
    let covered = hex(&format!("{after} {records}"));
    let crc = bitwise_crc32c(&covered);
    [hex(before), crc.to_be_bytes().to_vec(), covered].concat()
}

fn batch() -> Vec<u8> {
    let mut batch = batch_of(HEADER_BEFORE_CRC, HEADER_AFTER_CRC, RECORDS);
    let counted = batch.len() as u32 - 12;
    batch[8..12].copy_from_slice(&counted.to_be_bytes());
    batch
}

#[test]
fn crc32c_has_the_published_check_value() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    assert_eq!(bitwise_crc32c(b"123456789"), 0xE306_9283);
}

#[test]
fn a_batch_built_by_hand_is_read() {
    let bytes = batch();
    let header = check_batch(&[&bytes]).unwrap();
    let expected = BatchHeader {
        base_offset: 7,
        batch_length: bytes.len() as u32,
        leader_epoch: 3,
        crc: bitwise_crc32c(&bytes[21..]),
        attributes: 0,
        last_offset_delta: 1,
        base_timestamp: 1_700_000_000_000,
        max_timestamp: 1_700_000_000_005,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        records_count: 2,
    };
    assert_eq!(header, expected);
    assert_eq!(header.to_bytes(), bytes[..BATCH_HEADER_BYTES]);
    assert_eq!(header.next_offset(), 9);

    let records: Vec<_> =
        crate::RecordIter::new(&header, &bytes[61..]).collect::<Result<_, _>>().unwrap();
    assert_eq!((records[0].key, records[0].value), (None, Some(&b"hello"[..])));
    assert_eq!((records[1].key, records[1].value), (Some(&b"k"[..]), None));
    assert_eq!((records[1].offset_delta, records[1].timestamp_delta), (1, 5));
}

#[test]
fn the_checksum_leaves_out_what_the_broker_rewrites() {
    let mut bytes = batch();
    bytes[BASE_OFFSET].copy_from_slice(&99u64.to_be_bytes());
    bytes[LEADER_EPOCH].copy_from_slice(&4i32.to_be_bytes());
    let header = check_batch(&[&bytes]).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (99, 4));
}

#[test]
fn every_other_flipped_bit_is_found() {
    let good = batch();
    for at in (8..12).chain(16..good.len()) {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            assert!(check_batch(&[&bytes]).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_batch_in_two_or_three_parts_is_the_same_batch() {
    let bytes = batch();
    let whole = check_batch(&[&bytes]).unwrap();
    for first in 0..=bytes.len() {
        let (a, rest) = bytes.split_at(first);
        assert_eq!(check_batch(&[a, rest]), Ok(whole), "cut at {first}");
        for second in 0..=rest.len() {
            let (b, c) = rest.split_at(second);
            assert_eq!(check_batch(&[a, b, &[], c]), Ok(whole), "cuts at {first}, {second}");
        }
    }
}

/// The good batch with `value` at `at` and the checksum that then fits.
fn with(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = batch();
    bytes[at..at + value.len()].copy_from_slice(value);
    let crc = bitwise_crc32c(&bytes[21..]);
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn bad_fields_say_why() {
    let refused = |bytes: Vec<u8>| check_batch(&[&bytes]).unwrap_err();
    assert_eq!(refused(with(16, &[1])), BatchError::Magic { magic: 1 });
    for (attributes, good) in [(1u16, true), (4, true), (5, false), (8, false), (16, false)] {
        let result = check_batch(&[&with(21, &attributes.to_be_bytes())]);
        assert_eq!(result.is_ok(), good, "attributes {attributes}");
    }
    assert_eq!(refused(with(21, &[0, 0x20])).code(), ErrorCode::InvalidArgument);
    let lying = refused(with(57, &3u32.to_be_bytes()));
    assert_eq!(lying, BatchError::RecordCount { records_count: 3, last_offset_delta: 1 });
    let none = [with(57, &0u32.to_be_bytes()), with(23, &u32::MAX.to_be_bytes())];
    assert!(none.into_iter().all(|bytes| refused(bytes).code() == ErrorCode::Malformed));
    let producer = refused(with(43, &5i64.to_be_bytes()));
    assert!(matches!(producer, BatchError::Producer { producer_id: 5, .. }));
    assert!(matches!(refused(with(43, &(-2i64).to_be_bytes())), BatchError::Producer { .. }));
    assert_eq!(refused(with(8, &48u32.to_be_bytes())), BatchError::LengthField { counted: 48 });
    assert_eq!(refused(with(8, &u32::MAX.to_be_bytes())).code(), ErrorCode::TooLarge);
    let mut bytes = batch();
    bytes.push(0);
    assert_eq!(refused(bytes), BatchError::Trailing { bytes: 1 });
    assert!(matches!(refused(vec![0; 60]), BatchError::Short { missing: 1 }));
}

#[test]
fn batches_are_split_where_they_end() {
    let (one, idempotent) = (batch(), with(43, &[0; 14]));
    let all = [one.clone(), idempotent, one.clone()].concat();
    let length = one.len();
    for cut in 0..all.len() {
        let (a, b) = all.split_at(cut);
        let parts = [a, b];
        let spans: Vec<_> = split_batches(&parts, Some(3)).collect::<Result<_, _>>().unwrap();
        let ranges: Vec<_> = spans.iter().map(|span| span.range.clone()).collect();
        assert_eq!(ranges, [0..length, length..2 * length, 2 * length..3 * length]);
        assert_eq!(spans[1].header.producer_id, 0);
        assert!(spans[1].header.is_idempotent() && !spans[0].header.is_idempotent());
    }

    let parts = [&all[..]];
    let last = |count| split_batches(&parts, count).last().unwrap();
    assert!(last(None).is_ok());
    assert_eq!(last(Some(4)), Err(BatchError::BatchCount { expected: 4, found: 3 }));
    assert_eq!(last(Some(2)), Err(BatchError::Trailing { bytes: length as u64 }));
    assert_eq!(split_batches(&parts, Some(2)).count(), 3);
    let short = [&all[..all.len() - 1]];
    assert_eq!(split_batches(&short, None).last(), Some(Err(BatchError::Short { missing: 1 })));
    assert_eq!(split_batches(&[], None).next(), None);
}

proptest::proptest! {
    /// The two ways to go through a batch agree, on records that lie about their lengths too.
    #[test]
    fn what_lies_in_one_piece_is_judged_as_what_lies_in_two(
        records in proptest::collection::vec(proptest::num::u8::ANY, 0..60),
        count in 0u32..4,
        lengths in proptest::collection::vec((0usize..60, 0u8..30), 0..3),
        cut in 0usize..120,
    ) {
        let mut records = records;
        for (at, length) in lengths {
            if let Some(byte) = records.get_mut(at) {
                *byte = length * 2;
            }
        }
        let mut bytes = batch()[..BATCH_HEADER_BYTES].to_vec();
        bytes.extend_from_slice(&records);
        let counted = bytes.len() as u32 - 12;
        bytes[8..12].copy_from_slice(&counted.to_be_bytes());
        bytes[23..27].copy_from_slice(&count.wrapping_sub(1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = bitwise_crc32c(&bytes[21..]);
        bytes[CRC].copy_from_slice(&crc.to_be_bytes());
        let (a, b) = bytes.split_at(cut.min(bytes.len()));
        proptest::prop_assert_eq!(check_batch(&[&bytes]), check_batch(&[a, b]));
    }
}
