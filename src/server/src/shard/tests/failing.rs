//! Every action of a log fails once, on the ring and a real disk: the log goes on or turns
//! read-only, and what it called durable is there afterwards.

use std::path::Path;

use model::{EntryHead, Lsn, SpaceUse, StreamId};
use ring::{Ring, RingConfig};
use wal::device::{Access, DeviceError, DirectAnswer, FileDevice};
use wal::{Fold, Room, Wal, WalConfig};

use crate::shard::{DiskState, RingDevice};

const BLOCK_BYTES: usize = 4096;
const ENTRIES: u64 = 60;

fn config() -> WalConfig {
    WalConfig {
        secret: [9; 16],
        segment_bytes: 64 * 1024,
        group_bytes: 8 * 1024,
        prepare_bytes: 16 * 1024,
        cache_bytes: 256 * 1024,
        ..WalConfig::default()
    }
}

fn payload(lsn: u64) -> Vec<u8> {
    (0..3_000u64).map(|at| (lsn * 31 + at) as u8).collect()
}

/// Takes the entries in; checkpoints hold nothing but how far they go.
#[derive(Default)]
struct Entries {
    from: u64,
    last: u64,
}

impl Fold for Entries {
    type Error = String;

    fn load(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn loaded(&mut self, start: Lsn, _: Lsn) -> Result<(), String> {
        (self.from, self.last) = (start.0, start.0);
        Ok(())
    }

    fn apply(&mut self, lsn: Lsn, _: &EntryHead, bytes: &[u8]) -> Result<(), String> {
        assert_eq!(lsn.0, self.last + 1);
        assert!(bytes == payload(lsn.0), "entry {lsn} is changed");
        self.last = lsn.0;
        Ok(())
    }

    fn log_start(&self, _: StreamId) -> Option<u64> {
        Some(0)
    }

    fn label(&self, _: StreamId) -> Option<Vec<u8>> {
        Some(b"s".to_vec())
    }
}

fn access(folder: &Path) -> Access {
    match wal::device::probe(folder, BLOCK_BYTES).unwrap() {
        DirectAnswer::Taken => Access::Direct,
        DirectAnswer::Refused(_) => Access::Buffered,
    }
}

/// One run; `fails`: the number of the action that does. Returns how far the log said it was
/// durable, how many actions there were, and whether the log turned read-only.
fn run(folder: &Path, access: Access, fails: Option<(u64, DeviceError)>) -> (u64, u64, bool) {
    let mut ring = Ring::new(&RingConfig::default()).unwrap();
    let mut disk = DiskState::open(0, folder, BLOCK_BYTES, access).unwrap();
    let mut others = Vec::new();
    let mut device = RingDevice { ring: &mut ring, disk: &mut disk, others: &mut others };
    Wal::create(&mut device, &config()).unwrap();
    let (mut wal, _) = Wal::open(&mut device, config(), &mut Entries::default()).unwrap();
    let begins = device.disk.faults.seen;
    device.disk.faults.fail = fails.map(|(number, error)| (begins + number, error));
    for at in 0..ENTRIES {
        let head = EntryHead {
            kind: 1,
            flags: 0,
            stream: StreamId(1),
            base_offset: at,
            records: 1,
            time_ms: 5,
        };
        if wal.room(3_000, SpaceUse::Grows) == Room::Yes {
            let lsn = wal.appended_lsn().0 + 1;
            wal.append(&EntryHead { base_offset: lsn - 1, ..head }, &[&payload(lsn)]);
        }
        wal.commit(&mut device);
        drain(&mut wal, &mut device);
        wal.tick(&mut device, at * 30_000_000);
        if at % 20 == 19 && wal.checkpoint_due() {
            wal.checkpoint_begin(&mut device);
            wal.checkpoint_push(&mut device, b"state");
            wal.checkpoint_finish(&mut device);
        }
        drain(&mut wal, &mut device);
    }
    let failed = wal.failure().is_some();
    assert!(failed || wal.durable_lsn() == wal.appended_lsn(), "all that was taken is durable");
    (wal.durable_lsn().0, device.disk.faults.seen - begins, failed)
}

fn drain(wal: &mut Wal, device: &mut RingDevice<'_>) {
    use wal::LogDevice;
    while wal.actions_under_way() > 0 {
        let completion = device.wait();
        wal.complete(device, completion);
    }
}

fn check(folder: &Path, promised: u64) {
    let mut files = FileDevice::open(folder).unwrap().with_block_bytes(BLOCK_BYTES);
    let report = wal::verify::verify_log(&mut files, &config().secret).unwrap();
    assert!(report.is_good(), "{:?}", report.damage);
    let mut entries = Entries::default();
    let (_, recovered) = Wal::open(&mut files, config(), &mut entries).unwrap();
    assert!(recovered.last_lsn.0 >= promised, "{promised} was durable: {recovered:?}");
    assert!(entries.last == recovered.last_lsn.0);
}

#[test]
fn any_one_action_may_fail_on_the_ring() {
    let whole = tempfile::tempdir().unwrap();
    let access = access(whole.path());
    let (durable, actions, failed) = run(whole.path(), access, None);
    assert_eq!((durable, failed), (ENTRIES, false));
    check(whole.path(), durable);
    assert!(actions > 100, "{actions} actions");
    let (mut read_only, mut went_on) = (0, 0);
    // CORELANE_EFFORT=2 or more: every single one; else some, since the disk is real.
    let effort = std::env::var("CORELANE_EFFORT").ok().and_then(|text| text.parse::<u32>().ok());
    let step = if effort.is_some_and(|effort| effort > 1) { 1 } else { 5 };
    for number in (0..actions).step_by(step) {
        let folder = tempfile::tempdir().unwrap();
        let error = match number % 3 {
            0 => DeviceError::NoSpace,
            _ => DeviceError::Io { doing: "test", errno: 5, error: "I/O error".into() },
        };
        let (durable, _, failed) = run(folder.path(), access, Some((number, error)));
        println!("action {number}: durable up to {durable}, failed: {failed}");
        check(folder.path(), durable);
        if failed {
            read_only += 1;
        } else {
            went_on += 1;
            // A few are refused while no segment can be made.
            assert!(durable > ENTRIES / 2, "action {number}");
        }
    }
    assert!(read_only > 5 && went_on > 3, "{read_only} read-only, {went_on} went on");
}
