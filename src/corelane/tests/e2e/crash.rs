//! A short form of the crash scenario.

use std::path::PathBuf;
use std::time::Duration;

use corelane_load_test::crash;

use crate::harness::{BINARY, seed};

#[test]
fn three_kills_break_no_promise() {
    let options = crash::Options {
        program: PathBuf::from(BINARY),
        folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        rounds: 3,
        seed: seed(),
        rate: Some(1_000),
        life_max: Duration::from_millis(800),
        verbose: true,
    };
    let report = crash::run(&options).unwrap();
    assert_eq!(report.rounds, 3);
    assert!(report.durable.acknowledged > 0 && report.memory.acknowledged > 0, "{report:?}");
    assert!(report.durable.followed > 0, "{report:?}");
}
