//! Record batches: as the server checks them in a publish, and as the client unpacks them.

use protocol::batch::{BATCH_HEADER_BYTES, BatchHeader, crc32c};
use protocol::{Codec, ProduceHead, RecordCursor, RecordIter};

/// The most that the client may unpack one batch to here.
const UNPACKED_BYTES_MAX: usize = 1024 * 1024;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

/// The body of a publish: its head, then batches, given in two pieces as they may be received.
pub fn publish(bytes: &[u8]) {
    let Some((head, batches)) = bytes.split_at_checked(protocol::PRODUCE_HEAD_BYTES) else {
        return;
    };
    let count = match ProduceHead::parse(head) {
        Ok(head) => {
            let mut again = Vec::new();
            protocol::put_produce_head(&mut again, 1, &head, 0);
            assert_eq!(&again[protocol::FRAME_HEADER_BYTES..], bytes_of(head, bytes));
            Some(head.batch_count)
        }
        Err(_) => None,
    };
    let batches = with_checksums(batches);
    for cut in [0, batches.len() / 2, batches.len().saturating_sub(1)] {
        let parts = [&batches[..cut], &batches[cut..]];
        let mut end = 0;
        for span in protocol::split_batches(&parts, count) {
            let Ok(span) = span else { break };
            assert_eq!(span.range.start, end, "batches follow one another");
            end = span.range.end;
            assert!(end <= batches.len());
            check_header(&span.header, &batches[span.range]);
        }
        let _ = protocol::check_batch(&parts);
    }
}

fn bytes_of(_: ProduceHead, bytes: &[u8]) -> &[u8] {
    &bytes[..protocol::PRODUCE_HEAD_BYTES]
}

fn check_header(header: &BatchHeader, batch: &[u8]) {
    assert_eq!(header.batch_length as usize, batch.len());
    assert_eq!(header.to_bytes()[..], batch[..BATCH_HEADER_BYTES]);
}

/// Batches as a consumer gets them, compressed or not.
pub fn records(bytes: &[u8]) {
    let batches = with_checksums(bytes);
    let read = client::inside::read_batches(&batches, UNPACKED_BYTES_MAX);
    assert!(read.unpacked_bytes_max <= UNPACKED_BYTES_MAX, "{} bytes", read.unpacked_bytes_max);
    // The two ways of going through uncompressed records agree.
    let Some(header) = batches.first_chunk().and_then(|head| BatchHeader::parse(head).ok()) else {
        return;
    };
    if Codec::of(&header) == Some(Codec::None) {
        let section = &batches[BATCH_HEADER_BYTES..];
        let mut cursor = RecordCursor::new(&header);
        for one in RecordIter::new(&header, section) {
            let other = cursor.next(section).expect("the same number of records");
            assert_eq!(one.is_ok(), other.is_ok());
            let Ok(record) = one else { return };
            for (name, _) in record.headers {
                assert!(name.len() <= section.len());
            }
        }
    }
}

/// Every batch that can be found by its length gets the magic number and checksum that belong to
/// it, so that what lies behind the checks is reached.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(batch) = bytes.get_mut(at..)
        && batch.len() > CRC_FROM
    {
        let length = batch.first_chunk::<12>().map_or(0, |head| {
            i64::from(i32::from_be_bytes([head[8], head[9], head[10], head[11]])) + 12
        });
        let length = usize::try_from(length).unwrap_or(0).clamp(CRC_FROM + 1, batch.len());
        batch[MAGIC_AT] = 2;
        let crc = crc32c(&batch[CRC_FROM..length]);
        batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        at += length;
    }
    bytes
}
