//! Short forms of the fault scenario, the soak and the storm.

use std::path::PathBuf;
use std::time::Duration;

use corelane_load_test::{faults, soak, storm};

use crate::harness::{BINARY, seed};

#[test]
fn faults_break_no_promise() {
    use faults::Fault;
    let options = faults::Options {
        program: PathBuf::from(BINARY),
        folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        seed: seed(),
        time: Duration::ZERO,
        faults: vec![Fault::Resets, Fault::Descriptors, Fault::AddressSpace, Fault::Mixed],
        attempts: 800,
        rate: Some(500),
        verbose: true,
    };
    let report = faults::run(&options).unwrap();
    println!("{report}");
    assert!(report.rows.values().all(|row| row.times == 1), "{report}");
    assert!(report.totals.acknowledged > 0 && report.totals.followed > 0, "{report}");
}

#[test]
fn a_memory_limit_of_the_kernel_is_never_met() {
    let options = faults::Options {
        program: PathBuf::from(BINARY),
        folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        seed: seed(),
        time: Duration::ZERO,
        faults: vec![faults::Fault::MemoryGroup],
        attempts: 0,
        rate: Some(500),
        verbose: true,
    };
    let report = faults::run(&options).unwrap();
    println!("{report}");
    let row = &report.rows[&faults::Fault::MemoryGroup];
    match &row.skipped {
        Some(why) => eprintln!("could not run under a memory limit: {why}"),
        None => assert_eq!(row.times, 1, "{report}"),
    }
}

#[test]
fn a_short_soak_keeps_its_promises_and_measures() {
    let folder = crate::harness::folder();
    let csv = folder.path().join("soak.csv");
    let html = folder.path().join("soak.html");
    let options = soak::Options {
        program: PathBuf::from(BINARY),
        folder: folder.path().to_owned(),
        seed: seed(),
        time: Duration::from_secs(10),
        rate: 1_000,
        restarts: true,
        csv: Some(csv.clone()),
        html: Some(html.clone()),
        verbose: true,
    };
    let report = soak::run(&options).unwrap();
    println!("{report}");
    // Ten seconds of an unoptimized broker say nothing of slopes; that they are taken is checked.
    assert_eq!(report.trends.len(), 6, "{report}");
    assert!(report.totals.acknowledged > 0, "{report}");
    let rows = std::fs::read_to_string(csv).unwrap();
    assert!(rows.lines().count() > 5, "{rows}");
    let columns = rows.lines().next().unwrap().split(',').count();
    assert!(rows.lines().all(|row| row.split(',').count() == columns), "{rows}");
    let page = std::fs::read_to_string(html).unwrap();
    for part in ["Resident memory", "Descriptors", "Latency", "<svg"] {
        assert!(page.contains(part), "{part} in the page of {} bytes", page.len());
    }
    assert!(!page.contains("http://") || !page.contains("src="), "needs another file");
}

#[test]
fn a_short_storm_leaves_nothing_behind() {
    let folder = crate::harness::folder();
    let options = storm::Options {
        program: PathBuf::from(BINARY),
        folder: folder.path().to_owned(),
        seed: seed(),
        time: Duration::from_secs(6),
        connections: 600,
        rate: 600,
        verbose: true,
    };
    // That memory and descriptors are what they were, and that nothing was lost, is its own verdict.
    let report = storm::run(&options).unwrap();
    println!("{report}");
    let seen = report.seen;
    assert!(report.rounds > 0 && seen.connections > 0 && seen.peers > 0, "{report}");
    assert!(seen.slow_records > 0 && seen.burst_messages > 0, "{report}");
    assert!(report.peak.descriptors > report.start.descriptors + 300, "{report}");
    assert!(report.totals.acknowledged > 0 && report.totals.followed > 0, "{report}");
}
