//! One damage of any kind to a small directory: what is repaired holds nothing invented, everything
//! that is not counted as lost, and never uses an offset twice.

#[path = "golden/archive.rs"]
mod archive;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use corelane_offline::export::{Wanted, export};
use corelane_offline::read::{ReadError, Source};
use corelane_offline::repair;
use corelane_offline::state::ShardState;
use model::ShardId;
use protocol::check_batch;
use wal::device::DeviceError;
use wal::device::sim::Dice;
use wal::verify::verify_directory;

const ROUNDS: u64 = 60;

/// Batches by topic, partition and offset.
type Batches = BTreeMap<(String, u32, u64), Vec<u8>>;
/// Where each partition goes on.
type Ends = BTreeMap<(String, u32), u64>;

#[derive(Debug)]
struct Failed(#[allow(dead_code, reason = "shown when the test fails")] String);

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        Self(error.to_string())
    }
}

impl From<DeviceError> for Failed {
    fn from(error: DeviceError) -> Self {
        Self(error.to_string())
    }
}

/// What a directory holds, and how many problems were told.
fn content(path: &Path) -> (Batches, Ends, usize) {
    let source = Source::open(path).unwrap();
    let (mut batches, mut problems) = (Batches::new(), 0);
    export(
        &source,
        &Wanted::default(),
        |batch| -> Result<(), Failed> {
            let header = check_batch(&[batch.payload]).unwrap();
            let place = (batch.topic.to_string(), batch.partition.0, header.base_offset);
            let before = batches.insert(place, batch.payload.to_vec());
            assert!(before.is_none(), "a batch came twice");
            Ok(())
        },
        |_| problems += 1,
    )
    .unwrap();
    let mut ends = Ends::new();
    for shard in (0..source.shards()).map(ShardId) {
        let Some(mut log) = source.shard(shard).unwrap() else { continue };
        for view in ShardState::read(shard, &mut log).unwrap().partitions() {
            let record = view.carried.record;
            ends.insert((record.name.to_string(), record.index.0), record.next_offset);
        }
    }
    (batches, ends, problems)
}

/// Every batch in the logs, kept or not.
fn every_batch(path: &Path) -> BTreeSet<Vec<u8>> {
    let source = Source::open(path).unwrap();
    let mut found = BTreeSet::new();
    for shard in (0..source.shards()).map(ShardId) {
        let mut log = source.shard(shard).unwrap().unwrap();
        log.each_entry(|_, head, payload| -> Result<(), Failed> {
            if head.is_batch() {
                found.insert(payload.to_vec());
            }
            Ok(())
        })
        .unwrap();
    }
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Damages one thing and says what.
fn damage(data: &Path, dice: &mut Dice) -> String {
    let files = files(data);
    let path = &files[dice.below(files.len() as u64) as usize];
    let mut bytes = fs::read(path).unwrap();
    let length = bytes.len() as u64;
    let what = match dice.below(6) {
        0 => {
            fs::remove_file(path).unwrap();
            return format!("{} removed", path.display());
        }
        1 => {
            bytes.truncate(dice.below(length.max(1)) as usize);
            "cut".to_owned()
        }
        2 | 3 if length > 0 => {
            let from = dice.below(length) / 512 * 512;
            let to = (from + 512 * (1 + dice.below(60))).min(length);
            bytes[from as usize..to as usize].fill(dice.below(3) as u8 * 0x55);
            format!("bytes {from} to {to} overwritten")
        }
        _ if length > 0 => {
            // Where something is written, so that not all rounds hit zeros.
            let at = (0..50).map(|_| dice.below(length)).find(|at| bytes[*at as usize] != 0);
            let at = at.unwrap_or(0) as usize;
            bytes[at] ^= 1 << dice.below(8);
            format!("a bit of byte {at} flipped")
        }
        _ => "left alone".to_owned(),
    };
    fs::write(path, bytes).unwrap();
    format!("{} {what}", path.display())
}

#[test]
fn any_one_damage_is_repaired_without_invention_and_without_reuse() {
    let seed = match std::env::var("CORELANE_SEED") {
        Ok(seed) => seed.parse().expect("CORELANE_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    };
    println!("CORELANE_SEED={seed}");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1.zst");
    let temp = tempfile::tempdir().unwrap();
    let whole = temp.path().join("whole");
    archive::unpack(&golden, &whole);
    let (batches, ends, problems) = content(&whole);
    assert_eq!(problems, 0);
    let ever = every_batch(&whole);
    let mut with_loss = 0;
    for round in 0..ROUNDS {
        let mut dice = Dice::new(seed.wrapping_add(round));
        let data = temp.path().join("data");
        archive::unpack(&golden, &data);
        let what = format!("round {round}: {}", damage(&data, &mut dice));
        let new = temp.path().join("new");
        let source = Source::open(&data).unwrap_or_else(|error| panic!("{what}: {error}"));
        let plan = repair::plan(&source).unwrap_or_else(|error| panic!("{what}: {error}"));
        plan.write(&source, &new, |_| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
        {
            let report = verify_directory(&new).unwrap();
            assert!(report.is_good(), "{what}: {report:?}");
        }
        let (left, new_ends, problems) = content(&new);
        assert_eq!(problems, 0, "{what}");
        let mut lost_records = 0;
        for (place, batch) in &batches {
            match left.get(place) {
                Some(found) => assert!(found == batch, "{what}: {place:?} is another"),
                None => lost_records += u64::from(check_batch(&[batch]).unwrap().records_count),
            }
        }
        let losses = &plan.losses;
        for (place, batch) in left.iter().filter(|(place, _)| !batches.contains_key(place)) {
            // What retention or a deletion removed is back where the entry that said so is lost.
            let was = losses.is_any() && ever.contains(batch);
            assert!(was, "{what}: {place:?} is invented");
        }
        let sure = losses.partitions.iter().all(|loss| !loss.end_unknown);
        if sure && losses.shards.iter().all(|shard| shard.notes.is_empty()) {
            assert_eq!(losses.records(), lost_records, "{what}: {losses:?}");
        }
        assert!(lost_records == 0 || losses.is_any(), "{what}: lost and not said");
        for (partition, end) in &ends {
            let Some(new_end) = new_ends.get(partition) else {
                assert!(losses.is_any(), "{what}: {partition:?} is gone");
                continue;
            };
            assert!(new_end >= end, "{what}: {partition:?} goes on at {new_end}, not {end}");
        }
        with_loss += u64::from(losses.is_any());
        drop(source);
        fs::remove_dir_all(&data).unwrap();
        fs::remove_dir_all(&new).unwrap();
    }
    println!("{with_loss} of {ROUNDS} damages cost something");
    assert!(with_loss > 0, "the damage hit nothing");
}
