//! `corelane verify`, and what becomes of a damaged log.

use std::path::{Path, PathBuf};

use crate::harness::{Launch, corelane, folder};

#[test]
fn a_good_directory_passes_and_is_not_changed() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).cores(2).shards(2).start();
    server.create("t", 4);
    server.publish("t", &"some text\n".repeat(10_000));
    server.stop();
    let before = files(&data);
    let path = data.to_str().unwrap();
    let report = corelane(&["verify", path]).ok();
    for expected in ["shard 0: ", "shard 1: ", " records ", " bytes read", "good"] {
        assert!(report.text().contains(expected), "{expected}: {}", report.text());
    }
    let report = corelane(&["verify", path, "--output", "json"]).ok().json();
    assert_eq!(report["good"], true);
    let shards = report["shards"].as_array().unwrap();
    let records: u64 = shards.iter().map(|shard| shard["records"].as_u64().unwrap()).sum();
    assert_eq!(records, 10_000);
    assert!(files(&data) == before, "verify wrote something");
}

#[test]
fn a_log_left_by_a_kill_passes() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).start();
    server.create("t", 1);
    server.publish("t", &"some text\n".repeat(10_000));
    server.kill();
    corelane(&["verify", data.to_str().unwrap()]).ok();
}

/// Every file with its content.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn one_changed_byte_is_found_named_and_never_served() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).start();
    server.create("t", 1);
    let mut lines: Vec<_> = (0..2_000).map(|n| format!("line {n} of the topic")).collect();
    lines[1_000] = "the needle in the haystack".to_owned();
    // In many blocks, so that there are good ones before and after.
    for part in lines.chunks(100) {
        server.publish("t", &format!("{}\n", part.join("\n")));
    }
    server.stop();

    let needle = lines[1_000].as_bytes();
    let (path, mut bytes, at) = files(&data)
        .into_iter()
        .find_map(|(path, bytes)| {
            let at = bytes.windows(needle.len()).position(|window| window == needle)?;
            Some((path, bytes, at))
        })
        .unwrap();
    bytes[at] ^= 0x20;
    std::fs::write(&path, &bytes).unwrap();

    let run = corelane(&["verify", data.to_str().unwrap()]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let name = path.strip_prefix(&data).unwrap().to_str().unwrap();
    let line = run.text().lines().find(|line| line.contains("DAMAGE ")).unwrap();
    assert!(line.contains(name), "{line}");
    let report = corelane(&["verify", data.to_str().unwrap(), "--output", "json"]);
    assert_eq!(report.code, Some(1), "{report:?}");
    let damage = &report.json()["shards"][0]["damage"][0];
    assert_eq!(damage["file"], name);
    let offset = damage["offset"].as_u64().unwrap();
    let distance = (at as u64).abs_diff(offset);
    assert!(distance <= 64 * 1024, "the byte is at {at}, the report says {offset}");

    // Opened or not: the changed line does not come out, and no line is invented.
    let server = Launch::new(&data).start();
    let run = server.run(&["consume", "t"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let printed: Vec<_> = run.text().lines().collect();
    assert!(printed.len() <= 1_000, "{} lines", printed.len());
    assert!(printed.iter().zip(&lines).all(|(line, expected)| line == expected));
}
