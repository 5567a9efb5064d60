//! Every target over its committed corpus and a bounded number of seeded changes of it.
//!
//! `CORELANE_SEED` repeats a run; `CORELANE_EFFORT` multiplies the number of changes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corelane_fuzz_targets::{Mutator, TARGETS, Target, seeds};

/// Changes of each target; fewer where one costs much.
const CHANGES: usize = 4_000;
/// A slow machine does fewer.
const TIME_MAX: Duration = Duration::from_secs(4);

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.name)
}

/// The committed corpus: what the seeds were when it was written, and what the fuzzer has found.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(folder(target))
        .unwrap_or_else(|error| panic!("{}: {error}", folder(target).display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn smoke(name: &str) {
    let seed = number("CORELANE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let effort = number("CORELANE_EFFORT").unwrap_or(1);
    println!("CORELANE_SEED={seed}");
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let mut inputs = corpus(target);
    inputs.extend(seeds(name));
    assert!(!inputs.is_empty(), "no corpus");
    for input in &inputs {
        (target.run)(input);
    }
    let mut mutator = Mutator::new(seed);
    let began = Instant::now();
    let mut done = 0;
    while done < CHANGES * effort as usize && began.elapsed() < TIME_MAX * effort as u32 {
        (target.run)(&mutator.next_input(&inputs));
        done += 1;
    }
    println!("{name}: {} inputs, {done} changes", inputs.len());
}

macro_rules! smoke {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })*

        #[test]
        fn every_target_is_tried() {
            let tried = [$(stringify!($name)),*];
            for target in TARGETS {
                assert!(tried.contains(&target.name), "{}", target.name);
            }
        }
    };
}

smoke!(requests replies publish records log_blocks log_files footer engine checkpoint settings);

/// Small enough to be carried with the sources.
#[test]
fn the_corpus_is_small() {
    let bytes: usize = TARGETS.iter().flat_map(corpus).map(|input| input.len()).sum();
    assert!(bytes < 300 * 1024, "{bytes} bytes");
}

/// Run with `CORELANE_WRITE_SEEDS=1` to write the seeds into the corpus.
#[test]
fn seeds_are_in_the_corpus() {
    let write = number("CORELANE_WRITE_SEEDS") == Some(1);
    for target in TARGETS {
        for (at, seed) in seeds(target.name).iter().enumerate() {
            let file = folder(target).join(format!("seed-{at:02}"));
            if write {
                std::fs::create_dir_all(folder(target)).unwrap();
                std::fs::write(&file, seed).unwrap();
            }
            assert!(file.exists(), "{}: run with CORELANE_WRITE_SEEDS=1", file.display());
        }
    }
}
