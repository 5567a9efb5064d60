//! A directory of each format that was ever written, kept for good: it opens, says what it said,
//! and nothing of it is lost.
//!
//! `golden/format-1.zst` is the directory, `golden/format-1.txt` what is in it. Both are written
//! anew, when a format is, by
//! `CORELANE_GOLDEN=write cargo test -p corelane-offline --test golden`.

#[path = "golden/archive.rs"]
mod archive;
#[path = "golden/entries.rs"]
mod entries;
#[path = "golden/shard.rs"]
#[allow(dead_code, reason = "other tests share this file")]
mod shard;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use corelane_offline::read::{ReadError, Source};
use corelane_offline::repair;
use corelane_offline::state::ShardState;
use model::ShardId;
use protocol::{RecordIter, check_batch};
use wal::device::DeviceError;
use wal::verify::verify_directory;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[derive(Debug)]
enum Failed {
    Read(#[allow(dead_code, reason = "shown when the test fails")] ReadError),
    Device(#[allow(dead_code, reason = "shown when the test fails")] DeviceError),
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<DeviceError> for Failed {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

/// Everything that a directory holds, as text.
fn content(path: &Path) -> String {
    let source = Source::open(path).unwrap();
    let mut text = String::new();
    for shard in (0..source.shards()).map(ShardId) {
        let mut log = source.shard(shard).unwrap().unwrap();
        let state = ShardState::read(shard, &mut log).unwrap();
        assert!(state.is_good(), "shard {shard}: {:?} {:?}", state.gaps, state.misfits);
        let counted = state.engine.counted();
        writeln!(text, "shard {shard}: {} entries, {counted:?}", state.entries).unwrap();
        for topic in state.engine.topics() {
            writeln!(text, "topic {topic:?}").unwrap();
        }
        for topic in state.engine.tombstones() {
            writeln!(text, "tombstone {topic:?}").unwrap();
        }
        for view in state.partitions() {
            writeln!(text, "partition {:#?}", view.carried).unwrap();
        }
        log.each_entry(|lsn, head, payload| -> Result<(), Failed> {
            writeln!(text, "{lsn} {head:?}").unwrap();
            if head.is_batch() {
                let header = check_batch(&[payload]).unwrap();
                let records = RecordIter::new(&header, &payload[61..]);
                let values = records.map(|record| record.unwrap().value.map(<[u8]>::len));
                writeln!(text, "    {:?}", values.collect::<Vec<_>>()).unwrap();
            }
            Ok(())
        })
        .unwrap();
    }
    text
}

#[test]
fn format_1_opens_and_says_what_it_said() {
    let temp = tempfile::tempdir().unwrap();
    if std::env::var("CORELANE_GOLDEN").is_ok_and(|what| what == "write") {
        let made = temp.path().join("made");
        entries::write(&made);
        fs::write(golden("format-1.zst"), archive::pack(&made)).unwrap();
        fs::write(golden("format-1.txt"), content(&made)).unwrap();
    }
    let data = temp.path().join("data");
    archive::unpack(&golden("format-1.zst"), &data);
    let expected = fs::read_to_string(golden("format-1.txt")).unwrap();
    assert_eq!(content(&data), expected);
    {
        let report = verify_directory(&data).unwrap();
        assert!(report.is_good(), "{report:?}");
    }

    // Every kind of entry is in it.
    for kind in 1..=14 {
        assert!(expected.contains(&format!("kind: {kind},")), "no entry of kind {kind}");
    }

    // Written anew it holds the same.
    let source = Source::open(&data).unwrap();
    let plan = repair::plan(&source).unwrap();
    assert!(plan.losses.is_whole(), "{:?}", plan.losses);
    let anew = temp.path().join("anew");
    plan.write(&source, &anew, |_| {}).unwrap();
    let of = |text: &str| -> Vec<String> {
        let lines =
            text.lines().filter(|line| line.starts_with("topic ") || line.contains(" kind: 1,"));
        let without_lsn = |line: &str| line.split_once(' ').unwrap().1.to_owned();
        let mut lines: Vec<String> = lines.map(without_lsn).collect();
        lines.sort();
        lines
    };
    assert_eq!(of(&content(&anew)), of(&kept_only(&expected)));
}

/// Without the batches of partitions that are deleted or lie before a log's start.
fn kept_only(text: &str) -> String {
    let kept = |line: &&str| !entries::GONE.iter().any(|gone| line.contains(gone));
    text.lines().filter(kept).map(|line| format!("{line}\n")).collect()
}
