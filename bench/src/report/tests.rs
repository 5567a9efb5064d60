//! Reports to test with, and what holds for all forms of them.

use super::*;

/// A report with something in every field: 1,000 messages a second for three seconds.
pub(crate) fn sample() -> Report {
    const SECOND_NS: u64 = 1_000_000_000;
    let mut recorder = Recorder::new(SECOND_NS, 4 * SECOND_NS);
    for k in 0..3_000_u64 {
        let intended_ns = SECOND_NS + k * 1_000_000;
        let answered_ns = (intended_ns + 50_000 + k % 100 * 1_000).min(4 * SECOND_NS - 1);
        recorder.latency(intended_ns, answered_ns, 1);
        recorder.count(answered_ns, 1, 1024);
    }
    let verdict = Verdict { checked: 3_000, ..Verdict::default() };
    let mut figures = Figures::new(&recorder, u64::MAX, "publish to acknowledgement", verdict);
    figures.set_server_cpu(Some(std::time::Duration::from_millis(30)));
    figures.set_rate_asked(1_000.0, 0.0, Arrivals::Constant);
    figures.generator =
        GeneratorFigures { cpu_share: Some(0.25), lag_us: Some(figures.latency_us) };
    let name = |text: &str| text.to_owned();
    Report {
        schema: SCHEMA,
        work: name("produce"),
        title: String::new(),
        valid: true,
        invalid_because: Vec::new(),
        partial: false,
        figures,
        broker: Broker {
            name: name("corelane"),
            version: name("0.1.0"),
            durability: name("on disk"),
            settings: [(name("cores"), name("1"))].into(),
        },
        settings: Settings {
            size: 1024.0,
            batch: 1,
            connections: 4,
            in_flight: 64,
            pace: name("1000/s, constant"),
            rate: Some(1_000.0),
            duration_s: 3.0,
            ack: name("durable"),
            topics: 1,
            partitions: 1,
            server: name("embedded"),
            ..Settings::default()
        },
        machine: MachineReport { commit: name("abc"), ..MachineReport::default() },
        stages: vec![Stage { name: name("append"), count: 9, ..Stage::default() }],
        server_memory: Some(ServerMemory { loaded_bytes: 9, ..ServerMemory::default() }),
        ceilings: vec![Ceiling { name: name("writes"), predicted: 9.0, ..Ceiling::default() }],
        sweep: Some(Sweep { probes: vec![Probe::default()], ..Sweep::default() }),
        notes: vec![name("a note with <angle> brackets & \"quotes\"")],
    }
}

#[test]
fn figures_are_of_the_measured_part() {
    let figures = sample().figures;
    assert_eq!((figures.messages, figures.messages_per_s, figures.seconds), (3_000, 1_000.0, 3.0));
    assert_eq!(figures.bytes_per_s, 1_024_000.0);
    assert_eq!(
        (figures.server_cpu_us_per_message, figures.server_cpu_share),
        (Some(10.0), Some(0.01))
    );
    assert_eq!((figures.rate_kept, figures.series.len()), (Some(true), 3));
    assert!((figures.latency_us.p50 - 100.0).abs() < 2.0, "{:?}", figures.latency_us);
}

#[test]
fn a_rate_that_was_missed_is_said() {
    let mut report = sample();
    for (asked, overdue, kept) in
        [(1_005.0, 0.0, true), (1_020.0, 0.0, false), (1_000.0, 40.0, false)]
    {
        report.figures.set_rate_asked(asked, overdue, Arrivals::Constant);
        assert_eq!(report.figures.rate_kept, Some(kept), "{asked} {overdue}");
        assert_eq!(report.to_text().contains("NOT kept"), !kept);
    }
}

#[test]
fn what_cannot_be_relied_on_says_so() {
    let mut report = sample();
    assert!(report.is_good());
    report.figures.verdict.lost = 1;
    assert!(!report.is_good());
    report = sample();
    (report.valid, report.partial) = (false, true);
    report.invalid_because.push("the generator was late".into());
    assert!(!report.is_good());
    let text = report.to_text();
    assert!(text.contains("INVALID: the generator was late") && text.contains("PARTIAL"), "{text}");
}

#[test]
fn the_page_is_whole_and_needs_no_other_file() {
    let mut report = sample();
    report.valid = false;
    report.invalid_because.push("late <generator>".into());
    let html = report.to_html();
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
    // Percentiles, rate and latency over time, latency by rate.
    assert_eq!(html.matches("<svg").count(), 4);
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    for outside in ["<script", "<link", "@import", "url(", "<img"] {
        assert!(!html.contains(outside), "{outside}");
    }
    for part in ["prefers-color-scheme: dark", "late &lt;generator&gt;", "append", "Sweep"] {
        assert!(html.contains(part), "{part}");
    }
    // With nothing measured too.
    report.figures = Figures::default();
    assert!(report.to_html().ends_with("</html>\n"));
}

#[test]
fn the_ceilings_have_a_page_too() {
    let Report { figures, settings, machine, notes, .. } = sample();
    let percentiles = tuning::Percentiles::default();
    let raw = RawReport {
        schema: SCHEMA,
        work: "raw",
        valid: true,
        invalid_because: Vec::new(),
        disk: Some(DiskReport {
            write_durable_4k_us: percentiles,
            write_durable_256k_depth4_bytes_per_s: 2e9,
            read_sequential_bytes_per_s: 3e9,
            direct: true,
        }),
        loopback: Some(LoopbackReport {
            round_trip_64b_us: percentiles,
            stream_64k_bytes_per_s: 4e9,
            eventfd_round_trip_us: percentiles,
        }),
        append: Some(figures),
        settings,
        machine,
        notes,
    };
    let html = raw.to_html();
    assert_eq!(html.matches("<svg").count(), 3);
    for part in ["2000 MB/s", "eventfd", "Bare append loop", "</html>"] {
        assert!(html.contains(part), "{part}");
    }
    let json: serde_json::Value = serde_json::from_str(&raw.to_json()).unwrap();
    assert!(json["append"]["latency_us"]["p99_99"].is_number(), "{json}");
    assert!(json["disk"]["write_durable_4k_us"]["p99_9"].is_number(), "{json}");
}
