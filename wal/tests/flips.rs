//! Thousands of bits of a log at rest, turned round one at a time, and counted: where they lie, who
//! sees them, and that none is served. On the simulated disk and, every tenth, on real files.
//!
//! `CORELANE_EFFORT=100 cargo test --release -p corelane-wal --test flips -- --nocapture` turns 10,000.

mod host;

use std::collections::BTreeMap;
use std::path::Path;

use corelane_wal::device::sim::{Dice, Image, SimDisk};
use corelane_wal::verify::verify_log;
use corelane_wal::{FileDevice, OpenError, ReadStep, Wal};
use host::fold::Replay;
use host::rest::{AtRest, at_rest, audit};
use host::{Host, config, seed};

const FLIPS_PER_EFFORT: u64 = 100;
const UNIT: u64 = 4096;

/// What the bit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The bytes of an entry.
    Entry,
    /// Headers, tables and padding of blocks with entries.
    BlockFrame,
    /// A block without entries. The last one of the log promises nothing that others do not, so it
    /// may be cut, with a note.
    Witness,
    SegmentHeader,
    Footer,
    Checkpoint,
    Manifest,
    /// Zeros that nothing has been written to, or that are kept for a full disk.
    Unused,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    RefusedByOpen,
    RefusedByRead,
    /// All entries come back as they were, from a second copy, or since the bit says nothing that is
    /// needed for them.
    ServedUnchanged,
}

/// Where each file's parts are.
struct Map {
    /// By file: ranges of entries' bytes.
    entries: BTreeMap<String, Vec<(u64, u64)>>,
    /// By file: blocks without entries.
    witnesses: BTreeMap<String, Vec<(u64, u64)>>,
    /// By segment file: where its blocks end.
    data_end: BTreeMap<String, u64>,
}

impl Map {
    fn of(rest: &AtRest) -> Self {
        let (mut entries, mut data_end) = (BTreeMap::new(), BTreeMap::new());
        let mut witnesses = BTreeMap::new();
        let names: Vec<String> = rest.image.names().map(|(name, _)| name.to_owned()).collect();
        for name in names.into_iter().filter(|name| name.starts_with("segment-")) {
            let bytes = rest.image.file(&name).unwrap();
            let number = name["segment-".len()..].parse().unwrap();
            let (mut at, mut ranges, mut empty) = (UNIT, Vec::new(), Vec::new());
            while let Some(block) = block_at(&bytes, number, at) {
                let start = at;
                ranges.extend(
                    block.entries().map(|(_, r)| (start + r.start as u64, start + r.end as u64)),
                );
                at += u64::from(block.header.block_bytes);
                if block.header.entries == 0 {
                    empty.push((start, at));
                }
            }
            witnesses.insert(name.clone(), empty);
            data_end.insert(name.clone(), at);
            entries.insert(name, ranges);
        }
        Self { entries, witnesses, data_end }
    }

    fn place(&self, image: &Image, name: &str, offset: u64) -> Place {
        if name.starts_with("manifest-") {
            return Place::Manifest;
        }
        if name.starts_with("checkpoint-") {
            return Place::Checkpoint;
        }
        let Some(end) = self.data_end.get(name) else { return Place::Unused };
        let within = |(from, to): &(u64, u64)| (*from..*to).contains(&offset);
        if offset < UNIT {
            Place::SegmentHeader
        } else if self.entries[name].iter().any(within) {
            Place::Entry
        } else if self.witnesses[name].iter().any(within) {
            Place::Witness
        } else if offset < *end {
            Place::BlockFrame
        } else if is_zero_block(image, name, offset) {
            Place::Unused
        } else {
            Place::Footer
        }
    }
}

fn block_at(bytes: &[u8], number: u64, at: u64) -> Option<corelane_wal::format::block::Block> {
    use corelane_wal::format::block::{Block, BlockHeader};
    let head = bytes.get(at as usize..(at + UNIT) as usize)?;
    let parsed = BlockHeader::parse(head, &config().secret, number, at, UNIT as usize);
    let (header, header_crc) = parsed.ok()?;
    let whole = bytes.get(at as usize..at as usize + header.block_bytes as usize)?;
    Some(Block { header, header_crc, bytes: whole.to_vec().into() })
}

fn is_zero_block(image: &Image, name: &str, offset: u64) -> bool {
    let bytes = image.file(name).unwrap();
    let start = (offset / UNIT * UNIT) as usize;
    bytes[start..(start + UNIT as usize).min(bytes.len())].iter().all(|byte| *byte == 0)
}

/// Opens the log and reads everything back; whatever is served is compared with what was written.
fn fate(image: &Image, rest: &AtRest, seed: u64) -> Fate {
    let disk = SimDisk::from_image(image.clone(), seed);
    let promised = rest.truth.len() as u64;
    let mut host = match Host::open(disk, &rest.truth, promised, seed) {
        Ok(host) => host,
        Err(
            OpenError::Damaged { .. } | OpenError::Missing { .. } | OpenError::NewerFormat { .. },
        ) => {
            return Fate::RefusedByOpen;
        }
        Err(error) => panic!("damage is called something else: {error}"),
    };
    match host.read_everything() {
        Ok(()) => Fate::ServedUnchanged,
        Err(step) if matches!(*step, ReadStep::Damaged { .. }) => Fate::RefusedByRead,
        Err(step) => panic!("damage is called something else: {step:?}"),
    }
}

#[derive(Debug, Default)]
struct Count {
    reported: u64,
    unreported: u64,
    fates: BTreeMap<Fate, u64>,
}

#[test]
fn no_flipped_bit_is_served_and_all_in_the_log_are_reported() {
    let seed = seed(41);
    let effort: u64 =
        std::env::var("CORELANE_EFFORT").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let rests = [at_rest(seed, false), at_rest(seed + 1, true)];
    let maps = rests.each_ref().map(Map::of);
    let mut dice = Dice::new(seed);
    let mut counts: BTreeMap<Place, Count> = BTreeMap::new();
    let files = tempfile::tempdir().unwrap();
    for number in 0..FLIPS_PER_EFFORT * effort {
        let which = (number % 2) as usize;
        let (rest, map) = (&rests[which], &maps[which]);
        let (name, offset, bit) = draw(&rest.image, &mut dice);
        let place = map.place(&rest.image, &name, offset);
        let mut image = rest.image.clone();
        image.flip(&name, offset, bit);
        let context = format!("bit {bit} of byte {offset} of {name} ({place:?})");
        println!("{number}: {context}");
        let report = audit(&image, number);
        let fate = fate(&image, rest, number);
        assert!(
            fate == Fate::ServedUnchanged || !report.is_good(),
            "{context}: {fate:?}, not reported"
        );
        if matches!(place, Place::Entry | Place::BlockFrame) {
            assert!(!report.is_good(), "{context} is not reported");
        }
        if place == Place::Witness {
            assert!(!report.is_good() || !report.notes.is_empty(), "{context} is not noted");
        }
        if place == Place::Entry && which == 0 {
            // Nothing of this log was trimmed, so every entry is kept; what is in the checkpoint
            // alone is not read again.
            let batch = map_is_batch(rest, &image, &name, offset);
            assert!(!batch || fate != Fate::ServedUnchanged, "{context} is served");
        }
        let count = counts.entry(place).or_default();
        *(if report.is_good() { &mut count.unreported } else { &mut count.reported }) += 1;
        *count.fates.entry(fate).or_default() += 1;
        if number % 10 == 0 {
            same_on_files(files.path(), &image, rest, &report.damage, fate, &context);
        }
    }
    for (place, count) in &counts {
        println!("{place:?}: {count:?}");
    }
}

/// Any bit of any file; half of them where there is something.
fn draw(image: &Image, dice: &mut Dice) -> (String, u64, u8) {
    let names: Vec<(String, u64)> =
        image.names().filter(|(_, bytes)| *bytes > 0).map(|(n, b)| (n.to_owned(), b)).collect();
    loop {
        let (name, bytes) = &names[dice.below(names.len() as u64) as usize];
        let offset = dice.below(*bytes);
        if dice.chance(2) || !is_zero_block(image, name, offset) {
            return (name.clone(), offset, dice.below(8) as u8);
        }
    }
}

/// Whether the byte belongs to a batch, which readers are given.
fn map_is_batch(rest: &AtRest, _: &Image, name: &str, offset: u64) -> bool {
    let bytes = rest.image.file(name).unwrap();
    let number = name["segment-".len()..].parse().unwrap();
    let mut at = UNIT;
    while let Some(block) = block_at(&bytes, number, at) {
        for (record, range) in block.entries() {
            if (at + range.start as u64..at + range.end as u64).contains(&offset) {
                return record.head.records > 0;
            }
        }
        at += u64::from(block.header.block_bytes);
    }
    false
}

/// The same audit and the same opening on real files.
fn same_on_files(
    folder: &Path,
    image: &Image,
    rest: &AtRest,
    damage: &[corelane_wal::verify::Finding],
    fate: Fate,
    context: &str,
) {
    for entry in std::fs::read_dir(folder).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, _) in image.names() {
        std::fs::write(folder.join(name), image.file(name).unwrap()).unwrap();
    }
    let mut device = FileDevice::open(folder).unwrap().with_block_bytes(UNIT as usize);
    let report = verify_log(&mut device, &config().secret).unwrap();
    assert_eq!(report.damage, damage, "{context}: the audit of files");
    let mut device = FileDevice::open(folder).unwrap().with_block_bytes(UNIT as usize);
    let opened = Wal::open(&mut device, config(), &mut Replay::new(&rest.truth)).map(drop);
    assert_eq!(opened.is_err(), fate == Fate::RefusedByOpen, "{context}: opened {opened:?}");
}
