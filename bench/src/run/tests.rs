//! Whole runs against a broker in memory, right and wrong.

use super::fake::{Fake, Fault};
use super::*;
use crate::options::Space;

fn run_against(
    fault: Fault,
    work: Work,
    change: impl FnOnce(&mut Options),
) -> Result<RunReport, BenchError> {
    let fake = Fake::start(fault);
    let mut options = Options {
        server: Some(fake.address),
        space: Space::Fresh,
        size: 100,
        batch: 2,
        connections: 3,
        in_flight: 4,
        duration: Duration::from_millis(300),
        warmup: Duration::from_millis(50),
        quiet: true,
        ..Options::new(work)
    };
    change(&mut options);
    run(&options, &Arc::new(AtomicBool::new(false)))
}

#[test]
fn a_produce_run_reads_everything_back() {
    let report = run_against(Fault::None, Work::Produce, |o| o.partitions = 2).unwrap();
    let figures = report.figures;
    assert!(figures.verdict.is_clean(), "{figures:?}");
    assert!(figures.messages > 0 && figures.verdict.checked >= figures.messages);
}

#[test]
fn a_consume_run_reads_again_and_again() {
    let report = run_against(Fault::None, Work::Consume, |o| o.messages = Some(600)).unwrap();
    let figures = report.figures;
    assert!(figures.verdict.is_clean(), "{figures:?}");
    // Three connections read the one partition, each from its beginning.
    assert!(figures.verdict.checked > 1800 && figures.latency_us.max > 0.0);
}

#[test]
fn an_e2e_run_sees_every_message_once() {
    for topics in [1, 5] {
        let report = run_against(Fault::None, Work::E2e, |o| o.topics = topics).unwrap();
        let figures = report.figures;
        assert!(figures.verdict.is_clean(), "{figures:?}");
        assert!(figures.messages > 0 && figures.latency_us.p50 > 0.0);
    }
}

#[test]
fn faults_of_the_broker_show_in_the_figures() {
    let verdict =
        |fault, work| run_against(fault, work, |o| o.connections = 1).unwrap().figures.verdict;
    let altered = verdict(Fault::Alter, Work::Produce);
    assert_eq!((altered.corrupted, altered.duplicated), (1, 0));
    // One batch too many in the log: as many at its end are beyond what was acknowledged.
    let repeated = verdict(Fault::Repeat, Work::Produce);
    assert_eq!(repeated.duplicated, 2);
    let repeated = verdict(Fault::Repeat, Work::E2e);
    assert_eq!((repeated.duplicated, repeated.lost), (2, 0));
    let lost = verdict(Fault::Lose, Work::E2e);
    assert_eq!((lost.lost, lost.duplicated), (2, 0));
    let error = run_against(Fault::AckTwice, Work::Produce, |_| {}).unwrap_err();
    assert!(error.to_string().contains("acknowledged before"), "{error}");
}

#[test]
fn an_open_loop_that_is_too_fast_says_so() {
    let report = run_against(Fault::None, Work::Produce, |o| {
        (o.rate, o.connections, o.in_flight, o.batch) = (Some(1e8), 1, 1, 1);
        o.verify = false;
    });
    let report = report.unwrap();
    assert_eq!(report.figures.rate_kept, Some(false));
    assert!(report.notes.iter().any(|note| note.contains("rate was not kept")));
}

#[test]
fn a_signal_ends_a_run() {
    let fake = Fake::start(Fault::None);
    let options = Options {
        server: Some(fake.address),
        space: Space::Fresh,
        quiet: true,
        ..Options::new(Work::Produce)
    };
    let stop = Arc::new(AtomicBool::new(true));
    assert!(matches!(run(&options, &stop), Err(BenchError::Interrupted)));
}
