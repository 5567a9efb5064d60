//! The bench tool as a user runs it. Runs are short and their figures mean nothing: what counts is
//! what the reports say of themselves.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{BINARY, Launch, corelane, folder, wait_for};

/// No run here is long, none is judged by how late this machine is.
const SHORT: [&str; 8] =
    ["--duration", "300ms", "--warmup", "50ms", "--space", "fresh", "--lag-max", "60s"];

/// A short run at a server of its own. A busy machine may make its generator the bottleneck, which
/// the report then has to say.
fn embedded(kind: &str, dir: &Path, more: &[&str]) -> Value {
    let own = ["bench", kind, "--embedded", "--data-dir", dir.to_str().unwrap()];
    let run = corelane(&[&own[..], &SHORT, &["--output", "json"], more].concat());
    let report = run.json();
    assert_eq!(run.code, Some(i32::from(report["valid"] != true)), "{run:?}");
    report
}

#[track_caller]
fn assert_sound(report: &Value) {
    assert_eq!(report["schema"], 1);
    // A disk that stands still for the whole of a short run leaves nothing of a rate, which is then said.
    let stood_still = report["rate_kept"] == false;
    assert!(stood_still || report["messages_per_s"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["latency_us"]["p99_9"].is_number(), "{report}");
    assert!(report["checked"].as_u64().unwrap() > 0, "{report}");
    for key in ["lost", "duplicated", "reordered", "corrupted"] {
        assert_eq!(report[key], 0, "{key}: {report}");
    }
}

#[test]
fn a_running_server_and_one_of_its_own_are_measured() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    for kind in ["produce", "e2e"] {
        let words = [&["bench", kind, "--lockstep", "--output", "json"][..], &SHORT].concat();
        let here = server.run(&words).ok().json();
        let own = embedded(kind, folder.path(), &["--lockstep"]);
        for report in [here, own] {
            assert_sound(&report);
            assert_eq!(report["settings"]["pace"], "closed loop");
            assert_eq!(report["broker"]["name"], "corelane");
        }
    }
    let words = ["bench", "produce", "--ack", "none", "--server", "127.0.0.1:1"];
    assert_eq!(corelane(&words).code, Some(2));
}

#[test]
fn every_kind_of_work_runs_and_is_checked() {
    let folder = folder();
    let few = ["--messages", "3000"];
    let work: [(&str, &[&str]); 6] = [
        ("produce", &["--rate", "2000", "--arrivals", "poisson", "--size", "100:9,4KiB:1"]),
        ("produce", &["--steps", "500,2000", "--topics", "20", "--batch", "5"]),
        ("e2e", &["--rate", "2000", "--connections", "3", "--consumers", "2", "--partitions", "4"]),
        ("e2e", &["--ramp", "200..2000", "--keys", "100", "--partitions", "3"]),
        ("consume", &[&few[..], &["--cold"]].concat()),
        ("consume", &[&few[..], &["--backlog", "--size", "100..1KiB"]].concat()),
    ];
    for (kind, more) in work {
        let report = embedded(kind, folder.path(), more);
        assert_sound(&report);
        let open = kind != "consume";
        assert_eq!(report["rate_asked"].is_number(), open, "{report}");
        assert_eq!(report["generator"]["lag_us"]["p99"].is_number(), open, "{report}");
    }
}

#[test]
fn a_generator_that_is_late_makes_the_run_invalid() {
    let folder = folder();
    let words = ["bench", "produce", "--embedded", "--data-dir", folder.path().to_str().unwrap()];
    // Nothing is sent in no time at all.
    let strict = ["--rate", "1000", "--lag-max", "0"];
    let run = corelane(&[&words[..], &SHORT[..6], &strict].concat());
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.text().contains("INVALID: the load generator sent requests late"), "{run:?}");
    // More than anything can do: it is either the broker or the generator that gives out.
    let report = embedded("produce", folder.path(), &["--rate", "900000000"]);
    assert!(report["valid"] == false || report["rate_kept"] == false, "{report}");
}

#[test]
fn a_signal_ends_a_run_early_with_a_report() {
    let folder = folder();
    let (json, html) = (folder.path().join("run.json"), folder.path().join("run.html"));
    let mut command = Command::new(BINARY);
    command.args(["bench", "produce", "--embedded", "--lockstep", "--space", "fresh"]);
    command.args(["--duration", "1h", "--warmup", "0"]);
    command.arg("--data-dir").arg(folder.path());
    command.arg("--json").arg(&json).arg("--html").arg(&html);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut bench = Ended(command.spawn().unwrap());
    let mut progress = BufReader::new(bench.0.stderr.take().unwrap()).lines();
    // The first second of the measured part has gone by.
    assert!(progress.any(|line| line.unwrap().contains("produce")), "no line of progress");
    let pid = Pid::from_raw(i32::try_from(bench.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let rest = std::thread::spawn(move || progress.map_while(Result::ok).collect::<Vec<_>>());
    let status = wait_for("the end of the run", || bench.0.try_wait().unwrap());
    let mut text = String::new();
    bench.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(status.success() && text.contains("PARTIAL"), "{status} {text} {:?}", rest.join());
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&report["partial"], &report["valid"]), (&true.into(), &true.into()));
    assert_sound(&report);
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && page.contains("partial: ended early"));
}

/// Ends its process with it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

#[test]
fn a_sweep_finds_a_rate_and_shows_its_probes() {
    let folder = folder();
    let own = ["bench", "sweep", "--embedded", "--data-dir", folder.path().to_str().unwrap()];
    let rates = ["--slo", "p99=60s", "--from", "100", "--to", "300", "--probe", "200ms"];
    let run = corelane(&[&own[..], &rates, &SHORT, &["--output", "json"]].concat());
    let report = run.json();
    assert_sound(&report);
    let probes = report["sweep"]["probes"].as_array().unwrap();
    let asked: Vec<_> = probes.iter().map(|probe| probe["rate"].as_f64().unwrap()).collect();
    assert_eq!(asked[0], 100.0, "{report}");
    // A busy machine may not keep even so little; nothing else may be in the way.
    let best = report["sweep"]["best_per_s"].as_f64();
    assert_eq!(run.code, Some(i32::from(best.is_none())), "{run:?}");
    assert!(best.is_none_or(|best| (100.0..=300.0).contains(&best)), "{report}");

    let never = ["--slo", "p99=1us", "--from", "100", "--probe", "200ms"];
    let run = corelane(&[&own[..], &never, &SHORT].concat());
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.text().contains("no rate tried keeps p99 within 1"), "{run:?}");
    for wrong in [&["--slo", "p99=1"][..], &["--slo", "p99=1ms", "--rate", "5"], &[]] {
        assert_eq!(corelane(&[&own[..], wrong].concat()).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn reports_are_compared_and_what_is_none_is_refused() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (a, b, page) = (path("a.json"), path("b.json"), path("compared.html"));
    for (file, rate) in [(&a, "300"), (&b, "600")] {
        embedded("produce", folder.path(), &["--rate", rate, "--json", file]);
    }
    let words = ["bench", "compare", &format!("slow={a}"), &format!("fast={b}"), "--html", &page];
    let run = corelane(&words).ok();
    for part in ["slow: corelane", "fast: corelane", "300", "600", "noise not known"] {
        assert!(run.text().contains(part), "{part} in {run:?}");
    }
    assert!(std::fs::read_to_string(&page).unwrap().contains("What differs"));
    std::fs::write(&b, "{}").unwrap();
    let sentence = corelane(&["bench", "compare", &a, &b]).failed();
    assert!(sentence.contains("b.json") && sentence.contains("schema"), "{sentence}");
    for words in [["bench", "compare"], ["bench", "produce"]] {
        let ceilings = ["--ceilings"].into_iter().filter(|_| words[1] == "produce");
        let words: Vec<&str> = words.into_iter().chain(ceilings).collect();
        let none = path("none.json");
        let sentence = corelane(&[&words[..], &[none.as_str()]].concat()).failed();
        assert!(sentence.contains("none.json"), "{sentence}");
    }
}

#[test]
fn the_client_publishes_by_the_same_schedule_and_is_checked_as_strictly() {
    let folder = folder();
    let client = ["--client", "tokio", "--linger", "1ms", "--connections", "2"];
    let work: [&[&str]; 3] = [
        &["--in-flight", "200", "--partitions", "3", "--topics", "2"],
        &["--rate", "2000", "--keys", "50", "--partitions", "4", "--size", "100:9,4KiB:1"],
        &["--rate", "500", "--arrivals", "poisson", "--ack", "memory", "--route", "any"],
    ];
    for more in work {
        let report = embedded("produce", folder.path(), &[&client[..], more].concat());
        assert_sound(&report);
        assert_eq!(report["settings"]["client"], "the tokio client, linger 1ms", "{report}");
        let memory = &report["server_memory"];
        for mark in ["before_bytes", "connected_bytes", "loaded_bytes"] {
            assert!(memory[mark].as_u64().unwrap() > 1 << 20, "{memory}");
        }
    }
    let own = ["bench", "produce", "--embedded"];
    for wrong in [
        &["--linger", "1ms"][..],
        &["--client", "tokio", "--batch", "10"],
        &["--client", "tokio", "--route", "other"],
    ] {
        let run = corelane(&[&own[..], wrong].concat());
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains(wrong[wrong.len() - 2]), "{run:?}");
    }
}

#[test]
fn what_share_of_the_written_prediction_was_reached_is_said() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (config, data, page) = (path("machine.toml"), path("data"), path("run.html"));
    let words = ["tune", "write", "--data-dir", &data, "--out", &config];
    corelane(&[&words[..], &["--size", "64MiB", "--time", "1s"]].concat()).ok();
    let ceilings = path("machine.ceilings.json");
    let lockstep = ["--lockstep", "--ceilings", &ceilings, "--html", &page];
    let report = embedded("produce", folder.path(), &lockstep);
    let [found] = report["ceilings"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!(found["name"], "publish 1 KiB, one at a time");
    assert!(found["predicted"].as_f64().unwrap() > 0.0, "{found}");
    assert_eq!(found["measured"], report["messages_per_s"]);
    assert!(std::fs::read_to_string(&page).unwrap().contains("ceilings"));
    let memory = ["--lockstep", "--ack", "memory", "--ceilings", &ceilings];
    assert!(embedded("produce", folder.path(), &memory)["ceilings"].is_null());
    // Of consuming: what was read counts, whatever the batch.
    let consume = ["--messages", "3000", "--ceilings", &ceilings];
    let report = embedded("consume", folder.path(), &consume);
    assert_eq!(report["ceilings"][0]["unit"], "MB/s", "{report}");
    let wrong = ["bench", "produce", "--embedded", "--ceilings", &config];
    let sentence = corelane(&wrong).failed();
    assert!(sentence.contains("machine.toml") && sentence.contains("tune write"), "{sentence}");
}
