//! Each driver against its real server, where that is to be found: everything sent is read back,
//! at each level that the broker has. Where it is not, the test says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The exit codes of docs/peers.md.
const WRONG: i32 = 1;
const NO_REPORT: i32 = 2;

const WORKLOADS: [&str; 5] =
    ["lockstep-4", "batch-1000", "consume-100", "end-to-end", "topics-1000"];

/// Whether there is what it takes to test a peer: its client in this build and its server in the
/// cache.
fn can_be_tested(peer: &str, feature_on: bool) -> bool {
    if !feature_on {
        eprintln!("{peer}: could not be tested: built without its feature");
        return false;
    }
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("servers").join(peer);
    // `version` neither downloads nor builds.
    let found = Command::new(&script).arg("version").output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("{peer}: could not be tested: no server; {} get brings it", script.display());
    }
    found
}

/// Runs the harness on one broker, shortly, and checks what it reports.
fn measure(peer: &str, levels: usize, configure: impl Fn(&mut Command)) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let mut command = Command::new(env!("CARGO_BIN_EXE_peers"));
    command
        .args(["run", "--strict", "--seconds", "0.3", "--warmup", "0.1", "--preload-mib", "4"])
        .args(["--server-warmup", "0.2"])
        .args(["--only", peer, "--workloads", &WORKLOADS.join(",")])
        .args(["--server-cpus", "0", "--load-cpu", "0"])
        .arg("--folder")
        .arg(folder.path())
        .arg("--out")
        .arg(&out);
    configure(&mut command);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    check(&out, levels, &said);
}

#[track_caller]
fn check(out: &Path, levels: usize, said: &str) {
    let results = std::fs::read_to_string(out.join("results.json")).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    let rows = results["rows"].as_array().unwrap();
    let mut measured = BTreeSet::new();
    for row in rows {
        let report = &row["outcome"]["measured"];
        assert!(report["checked"].as_u64().is_some_and(|checked| checked > 0), "{row}\n{said}");
        for wrong in ["lost", "duplicated", "reordered", "corrupted"] {
            assert_eq!(report[wrong], 0, "{wrong} in {row}\n{said}");
        }
        measured.insert((row["level"].to_string(), row["workload"].to_string()));
    }
    assert_eq!(measured.len(), levels * WORKLOADS.len(), "{said}");
    for form in ["report.md", "report.html"] {
        assert!(std::fs::read_to_string(out.join(form)).unwrap().contains("50 MB/s"));
    }
}

/// The broker beside the harness, built if it is not there.
fn corelane_program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_peers")).with_file_name("corelane");
    if !program.is_file() {
        let target = program.parent().and_then(Path::parent).unwrap();
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "corelane", "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success() && program.is_file(), "{} is needed", program.display());
    }
    program
}

#[test]
fn corelane() {
    let program = corelane_program();
    measure("corelane", 2, |command| {
        command.env("CORELANE_PEERS_BROKER", &program);
    });
}

#[test]
fn redis() {
    if can_be_tested("redis", cfg!(feature = "redis")) {
        measure("redis", 2, |_| {});
    }
}

#[test]
fn nats() {
    if can_be_tested("nats", cfg!(feature = "nats")) {
        measure("nats", 2, |_| {});
    }
}

#[test]
fn kafka() {
    if can_be_tested("kafka", cfg!(feature = "kafka")) {
        measure("kafka", 2, |_| {});
    }
}

#[test]
fn rabbitmq_quorum() {
    if can_be_tested("rabbitmq-quorum", cfg!(feature = "rabbitmq")) {
        measure("rabbitmq-quorum", 2, |_| {});
    }
}

#[test]
fn rabbitmq_stream() {
    if can_be_tested("rabbitmq-stream", cfg!(feature = "rabbitmq-stream")) {
        measure("rabbitmq-stream", 1, |_| {});
    }
}

#[test]
fn activemq() {
    if can_be_tested("activemq", cfg!(feature = "activemq")) {
        measure("activemq", 2, |_| {});
    }
}

/// Whether or not this build has its client: the server named is not there.
#[test]
fn a_broker_that_cannot_be_had_is_named_and_only_strict_fails() {
    let folder = tempfile::tempdir().unwrap();
    let run = |strict: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_peers"))
            .args(["run", "--only", "iggy", "--load-cpu", "0"])
            .env("CORELANE_PEERS_IGGY", folder.path().join("iggy-server"))
            .args(strict)
            .arg("--out")
            .arg(folder.path())
            .output()
            .unwrap()
    };
    assert!(run(&[]).status.success());
    let report = std::fs::read_to_string(folder.path().join("report.md")).unwrap();
    let why = if cfg!(feature = "iggy") { "no package registry" } else { "--features iggy" };
    assert!(report.contains("- Iggy: ") && report.contains(why), "{report}");
    let refused = run(&["--strict"]);
    assert_eq!(refused.status.code(), Some(NO_REPORT));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("Iggy cannot be measured: ") && said.contains(why), "{said}");
}

#[test]
fn a_failed_or_damaged_row_is_an_exit_code_and_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let program = corelane_program();
    let peers = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peers"));
        command.args(arguments).arg("--out").arg(folder.path());
        command.env("CORELANE_PEERS_BROKER", &program).output().unwrap()
    };
    let measured = peers(&[
        "run",
        "--only",
        "corelane",
        "--levels",
        "memory",
        "--workloads",
        "lockstep-1",
        "--seconds",
        "0.2",
        "--warmup",
        "0.1",
        "--server-warmup",
        "0.2",
        "--load-cpu",
        "0",
        "--folder",
        folder.path().to_str().unwrap(),
    ]);
    assert_eq!(measured.status.code(), Some(0), "{measured:?}");
    let results = folder.path().join("results.json");
    let sound = std::fs::read_to_string(&results).unwrap();
    let told = |pointer: &str, value: Value| {
        let mut changed: Value = serde_json::from_str(&sound).unwrap();
        *changed.pointer_mut(pointer).unwrap() = value;
        std::fs::write(&results, changed.to_string()).unwrap();
        let output = peers(&["report", results.to_str().unwrap()]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let row = "corelane memory lockstep-1";
    let (code, said) = told("/rows/0/outcome", serde_json::json!({ "failed": "it ended" }));
    assert_eq!(code, Some(WRONG), "{said}");
    assert!(said.contains(&format!("of 1 rows 1 failed ({row})")), "{said}");
    let (code, said) = told("/rows/0/outcome/measured/lost", 1.into());
    assert_eq!(code, Some(WRONG), "{said}");
    assert!(said.contains("1 with messages lost") && said.contains(row), "{said}");
    let (code, said) = told("/rows/0/outcome/measured/valid", false.into());
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = told("/schema", 99.into());
    assert_eq!(code, Some(NO_REPORT), "{said}");
}
