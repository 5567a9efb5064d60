//! io_uring refused, by a real seccomp filter in front of the real binary.

use std::path::Path;

use super::{can, restricted};
use crate::harness::{Launch, folder};

/// The sentence with which a broker ends under these rules; `None` where they cannot be set.
fn refused(rules: &[&str]) -> Option<String> {
    let through = restricted(rules);
    if !can("a broker without io_uring", &through) {
        return None;
    }
    let folder = folder();
    let data = folder.path().join("data");
    let run = Launch::new(&data).through(&through).try_start().unwrap_err();
    assert!(!data.exists(), "nothing was made");
    Some(run.failed_after_logs())
}

#[test]
fn a_filter_is_named_with_the_way_out_of_every_runtime() {
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        for error in ["EPERM", "ENOSYS"] {
            let Some(sentence) = refused(&[&format!("{call}={error}")]) else { return };
            assert!(sentence.contains("a seccomp filter"), "{call} {error}: {sentence}");
            for word in ["Docker", "Podman", "localhostProfile", "deploy/seccomp.json", "systemd"] {
                assert!(sentence.contains(word), "{call} {error}: {word}: {sentence}");
            }
            assert!(!sentence.contains("privileged"), "{sentence}");
        }
    }
}

#[test]
fn a_kernel_without_a_setup_flag_is_told_which() {
    let Some(sentence) = refused(&["io_uring_setup=EINVAL"]) else { return };
    assert!(sentence.contains("IORING_SETUP_DEFER_TASKRUN, which Linux 6.1"), "{sentence}");
}

#[test]
fn the_shipped_profile_is_enough_for_a_broker_and_no_more() {
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/seccomp.json");
    let rule = format!("profile={}", profile.display());
    let through = restricted(&[&rule]);
    if !can("a broker under deploy/seccomp.json", &through) {
        return;
    }
    let folder = folder();
    let data = folder.path().join("data");
    let launch = Launch::new(&data).cores(2).through(&through);
    let server = launch.start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    assert!(status.contains("Seccomp:\t2\n"), "{status}");
    server.create("t", 4);
    let lines: String = (0..2_000).map(|n| format!("{n}\n")).collect();
    server.publish("t", &lines);
    server.kill();
    let server = launch.start();
    assert_eq!(server.values("t").len(), 2_000);
    server.publish("t", "after\n");
    server.run(&["status"]).ok();
    server.stop();

    // What has nothing to do with a broker is refused: no namespace can be made.
    let mut outside = std::process::Command::new(&through[0]);
    let output = outside.args(&through[1..]).args(["unshare", "--user", "true"]).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
}
