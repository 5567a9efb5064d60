//! Surroundings that a broker meets in the real world, each made for real where the system that
//! runs the tests allows it. What it does not allow is said on stderr, and an injected error or a
//! unit test beside the code covers the same behaviour.

mod control_group;
mod cpus;
mod filesystems;
mod io_uring;
mod limits;
mod place;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program that takes system calls away before it becomes another.
fn restricted(rules: &[&str]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/environment/restrict.py");
    let words = ["python3".to_owned(), script.to_str().unwrap().to_owned()];
    let rules = rules.iter().map(|rule| (*rule).to_owned());
    words.into_iter().chain(rules).chain(["--".to_owned()]).collect()
}

/// Runs `script` in a mount namespace of its own, as root of a user namespace where the tests are
/// not run as root; then the broker. What is mounted goes with the process.
fn with_mounts(script: &str) -> Vec<String> {
    let script = format!("set -e; {script}; exec \"$@\"");
    ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]
        .map(str::to_owned)
        .to_vec()
}

/// Whether a program ends well; if not, says on stderr that `test` could not be run.
fn can(test: &str, words: &[String]) -> bool {
    let output = Command::new(&words[0]).args(&words[1..]).arg("true").output();
    let problem = match output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("{test} could not be run here: {} says: {problem}", words[0]);
    false
}

/// The open flags of those of a process's files that lie under `folder`.
fn open_flags(process: u32, folder: &Path) -> Vec<(PathBuf, i32)> {
    let folder = folder.canonicalize().unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let mut found = Vec::new();
    for descriptor in descriptors {
        let descriptor = descriptor.unwrap();
        let Ok(path) = std::fs::read_link(descriptor.path()) else { continue };
        let number = descriptor.file_name().into_string().unwrap();
        let info = std::fs::read_to_string(format!("/proc/{process}/fdinfo/{number}"));
        if let Ok(info) = info
            && path.starts_with(&folder)
        {
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            found.push((path, i32::from_str_radix(flags.trim(), 8).unwrap()));
        }
    }
    found
}
