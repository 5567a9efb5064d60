//! The log's files: whole logs with spoiled places, and each structure by itself.

use std::convert::Infallible;
use std::sync::OnceLock;

use model::{Lsn, StreamId};
use wal::crc::{Seed, crc32c, seeded};
use wal::device::sim::{Image, SimDisk};
use wal::directory::Superblock;
use wal::format::block::{self, Block, BlockHeader};
use wal::format::checkpoint::{CheckpointHeader, CheckpointTrailer};
use wal::format::footer::{FooterBody, FooterTrailer, TRAILER_BYTES};
use wal::format::manifest::Manifest;
use wal::format::names;
use wal::format::segment::SegmentHeader;
use wal::{EntryHead, Fold, Wal, WalConfig};

pub const SECRET: [u8; 16] = *b"a secret of 16 b";
const UNIT: usize = 4096;
/// Changes made to one log at most.
const PATCHES_MAX: usize = 32;

fn config() -> WalConfig {
    WalConfig {
        shard: 3,
        secret: SECRET,
        segment_bytes: 64 * 1024,
        group_bytes: 8 * 1024,
        writes_in_flight: 3,
        backlog_bytes: 48 * 1024,
        cache_bytes: 256 * 1024,
        prepare_bytes: 16 * 1024,
        pool_segments: 1,
        pool_segments_max: 3,
        index_cache_bytes: 64 * 1024,
        witness_after_ns: 20_000_000,
        slow_after_ns: 1_000_000_000,
    }
}

/// Takes every entry and keeps nothing.
struct Any;

impl Fold for Any {
    type Error = Infallible;

    fn load(&mut self, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }

    fn loaded(&mut self, _: Lsn, _: Lsn) -> Result<(), Infallible> {
        Ok(())
    }

    fn apply(&mut self, _: Lsn, _: &EntryHead, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }

    fn log_start(&self, _: StreamId) -> Option<u64> {
        Some(0)
    }

    fn label(&self, _: StreamId) -> Option<Vec<u8>> {
        Some(b"label".to_vec())
    }
}

/// A log of several segments with footers, a torn end, and the names of its files.
fn log() -> &'static (Image, Vec<String>) {
    static LOG: OnceLock<(Image, Vec<String>)> = OnceLock::new();
    LOG.get_or_init(|| {
        let mut disk = SimDisk::new(1);
        Wal::create(&mut disk, &config()).unwrap();
        let (mut wal, _) = Wal::open(&mut disk, config(), &mut Any).unwrap();
        for number in 0..160u64 {
            let head = EntryHead {
                kind: 2,
                flags: 0,
                stream: StreamId(1 + (number % 3) as u32),
                base_offset: number / 3 * 2,
                time_ms: 1_700_000_000_000 + number as i64,
                records: 2,
            };
            wal.append(&head, &[&vec![number as u8; 1_000]]);
            wal.commit(&mut disk);
            while let Some(ended) = disk.end_one() {
                wal.complete(&mut disk, ended);
            }
        }
        let image = disk.image();
        let names = image.names().map(|(name, _)| name.to_owned()).collect();
        (image, names)
    })
}

/// A whole log in which places are changed, then opened, read and audited. Each change: which file
/// (1 byte), where (4), what to put right afterwards (1), how many bytes (1), the bytes.
pub fn files(mut bytes: &[u8]) {
    let (image, names) = log();
    let mut image = image.clone();
    for _ in 0..PATCHES_MAX {
        let Some((head, rest)) = bytes.split_first_chunk::<7>() else { break };
        let name = &names[usize::from(head[0]) % names.len()];
        let length = image.file(name).map_or(0, |content| content.len());
        if length == 0 {
            break;
        }
        let at = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize % length;
        let patch = &rest[..usize::from(head[6]).min(rest.len()).min(length - at)];
        bytes = &rest[patch.len()..];
        image.write(name, at as u64, patch);
        if head[5] % 2 == 1 {
            put_right(&mut image, name, at);
        }
        if head[5] == 0xFE {
            image.cut(name, at as u64);
        }
    }
    let mut disk = SimDisk::from_image(image.clone(), 7);
    let _ = wal::verify::verify_log(&mut disk, &SECRET).unwrap();
    let mut disk = SimDisk::from_image(image, 7);
    if let Ok((wal, recovered)) = Wal::open(&mut disk, config(), &mut Any) {
        assert_eq!(wal.durable_lsn(), recovered.last_lsn);
    }
}

/// Makes the checksum right of the block whose first unit `at` lies in, and of its body as far as
/// its own lengths go.
fn put_right(image: &mut Image, name: &str, at: usize) {
    let Some(number) = names::parse_segment(name) else { return };
    let Some(content) = image.file(name) else { return };
    let start = at / UNIT * UNIT;
    let Some(block) = content.get(start..) else { return };
    let mut block = block.to_vec();
    if block.len() >= block::HEADER_BYTES {
        seal(&mut block, number, start as u64);
        image.write(name, start as u64, &block[..block::HEADER_BYTES]);
    }
}

/// Puts the checksums of a block right, the body's where its lengths allow.
fn seal(block: &mut [u8], segment: u64, offset: u64) {
    let number = |at: usize| {
        u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]) as usize
    };
    let table = block::HEADER_BYTES.saturating_add(number(72));
    let end = table.saturating_add(number(28).saturating_mul(40));
    if let (Some(body), Some(records)) =
        (block.get(block::HEADER_BYTES..end), block.get(table..end))
    {
        let (body, records) = (crc32c(body), crc32c(records));
        block[84..88].copy_from_slice(&body.to_le_bytes());
        block[88..92].copy_from_slice(&records.to_le_bytes());
    }
    let crc = seeded(&Seed { secret: SECRET, number: segment, offset }, &block[..124]);
    block[124..128].copy_from_slice(&crc.to_le_bytes());
}

/// One block, as it is found at the front of a segment.
pub fn blocks(bytes: &[u8]) {
    let offset = UNIT as u64;
    let _ = BlockHeader::parse(bytes, &SECRET, 1, offset, UNIT);
    if bytes.len() < block::HEADER_BYTES {
        return;
    }
    let mut block = bytes.to_vec();
    block[..4].copy_from_slice(b"CLBK");
    block[4..6].copy_from_slice(&1u16.to_le_bytes());
    block.resize(block.len().next_multiple_of(UNIT), 0);
    seal(&mut block, 1, offset);
    let Ok((header, header_crc)) = BlockHeader::parse(&block, &SECRET, 1, offset, UNIT) else {
        return;
    };
    let mut again = [0; block::HEADER_BYTES];
    // Bytes without a meaning are not kept; what has one is.
    let crc = header.encode(&SECRET, offset, &mut again);
    assert_eq!(BlockHeader::parse(&again, &SECRET, 1, offset, UNIT), Ok((header, crc)));
    if header.block_bytes as usize != block.len() {
        return;
    }
    let block = Block { header, header_crc, bytes: block.into() };
    if !block.body_is_good() || !block.table_is_good() {
        return;
    }
    for (record, range) in block.entries() {
        let _ = record.head.last_offset();
        let _ = block.bytes.get(range);
    }
}

/// A footer's body, with the trailer that belongs to its lengths; and small structures.
pub fn footer(bytes: &[u8]) {
    let Some((head, body)) = bytes.split_first_chunk::<12>() else { return };
    let u32_at =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let trailer = FooterTrailer {
        shard: 1,
        number: 2,
        generation: 0,
        body_offset: UNIT as u32,
        body_bytes: body.len() as u32,
        streams: u32_at(0),
        index_entries: u32_at(4),
        label_bytes: u32_at(8),
        body_crc: crc32c(body),
        data_end: UNIT as u32,
        first_lsn: 1,
        last_lsn: 9,
        last_sequence: 3,
        last_crc: 4,
    };
    let mut encoded = [0; TRAILER_BYTES];
    trailer.encode(&SECRET, &mut encoded);
    for file_bytes in [1 << 20, (UNIT + body.len() + TRAILER_BYTES) as u64] {
        let Ok(trailer) = FooterTrailer::parse(&encoded, &SECRET, 2, file_bytes) else { continue };
        let Ok(read) = FooterBody::parse(body, &trailer) else { continue };
        for record in &read.streams {
            let _ = read.label(record);
        }
        let mut again = vec![0; read.encoded_bytes()];
        assert_eq!(read.encode(&mut again), crc32c(&again));
    }
    structures(bytes);
}

/// What has a place and a checksum of its own, each made right first.
fn structures(bytes: &[u8]) {
    let _ = Superblock::parse(bytes);
    let _ = Manifest::parse(bytes, &SECRET);
    let _ = SegmentHeader::parse(bytes, &SECRET, 1);
    let _ = CheckpointHeader::parse(bytes, &SECRET);
    let _ = CheckpointTrailer::parse(bytes, &SECRET);
    let mut block = [0; 4096];
    let count = bytes.len().min(4092);
    block[..count].copy_from_slice(&bytes[..count]);
    block[..8].copy_from_slice(b"CORELANE");
    let crc = crc32c(&block[..4092]);
    block[4092..].copy_from_slice(&crc.to_le_bytes());
    if let Ok(read) = Superblock::parse(&block) {
        assert_eq!(Superblock::parse(&read.to_bytes()), Ok(read));
    }
    if let Ok(name) = std::str::from_utf8(&bytes[..bytes.len().min(60)]) {
        let _ = (names::parse_segment(name), names::parse_checkpoint(name), names::is_torn(name));
    }
}
