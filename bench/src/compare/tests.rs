use super::*;
use crate::report::tests::sample;

fn entry(name: Option<&str>, commit: &str, rate: f64, p99: f64) -> Entry {
    let mut report = sample();
    report.machine.commit = commit.to_owned();
    report.machine.optimised = true;
    report.figures.messages_per_s = rate;
    report.figures.latency_us.p99 = p99;
    Entry { name: name.map(str::to_owned), source: format!("{commit}.json"), report }
}

fn change(comparison: &Comparison, metric: &str) -> Change {
    let rows = comparison.rows();
    rows.into_iter().find(|(of, _)| of.name == metric).unwrap().1[1].1
}

#[test]
fn repeated_runs_are_one_group_and_their_spread_is_the_noise() {
    let entries = [(100.0, 50.0), (104.0, 52.0), (98.0, 51.0)]
        .iter()
        .map(|(rate, p99)| entry(None, "old", *rate, *p99))
        .chain([(120.0, 51.5), (118.0, 49.0)].iter().map(|(r, p)| entry(None, "new", *r, *p)));
    let comparison = Comparison::of(entries.collect()).unwrap();
    let sizes: Vec<_> = comparison.groups.iter().map(|group| group.runs.len()).collect();
    assert_eq!(sizes, [3, 2]);
    let Change::Beyond { percent, better: true } = change(&comparison, "messages/s") else {
        panic!("{:?}", comparison.rows());
    };
    assert!((percent - 19.0).abs() < 1e-6, "{percent}");
    assert!(matches!(change(&comparison, "p99"), Change::Noise { .. }));
    assert!(matches!(change(&comparison, "p50"), Change::Noise { .. } | Change::Base));
    let commits = ("commit".to_owned(), vec!["old".to_owned(), "new".to_owned()]);
    assert_eq!(comparison.differences(), [commits]);
    assert_eq!(comparison.findings(), ["messages/s of B is +19.0% against A: better"]);
    assert!(comparison.warnings.is_empty(), "{:?}", comparison.warnings);
    let text = comparison.to_text();
    for part in ["100 (98 to 104)", "119 (118 to 120) +19.0% better", "old | new", "3 runs"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let html = comparison.to_html();
    assert!(html.contains("+19.0% better") && html.matches("<svg").count() == 3, "{html}");
}

#[test]
fn more_latency_is_worse() {
    let runs =
        |name, p99: f64| (0..2).map(move |k| entry(Some(name), "c", 1.0, p99 + f64::from(k)));
    let comparison = Comparison::of(runs("before", 100.0).chain(runs("after", 150.0)).collect());
    let comparison = comparison.unwrap();
    assert_eq!(comparison.groups[1].name, "after");
    assert!(matches!(change(&comparison, "p99"), Change::Beyond { better: false, .. }));
    assert!(comparison.to_text().contains("WORSE"));
}

#[test]
fn single_runs_and_doubtful_ones_are_named() {
    let mut doubtful = entry(None, "b", 9.0, 9.0);
    doubtful.report.valid = false;
    doubtful.report.partial = true;
    doubtful.report.machine.machine.kernel = "other".into();
    let comparison = Comparison::of(vec![entry(None, "a", 5.0, 5.0), doubtful]).unwrap();
    assert!(matches!(change(&comparison, "messages/s"), Change::Unknown { .. }));
    let warnings = comparison.warnings.join("\n");
    for part in ["b.json is of an invalid run", "ended early", "different machines", "run once"] {
        assert!(warnings.contains(part), "{part} in {warnings}");
    }
    assert!(comparison.findings().is_empty());
    assert!(comparison.to_text().contains("nothing has changed beyond noise"));
    assert!(matches!(Comparison::of(vec![]), Err(CompareError::Count(0))));
}
