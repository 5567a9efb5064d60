//! The rules of the house that a machine can check: which crate may use which, where `unsafe` may
//! stand, how long a file may grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may use of ours; the table of `docs/architecture.md`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("protocol", &["model"]),
    ("wal", &["model"]),
    ("shards", &["model", "protocol"]),
    ("ring", &[]),
    ("tuning", &[]),
    ("server", &["model", "protocol", "wal", "shards", "ring", "tuning"]),
    ("client", &["model", "protocol"]),
    ("offline", &["model", "protocol", "wal", "shards"]),
    ("paths", &["model", "protocol", "wal", "shards"]),
    ("bench", &["model", "protocol", "ring", "client", "tuning"]),
    ("load-test", &["model", "protocol", "ring", "client", "tuning", "bench"]),
    ("peers", &["client", "bench"]),
    ("fuzz-targets", &["model", "protocol", "wal", "shards", "client", "tuning"]),
];
/// The binary may use all.
const BINARY: &str = "corelane";
/// The only crates with `unsafe`.
const UNSAFE_ALLOWED: &[&str] = &["src/ring", "wal"];
/// Crates that must build on any system.
const PORTABLE: &[&str] = &["model", "protocol", "client"];
/// What only Linux has.
const LINUX_ONLY: &[&str] = &["io-uring", "glommio", "libc", "rustix", "core_affinity"];

const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Each crate of ours with the names of everything it depends on when built.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let used = package["dependencies"].as_array().unwrap().iter();
            let used = used
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| short(dependency["name"].as_str().unwrap()))
                .collect();
            (short(package["name"].as_str().unwrap()), used)
        })
        .collect()
}

fn short(name: &str) -> String {
    name.strip_prefix("corelane-").unwrap_or(name).to_owned()
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let crates = dependencies();
    let ours: BTreeSet<_> = crates.keys().cloned().collect();
    for (name, used) in &crates {
        if name == BINARY {
            continue;
        }
        let allowed = ALLOWED
            .iter()
            .find(|(of, _)| of == name)
            .unwrap_or_else(|| panic!("the crate {name} has no row in the table of arrows"))
            .1;
        for other in used.intersection(&ours) {
            assert!(
                allowed.contains(&other.as_str()),
                "{name} must not use {other}; it may use {allowed:?}"
            );
        }
    }
}

#[test]
fn portable_crates_use_nothing_that_only_linux_has() {
    let crates = dependencies();
    for name in PORTABLE {
        for dependency in &crates[*name] {
            assert!(!LINUX_ONLY.contains(&dependency.as_str()), "{name} uses {dependency}");
        }
    }
}

#[test]
fn unsafe_stands_only_where_it_may_and_says_why() {
    for (path, text) in sources() {
        let allowed = UNSAFE_ALLOWED.iter().any(|folder| path.starts_with(folder));
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if !has_unsafe(line) {
                continue;
            }
            let place = format!("{}:{}", path.display(), at + 1);
            assert!(allowed, "{place}: unsafe outside {UNSAFE_ALLOWED:?}");
            let why = lines[at.saturating_sub(6)..=at].iter().any(|line| line.contains("SAFETY"));
            assert!(why, "{place}: unsafe without a SAFETY line above it");
        }
    }
}

#[test]
fn unsafe_is_counted_in_the_architecture() {
    let mut found = BTreeMap::new();
    for (path, text) in sources() {
        let count = text.lines().filter(|line| has_unsafe(line)).count();
        if count > 0 {
            found.insert(path.display().to_string(), count);
        }
    }
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let section = page.split_once("## Unsafe\n").expect("a section on unsafe").1;
    let written: BTreeMap<String, usize> = section
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let path = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((path.to_owned(), cells.next()?.parse().ok()?))
        })
        .collect();
    assert_eq!(written, found, "the table of docs/architecture.md (left) is not what stands there");
}

fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    [" {", " impl", " fn", " extern"].iter().any(|form| code.contains(&format!("unsafe{form}")))
}

#[test]
fn no_file_is_two_rooms() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines; split it", path.display());
    }
}

#[test]
fn no_test_is_switched_off() {
    let mark = concat!("#[", "ignore");
    for (path, text) in sources() {
        assert!(!text.contains(mark), "{} switches a test off", path.display());
    }
}

/// Every Rust file of the repository, by its path from the root.
fn sources() -> Vec<(PathBuf, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "shards", "wal", "bench", "load_test", "tuning"].map(|f| root.join(f)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}
