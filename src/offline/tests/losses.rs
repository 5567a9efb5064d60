//! Damage of several things at once, each made on purpose: what a repair says, keeps and leaps over.

#[path = "golden/shard.rs"]
#[allow(dead_code, reason = "other tests share this file")]
mod shard;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use corelane_offline::read::{Lost, ReadError, Source};
use corelane_offline::repair::{self, Losses};
use corelane_offline::state::ShardState;
use model::{Lsn, Offset, PartitionIndex, ShardId, StreamId, TopicConfig, TopicId, TopicName};
use shard::{SECRET, Shard};
use shards::entry::Change;
use wal::device::DeviceError;
use wal::directory;
use wal::verify::verify_directory;

const RECORDS: u32 = 4;

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

fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

fn topic_created(shards: &[u16]) -> Change {
    Change::TopicCreated {
        id: TopicId(1),
        name: topic(),
        config: TopicConfig::default(),
        shards: shards.iter().copied().map(ShardId).collect(),
    }
}

fn partition_created(index: u32) -> Change {
    Change::PartitionCreated {
        topic: TopicId(1),
        name: topic(),
        index: PartitionIndex(index),
        config: TopicConfig::default(),
        config_version: 1,
    }
}

/// A directory of two shards; shard 0 has the topic, whose partitions all lie on shard 1.
fn two_shards(path: &Path, partitions: u32, fill: impl FnOnce(&mut Shard)) {
    let mut new = directory::create(path, 2, SECRET).unwrap();
    let mut first = Shard::create(&new.shard_path(0), 0, new.block_bytes());
    first.change(0, &topic_created(&vec![1; partitions as usize]));
    first.stop();
    let mut second = Shard::create(&new.shard_path(1), 1, new.block_bytes());
    for index in 0..partitions {
        second.change(index + 1, &partition_created(index));
    }
    fill(&mut second);
    second.stop();
    new.finish().unwrap();
}

/// `batches` batches to stream 1 from `from` on; returns their bytes.
fn publish(shard: &mut Shard, from: Offset, batches: u32) -> u64 {
    let offset = |at: u32| from + u64::from(at * RECORDS);
    (0..batches).map(|at| shard.batch(1, offset(at), RECORDS, None)).sum()
}

fn expire(shard: &mut Shard, offset: Offset, bytes: u64) {
    shard.change(1, &Change::LogStartAdvanced { offset, bytes });
    shard.wal.set_log_start(StreamId(1), offset);
}

/// The begin of the log recycled, two checkpoints, and entries behind them.
fn recycled(shard: &mut Shard) {
    let first = publish(shard, 0, 40);
    expire(shard, 160, first);
    shard.checkpoint();
    publish(shard, 160, 2);
    shard.checkpoint();
    publish(shard, 168, 30);
}

fn files(folder: &Path, begin: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(begin);
    let mut found: Vec<PathBuf> = paths.filter(named).collect();
    found.sort();
    found
}

fn change_bytes(path: &Path, range: std::ops::Range<usize>) {
    let mut bytes = fs::read(path).unwrap();
    bytes[range].iter_mut().for_each(|byte| *byte ^= 0x10);
    fs::write(path, bytes).unwrap();
}

fn spoil_checkpoints(folder: &Path) {
    let checkpoints = files(folder, "checkpoint-");
    assert_eq!(checkpoints.len(), 2, "{checkpoints:?}");
    checkpoints.iter().for_each(|path| change_bytes(path, 20..21));
}

fn segment_number(path: &Path) -> u64 {
    path.file_name().unwrap().to_str().unwrap()["segment-".len()..].parse().unwrap()
}

/// Every batch by its stream and offset, whatever is kept of it.
fn batches(data: &Path, shard: u16) -> BTreeMap<(StreamId, Offset), Vec<u8>> {
    let source = Source::open(data).unwrap();
    let mut found = BTreeMap::new();
    let mut log = source.shard(ShardId(shard)).unwrap().unwrap();
    log.each_entry(|_, head, payload| -> Result<(), Failed> {
        if head.is_batch() {
            found.insert((head.stream, head.base_offset), payload.to_vec());
        }
        Ok(())
    })
    .unwrap();
    found
}

/// Writes what can be kept to `to`, and checks it.
fn repaired(data: &Path, to: &Path) -> Losses {
    let source = Source::open(data).unwrap();
    let plan = repair::plan(&source).unwrap();
    plan.write(&source, to, |_| {}).unwrap();
    let report = verify_directory(to).unwrap();
    assert!(report.is_good(), "{report:?}");
    plan.losses.clone()
}

/// Where the partitions of a shard begin and go on, by their index.
fn places(data: &Path, shard: u16) -> BTreeMap<u32, (Offset, Offset)> {
    let source = Source::open(data).unwrap();
    let mut log = source.shard(ShardId(shard)).unwrap().unwrap();
    let state = ShardState::read(ShardId(shard), &mut log).unwrap();
    assert!(state.is_good(), "{:?} {:?}", state.gaps, state.misfits);
    let records = state.partitions().into_iter().map(|view| view.carried.record);
    records.map(|r| (r.index.0, (r.first_offset, r.next_offset))).collect()
}

fn lost_entries(losses: &Losses, shard: usize) -> Vec<(Lsn, Lsn)> {
    let gaps = losses.shards[shard].gaps.iter();
    gaps.filter_map(|gap| match gap.lost {
        Lost::Entries { first, last } => Some((first, last)),
        _ => None,
    })
    .collect()
}

#[test]
fn both_checkpoints_bad_and_the_begin_recycled_is_a_loss_that_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let (data, to) = (temp.path().join("data"), temp.path().join("to"));
    let mut new = directory::create(&data, 1, SECRET).unwrap();
    let mut log = Shard::create(&new.shard_path(0), 0, new.block_bytes());
    log.change(0, &topic_created(&[0]));
    log.change(1, &partition_created(0));
    recycled(&mut log);
    log.stop();
    new.finish().unwrap();
    drop(new);
    let folder = data.join("shard-0000");
    let before = batches(&data, 0);
    assert!(segment_number(&files(&folder, "segment-")[0]) > 1, "the begin was not recycled");
    spoil_checkpoints(&folder);

    let losses = repaired(&data, &to);
    assert!(losses.is_any() && losses.shards[0].state_lost, "{losses:?}");
    assert_eq!(lost_entries(&losses, 0)[0].0, Lsn(1));
    // The topic comes from the label, with every live batch where it was.
    let kept = batches(&to, 0);
    for at in (160..288).step_by(RECORDS as usize) {
        let place = (StreamId(1), at);
        assert!(kept.contains_key(&place) && kept[&place] == before[&place], "{at}");
    }
    assert!(places(&to, 0)[&0].1 >= 288);
}

#[test]
fn partitions_that_only_lost_checkpoints_knew_do_not_begin_anew() {
    let temp = tempfile::tempdir().unwrap();
    let (data, to) = (temp.path().join("data"), temp.path().join("to"));
    two_shards(&data, 2, |shard| {
        let bytes = shard.batch(2, 0, 100, None);
        shard.change(2, &Change::LogStartAdvanced { offset: 100, bytes });
        shard.wal.set_log_start(StreamId(2), 100);
        recycled(shard);
    });
    spoil_checkpoints(&data.join("shard-0001"));
    let losses = repaired(&data, &to);
    assert!(losses.shards[1].state_lost, "{losses:?}");
    assert!(!losses.shards[0].state_lost, "{losses:?}");
    let unknown: Vec<u32> =
        losses.partitions.iter().filter(|p| p.end_unknown).map(|p| p.partition.0).collect();
    assert!(unknown.contains(&1), "{losses:?}");
    let places = places(&to, 1);
    assert!(places[&0].1 >= 288, "{places:?}");
    assert!(places[&1].1 >= 100, "its offsets are used again: {places:?}");
}

#[test]
fn without_manifests_a_lost_begin_is_told() {
    let temp = tempfile::tempdir().unwrap();
    for whole_segment in [false, true] {
        let data = temp.path().join(format!("data-{whole_segment}"));
        let to = temp.path().join(format!("to-{whole_segment}"));
        two_shards(&data, 1, |shard| {
            publish(shard, 0, 2);
            if whole_segment {
                shard.checkpoint();
            }
            publish(shard, 8, 60);
        });
        let folder = data.join("shard-0001");
        let before = batches(&data, 1);
        files(&folder, "manifest-").iter().for_each(|path| fs::remove_file(path).unwrap());
        let first = &files(&folder, "segment-")[0];
        match whole_segment {
            true => fs::remove_file(first).unwrap(),
            // The block without entries that every start writes, and the first one with any.
            false => change_bytes(first, 4096..12_288),
        }
        let losses = repaired(&data, &to);
        assert!(losses.is_any() && losses.shards[1].state_lost, "{losses:?}");
        // One entry makes the partition, two are published before the checkpoint.
        let first_lost = if whole_segment { 4 } else { 1 };
        assert_eq!(lost_entries(&losses, 1)[0].0, Lsn(first_lost), "{losses:?}");
        let kept = batches(&to, 1);
        assert!(kept.iter().all(|(place, batch)| before[place] == *batch));
        let lost: u64 = (before.len() - kept.len()) as u64 * u64::from(RECORDS);
        assert!(whole_segment == (lost > 0), "{lost}");
        assert_eq!(losses.records(), lost, "{losses:?}");
        assert_eq!(places(&to, 1)[&0].1, 8 + 60 * u64::from(RECORDS));
    }
}

#[test]
fn a_shard_lost_twice_never_uses_an_offset_twice() {
    let temp = tempfile::tempdir().unwrap();
    let mut data = temp.path().join("data");
    two_shards(&data, 1, |shard| {
        publish(shard, 0, 3);
    });
    let mut used = 12;
    for round in 0..3 {
        fs::remove_dir_all(data.join("shard-0001")).unwrap();
        let to = temp.path().join(format!("to-{round}"));
        let losses = repaired(&data, &to);
        let (first, next) = places(&to, 1)[&0];
        assert_eq!((first, losses.partitions[0].next_offset), (next, next));
        assert!(next >= used, "round {round}: offset {next} was used, as all before {used}");
        let opened = directory::open(&to).unwrap();
        let path = opened.shard_path(1);
        let mut shard = Shard::open(&path, 1, opened.block_bytes(), opened.secret());
        let stream = shard.engine.partitions().next().unwrap().stream;
        for batch in 0..10 {
            shard.batch(stream.0, next + batch * 100, 100, None);
        }
        shard.stop();
        used = next + 1_000;
        data = to;
    }
    // Numbers that a reader of JSON takes for what they are.
    assert!(used < 1 << 53, "{used}");
}

#[test]
fn retention_over_a_lost_batch_is_no_loss_of_state() {
    let temp = tempfile::tempdir().unwrap();
    for offset in [12, 16] {
        let (data, to) = (temp.path().join("data"), temp.path().join("to"));
        two_shards(&data, 1, |shard| {
            let bytes = publish(shard, 0, 4);
            // All bytes are counted, those of the lost batch too.
            shard.change(1, &Change::LogStartAdvanced { offset, bytes });
            publish(shard, 16, 2);
        });
        // One block for each entry: the third batch is the payload of the fourth block.
        let segment = &files(&data.join("shard-0001"), "segment-")[0];
        let bytes = fs::read(segment).unwrap();
        let wanted = batches(&data, 1)[&(StreamId(1), 8)].clone();
        let at = bytes.windows(wanted.len()).position(|window| window == wanted).unwrap();
        change_bytes(segment, at + 100..at + 101);
        let losses = repaired(&data, &to);
        assert!(!losses.shards[1].state_lost && losses.shards[1].notes.is_empty(), "{losses:?}");
        assert_eq!(losses.records(), 0, "what is lost had expired: {losses:?}");
        assert_eq!(places(&to, 1)[&0], (offset, 24));
        fs::remove_dir_all(&data).unwrap();
        fs::remove_dir_all(&to).unwrap();
    }
}
