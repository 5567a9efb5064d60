//! A shard on a device with a budget of writes, which is told the time: nothing here depends on how
//! fast the machine is.

use std::sync::Arc;

use super::slow::Bench;
use crate::write_budget::WriteBudget;

const MS: u64 = 1_000_000;
/// One turn of a core.
const TURN_NS: u64 = MS / 2;
/// So many turns at most until all is written that has been sent.
const DRAIN_TURNS_MAX: u32 = 10_000;

/// Publishes one message in each of these turns, and returns how many writes the log has made.
fn publish_for(bench: &mut Bench, budget: &WriteBudget, turns: u32) -> u64 {
    let before = bench.host.disk.writes();
    for _ in 0..turns {
        bench.publish(100);
        bench.quick_turn();
        budget.pass(TURN_NS);
    }
    bench.host.disk.writes() - before
}

/// Everything sent is acknowledged.
fn drain(bench: &mut Bench, budget: &WriteBudget, sent: u32) {
    let mut acknowledged = 0;
    for _ in 0..DRAIN_TURNS_MAX {
        let (more, refused) = bench.answers();
        acknowledged += more;
        assert!(refused.is_empty(), "{refused:?}");
        if acknowledged == sent {
            return;
        }
        budget.pass(TURN_NS);
        bench.turn_after_one();
    }
    panic!("{acknowledged} of {sent} acknowledged");
}

#[test]
fn groups_grow_and_the_rate_of_writes_holds() {
    let budget = Arc::new(WriteBudget::driven(200));
    let mut bench = Bench::with_budget(Some(Arc::clone(&budget)));
    let sent = 1_000;
    let writes = publish_for(&mut bench, &budget, sent);
    // 100 in half a second, what an idle device takes at once, a witness or a manifest between.
    assert!(writes <= 120, "{writes} writes");
    drain(&mut bench, &budget, sent);
}

#[test]
fn the_first_write_after_a_pause_does_not_wait() {
    // A write every 20 ms.
    let budget = Arc::new(WriteBudget::driven(50));
    let mut bench = Bench::with_budget(Some(Arc::clone(&budget)));
    for _ in 0..5 {
        budget.pass(50 * MS);
        let before = bench.host.disk.writes();
        bench.publish(100);
        bench.quick_turn();
        assert!(bench.host.disk.writes() > before, "written in the same turn");
        drain(&mut bench, &budget, 1);
    }
}

#[test]
fn two_shards_share_one_budget() {
    let budget = Arc::new(WriteBudget::driven(400));
    let mut shards: Vec<Bench> =
        (0..2).map(|_| Bench::with_budget(Some(Arc::clone(&budget)))).collect();
    let before: u64 = shards.iter().map(|bench| bench.host.disk.writes()).sum();
    let sent = 1_000;
    for _ in 0..sent {
        for bench in &mut shards {
            bench.publish(100);
            bench.quick_turn();
        }
        budget.pass(TURN_NS);
    }
    let after: u64 = shards.iter().map(|bench| bench.host.disk.writes()).sum();
    assert!(after - before <= 240, "{} writes", after - before);
    for bench in &mut shards {
        drain(bench, &budget, sent);
    }
}

#[test]
fn without_a_budget_every_publish_of_a_waiting_client_is_a_write() {
    let budget = WriteBudget::driven(1);
    let mut bench = Bench::with_budget(None);
    let before = bench.host.disk.writes();
    for _ in 0..20 {
        bench.publish(100);
        bench.quick_turn();
        drain(&mut bench, &budget, 1);
    }
    assert!(bench.host.disk.writes() - before >= 20);
}
