//! The data directory and the address: in use, not permitted, missing, moved about. Each its own
//! sentence, and one shard's trouble leaves the others serving.

use std::path::{Path, PathBuf};

use super::{can, with_mounts};
use crate::harness::{Launch, folder};

fn refused(launch: Launch) -> String {
    launch.try_start().unwrap_err().failed_after_logs()
}

#[track_caller]
fn says(sentence: &str, words: &[&str]) {
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in: {sentence}");
    }
}

/// A directory of two shards with a topic on both, cleanly stopped.
fn made(data: &Path) {
    let server = Launch::new(data).shards(2).start();
    server.create("t", 2);
    let lines: String = (0..100).map(|n| format!("{n}\n")).collect();
    server.publish("t", &lines);
    server.stop();
}

fn segment(shard: &Path) -> PathBuf {
    let names = std::fs::read_dir(shard).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        names.filter(|path| path.to_str().unwrap().contains("segment-")).collect();
    segments.sort();
    segments.into_iter().next().unwrap()
}

#[test]
fn a_place_that_cannot_be_is_refused() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let sentence =
        refused(Launch::new(&folder.path().join("no.such/folder/data")).log_at(&path("log")));
    says(&sentence, &["no.such/folder does not exist", "mount the disk", "--data-dir"]);
    assert!(!path("no.such").exists());

    std::fs::write(path("file"), "a letter").unwrap();
    says(&refused(Launch::new(&path("file"))), &["is no folder", "--data-dir"]);
    assert_eq!(std::fs::read(path("file")).unwrap(), b"a letter");

    std::fs::create_dir(path("foreign")).unwrap();
    std::fs::write(path("foreign/letter"), "dear").unwrap();
    says(&refused(Launch::new(&path("foreign"))), &["is not empty", "letter", "empty or a new"]);
}

#[test]
fn a_directory_of_another_user_is_refused_with_both_names() {
    let folder = folder();
    let data = folder.path().join("data");
    made(&data);
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned);
    if !can("a broker of another user", &nobody) {
        return;
    }
    let sentence = refused(Launch::new(&data).through(&nobody));
    says(&sentence, &["permission denied", "this is user 65534", "chown -R"]);
    let server = Launch::new(&data).start();
    assert_eq!(server.values("t").len(), 100);
}

#[test]
fn a_read_only_filesystem_is_told() {
    let folder = folder();
    let data = folder.path().join("data");
    made(&data);
    let place = data.display();
    let read_only =
        with_mounts(&format!("mount --bind {place} {place}; mount -o remount,ro,bind {place}"));
    if !can("a broker on a read-only filesystem", &read_only) {
        return;
    }
    let sentence = refused(Launch::new(&data).through(&read_only));
    says(&sentence, &["mounted read-only", "dmesg"]);
}

#[test]
fn a_shard_on_a_read_only_disk_leaves_the_others_serving() {
    let folder = folder();
    let data = folder.path().join("data");
    made(&data);
    let place = data.join("shard-0001");
    let place = place.display();
    let read_only =
        with_mounts(&format!("mount --bind {place} {place}; mount -o remount,ro,bind {place}"));
    if !can("a shard on a read-only filesystem", &read_only) {
        return;
    }
    let server = Launch::new(&data).through(&read_only).start();
    let status = server.run(&["status"]);
    assert_eq!(status.code, Some(1), "status tells that not all is well");
    says(&String::from_utf8_lossy(&status.stdout), &["shard-0001", "read-only filesystem"]);
    server.stop();
}

#[test]
fn a_newer_format_is_left_to_the_newer_version() {
    let folder = folder();
    let data = folder.path().join("data");
    made(&data);
    let file = data.join("corelane.dir");
    let mut bytes = std::fs::read(&file).unwrap();
    let written = bytes[8];
    bytes[8] += 1;
    let crc = wal::crc::crc32c(&bytes[..4092]);
    bytes[4092..].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&file, &bytes).unwrap();
    let words = ["newer Corelane", &format!("format {}", written + 1), "use that version"];
    says(&refused(Launch::new(&data)), &words);
}

#[test]
fn a_directory_without_its_superblock_is_not_taken_for_foreign_or_empty() {
    let folder = folder();
    let data = folder.path().join("data");
    made(&data);
    std::fs::rename(data.join("corelane.dir"), folder.path().join("aside")).unwrap();
    says(&refused(Launch::new(&data)), &["no corelane.dir", "put the file back", "backup"]);
    std::fs::rename(folder.path().join("aside"), data.join("corelane.dir")).unwrap();
    assert_eq!(Launch::new(&data).start().values("t").len(), 100);
}

/// Serves with shard 1 in trouble; the reason that status gives. Shard 0 serves on.
#[track_caller]
fn reason_of_shard_1(data: &Path) -> String {
    let server = Launch::new(data).start();
    assert!(server.ready_line.contains("NOT served: shard 1"), "{}", server.ready_line);
    let run = server.run(&["status", "--output", "json"]);
    assert_eq!(run.code, Some(1), "status tells that not all is well");
    let status = run.json();
    assert_eq!(status["shards"][0]["health"], "serving", "{status}");
    assert_eq!(status["shards"][1]["health"], "unavailable", "{status}");
    let reason = status["shards"][1]["reason"].as_str().unwrap().to_owned();
    server.stop();
    reason
}

#[test]
fn each_way_of_losing_a_shards_files_has_its_sentence_and_its_way_back() {
    let folder = folder();
    let data = folder.path().join("data");
    made(&data);
    let (shard, aside) = (data.join("shard-0001"), folder.path().join("aside"));
    let moved = |from: &Path, to: &Path, words: &[&str]| {
        std::fs::rename(from, to).unwrap();
        says(&reason_of_shard_1(&data), words);
        std::fs::rename(to, from).unwrap();
    };
    moved(&shard, &aside, &["shard-0001 is missing", "put it back", "mounted", "backup"]);

    let segment = segment(&shard);
    let other_name = shard.join("segment-00000000000000000077");
    moved(&segment, &other_name, &["out of place", "lies there as segment-", "rename it back"]);
    moved(&segment, &aside, &["is missing", "segment-"]);

    let manifests = ["manifest-0", "manifest-1"].map(|name| shard.join(name));
    let kept = ["0", "1"].map(|name| folder.path().join(name));
    for (manifest, kept) in manifests.iter().zip(&kept) {
        std::fs::rename(manifest, kept).unwrap();
    }
    says(
        &reason_of_shard_1(&data),
        &["log is missing", "manifest-0", "put the shard's files back"],
    );
    for (manifest, kept) in manifests.iter().zip(&kept) {
        std::fs::rename(kept, manifest).unwrap();
    }
    let server = Launch::new(&data).start();
    assert_eq!(server.values("t").len(), 100, "put back, all is there");
}

#[test]
fn files_of_another_shard_or_directory_are_told_apart() {
    let folder = folder();
    let (data, other) = (folder.path().join("data"), folder.path().join("other"));
    made(&data);
    made(&other);
    let shard = data.join("shard-0001");
    let kept = folder.path().join("kept");
    std::fs::rename(&shard, &kept).unwrap();
    let stand_in = |from: &Path, words: &[&str]| {
        copy(from, &shard);
        says(&reason_of_shard_1(&data), words);
        std::fs::remove_dir_all(&shard).unwrap();
    };
    let of_shard_0 = ["out of place", "of shard 0, in the directory of shard 1"];
    stand_in(&data.join("shard-0000"), &of_shard_0);
    stand_in(&other.join("shard-0001"), &["out of place", "another data directory"]);

    // One segment alone.
    let one = |from: &Path, words: &[&str]| {
        copy(&kept, &shard);
        std::fs::copy(segment(from), segment(&shard)).unwrap();
        says(&reason_of_shard_1(&data), words);
        std::fs::remove_dir_all(&shard).unwrap();
    };
    one(&data.join("shard-0000"), &["out of place", "segment of shard 0"]);
    one(&other.join("shard-0001"), &["out of place", "another data directory"]);

    // One that this log has no name for is not thrown away as a leftover.
    copy(&kept, &shard);
    let stray = shard.join("segment-00000000000000000099");
    std::fs::copy(segment(&data.join("shard-0000")), &stray).unwrap();
    says(&reason_of_shard_1(&data), &["out of place", "segment of shard 0"]);
    assert!(stray.exists());
    std::fs::remove_dir_all(&shard).unwrap();

    std::fs::rename(&kept, &shard).unwrap();
    assert_eq!(Launch::new(&data).start().values("t").len(), 100);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_address_that_cannot_be_is_told() {
    let folder = folder();
    let data = folder.path().join("data");
    let elsewhere = Launch::new(&data).listen("192.0.2.1:7300".parse().unwrap());
    let sentence = refused(elsewhere.word("--allow-anonymous"));
    says(&sentence, &["192.0.2.1:7300", "no interface of this machine", "--listen"]);
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned);
    if !can("a port of the privileged", &nobody) {
        return;
    }
    std::fs::create_dir(folder.path().join("open")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path().join("open"), open).unwrap();
    let data = folder.path().join("open/data");
    let low = Launch::new(&data).listen("127.0.0.1:81".parse().unwrap());
    let run = low.through(&nobody).try_start();
    match run {
        Err(run) => says(&run.failed_after_logs(), &["127.0.0.1:81", "ports below", "--listen"]),
        Ok(_) => eprintln!("a port of the privileged could not be run here: there are none"),
    }
}
