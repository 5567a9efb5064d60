//! Long recorded runs, crashed at every point: after a crash all that was promised is there, nothing
//! is invented, and the audit finds nothing wrong.
//!
//! `CORELANE_EFFORT=20 cargo test --release -p corelane-wal --test long_runs -- --nocapture` takes 20
//! runs of at least 2,000 disk actions each and prints how many images were tried. The usual effort
//! is one short run.

mod host;

use std::sync::atomic::{AtomicU64, Ordering};

use corelane_wal::device::sim::{Dice, Fate, Image, SimDisk};
use corelane_wal::verify::verify_log;
use host::{Entry, Host, config, created, seed};

const ACTIONS_SHORT: u64 = 150;
const ACTIONS_LONG: u64 = 2_000;

#[test]
fn every_point_of_long_runs() {
    let base = seed(71);
    let effort: u64 =
        std::env::var("CORELANE_EFFORT").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let actions = if effort > 1 { ACTIONS_LONG } else { ACTIONS_SHORT };
    let (next, images) = (AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(effort) {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= effort {
                        break;
                    }
                    images.fetch_add(every_point(base + round, actions), Ordering::Relaxed);
                }
            });
        }
    });
    let images = images.into_inner();
    println!("{effort} runs of at least {actions} actions: {images} images");
    assert!(images > effort * actions * 4);
}

/// Crashes one run at every point; how many images that were.
fn every_point(seed: u64, actions: u64) -> u64 {
    let mut host = Host::open(created(seed), &[], 0, seed).unwrap();
    let before = host.disk.submitted();
    while host.disk.submitted() - before < actions {
        host.step();
    }
    let mut dice = Dice::new(seed);
    let mut walk = host.disk.walk();
    let mut images = 0;
    loop {
        if walk.point() >= host.made_at {
            let bounds = host.bounds(walk.point());
            let writes = walk.writes_in_flight();
            let mut fates = vec![Fate::Lost, Fate::Landed, Fate::Mixed { seed: dice.roll() }];
            // Each write under way torn at some sector, the others there or not.
            for (write, sectors) in writes.iter().enumerate() {
                let sectors = dice.below(*sectors as u64 + 1) as usize;
                fates.push(Fate::Torn { write, sectors, others: dice.chance(2) });
            }
            for fate in fates {
                let context = format!("seed {seed}, point {}, {fate:?}", walk.point());
                let whole = dice.chance(8);
                check(walk.crash(fate), &host.truth, bounds, whole, &context);
                images += 1;
            }
        }
        if !walk.advance() {
            break;
        }
    }
    println!(
        "seed {seed}: {} actions, {} entries, {} points, {images} images",
        host.disk.submitted() - before,
        host.truth.len(),
        host.disk.points() - host.made_at
    );
    images
}

/// `whole`: audited, and every stream read back, as well.
fn check(image: Image, truth: &[Entry], bounds: (u64, u64), whole: bool, context: &str) {
    let _say = Say(context);
    let (promised, appended) = bounds;
    if whole {
        let mut disk = SimDisk::from_image(image.clone(), 1);
        let report = verify_log(&mut disk, &config().secret).unwrap();
        assert!(report.is_good(), "{:?}", report.damage);
        assert!(report.last_lsn >= promised);
    }
    let disk = SimDisk::from_image(image, promised);
    let opened = Host::open(disk, &truth[..appended as usize], promised, promised);
    let mut host = opened.unwrap_or_else(|error| panic!("the log does not open: {error}"));
    if whole {
        host.check_streams();
    }
}

/// Says where a failure happened.
struct Say<'a>(&'a str);

impl Drop for Say<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("at {}", self.0);
        }
    }
}
