//! Every command beside serve, consume and verify.

use serde_json::json;

use crate::harness::{Launch, Running, corelane, folder};

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    for words in
        [&["no-such"][..], &["topic"], &["produce"], &["consume", "a b"], &["status", "-x"]]
    {
        let run = corelane(words);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(!run.stderr.is_empty() && run.stdout.is_empty(), "{run:?}");
    }
    for words in [&["--help"][..], &["--version"], &["topic", "create", "--help"]] {
        assert!(!corelane(words).ok().stdout.is_empty());
    }
}

#[test]
fn no_server_says_how_to_start_one() {
    // A port that no one who is not asked to listens on.
    let address = "127.0.0.1:1";
    for words in [
        &["status"][..],
        &["topic", "list"],
        &["topic", "create", "a"],
        &["produce", "a"],
        &["consume", "a"],
        &["bench", "produce", "--duration", "1"],
    ] {
        let words = [words, &["--server", address]].concat();
        let sentence = corelane(&words).failed();
        assert!(sentence.contains(address), "{sentence}");
        assert!(sentence.contains("corelane serve"), "{sentence}");
    }
}

#[test]
fn topics_are_created_changed_listed_described_and_deleted() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).start();
    let create = ["topic", "create", "orders", "--partitions", "3", "--retention", "7d"];
    let created = server.run(&create).ok();
    let expected = "orders: 3 partitions, retention 7d, retention-bytes unlimited, ack durable\n";
    assert_eq!(created.text(), format!("created {expected}"));
    let again = server.run(&create).failed();
    assert!(again.contains("orders") && again.contains("exists"), "{again}");
    server.run(&["topic", "create", "b", "--ack", "memory", "--output", "json"]).ok();

    let list = server.run(&["topic", "list"]).ok();
    let names: Vec<_> = list.text().lines().map(|l| l.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["TOPIC", "b", "orders"]);
    let list = server.run(&["topic", "list", "--output", "json"]).ok().json();
    assert_eq!(list[0]["ack"], "memory");
    assert_eq!((&list[1]["name"], &list[1]["partitions"]), (&json!("orders"), &json!(3)));
    assert_eq!(list[1]["retention_ms"], 7 * 24 * 3600 * 1000);

    let alter =
        ["topic", "alter", "orders", "--retention", "unlimited", "--retention-bytes", "1GiB"];
    let altered = server.run(&alter).ok();
    let expected = "orders: 3 partitions, retention unlimited, retention-bytes 1GiB, ack durable\n";
    assert_eq!(altered.text(), format!("altered {expected}"));

    server.publish("orders", "1\n2\n3\n");
    let described = server.run(&["topic", "describe", "orders"]).ok();
    assert!(described.text().starts_with(expected), "{described:?}");
    let described = server.run(&["topic", "describe", "orders", "--output", "json"]).ok().json();
    assert_eq!(described["retention_bytes"], 1u64 << 30);
    let partitions = described["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 3);
    let messages: u64 = partitions.iter().map(|p| p["messages"].as_u64().unwrap()).sum();
    assert_eq!(messages, 3);

    assert_eq!(server.run(&["topic", "delete", "orders"]).ok().text(), "deleted orders\n");
    assert_eq!(server.run(&["topic", "list"]).ok().text().lines().count(), 2);
}

#[test]
fn an_unknown_topic_gives_the_create_command() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    for words in [
        &["produce", "nowhere"][..],
        &["consume", "nowhere"],
        &["topic", "describe", "nowhere"],
        &["topic", "alter", "nowhere", "--ack", "memory"],
        &["topic", "delete", "nowhere"],
    ] {
        let sentence = server.run(words).failed();
        assert!(sentence.contains("nowhere"), "{sentence}");
        assert!(sentence.contains("corelane topic create nowhere"), "{words:?}: {sentence}");
    }
}

#[test]
fn status_tells_cores_shards_topics_and_rates() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).shards(3).start();
    server.create("a", 1);
    server.publish("a", "1\n2\n");
    let text = server.run(&["status"]).ok();
    assert!(text.text().starts_with("ready, version "), "{text:?}");
    let status = server.run(&["status", "--output", "json"]).ok().json();
    assert_eq!((&status["ready"], &status["topics"]), (&json!(true), &json!(1)));
    assert_eq!(status["cores"].as_array().unwrap().len(), 2);
    let shards = status["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 3);
    assert!(shards.iter().all(|shard| shard["health"] == "serving"));
    let cores = status["cores"].as_array().unwrap().iter();
    assert_eq!(cores.map(|core| core["messages_in"].as_u64().unwrap()).sum::<u64>(), 2);
    assert!(status["rates"]["messages_in_per_s"].is_number());
    assert!(status["data_dir"].as_str().unwrap().ends_with("/data"));
}

#[test]
fn status_tells_where_the_time_went() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).shards(2).start();
    server.create("t", 2);
    let lines: String = (0..1_000).map(|n| format!("{n}\n")).collect();
    server.publish("t", &lines);
    assert_eq!(server.values("t").len(), 1_000);
    let json = server.run(&["status", "--stages", "--output", "json"]).ok().json();
    let cores = json["stages"].as_array().unwrap();
    assert_eq!(cores.len(), 2);
    let counts = |at: usize| cores.iter().map(move |c| c["stages"][at]["count"].as_u64().unwrap());
    let [received, durable, told, delivered] = [0, 1, 2, 3].map(|at| counts(at).sum::<u64>());
    assert!(received > 0, "{json:#}");
    assert_eq!((received, received), (durable, told), "each publish passed every stage: {json:#}");
    assert!(delivered > 0, "{json:#}");
    for stage in cores.iter().flat_map(|core| core["stages"].as_array().unwrap()) {
        let ns = |field: &str| stage[field].as_u64().unwrap();
        assert!(ns("p50_ns") <= ns("p99_ns") && ns("p99_ns") <= ns("max_ns"), "{stage}");
        assert_eq!(ns("count") > 0, ns("max_ns") > 0, "{stage}");
    }
    let text = server.run(&["status", "--stages"]).ok();
    assert!(text.text().contains("append_to_durable"), "{text:?}");
    let plain = server.run(&["status"]).ok();
    assert!(!plain.text().contains("append_to_durable"), "only when asked for");
}

#[test]
fn produce_reads_files_and_says_what_it_did() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    server.create("t", 2);
    let file = folder.path().join("lines");
    let lines: String = (0..5_000).map(|n| format!("key-{}:value {n}\n", n % 7)).collect();
    std::fs::write(&file, &lines).unwrap();
    let file = file.to_str().unwrap();
    for (level, said) in [
        ("durable", "acknowledged durable"),
        ("memory", "acknowledged in memory"),
        ("none", "not acknowledged"),
    ] {
        let words = ["produce", "t", "--file", file, "--key-separator", ":", "--ack", level];
        let run = server.run(&words).ok();
        assert!(run.stderr.starts_with("5000 messages, "), "{run:?}");
        assert!(run.stderr.contains(" messages/s, ") && run.stderr.contains(said), "{run:?}");
        assert!(run.stdout.is_empty());
    }
    let missing = server.run(&["produce", "t", "--file", "/no/such/file"]).failed();
    assert!(missing.contains("/no/such/file"), "{missing}");
}

#[test]
fn lines_come_back_as_they_were_in_every_compression() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).start();
    let input = b"one\n\ntwo\r\n\xff\xfe not text\n  blanks  \nlast without newline";
    for compression in ["none", "lz4", "zstd"] {
        server.create(compression, 1);
        let words = ["produce", compression, "--compression", compression];
        server.run_with(&words, input).ok();
        let repeats = "the same again and again\n".repeat(2_000);
        server.run_with(&words, repeats.as_bytes()).ok();
        let expected = [&input[..], b"\n", repeats.as_bytes()].concat();
        assert!(server.run(&["consume", compression]).ok().stdout == expected, "{compression}");
    }
}

#[test]
fn a_key_keeps_its_partition_and_its_order() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).start();
    server.create("t", 8);
    let lines: String = (0..20_000).map(|n| format!("k{}={n}\n", n % 31)).collect();
    let words = ["produce", "t", "--key-separator", "="];
    server.run_with(&words, lines.as_bytes()).ok();
    let run = server.run(&["consume", "t", "--format", "%p %k %v"]).ok();
    let mut last = std::collections::HashMap::new();
    for line in run.text().lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let number: u64 = fields[2].parse().unwrap();
        let (partition, before) = last
            .insert(fields[1].to_owned(), (fields[0].to_owned(), number))
            .unwrap_or_else(|| (fields[0].to_owned(), number.wrapping_sub(31)));
        assert_eq!(partition, fields[0], "{line}");
        assert_eq!(before.wrapping_add(31), number, "{line}");
    }
    assert_eq!((last.len(), run.text().lines().count()), (31, 20_000));
}

#[test]
fn configuration_is_shown_checked_and_refused() {
    let folder = folder();
    let path = folder.path().join("corelane.toml");
    let file = path.to_str().unwrap();
    let sample = corelane(&["config", "sample"]).ok();
    std::fs::write(&path, &sample.stdout).unwrap();
    corelane(&["config", "check", file]).ok();

    std::fs::write(&path, "[storage]\nsegment_bytes = \"32MiB\"\n").unwrap();
    let words = ["config", "show", "--config", file, "--cores", "1"];
    let shown = Running::start(&words, &[("CORELANE_LOG_FILTER", "warn")]).finish_with(b"").ok();
    for expected in [
        format!("segment_bytes = \"32MiB\" # {file} line 2"),
        "filter = \"warn\" # variable CORELANE_LOG_FILTER".to_owned(),
        "cores = 1 # flag --cores".to_owned(),
    ] {
        assert!(shown.text().contains(&expected), "{expected}: {}", shown.text());
    }

    std::fs::write(&path, "[storage]\nsegment_byte = \"32MiB\"\n").unwrap();
    for words in [&["config", "check", file][..], &["serve", "--config", file]] {
        let sentence = corelane(words).failed();
        assert!(sentence.contains("storage.segment_byte"), "{sentence}");
        assert!(sentence.contains("did you mean storage.segment_bytes?"), "{sentence}");
    }
}

#[test]
fn a_closed_stdout_ends_quietly() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    server.create("t", 1);
    server.publish("t", &"a line\n".repeat(100_000));
    for words in [&["consume", "t"][..], &["topic", "list"], &["status"], &["config", "sample"]] {
        let words = if words[0] == "config" {
            words.iter().map(|word| (*word).to_owned()).collect()
        } else {
            server.words(words)
        };
        let mut running = Running::start_unread(&words, &[]);
        drop(running.child.stdout.take());
        drop(running.child.stdin.take());
        let run = running.finish();
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{words:?}");
    }
}
