//! Files and parts of files that are gone: each is found at the next start and said in a sentence of
//! its own, or there is another copy and the log goes on.

mod host;

use corelane_wal::OpenError;
use corelane_wal::device::sim::{Dice, Fate, Image, SimDisk};
use host::rest::{AtRest, at_rest, audit, first_damage};
use host::{Host, created, seed};

fn open(image: &Image, rest: &AtRest, seed: u64) -> Result<Host, OpenError> {
    let disk = SimDisk::from_image(image.clone(), seed);
    Host::open(disk, &rest.truth, rest.truth.len() as u64, seed)
}

fn sentence(image: &Image, rest: &AtRest) -> String {
    match open(image, rest, 1) {
        Ok(_) => panic!("it opens"),
        Err(error) => error.to_string(),
    }
}

fn names(image: &Image, start: &str) -> Vec<String> {
    image.names().map(|(name, _)| name.to_owned()).filter(|name| name.starts_with(start)).collect()
}

/// The segment with the newest block, which is not the last one in the directory: that is the pool.
fn last_used(rest: &AtRest) -> String {
    let used = |name: &String| rest.image.file(name).unwrap()[4096..].starts_with(b"CLBK");
    names(&rest.image, "segment-").into_iter().rfind(used).unwrap()
}

#[test]
fn a_lost_last_segment_is_named() {
    let rest = at_rest(seed(51), false);
    let last = last_used(&rest);
    let mut image = rest.image.clone();
    image.remove(&last);
    let said = sentence(&image, &rest);
    assert!(said.contains(&last) && said.contains("is missing"), "{said}");
    let report = audit(&image, 1);
    assert_eq!(report.damage[0].file, last);
    // As good as lost: made anew, empty, under the same name.
    let mut image = rest.image.clone();
    let bytes = image.file(&last).unwrap().len() as u64;
    image.remove(&last);
    image.write(&last, bytes - 4096, &[0; 4096]);
    let said = sentence(&image, &rest);
    assert!(said.contains("was durable"), "{said}");
    assert!(!audit(&image, 1).is_good());
}

#[test]
fn a_checkpoint_torn_in_its_rename_is_done_without() {
    let seed = seed(52);
    let mut host = Host::open(created(seed), &[], 0, seed).unwrap();
    host.check_reads = false;
    for _ in 0..60 {
        host.step();
    }
    host.checkpoint_whole();
    let begins = host.disk.points();
    for _ in 0..10 {
        host.step();
    }
    host.checkpoint_whole();
    let mut dice = Dice::new(seed);
    let mut walk = host.disk.walk();
    let mut images = 0;
    loop {
        if walk.point() >= begins {
            // Renamed or not, with the old name, the new one, or neither synced.
            let mixed = (0..6).map(|_| Fate::Mixed { seed: dice.roll() });
            for fate in [Fate::Lost, Fate::Landed].into_iter().chain(mixed) {
                let (promised, appended) = host.bounds(walk.point());
                let disk = SimDisk::from_image(walk.crash(fate), seed);
                let truth = &host.truth[..appended as usize];
                let mut after = Host::open(disk, truth, promised, seed).unwrap();
                after.check_streams();
                images += 1;
            }
        }
        if !walk.advance() {
            break;
        }
    }
    assert!(images > 100, "{images} images");
}

#[test]
fn damage_to_the_last_acknowledged_block_after_a_clean_stop_is_seen() {
    let rest = at_rest(seed(53), false);
    let last = last_used(&rest);
    let bytes = rest.image.file(&last).unwrap();
    let is_block = |at: &usize| bytes[*at..].starts_with(b"CLBK");
    let blocks: Vec<usize> = (4096..bytes.len()).step_by(4096).filter(is_block).collect();
    // The last with entries: those after it are witnesses.
    let entries = |at: usize| u32::from_le_bytes(bytes[at + 28..at + 32].try_into().unwrap());
    let acknowledged = blocks.iter().copied().rfind(|at| entries(*at) > 0).unwrap();
    for at in [acknowledged, acknowledged + 40, acknowledged + 130] {
        let mut image = rest.image.clone();
        image.flip(&last, at as u64, 3);
        let said = sentence(&image, &rest);
        assert!(said.contains(&last) && said.contains("durable"), "byte {at}: {said}");
        assert!(!audit(&image, 1).is_good(), "byte {at}");
    }
    // The whole block, and all after it, as if they had never been written.
    let mut image = rest.image.clone();
    image.write(&last, acknowledged as u64, &vec![0; bytes.len() - acknowledged]);
    assert!(sentence(&image, &rest).contains("durable"), "the manifest knows how far the log went");
}

#[test]
fn a_name_lost_with_its_directory_sync_is_seen_or_not_needed() {
    let rest = at_rest(seed(54), false);
    let [older, newest] = names(&rest.image, "checkpoint-0").try_into().unwrap();
    // The rename of the newest checkpoint is undone: its content is there under the old name.
    let mut image = rest.image.clone();
    let content = image.file(&newest).unwrap();
    image.remove(&newest);
    image.write("checkpoint-tmp", 0, &content);
    assert_eq!(first_damage(&image, &rest.truth, 1), None, "the older one serves");
    assert!(!audit(&image, 1).is_good(), "but it is said");
    image.remove(&older);
    match open(&image, &rest, 1) {
        // All of the log is there: nothing was recycled.
        Ok(mut host) => host.read_everything().unwrap(),
        Err(error) => assert!(error.to_string().contains("checkpoint-"), "{error}"),
    }
    // One slot of the manifest is enough when it is the newer.
    for slot in ["manifest-0", "manifest-1"] {
        let mut image = rest.image.clone();
        image.remove(slot);
        let damaged = first_damage(&image, &rest.truth, 1);
        let newer_is_left = damaged.is_none();
        assert!(newer_is_left || !audit(&image, 1).is_good(), "{slot}");
    }
    let mut image = rest.image.clone();
    image.remove("manifest-0");
    image.remove("manifest-1");
    let said = sentence(&image, &rest);
    assert!(said.contains("manifest-0") && said.contains("restore"), "{said}");
    // What is kept for a full disk is made again.
    let mut image = rest.image.clone();
    for name in names(&rest.image, "reserve") {
        image.remove(&name);
    }
    assert_eq!(first_damage(&image, &rest.truth, 1), None);
}
