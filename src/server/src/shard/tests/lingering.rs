//! What nobody waits for gathers before it is written; what somebody waits for does not.

use model::AckLevel;

use super::slow::Bench;
use crate::bounds::UNAWAITED_WRITE_NS;
use crate::clock::Clock;

#[test]
fn what_nobody_waits_for_gathers_and_is_written_by_itself() {
    let mut bench = Bench::with_budget(None);
    let before = bench.host.disk.writes();
    for _ in 0..20 {
        bench.publish_for(100, AckLevel::Memory);
        bench.quick_turn();
    }
    assert_eq!(bench.answers(), (20, vec![]), "acknowledged from memory");
    assert_eq!(bench.host.disk.writes(), before, "their time has not come");
    // No one does anything more: the shard has seen to its waking.
    bench.next_turn(1);
    assert_eq!(bench.host.disk.writes(), before + 1, "all in one block");
    while bench.host.is_writing() {
        bench.next_turn(0);
    }
    let (durable, appended) = bench.reached();
    assert_eq!(durable, appended);
}

/// The timer's end may come in a turn that began before it, and nothing else makes the core turn.
#[test]
fn a_time_that_is_up_in_the_middle_of_a_turn_is_not_passed_over() {
    let mut bench = Bench::with_budget(None);
    let before = bench.host.disk.writes();
    bench.publish_for(100, AckLevel::Memory);
    bench.quick_turn();
    assert_eq!(bench.host.disk.writes(), before);
    bench.end_turn(&Clock::driven(bench.now_ns() + UNAWAITED_WRITE_NS - 1, 1));
    assert_eq!(bench.host.disk.writes(), before + 1);
}

#[test]
fn a_publish_that_waits_takes_them_along_at_once() {
    let mut bench = Bench::with_budget(None);
    let before = bench.host.disk.writes();
    bench.publish_for(100, AckLevel::Memory);
    bench.publish_for(100, AckLevel::None);
    bench.quick_turn();
    assert_eq!(bench.host.disk.writes(), before);
    bench.publish(100);
    bench.quick_turn();
    assert_eq!(bench.host.disk.writes(), before + 1);
}

#[test]
fn a_reader_does_not_wait_for_what_gathers() {
    let mut bench = Bench::with_budget(None);
    bench.subscribe();
    bench.quick_turn();
    let before = bench.host.disk.writes();
    bench.publish_for(100, AckLevel::Memory);
    bench.quick_turn();
    assert_eq!(bench.host.disk.writes(), before + 1);
}
