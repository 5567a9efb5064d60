//! Far more readers than a turn has time for, by a clock that is driven.

use super::slow::Bench;
use crate::bounds::{READ_NS_ALONE, READ_NS_BESIDE_PUBLISHES, SORT_SHARE, SORTED_PER_LOOK};
use crate::clock::Clock;

/// What each look at the clock takes.
const LOOK_NS: u64 = 5_000;
const SECOND_NS: u64 = 1_000_000_000;

/// A shard with one message and so many readers that have not had it.
fn crowded(readers: u32) -> Bench {
    let mut bench = Bench::new();
    bench.publish(100);
    bench.turn(5);
    assert_eq!(bench.answers().0, 1);
    (0..readers).for_each(|index| bench.subscribe_as(index));
    assert!(bench.delivered().is_empty());
    bench
}

fn sorted(bench: &Bench) -> usize {
    bench.host.readers.by_connection.values().map(|of| of.queued.len()).sum()
}

#[test]
fn a_crowd_of_readers_does_not_take_a_turn_for_itself() {
    for (publishes, ns_max) in [(false, READ_NS_ALONE), (true, READ_NS_BESIDE_PUBLISHES)] {
        let mut bench = crowded(10_000);
        if publishes {
            bench.hold();
            bench.publish(100);
        }
        let looks = (ns_max / LOOK_NS) as usize;
        let sorted_max = (looks / SORT_SHARE as usize + 1) * SORTED_PER_LOOK;
        for turn in 1..=3 {
            let clock = Clock::driven(turn * SECOND_NS, LOOK_NS);
            let before = sorted(&bench);
            assert!(bench.end_turn(&clock), "there is more");
            let (read, after) = (bench.delivered().len(), sorted(&bench));
            assert!(read > 0 && read <= looks + 1, "{read} read");
            assert!(
                after > before && after - before <= sorted_max,
                "{before}, then {after} sorted"
            );
            let took_ns = clock.read_ns() - turn * SECOND_NS;
            let most_ns = ns_max + ns_max / SORT_SHARE + 10 * LOOK_NS;
            assert!(took_ns <= most_ns, "the turn took {took_ns} ns");
        }
    }
}

/// While there are always some who wait, what one reader is given is due since there was something
/// for it, not since anyone has waited.
#[test]
fn what_is_delivered_has_waited_since_there_was_something_for_its_reader() {
    let readers = 3_000;
    let mut bench = crowded(readers);
    bench.end_turn(&Clock::driven(SECOND_NS, LOOK_NS));
    bench.delivered();
    bench.host.begin_turn(&Clock::driven(2 * SECOND_NS, LOOK_NS));
    bench.subscribe_as(readers);
    let mut waited = Vec::new();
    for turn in 2..200 {
        bench.end_turn(&Clock::driven(turn * SECOND_NS, LOOK_NS));
        waited.extend(bench.delivered());
    }
    let (late, due_ns) = *waited.last().unwrap();
    assert_eq!((late, due_ns), (readers, 2 * SECOND_NS));
    assert!(waited.iter().all(|(index, due_ns)| *index == readers || *due_ns < SECOND_NS));
}
