//! A shard on a device with a budget of writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::slow::Bench;
use crate::write_budget::WriteBudget;

/// Publishes one message after another for so long, each as soon as the core has turned, and
/// returns how many were sent and how many writes the log has made.
fn publish_for(bench: &mut Bench, span: Duration) -> (u32, u64) {
    let before = bench.host.disk.writes();
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < span {
        bench.publish(100);
        sent += 1;
        bench.quick_turn();
    }
    (sent, bench.host.disk.writes() - before)
}

/// Everything sent is acknowledged, soon.
fn drain(bench: &mut Bench, sent: u32) {
    let began = Instant::now();
    let mut acknowledged = 0;
    while acknowledged < sent {
        bench.quick_turn();
        let (more, refused) = bench.answers();
        acknowledged += more;
        assert!(refused.is_empty(), "{refused:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "{acknowledged} of {sent}");
    }
    assert_eq!(acknowledged, sent);
}

#[test]
fn groups_grow_and_the_rate_of_writes_holds() {
    let budget = Arc::new(WriteBudget::new(200));
    let mut bench = Bench::with_budget(Some(budget));
    let (sent, writes) = publish_for(&mut bench, Duration::from_millis(500));
    assert!(sent > 300, "{sent} sent");
    // 100 in half a second, what an idle device takes at once, a witness or a manifest between.
    assert!(writes <= 120, "{writes} writes");
    drain(&mut bench, sent);
}

#[test]
fn the_first_write_after_a_pause_does_not_wait() {
    // A write every 20 ms.
    let mut bench = Bench::with_budget(Some(Arc::new(WriteBudget::new(50))));
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(50));
        let before = bench.host.disk.writes();
        bench.publish(100);
        bench.quick_turn();
        assert!(bench.host.disk.writes() > before, "written in the same turn");
        drain(&mut bench, 1);
    }
}

#[test]
fn two_shards_share_one_budget() {
    let budget = Arc::new(WriteBudget::new(400));
    let mut shards: Vec<Bench> =
        (0..2).map(|_| Bench::with_budget(Some(Arc::clone(&budget)))).collect();
    let before: u64 = shards.iter().map(|bench| bench.host.disk.writes()).sum();
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < Duration::from_millis(500) {
        for bench in &mut shards {
            bench.publish(100);
            bench.quick_turn();
        }
        sent += 1;
    }
    let after: u64 = shards.iter().map(|bench| bench.host.disk.writes()).sum();
    assert!(after - before <= 240, "{} writes", after - before);
    for bench in &mut shards {
        drain(bench, sent);
    }
}

#[test]
fn without_a_budget_every_publish_of_a_waiting_client_is_a_write() {
    let mut bench = Bench::with_budget(None);
    let before = bench.host.disk.writes();
    for _ in 0..20 {
        bench.publish(100);
        bench.quick_turn();
        drain(&mut bench, 1);
    }
    assert!(bench.host.disk.writes() - before >= 20);
}
