//! The engine against a plain model, for many seeds.
//!
//! `CORELANE_SEED` runs one seed again; `CORELANE_STEPS` makes runs longer.

mod sim;

use std::hash::Hasher;

use sim::world::World;

const SEEDS: u64 = 24;
const STEPS: u64 = 2_500;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

fn run(seed: u64, steps: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.compare_with_fresh_fold();
    world.ask_everything();
    world
}

#[test]
fn the_engine_answers_as_the_plain_model_does() {
    let steps = number("CORELANE_STEPS").unwrap_or(STEPS);
    let seeds = match number("CORELANE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..SEEDS + 1,
    };
    let mut delivered = 0;
    for seed in seeds {
        println!("CORELANE_SEED={seed}");
        delivered += run(seed, steps).delivered;
    }
    assert!(delivered > steps / 10, "the simulator has stopped reading: {delivered} deliveries");
}

#[test]
fn the_same_seed_gives_the_same_effects() {
    let seed = number("CORELANE_SEED").unwrap_or(77);
    println!("CORELANE_SEED={seed}");
    let (one, two) = (run(seed, STEPS), run(seed, STEPS));
    assert!(one.effects > 100);
    assert_eq!(one.effects, two.effects);
    assert_eq!(one.transcript.finish(), two.transcript.finish());
}
