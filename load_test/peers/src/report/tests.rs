//! Comparisons made up here, in every form.

use bench::ledger::Verdict;
use bench::report::{Broker, Figures, Settings};

use super::view::{self, thousands};
use super::*;

fn row(peer: Peer, level: Level, workload: &str, rate: f64) -> Row {
    let verdict = Verdict { checked: 10, ..Verdict::default() };
    let mut figures = Figures { messages_per_s: rate, verdict, ..Figures::default() };
    // Whole, so that it comes back from JSON as it was.
    figures.latency_us.p99 = (1e6 / rate).round();
    let report = Report {
        schema: bench::report::SCHEMA,
        work: workload.into(),
        title: String::new(),
        valid: true,
        invalid_because: vec![],
        partial: false,
        server_memory: None,
        stages: Vec::new(),
        ceilings: Vec::new(),
        sweep: None,
        figures,
        broker: Broker::default(),
        settings: Settings::default(),
        machine: MachineReport::default(),
        notes: vec![],
    };
    Row {
        peer,
        level,
        workload: workload.into(),
        pass: 1,
        outcome: RowOutcome::Measured(Box::new(report)),
    }
}

fn comparison(rows: Vec<Row>) -> Comparison {
    let mut comparison = Comparison::new(MachineReport::default(), "peers run".into());
    comparison.rows = rows;
    comparison
}

fn sample() -> Comparison {
    let durable = Level::Durable;
    let mut sample = comparison(vec![
        row(Peer::Corelane, durable, "window-1k", 900.0),
        row(Peer::Redis, durable, "window-1k", 1_000.0),
        row(Peer::Nats, durable, "window-1k", 300.0),
        row(Peer::Corelane, durable, "window-1k", 700.0),
        row(Peer::Corelane, durable, "lockstep-1", 4_000.0),
        row(Peer::Redis, durable, "lockstep-1", 1_000.0),
        row(Peer::Redis, Level::Memory, "lockstep-1", 2_000.0),
    ]);
    sample.rows[3].pass = 2;
    let outcome = RowOutcome::Failed("it <ended> | early".into());
    sample.row(Row { outcome, ..row(Peer::Kafka, durable, "window-1k", 1.0) });
    sample.absent(Absence { peer: Peer::Iggy, why: "no registry has it".into() });
    sample.lacks(Peer::RabbitmqStream, durable, "never syncs");
    let setting = Setting { what: "appendfsync always".into(), why: "before replies".into() };
    let settings = vec![setting];
    sample.subject(Subject { peer: Peer::Redis, level: durable, version: "7".into(), settings });
    sample
}

#[test]
fn json_comes_back_and_another_schema_does_not() {
    let text = sample().to_json();
    let back = Comparison::from_json(&text).unwrap();
    assert_eq!(back.to_json(), text);
    let other = text.replacen("\"schema\": 1", "\"schema\": 9", 1);
    assert!(Comparison::from_json(&other).unwrap_err().to_string().contains("schema 9"));
    assert!(Comparison::from_json("{").is_err());
}

#[test]
fn a_peer_that_wins_is_named() {
    let markdown = sample().to_markdown();
    let expected = "durable, 1 KiB, 64 in flight, 4 connections: Redis Streams wins: Corelane comes to 0.80 of it";
    assert!(markdown.contains(expected), "{markdown}");
    assert!(markdown.contains("Corelane is 4.00 times the best peer, Redis Streams"), "{markdown}");
    assert!(markdown.contains("Corelane is 2.00 times the best peer"), "durable against memory");
}

#[test]
fn all_brokers_stand_side_by_side_and_the_best_is_marked() {
    let (markdown, html) = (sample().to_markdown(), sample().to_html());
    let head = "| work | Corelane | Kafka | NATS JetStream | Redis Streams |";
    assert!(markdown.contains(head), "{markdown}");
    // Corelane's two turns are averaged; what failed is a dash.
    let row = "4 connections: messages/s | 800 | - | 300 | **1,000** |";
    assert!(markdown.contains(row), "{markdown}");
    assert!(html.contains("<td>800</td><td>-</td><td>300</td><td class=\"best\">1,000</td>"));
}

#[test]
fn many_topics_stand_beside_few_and_who_cannot_make_them_is_named() {
    let durable = Level::Durable;
    let mut many = comparison(vec![
        row(Peer::Corelane, durable, "window-1k", 1_000.0),
        row(Peer::Corelane, durable, "topics-10000", 900.0),
        row(Peer::Redis, durable, "topics-10000", 1_000.0),
    ]);
    let outcome = RowOutcome::Beyond("7 of 10000 topics were made in 60s".into());
    many.row(Row { outcome, ..row(Peer::RabbitmqQuorum, durable, "topics-10000", 1.0) });
    let (markdown, html) = (many.to_markdown(), many.to_html());
    for form in [&markdown, &html] {
        assert!(form.contains("Corelane: 90% of its rate with a topic for each"), "{form}");
        assert!(form.contains("beyond it: 7 of 10000 topics were made in 60s"), "{form}");
    }
    assert!(markdown.contains("10,000 topics: messages/s | 900 | - | **1,000** |"), "{markdown}");
    assert!(markdown.contains("10,000 topics: Redis Streams wins: Corelane comes to 0.90 of it"));
    assert_eq!(many.wrongs(), None, "what a broker is not made for is nothing wrong");
    let back = Comparison::from_json(&many.to_json()).unwrap();
    assert_eq!(back.to_markdown(), markdown);
}

#[test]
fn both_forms_show_what_failed_and_who_is_missing() {
    let (markdown, html) = (sample().to_markdown(), sample().to_html());
    assert!(markdown.contains("failed: it <ended> / early"), "{markdown}");
    assert!(html.contains("failed: it &lt;ended&gt; | early"), "{html}");
    for form in [&markdown, &html] {
        for text in ["no registry has it", "never syncs", "appendfsync always", "(turn 2)"] {
            assert!(form.contains(text), "{text} in {form}");
        }
    }
    assert!(!html.contains("http"), "the page needs nothing from elsewhere");
}

#[test]
fn what_failed_or_was_damaged_is_told_in_one_sentence_and_a_slow_broker_is_not() {
    let mut some = comparison(vec![
        row(Peer::Corelane, Level::Durable, "window-1k", 1.0),
        row(Peer::Redis, Level::Memory, "end-to-end", 1.0),
    ]);
    some.absent(Absence { peer: Peer::Kafka, why: "no Java".into() });
    if let RowOutcome::Measured(report) = &mut some.rows[1].outcome {
        report.figures.rate_kept = Some(false);
        (report.valid, report.invalid_because) = (false, vec!["the generator was late".into()]);
    }
    assert_eq!(some.wrongs(), None);
    let mut damaged = row(Peer::Nats, Level::Memory, "batch-100", 1.0);
    if let RowOutcome::Measured(report) = &mut damaged.outcome {
        report.figures.verdict.duplicated = 1;
    }
    some.row(damaged);
    for workload in ["a", "b", "c", "d", "e", "f", "g"] {
        let outcome = RowOutcome::Failed("it ended".into());
        some.row(Row { outcome, ..row(Peer::Iggy, Level::Durable, workload, 1.0) });
    }
    assert_eq!(
        some.wrongs().unwrap(),
        "of 10 rows 7 failed (iggy durable a, iggy durable b, iggy durable c, iggy durable d, \
         iggy durable e and 2 more), 1 with messages lost, repeated, out of order or altered \
         (nats memory batch-100)"
    );
}

#[test]
fn figures_that_do_not_count_win_nothing() {
    let spoiled = |change: fn(&mut Report)| {
        let mut rows = vec![
            row(Peer::Corelane, Level::Durable, "window-1k", 100.0),
            row(Peer::Redis, Level::Durable, "window-1k", 50.0),
            row(Peer::Nats, Level::Durable, "window-1k", 900.0),
        ];
        if let RowOutcome::Measured(report) = &mut rows[2].outcome {
            change(report);
        }
        let sections = view::sections(&comparison(rows));
        sections[0].standing.as_ref().map(|standing| standing.best_peer)
    };
    assert_eq!(spoiled(|_| ()), Some(Peer::Nats));
    assert_eq!(spoiled(|report| report.valid = false), Some(Peer::Redis));
    assert_eq!(spoiled(|report| report.figures.verdict.lost = 1), Some(Peer::Redis));
}

#[test]
fn what_is_within_the_noise_is_neither_ahead_nor_behind() {
    let class = |own: f64| {
        let rows = vec![
            row(Peer::Corelane, Level::Durable, "window-1k", own),
            row(Peer::Redis, Level::Durable, "window-1k", 100.0),
        ];
        let html = comparison(rows).to_html();
        ["ahead", "even", "behind"].map(|class| html.contains(&format!("<td class=\"{class}\">")))
    };
    assert_eq!(class(94.0), [false, false, true]);
    assert_eq!(class(96.0), [false, true, false]);
    assert_eq!(class(104.0), [false, true, false]);
    assert_eq!(class(106.0), [true, false, false]);
}

#[test]
fn where_the_rate_is_given_the_lower_latency_wins() {
    let rows = vec![
        row(Peer::Corelane, Level::Memory, "end-to-end", 2_000.0),
        row(Peer::Redis, Level::Memory, "end-to-end", 1_000.0),
    ];
    let sections = view::sections(&comparison(rows));
    assert_eq!(sections[0].standing.as_ref().map(|standing| standing.ratio), Some(2.0));
}

#[test]
fn results_of_several_runs_become_one() {
    let mut all = comparison(vec![row(Peer::Corelane, Level::Durable, "window-1k", 1.0)]);
    all.absent(Absence { peer: Peer::Redis, why: "not yet".into() });
    all.add(comparison(vec![
        row(Peer::Redis, Level::Durable, "window-1k", 1.0),
        row(Peer::Corelane, Level::Durable, "window-1k", 1.0),
    ]));
    let passes: Vec<u32> = all.rows.iter().map(|row| row.pass).collect();
    assert_eq!(passes, [1, 1, 2]);
    assert!(all.absences.is_empty(), "it was measured in the other run");
    assert_eq!(all.commands.len(), 2);
}

#[test]
fn thousands_have_commas() {
    for (value, text) in
        [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (1_234_567.0, "1,234,567")]
    {
        assert_eq!(thousands(value), text);
    }
}
