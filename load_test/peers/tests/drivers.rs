//! What the harness says of brokers it has no driver for.

use std::process::Command;

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
