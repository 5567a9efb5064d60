//! The audit, held against logs written by hand from the format's definitions alone.

mod hand;

use corelane_wal::device::sim::SimDisk;
use corelane_wal::verify::{LogReport, verify_directory, verify_log};
use hand::{HandLog, SECRET, UNIT, batch, write_to};

fn audit(log: &HandLog) -> LogReport {
    let mut disk = SimDisk::from_image(log.image(), 1);
    verify_log(&mut disk, &SECRET).unwrap()
}

/// A sealed segment with three blocks, an active one with two.
fn good() -> HandLog {
    let mut log = HandLog::new();
    log.begin_segment(1, 0);
    log.block(&[batch(1, 0, 2, b"first"), batch(2, 0, 1, b"second")]);
    log.block(&[batch(1, 2, 3, &[7; 5_000])]);
    log.block(&[batch(2, 1, 1, b"third")]);
    log.seal();
    log.begin_segment(2, 4);
    log.block(&[batch(1, 5, 1, b"fourth")]);
    log.witness();
    log.pool(3);
    log.checkpoint(2, 4, &[b"piece one", b"", &[9; 9_000]]);
    log
}

fn only_damage(log: &HandLog) -> (String, u64, String) {
    let report = audit(log);
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    let finding = report.damage[0].clone();
    (finding.file, finding.offset, finding.what)
}

#[test]
fn a_good_log_is_counted() {
    let report = audit(&good());
    assert!(report.is_good(), "{:?}", report.damage);
    assert_eq!(report.notes, []);
    assert_eq!((report.first_lsn, report.last_lsn, report.promised_lsn), (1, 5, 5));
    assert_eq!((report.segments, report.footers, report.checkpoints), (3, 1, 1));
    assert_eq!((report.blocks, report.witnesses, report.entries), (5, 1, 5));
    assert_eq!((report.batches, report.records, report.streams), (5, 8, 2));
    assert_eq!(report.payload_bytes, 5 + 6 + 5_000 + 5 + 6);
}

#[test]
fn the_byte_that_was_changed_is_named() {
    let segment = "segment-00000000000000000001";
    // (file, byte changed, where the finding points, what it says)
    let cases: [(&str, u64, u64, &str); 12] = [
        (segment, 3, 0, "segment's header"),
        (segment, 100, 0, "contradicts"),
        (segment, 4096 + 40, 4096, "no block"),
        (segment, 4096 + 128 + 5 + 2, 4096 + 128 + 5, "entry 2 "),
        (segment, 4096 + 128 + 11 + 9, 4096 + 128 + 11, "entry table"),
        (segment, 4096 + 4000, 4096 + 4000, "padding"),
        (segment, 8192 + 3000, 8192 + 128, "entry 3 "),
        (segment, 65_536 - 10, 65_536 - 128, "footer's trailer"),
        ("segment-00000000000000000002", 4096 + 130, 4096 + 128, "entry 5 "),
        ("segment-00000000000000000002", 8192 + 9, 8192, "last block"),
        ("checkpoint-00000000000000000004", 4096 + 50, 4096, "pieces"),
        ("manifest-0", 30, 0, "manifest"),
    ];
    for (file, changed, offset, says) in cases {
        let mut log = good();
        log.change(file, changed);
        let report = audit(&log);
        let finding = report.damage.first().unwrap_or_else(|| panic!("{file} {changed}"));
        assert_eq!((finding.file.as_str(), finding.offset), (file, offset), "{finding}");
        assert!(finding.what.contains(says), "{file} {changed}: {finding}");
        assert!(finding.to_string().contains(&format!("{file} at byte {offset}: ")));
    }
}

#[test]
fn after_damage_the_rest_is_still_read() {
    let mut log = good();
    log.change("segment-00000000000000000001", 8192 + 20);
    log.change("segment-00000000000000000002", 4096 + 130);
    let report = audit(&log);
    let places: Vec<_> = report.damage.iter().map(|f| (f.file.as_str(), f.offset)).collect();
    let expected =
        [("segment-00000000000000000001", 8192), ("segment-00000000000000000002", 4096 + 128)];
    assert_eq!(places, expected, "{:?}", report.damage);
    assert_eq!(report.last_lsn, 5);
}

#[test]
fn missing_files_are_damage() {
    let names = ["segment-00000000000000000001", "checkpoint-00000000000000000004"];
    for name in names {
        let mut log = good();
        log.remove(name);
        let (file, offset, what) = only_damage(&log);
        assert_eq!((file.as_str(), offset), (name, 0));
        assert!(what.contains("missing"), "{what}");
    }
    let mut log = good();
    log.remove("manifest-0");
    assert!(only_damage(&log).2.contains("no manifest"));
}

#[test]
fn a_tail_that_nothing_calls_durable_is_a_note() {
    let mut log = good();
    log.witness();
    log.lose_block();
    log.block(&[batch(1, 6, 1, b"torn")]);
    log.change("segment-00000000000000000002", log.last_block() + 130);
    let report = audit(&log);
    assert!(report.is_good(), "{:?}", report.damage);
    assert_eq!(report.last_lsn, 5);
    assert_eq!(report.notes.len(), 1);
}

#[test]
fn a_tail_that_something_calls_durable_is_damage() {
    let mut log = good();
    log.block(&[batch(1, 6, 1, b"acknowledged")]);
    let torn = log.last_block();
    log.witness();
    log.change("segment-00000000000000000002", torn + 20);
    let (file, offset, what) = only_damage(&log);
    assert_eq!((file.as_str(), offset), ("segment-00000000000000000002", torn));
    assert!(what.contains("entries from 6 on, at least up to 6, were durable"), "{what}");
    // The manifest is a witness as well.
    let mut log = good();
    log.durable_in_manifest(9);
    let (_, _, what) = only_damage(&log);
    assert!(what.contains("up to 9"), "{what}");
}

#[test]
fn blocks_that_do_not_follow_are_refused() {
    let mut log = good();
    log.skip_sequence();
    log.block(&[batch(1, 6, 1, b"of another chain")]);
    log.witness();
    let report = audit(&log);
    assert!(!report.is_good(), "a later witness calls the entry durable");
    let mut log = good();
    log.block(&[batch(1, 9, 1, b"a leap")]);
    log.witness();
    let (_, _, what) = only_damage(&log);
    assert!(what.contains("stream 1 goes from offset 6 to 9"), "{what}");
}

#[test]
fn a_footer_that_contradicts_its_blocks_is_damage() {
    let mut log = HandLog::new();
    log.begin_segment(1, 0);
    log.block(&[batch(1, 0, 2, b"first")]);
    log.seal_with(|body| body.streams[0].last_offset += 1);
    log.begin_segment(2, 0);
    assert!(only_damage(&log).2.contains("contradicts the blocks about stream 1"));
    let mut log = HandLog::new();
    log.begin_segment(1, 0);
    log.block(&[batch(1, 0, 2, b"first")]);
    log.block(&[batch(1, 2, 2, b"second")]);
    log.seal_with(|body| body.index[0].block += UNIT as u32);
    log.begin_segment(2, 0);
    assert!(only_damage(&log).2.contains("points beside it"));
}

#[test]
fn a_segment_nobody_names_is_damage_only_with_blocks_in_it() {
    let mut log = good();
    log.unnamed(9, false);
    let report = audit(&log);
    assert!(report.is_good());
    assert_eq!(report.notes.len(), 1);
    let mut log = good();
    log.unnamed(9, true);
    assert!(only_damage(&log).2.contains("does not name it"));
}

#[test]
fn an_empty_directory_has_no_manifest() {
    let report = verify_log(&mut SimDisk::new(1), &SECRET).unwrap();
    assert_eq!(report.damage.len(), 1);
}

#[test]
fn a_whole_data_directory_is_audited() {
    let keep = tempfile::tempdir().unwrap();
    let path = keep.path().join("data");
    let mut directory = corelane_wal::directory::create(&path, 2, SECRET).unwrap();
    write_to(&good().image(), &directory.shard_path(0));
    drop(directory);
    let unfinished = verify_directory(&path).unwrap();
    assert!(unfinished.is_good(), "a log not made yet is not damage");
    drop(unfinished);
    directory = corelane_wal::directory::open(&path).unwrap();
    directory.finish().unwrap();
    drop(directory);
    assert!(!verify_directory(&path).unwrap().is_good(), "now it is");
    directory = corelane_wal::directory::open(&path).unwrap();
    write_to(&good().image(), &directory.shard_path(1));
    drop(directory);
    let report = verify_directory(&path).unwrap();
    assert!(report.is_good());
    assert_eq!(report.shards.len(), 2);
    drop(report);
    let mut log = good();
    log.change("segment-00000000000000000001", 4096 + 130);
    write_to(&log.image(), &path.join("shard-0001"));
    let report = verify_directory(&path).unwrap();
    assert!(!report.is_good());
    let finding = &report.shards[1].as_ref().unwrap().damage[0];
    assert_eq!(finding.file, "shard-0001/segment-00000000000000000001");
    assert!(report.shards[0].as_ref().unwrap().is_good());
}
