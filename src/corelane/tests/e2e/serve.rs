//! `corelane serve`: what it prints, and why it does not start.

use crate::harness::{Launch, corelane, folder};

#[test]
fn the_ready_line_says_what_was_chosen() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).cores(2).shards(3).start();
    let line = &server.ready_line;
    assert!(line.contains("2 cores") && line.contains("; 3 shards; "), "{line}");
    assert!(line.ends_with(&format!("data directory {} created", data.display())), "{line}");
    assert_eq!(server.direct_addresses().len(), 2);
    server.create("a", 1);
    server.create("b", 4);
    server.stop();
    let server = Launch::new(&data).cores(1).start();
    assert!(server.ready_line.contains("1 core"), "{}", server.ready_line);
    assert!(server.ready_line.ends_with("opened with 2 topics"), "{}", server.ready_line);
}

#[test]
fn direct_ports_can_be_left_out() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data")).cores(2);
    let server = launch.set("CORELANE_SERVER_DIRECT_PORTS", "false").start();
    assert!(!server.ready_line.contains("(direct"), "{}", server.ready_line);
    server.create("t", 4);
    server.publish("t", "1\n2\n3\n");
    assert_eq!(server.values("t").len(), 3);
}

#[test]
fn a_port_in_use_is_named() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    let other = Launch::new(&folder.path().join("other")).listen(server.address);
    let sentence = other.try_start().unwrap_err().failed_after_logs();
    assert!(sentence.contains(&format!("{} is in use", server.address)), "{sentence}");
    assert!(sentence.contains("--listen"), "{sentence}");
    server.run(&["status"]).ok();
}

#[test]
fn a_data_directory_in_use_is_named() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Launch::new(&data).start();
    let words = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    let sentence = corelane(&words).failed_after_logs();
    assert!(sentence.contains(&format!("{} is in use", data.display())), "{sentence}");
    let sentence = corelane(&["verify", data.to_str().unwrap()]).failed();
    assert!(sentence.contains(&format!("{} is in use", data.display())), "{sentence}");
    server.run(&["status"]).ok();
}

#[test]
fn what_cannot_be_served_is_refused_with_a_way_out() {
    let folder = folder();
    let data = folder.path().join("data");
    Launch::new(&data).shards(2).start().stop();
    let refused = |launch: Launch| launch.try_start().unwrap_err().failed_after_logs();

    let sentence = refused(Launch::new(&data).shards(3));
    assert!(sentence.contains("2 shards") && sentence.contains("--shards 3"), "{sentence}");

    let anyone = Launch::new(&data).listen("0.0.0.0:0".parse().unwrap());
    let sentence = refused(anyone.clone());
    assert!(sentence.contains("--allow-anonymous"), "{sentence}");
    anyone.word("--allow-anonymous").start().stop();

    let sentence = refused(Launch::new(&data).set("CORELANE_STORAGE_SEGMENT_BYTE", "16MiB"));
    assert!(sentence.contains("CORELANE_STORAGE_SEGMENT_BYTES?"), "{sentence}");

    let sentence = refused(Launch::new(&data).set("CORELANE_LOG_FILTER", "a=b=c"));
    assert!(sentence.contains("a=b=c"), "{sentence}");

    let sentence = refused(Launch::new(&data).cores(0).word("--cores=9999-9999"));
    assert!(sentence.contains("9999"), "{sentence}");

    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter.txt"), "dear").unwrap();
    let sentence = refused(Launch::new(&foreign));
    assert!(sentence.contains("letter.txt"), "{sentence}");
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1, "nothing was put there");
}

#[test]
fn log_lines_can_be_json() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data")).set("CORELANE_LOG_FORMAT", "json");
    let server = launch.set("CORELANE_LOG_FILTER", "debug").start();
    let log = server.log();
    server.stop();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string(), "{line}");
    }
}
