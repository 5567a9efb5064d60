//! A short form of the crash scenario.

use std::path::PathBuf;
use std::time::Duration;

use corelane_load_test::crash;

use crate::harness::BINARY;

#[test]
fn three_kills_break_no_promise() {
    let seed = match std::env::var("CORELANE_SEED") {
        Ok(seed) => seed.parse().expect("CORELANE_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    };
    println!("CORELANE_SEED={seed}");
    let options = crash::Options {
        program: PathBuf::from(BINARY),
        folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        rounds: 3,
        seed,
        rate: 1_000,
        life_max: Duration::from_millis(800),
        verbose: true,
    };
    let report = crash::run(&options).unwrap();
    assert_eq!(report.rounds, 3);
    assert!(report.acknowledged > 0 && report.acknowledged == report.messages, "{report:?}");
}
