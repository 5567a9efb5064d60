//! `corelane repair`, `export` and `upgrade`: what an operator does with a damaged directory.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{Launch, Run, Running, Server, corelane, folder, wait_for};

/// Every record by its place.
type Records = BTreeMap<(String, u64, u64), String>;

/// So long that a few thousand lines are more than a segment.
fn line(topic: &str, number: usize) -> String {
    format!("{topic} {number} {}", "and so on ".repeat(400))
}

fn publish_lines(server: &Server, topic: &str, numbers: std::ops::Range<usize>) {
    let lines: Vec<String> = numbers.map(|number| line(topic, number) + "\n").collect();
    server.publish(topic, &lines.concat());
}

/// Two shards, each with a partition of `t`; more than one segment of each is full.
fn filled(data: &Path) -> Server {
    let server = Launch::new(data).cores(1).shards(2).start();
    server.create("t", 2);
    for part in 0..5 {
        publish_lines(&server, "t", part * 2_000..(part + 1) * 2_000);
    }
    server
}

fn export(data: &Path, words: &[&str]) -> Run {
    let path = data.to_str().unwrap();
    let words = [&["export", path, "--bytes", "utf8"], words].concat();
    Running::start(&words, &[]).finish()
}

fn records(run: &Run) -> Records {
    let mut records = Records::new();
    for line in run.text().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let place = (
            record["topic"].as_str().unwrap().to_owned(),
            record["partition"].as_u64().unwrap(),
            record["offset"].as_u64().unwrap(),
        );
        let before = records.insert(place, record["value"].as_str().unwrap().to_owned());
        assert!(before.is_none(), "{line}");
    }
    records
}

/// Everything that a server gives out of a topic.
fn consumed(server: &Server, topic: &str) -> Records {
    let run = server.run(&["consume", topic, "--format", "%p %o %v"]).ok();
    let record = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        let place = (topic.to_owned(), number(), number());
        (place, words.next().unwrap().to_owned())
    };
    run.text().lines().map(record).collect()
}

fn segments(data: &Path, shard: u32) -> Vec<PathBuf> {
    let folder = data.join(format!("shard-{shard:04}"));
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_segment =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("segment-");
    let mut found: Vec<PathBuf> = files.filter(is_segment).collect();
    found.sort();
    found
}

/// Changes one byte of the text in the middle of a segment.
fn flip(path: &Path, at: u64) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 0x10]).unwrap();
}

/// Whether the log came into this segment.
fn holds_blocks(path: &Path) -> bool {
    let mut file = fs::File::open(path).unwrap();
    let mut magic = [0; 4];
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.read_exact(&mut magic).unwrap();
    magic == *b"CLBK"
}

fn report(data: &Path) -> (serde_json::Value, Run) {
    let run = corelane(&["repair", data.to_str().unwrap(), "--output", "json"]);
    (run.json(), run)
}

#[track_caller]
fn repair(data: &Path, to: &Path) {
    let (data, to) = (data.to_str().unwrap(), to.to_str().unwrap());
    let run = corelane(&["repair", data, "--accept-loss", "--to", to]).ok();
    assert!(run.text().contains("it was verified"), "{run:?}");
    corelane(&["verify", to]).ok();
    corelane(&["upgrade", to, "--dry-run"]).ok();
}

/// The repaired directory serves exactly `left`, and goes on publishing where it may.
fn serve_the_rest(repaired: &Path, left: &Records) -> Server {
    let server = Launch::new(repaired).cores(1).start();
    assert!(server.ready_line.contains("2 shards"), "{}", server.ready_line);
    server.run(&["status"]).ok();
    let found = consumed(&server, "t");
    assert_eq!(found.len(), left.len());
    assert!(found == *left, "the offsets or the values differ");
    server
}

#[test]
fn a_changed_byte_costs_one_shard_and_the_rest_is_kept() {
    let folder = folder();
    let (data, repaired) = (folder.path().join("data"), folder.path().join("repaired"));
    let server = filled(&data);
    let read = ["consume", "t", "--consumer", "mill", "--count", "50", "--format", "%p"];
    let read = server.run(&read).ok().text().to_owned();
    let described = server.run(&["topic", "describe", "t", "--output", "json"]).ok().json();
    let partition_of = |shard: u64| {
        let mut partitions = described["partitions"].as_array().unwrap().iter();
        partitions.find(|p| p["shard"] == shard).unwrap()["partition"].as_u64().unwrap()
    };
    // A kill leaves no last checkpoint: the start reads the newest segments.
    server.kill();
    let all = records(&export(&data, &[]).ok());
    assert_eq!(all.len(), 10_000);
    let hit = segments(&data, 1).into_iter().rev().find(|path| holds_blocks(path)).unwrap();
    flip(&hit, 64 * 1024 + 2_000);

    let server = Launch::new(&data).cores(1).start();
    let status = server.run(&["status", "--output", "json"]);
    assert_eq!(status.code, Some(1), "{status:?}");
    let shards = status.json()["shards"].clone();
    let health: Vec<&str> =
        shards.as_array().unwrap().iter().map(|s| s["health"].as_str().unwrap()).collect();
    assert_eq!(health, ["serving", "unavailable"], "{shards}");
    let partition = partition_of(0);
    let served = all.keys().filter(|(_, of, _)| *of == partition).count();
    assert!(served > 1_000);
    let run = server.run(&["consume", "t", "--partition", &partition.to_string()]).ok();
    assert_eq!(run.text().lines().count(), served);
    let refused = corelane(&["repair", data.to_str().unwrap()]).failed();
    assert!(refused.contains("is in use by process"), "{refused}");
    server.stop();

    let run = export(&data, &[]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("does not match its checksum"), "{}", run.stderr);
    let left = records(&run);
    let (report, run) = report(&data);
    assert_eq!(run.code, Some(1));
    assert_eq!(report["loss"], true);
    let lost = report["lost_records"].as_u64().unwrap() as usize;
    assert!(lost > 0 && lost < 1_000, "{report}");
    assert_eq!(left.len(), all.len() - lost);
    assert!(left.iter().all(|(place, value)| all[place] == *value));
    assert!(!repaired.exists(), "a report writes nothing");

    repair(&data, &repaired);
    let server = serve_the_rest(&repaired, &left);
    // Publishing goes on behind everything that ever was.
    publish_lines(&server, "t", 10_000..10_100);
    let after = consumed(&server, "t");
    assert_eq!(after.len(), left.len() + 100);
    let is_new = |place: &&(String, u64, u64)| !left.contains_key(*place);
    assert!(after.keys().filter(is_new).all(|place| !all.contains_key(place)));
    // The consumer goes on where it was; in the damaged shard unless what it had committed there was in
    // the lost block.
    let kept = read.lines().filter(|line| line.parse() == Ok(partition)).count();
    let again = server.run(&["consume", "t", "--consumer", "mill"]).ok().text().lines().count();
    assert!((after.len() - 50..=after.len() - kept).contains(&again), "{again}, kept {kept}");
    server.stop();
    assert_eq!(records(&export(&repaired, &[]).ok()), after);
}

#[test]
fn a_lost_segment_costs_its_records_and_lost_manifests_cost_nothing() {
    let folder = folder();
    let data = folder.path().join("data");
    filled(&data).stop();
    let all = records(&export(&data, &[]).ok());
    let before = segments(&data, 0);

    for manifest in ["manifest-0", "manifest-1"] {
        fs::remove_file(data.join("shard-0000").join(manifest)).unwrap();
    }
    flip(&data.join("corelane.dir"), 20);
    let refused = Launch::new(&data).try_start().unwrap_err().failed_after_logs();
    assert!(refused.contains("corelane.dir is damaged"), "{refused}");
    let (found, run) = report(&data);
    assert_eq!((run.code, &found["loss"]), (Some(0), &false.into()), "{found}");
    let repaired = folder.path().join("without-manifests");
    repair(&data, &repaired);
    serve_the_rest(&repaired, &all).stop();

    flip(&data.join("corelane.dir"), 20);
    fs::remove_file(&before[0]).unwrap();
    let server = Launch::new(&data).cores(1).start();
    assert_eq!(server.run(&["status"]).code, Some(1));
    server.stop();
    let (found, run) = report(&data);
    assert_eq!(run.code, Some(1), "{found}");
    let lost = found["lost_records"].as_u64().unwrap() as usize;
    let left = records(&export(&data, &[]));
    assert!(lost > 1_000, "{found}");
    assert_eq!(left.len() + lost, all.len());
    let repaired = folder.path().join("without-segment");
    repair(&data, &repaired);
    let server = serve_the_rest(&repaired, &left);
    // What is lost lay at the begin: a reader of the first record is taken behind it.
    let partition = found["partitions"][0]["partition"].as_u64().unwrap().to_string();
    let run = server
        .run(&["consume", "t", "--partition", &partition, "--count", "1", "--format", "%o"])
        .ok();
    assert_eq!(run.text().trim().parse::<usize>().unwrap(), lost);
    server.stop();
}

#[test]
fn a_hole_in_the_middle_and_one_at_the_end_stop_no_reader() {
    let folder = folder();
    let (data, repaired) = (folder.path().join("data"), folder.path().join("repaired"));
    let server = Launch::new(&data).shards(1).start();
    server.create("t", 1);
    for number in 0..40 {
        server.publish("t", &format!("line {number}\n"));
    }
    server.stop();
    let all = records(&export(&data, &[]).ok());
    let segment = segments(&data, 0).remove(0);
    let bytes = fs::read(&segment).unwrap();
    let find = |text: &str| {
        let found = bytes.windows(text.len()).position(|window| window == text.as_bytes());
        found.unwrap() as u64
    };
    // One record in the middle, and the block that holds the newest.
    flip(&segment, find("line 20"));
    let newest = find("line 39") / 4096 * 4096;
    let mut file = OpenOptions::new().write(true).open(&segment).unwrap();
    file.seek(SeekFrom::Start(newest)).unwrap();
    file.write_all(&[0x55; 4096]).unwrap();
    drop(file);

    let (found, _) = report(&data);
    let partition = &found["partitions"][0];
    let lost = serde_json::json!([{ "from": 20, "to": 20 }, { "from": 39, "to": 39 }]);
    assert_eq!(partition["lost"], lost, "{found}");
    repair(&data, &repaired);
    let server = Launch::new(&repaired).start();
    let values: Vec<String> = (0..39).filter(|n| *n != 20).map(|n| format!("line {n}")).collect();
    assert_eq!(server.values("t"), values);
    let from_the_hole = server.run(&["consume", "t", "--from", "offset:20"]).ok();
    assert_eq!(from_the_hole.text().lines().next(), Some("line 21"));
    let last = server.run(&["consume", "t", "--from", "last"]).ok();
    assert_eq!(last.text(), "line 38\n");
    server.publish("t", "a new line\n");
    let from_the_end = server.run(&["consume", "t", "--from", "offset:39"]).ok();
    assert_eq!(from_the_end.text(), "a new line\n");
    let after = consumed(&server, "t");
    let newest = after.keys().next_back().unwrap();
    assert!(newest.2 > 39 && !all.contains_key(newest), "{newest:?}");
    server.kill();
    // The same after a start from the log alone.
    let server = Launch::new(&repaired).start();
    assert_eq!(consumed(&server, "t"), after);
    server.stop();
    corelane(&["verify", repaired.to_str().unwrap()]).ok();
}

#[test]
fn a_lost_shard_is_made_anew_and_lost_topics_come_from_their_partitions() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).shards(2).start();
    for topic in ["t", "u", "v"] {
        server.create(topic, 4);
        let lines: String = (0..400).map(|number| format!("{topic} {number}\n")).collect();
        server.publish(topic, &lines);
    }
    server.stop();
    let all = records(&export(&data, &[]).ok());
    for lost in [1, 0] {
        let copy = folder.path().join(format!("copy-{lost}"));
        copy_folder(&data, &copy);
        fs::remove_dir_all(copy.join(format!("shard-000{lost}"))).unwrap();
        let (found, run) = report(&copy);
        assert_eq!(run.code, Some(1), "{found}");
        let left = records(&export(&copy, &[]));
        assert!(left.len() > 200 && left.len() < all.len());
        let repaired = folder.path().join(format!("repaired-{lost}"));
        repair(&copy, &repaired);
        let server = Launch::new(&repaired).start();
        for topic in ["t", "u", "v"] {
            let found = consumed(&server, topic);
            let expected: Records =
                left.iter().filter(|(place, _)| place.0 == topic).map(owned).collect();
            assert_eq!(found, expected);
            server.publish(topic, "one more\n");
            let after = consumed(&server, topic);
            let new: Vec<_> = after.keys().filter(|place| !left.contains_key(*place)).collect();
            assert_eq!(new.len(), 1);
            assert!(!all.contains_key(new[0]), "{new:?} was used before");
        }
        server.create("made-after", 3);
        server.stop();
    }
}

fn owned((place, value): (&(String, u64, u64), &String)) -> ((String, u64, u64), String) {
    (place.clone(), value.clone())
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_repair_that_is_killed_leaves_nothing_that_is_served() {
    let folder = folder();
    let (data, cut) = (folder.path().join("data"), folder.path().join("cut"));
    filled(&data).stop();
    let words = ["repair", data.to_str().unwrap(), "--accept-loss", "--to", cut.to_str().unwrap()];
    let running = Running::start(&words, &[]);
    let begun = cut.join("shard-0000/segment-00000000000000000001");
    wait_for("the first segment of the new directory", || begun.exists().then_some(()));
    running.signal(Signal::KILL);
    assert_eq!(running.finish().code, None);
    assert!(!cut.join("corelane.dir").exists(), "the repair was done before it was killed");

    let refused = Launch::new(&cut).try_start().unwrap_err().failed_after_logs();
    assert!(refused.contains("was cut short there"), "{refused}");
    let refused = corelane(&["verify", cut.to_str().unwrap()]).failed();
    assert!(refused.contains("no corelane.dir"), "{refused}");
    let refused = corelane(&words).failed();
    assert!(refused.contains("was cut short there"), "{refused}");
    let all = records(&export(&data, &[]).ok());
    let repaired = folder.path().join("repaired");
    repair(&data, &repaired);
    serve_the_rest(&repaired, &all).stop();
}

#[test]
fn export_writes_what_is_asked_for() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).start();
    for codec in ["none", "lz4", "zstd"] {
        server.create(codec, 2);
        let lines: String =
            (0..500).map(|number| format!("key{number}:value {number}\n")).collect();
        let words = ["produce", codec, "--compression", codec, "--key-separator", ":"];
        server.run_with(&words, lines.as_bytes()).ok();
    }
    let sentence = export(&data, &[]).failed();
    assert!(sentence.contains("is in use by process"), "{sentence}");
    server.stop();

    let all = records(&export(&data, &[]).ok());
    assert_eq!(all.len(), 1_500);
    let one = records(&export(&data, &["--topic", "zstd", "--partition", "1"]).ok());
    assert!(!one.is_empty() && one.keys().all(|place| place.0 == "zstd" && place.1 == 1));
    let late = ["--topic", "lz4", "--partition", "0", "--from-offset", "100"];
    let late = records(&export(&data, &late).ok());
    assert!(late.keys().all(|place| place.2 >= 100) && late.len() > 50);
    let coded = corelane(&["export", data.to_str().unwrap(), "--topic", "none"]).ok();
    let first: serde_json::Value =
        serde_json::from_str(coded.text().lines().next().unwrap()).unwrap();
    assert!(first["key"].as_str().unwrap().starts_with("a2V5"), "{first}");

    let to = folder.path().join("out");
    export(&data, &["--to", to.to_str().unwrap()]).ok();
    let lines = |topic: &str| -> usize {
        let files = fs::read_dir(to.join(topic)).unwrap();
        files.map(|f| fs::read_to_string(f.unwrap().path()).unwrap().lines().count()).sum()
    };
    assert_eq!(["none", "lz4", "zstd"].map(lines), [500; 3]);
    let again = export(&data, &["--to", to.to_str().unwrap()]).failed();
    assert!(again.contains("not empty"), "{again}");
    let raw = export(&data, &["--format", "raw", "--topic", "lz4"]).ok();
    assert_eq!(raw.stdout[16], 2, "a RecordBatch has magic 2");

    // A reader that has seen enough.
    let mut running =
        Running::start_unread(&["export", data.to_str().unwrap(), "--topic", "none"], &[]);
    drop(running.child.stdout.take());
    let run = running.finish();
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}

#[test]
fn upgrade_says_that_nothing_is_to_be_done() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).shards(2).start();
    server.create("t", 3);
    server.publish("t", "a\nb\n");
    server.stop();
    let path = data.to_str().unwrap();
    let said = corelane(&["upgrade", path, "--dry-run"]).ok();
    assert!(said.text().contains("format 1, the newest; 2 shards, 1 topics and 3 partitions"));
    assert!(said.text().trim_end().ends_with("Nothing is to be done"), "{said:?}");
    let said = corelane(&["upgrade", path]).ok();
    assert!(said.text().trim_end().ends_with("Nothing is to be done, and nothing was"), "{said:?}");
    let said = corelane(&["upgrade", path, "--output", "json"]).ok().json();
    assert_eq!((&said["opens"], &said["partitions"]), (&true.into(), &3.into()));
    fs::write(data.join("shard-0001/manifest-0"), b"no manifest").unwrap();
    fs::write(data.join("shard-0001/manifest-1"), b"no manifest").unwrap();
    let said = corelane(&["upgrade", path, "--dry-run"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.text().contains("manifest-1"), "{said:?}");
}

#[test]
fn a_directory_of_each_format_is_served() {
    let folder = folder();
    let data = folder.path().join("data");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate::archive::unpack(&root.join("../offline/tests/golden/format-1.zst"), &data);
    let server = Launch::new(&data).start();
    server.run(&["status"]).ok();
    let described = server.run(&["topic", "describe", "orders", "--output", "json"]).ok().json();
    let partition = &described["partitions"][0];
    assert_eq!((&partition["first_offset"], &partition["next_offset"]), (&5.into(), &265.into()));
    assert_eq!(partition["consumers"][0]["offset"], 77);
    let offsets = |words: &[&str]| -> Vec<u64> {
        let run = server.run(&[&["consume", "orders", "--format", "%o"], words].concat()).ok();
        run.text().lines().filter_map(|line| line.parse().ok()).collect()
    };
    // 100 offsets are skipped behind the 21st batch of 4.
    let expected: Vec<u64> = (5..89).chain(189..265).collect();
    assert_eq!(offsets(&["--partition", "0"]), expected);
    assert_eq!(offsets(&["--partition", "0", "--from", "offset:100"]), expected[84..]);
    assert_eq!(offsets(&["--partition", "0", "--consumer", "mill"]), expected[72..]);
    server.publish("orders", "goes on\n");
    let topics = server.run(&["topic", "list", "--output", "json"]).ok();
    assert!(topics.text().contains("audit.log") && !topics.text().contains("deleted"));
    server.stop();
    corelane(&["verify", data.to_str().unwrap()]).ok();
    corelane(&["upgrade", data.to_str().unwrap(), "--dry-run"]).ok();
}
