//! Each driver against its real server, where that is to be found: everything sent is read back,
//! at each level that the broker has. Where it is not, the test says so.

use std::path::PathBuf;
use std::process::Command;

/// Corelane's own driver needs no feature; its broker must have been built beside this test.
#[test]
fn corelane() {
    let broker = PathBuf::from(env!("CARGO_BIN_EXE_peers")).with_file_name("corelane");
    if !broker.is_file() {
        eprintln!(
            "corelane: could not be tested: build the broker first (cargo build -p corelane)"
        );
        return;
    }
    // The tests of this file run beside each other in one process, so the variable is set here
    // for the one child that it concerns.
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_peers"))
        .env("CORELANE_PEERS_BROKER", &broker)
        .args(["run", "--strict", "--seconds", "0.3", "--warmup", "0.1", "--only", "corelane"])
        .args(["--workloads", "lockstep-1,consume-100", "--server-cpus", "0", "--load-cpu", "0"])
        .arg("--folder")
        .arg(folder.path())
        .arg("--out")
        .arg(folder.path().join("report"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("failed") && !said.contains("NOT ALL IN ORDER"), "{said}");
    assert_eq!(said.matches(" msg/s ").count(), 4, "two levels, two workloads:\n{said}");
}

#[test]
fn a_broker_that_is_not_built_in_is_named_and_strict_fails() {
    let folder = tempfile::tempdir().unwrap();
    let run = |strict: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_peers"))
            .args(["run", "--only", "iggy", "--load-cpu", "0"])
            .args(strict)
            .arg("--out")
            .arg(folder.path())
            .output()
            .unwrap()
    };
    assert!(run(&[]).status.success());
    let report = std::fs::read_to_string(folder.path().join("report.md")).unwrap();
    assert!(report.contains("Iggy: the harness has no driver for it"), "{report}");
    let refused = run(&["--strict"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no driver for it"));
}
