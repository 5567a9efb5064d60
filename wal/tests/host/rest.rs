//! A log at rest: after a clean stop, with several sealed segments and two checkpoints; what an audit
//! says of it, and what opening and reading all of it gives.

use corelane_wal::device::sim::{Image, SimDisk};
use corelane_wal::verify::{LogReport, verify_log};
use corelane_wal::{OpenError, ReadStep};

use super::{Entry, Host, config, created};

pub struct AtRest {
    pub image: Image,
    pub truth: Vec<Entry>,
}

pub fn at_rest(seed: u64, recycled: bool) -> AtRest {
    let mut host = Host::open(created(seed), &[], 0, seed).unwrap();
    host.check_reads = false;
    host.keeps_all = !recycled;
    while host.disk.image().names().filter(|(name, _)| name.starts_with("segment-")).count() < 6 {
        for _ in 0..50 {
            host.step();
        }
    }
    host.checkpoint_whole();
    for _ in 0..60 {
        host.step();
    }
    host.checkpoint_whole();
    for _ in 0..30 {
        host.step();
    }
    host.settle();
    host.shut_down();
    AtRest { image: host.disk.image(), truth: host.truth }
}

pub fn audit(image: &Image, seed: u64) -> LogReport {
    let mut disk = SimDisk::from_image(image.clone(), seed);
    verify_log(&mut disk, &config().secret).unwrap()
}

/// Opens and reads everything. `None`: all is there; else the file that is called damaged.
pub fn first_damage(image: &Image, truth: &[Entry], seed: u64) -> Option<String> {
    let disk = SimDisk::from_image(image.clone(), seed);
    let mut host = match Host::open(disk, truth, truth.len() as u64, seed) {
        Ok(host) => host,
        Err(OpenError::Damaged { file, .. } | OpenError::Missing { file }) => return Some(file),
        Err(OpenError::NotALog) => return Some("manifest-0".into()),
        Err(error) => panic!("damage is called something else: {error}"),
    };
    match host.read_everything() {
        Ok(()) => None,
        Err(step) => match *step {
            ReadStep::Damaged { file, .. } => Some(file),
            step => panic!("damage is called something else: {step:?}"),
        },
    }
}
