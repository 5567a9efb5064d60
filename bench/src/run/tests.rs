//! Whole runs against a broker in memory, right and wrong.

use super::fake::{Fake, Fault};
use super::*;
use std::time::Duration;

use crate::options::Source;
use crate::pace::{Pace, Rates};
use crate::schedule::Arrivals;
use crate::workload::{Keys, Sizes};

fn run_against(
    fault: Fault,
    work: Work,
    change: impl FnOnce(&mut Options),
) -> Result<Report, BenchError> {
    let fake = Fake::start(fault);
    let mut options = Options {
        server: Some(fake.address),
        space: Space::Fresh,
        sizes: Sizes::Fixed(100),
        pace: Pace::Closed,
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
        (o.pace, o.connections, o.in_flight, o.batch) = (Pace::constant(1e8), 1, 1, 1);
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

#[test]
fn an_open_loop_of_any_shape_sends_what_it_means_to() {
    let rates = [
        Rates::Constant(2_000.0),
        Rates::Ramp { from: 500.0, to: 3_000.0 },
        Rates::Steps(vec![500.0, 3_000.0]),
        Rates::Bursts {
            base: 500.0,
            burst: 5_000.0,
            length: Duration::from_millis(20),
            every: Duration::from_millis(100),
        },
    ];
    for (at, rates) in rates.into_iter().enumerate() {
        let arrivals = [Arrivals::Constant, Arrivals::Poisson][at % 2];
        let report = run_against(Fault::None, Work::E2e, |o| {
            o.pace = Pace::Open { rates, arrivals };
            (o.in_flight, o.lag_max) = (1_000, Duration::from_secs(60));
        });
        let report = report.unwrap();
        let figures = &report.figures;
        assert!(report.valid && figures.verdict.is_clean(), "{report:?}");
        // Never more than was meant, a request of each connection at the border aside; with
        // chance, five deviations more.
        let meant = figures.rate_asked.unwrap() * figures.seconds;
        let sent = figures.verdict.checked as f64;
        assert!(figures.messages > 0 && figures.generator.lag_us.is_some());
        assert!(sent <= (meant + 5.0 * meant.sqrt()) * 1.5 + 100.0, "{sent} of {meant}");
    }
}

#[test]
fn sizes_keys_and_numbers_of_readers_may_differ() {
    let report = run_against(Fault::None, Work::E2e, |o| {
        o.sizes = Sizes::Weighted(vec![(24, 5), (2_000, 1)]);
        o.keys = Some(Keys { count: 50, zipf: 1.0 });
        (o.partitions, o.connections, o.consumers) = (4, 2, Some(3));
    });
    let report = report.unwrap();
    assert!(report.is_good() && report.figures.messages > 0, "{report:?}");
    let mean = report.figures.bytes_per_s / report.figures.messages_per_s;
    assert!(mean > 24.0 && mean < 2_000.0, "{mean}");
    assert_eq!(report.settings.consumers, Some(3));
}

#[test]
fn a_backlog_is_read_once() {
    let report = run_against(Fault::None, Work::Consume, |o| {
        (o.messages, o.source, o.partitions) = (Some(600), Source::Backlog, 3);
    });
    let report = report.unwrap();
    assert_eq!((report.figures.verdict.checked, report.figures.verdict.is_clean()), (600, true));
    assert!(report.notes.iter().any(|note| note.contains("backlog: 600")), "{report:?}");
}

/// The signal comes when the run is being measured: so many batches are not under way at once.
#[test]
fn a_signal_while_measuring_gives_a_partial_report() {
    let fake = Fake::start(Fault::None);
    let options = Options {
        server: Some(fake.address),
        space: Space::Fresh,
        sizes: Sizes::Fixed(100),
        pace: Pace::Closed,
        in_flight: 4,
        warmup: Duration::ZERO,
        duration: Duration::from_secs(3600),
        quiet: true,
        ..Options::new(Work::Produce)
    };
    let stop = Arc::new(AtomicBool::new(false));
    let report = std::thread::scope(|scope| {
        let run = scope.spawn(|| run(&options, &stop));
        while fake.produced() < 100 {
            std::thread::yield_now();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        run.join().unwrap().unwrap()
    });
    assert!(report.partial && report.is_good() && report.figures.messages > 0, "{report:?}");
    assert!(report.figures.seconds > 0.0 && report.figures.seconds < 3600.0);
}
