//! One bit of a log at rest is turned round, anywhere. What was acknowledged is then either given
//! back unchanged or reported as damaged; never served altered, never silently missing.

mod host;

use corelane_wal::device::sim::Dice;
use host::rest::{AtRest, at_rest, audit, first_damage};
use host::seed;

fn effort() -> u64 {
    std::env::var("CORELANE_EFFORT").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn flip_and_judge(rest: &AtRest, name: &str, offset: u64, bit: u8, must_be_seen: bool) {
    let mut image = rest.image.clone();
    image.flip(name, offset, bit);
    let context = format!("bit {bit} of byte {offset} of {name}");
    println!("{context}");
    let report = audit(&image, offset);
    if let Some(finding) = report.damage.first() {
        assert_eq!(finding.file, name, "{context}: {finding}");
        let near = finding.offset <= offset && offset < finding.offset + 64 * 1024;
        assert!(near, "{context}: {finding}");
    } else {
        assert!(!must_be_seen, "{context} is not seen by the audit: {:?}", report.notes);
    }
    if let Some(file) = first_damage(&image, &rest.truth, offset) {
        assert!(!report.is_good(), "{context} is seen by the log ({file}), not by the audit");
        assert!(file == name || file.starts_with("manifest"), "{context} is laid on {file}");
    }
}

#[test]
fn a_log_at_rest_is_good() {
    let base = seed(21);
    for seed in base..base + 10 * effort() {
        for recycled in [false, true] {
            let rest = at_rest(seed, recycled);
            let report = audit(&rest.image, seed);
            assert!(report.is_good(), "seed {seed}: {:?}", report.damage);
            assert_eq!(report.last_lsn, rest.truth.len() as u64);
            assert_eq!(report.promised_lsn, report.last_lsn, "a clean stop leaves a witness");
            assert_eq!(report.checkpoints, 2);
            if !recycled {
                assert_eq!(report.entries, report.last_lsn);
            }
            assert_eq!(first_damage(&rest.image, &rest.truth, seed), None);
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_reported_and_never_served() {
    let seed = seed(22);
    let rest = at_rest(seed, false);
    let mut dice = Dice::new(seed);
    let files: Vec<(String, u64)> =
        rest.image.names().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    for (name, bytes) in files {
        let content = rest.image.file(&name).unwrap();
        let live = name.starts_with("segment-") || name.starts_with("checkpoint-0");
        let mut at = 0;
        while at < bytes {
            let offset = at + dice.below(1024.min(bytes - at));
            // Every byte that is not zero is a part of something.
            let must_be_seen = live && content[offset as usize] != 0;
            flip_and_judge(&rest, &name, offset, dice.below(8) as u8, must_be_seen);
            at += 1024 / effort().min(1024);
        }
    }
}

#[test]
fn a_flipped_bit_in_a_header_is_reported() {
    let seed = seed(23);
    let rest = at_rest(seed, false);
    let mut dice = Dice::new(seed);
    let files: Vec<String> = rest.image.names().map(|(name, _)| name.to_owned()).collect();
    for name in files.iter().filter(|name| name.starts_with("segment-")) {
        let content = rest.image.file(name).unwrap();
        for (block, bytes) in content.chunks(4096).enumerate() {
            if !bytes.starts_with(b"CLBK") || dice.chance(3) {
                continue;
            }
            for _ in 0..3 {
                let offset = block as u64 * 4096 + dice.below(128);
                flip_and_judge(&rest, name, offset, dice.below(8) as u8, true);
            }
        }
    }
}

#[test]
fn a_lost_file_is_damage() {
    let seed = seed(24);
    let rest = at_rest(seed, false);
    let report = audit(&rest.image, seed);
    let files: Vec<String> = rest.image.names().map(|(name, _)| name.to_owned()).collect();
    for name in files.iter().filter(|name| name.starts_with("segment-")) {
        let mut image = rest.image.clone();
        image.remove(name);
        assert_eq!(first_damage(&image, &rest.truth, seed).as_ref(), Some(name));
        assert_eq!(audit(&image, seed).damage[0].file, *name);
        let mut image = rest.image.clone();
        image.cut(name, 8192);
        assert!(!audit(&image, seed).is_good(), "{name} was cut short");
        assert!(first_damage(&image, &rest.truth, seed).is_some(), "{name} was cut short");
    }
    let mut image = rest.image.clone();
    image.remove("manifest-0");
    image.remove("manifest-1");
    assert!(first_damage(&image, &rest.truth, seed).is_some());
    assert!(!audit(&image, seed).is_good());
    assert!(report.is_good());
}

#[test]
fn the_older_checkpoint_serves_when_the_newest_is_bad() {
    let base = seed(25);
    for seed in base..base + 5 {
        let rest = at_rest(seed, true);
        let checkpoints: Vec<String> = rest
            .image
            .names()
            .map(|(name, _)| name.to_owned())
            .filter(|name| name.starts_with("checkpoint-0"))
            .collect();
        assert_eq!(checkpoints.len(), 2);
        let mut image = rest.image.clone();
        image.flip(&checkpoints[1], 4096 + 5, 2);
        assert_eq!(first_damage(&image, &rest.truth, seed), None, "the older one is enough");
        image.flip(&checkpoints[0], 4096 + 5, 2);
        let both = first_damage(&image, &rest.truth, seed);
        assert!(both.is_none_or(|file| file.starts_with("checkpoint-")));
    }
}
