//! Flipped bits in a real data directory, through the commands an operator has: `verify` reports them,
//! and the server does not give out what they changed. `CORELANE_EFFORT=17` makes it 51 of them.

use std::path::{Path, PathBuf};

use wal::device::sim::Dice;

use crate::harness::{Launch, corelane, folder};

const FLIPS_PER_EFFORT: u64 = 3;
const LINES: usize = 3_000;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The files of a shard with something in them, by content.
fn files(data: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(data.join("shard-0000")).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0))
        .collect();
    files.sort();
    files
}

#[test]
fn flipped_bits_are_reported_and_never_given_out() {
    let seed = number("CORELANE_SEED", 81);
    println!("CORELANE_SEED={seed}");
    let mut dice = Dice::new(seed);
    let folder = folder();
    let data = folder.path().join("data");
    let lines: Vec<String> =
        (0..LINES).map(|n| format!("line {n} {}", "x".repeat(n % 97))).collect();
    let server = Launch::new(&data).start();
    server.create("t", 1);
    for part in lines.chunks(100) {
        server.publish("t", &format!("{}\n", part.join("\n")));
    }
    server.stop();
    let good = files(&data);
    for flip in 0..FLIPS_PER_EFFORT * number("CORELANE_EFFORT", 1) {
        let (path, bytes) = &good[dice.below(good.len() as u64) as usize];
        // Somewhere in a block that holds something.
        let at = loop {
            let at = dice.below(bytes.len() as u64) as usize;
            let block = at / 4096 * 4096;
            if bytes[block..bytes.len().min(block + 4096)].iter().any(|byte| *byte != 0) {
                break at;
            }
        };
        let mut changed = bytes.clone();
        changed[at] ^= 1 << dice.below(8);
        std::fs::write(path, &changed).unwrap();
        let context = format!("flip {flip}: byte {at} of {}", path.display());
        println!("{context}");
        let report = corelane(&["verify", data.to_str().unwrap()]);
        let server = Launch::new(&data).start();
        let run = server.run(&["consume", "t"]);
        let printed: Vec<&str> = run.text().lines().collect();
        assert!(printed.iter().zip(&lines).all(|(line, expected)| line == expected), "{context}");
        // Refused, or all there; and nothing is refused that verify calls good.
        let served = run.code == Some(0);
        assert_eq!(served, printed.len() == LINES, "{context}: {run:?}");
        assert!(served || report.code == Some(1), "{context}: {report:?}");
        server.kill();
        restore(&data, &good);
    }
}

/// As it was after the stop; what a start has made since is removed.
fn restore(data: &Path, good: &[(PathBuf, Vec<u8>)]) {
    for entry in std::fs::read_dir(data.join("shard-0000")).unwrap() {
        let path = entry.unwrap().path();
        if !good.iter().any(|(name, _)| *name == path) {
            std::fs::remove_file(path).unwrap();
        }
    }
    for (path, bytes) in good {
        std::fs::write(path, bytes).unwrap();
    }
}
