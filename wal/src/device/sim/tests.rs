use super::*;

const FILE: FileId = FileId(1);

fn block(byte: u8) -> Bytes {
    let mut data = AlignedBuffer::zeroed(BLOCK_BYTES);
    data.fill(byte);
    Bytes::from_owner(data)
}

fn write(offset: u64, byte: u8) -> Action {
    Action::Write { file: FILE, offset, data: block(byte) }
}

fn create(name: &str, bytes: u64) -> Action {
    Action::Create { file: FILE, name: name.into(), bytes }
}

fn act(disk: &mut SimDisk, action: Action) -> Result<Done, DeviceError> {
    let ticket = Ticket(disk.submitted());
    disk.submit(ticket, action);
    disk.wait().result
}

/// A synced file `a` of four blocks.
fn with_file(seed: u64) -> SimDisk {
    let mut disk = SimDisk::new(seed);
    act(&mut disk, create("a", 4 * BLOCK_BYTES as u64)).unwrap();
    act(&mut disk, Action::Sync { file: FILE }).unwrap();
    act(&mut disk, Action::SyncDirectory).unwrap();
    disk
}

fn last(disk: &SimDisk) -> usize {
    disk.points() - 1
}

#[test]
fn what_is_done_survives_and_what_is_in_flight_may_not() {
    let mut disk = with_file(1);
    act(&mut disk, write(0, 1)).unwrap();
    disk.submit(Ticket(100), write(BLOCK_BYTES as u64, 2));
    let lost = disk.crash(last(&disk), Fate::Lost).image().file("a").unwrap();
    assert!(lost[..BLOCK_BYTES].iter().all(|b| *b == 1));
    assert!(lost[BLOCK_BYTES..].iter().all(|b| *b == 0));
    let landed = disk.crash(last(&disk), Fate::Landed).image().file("a").unwrap();
    assert!(landed[BLOCK_BYTES..2 * BLOCK_BYTES].iter().all(|b| *b == 2));
    for sectors in 0..=8 {
        let torn = Fate::Torn { write: 0, sectors, others: false };
        let torn = disk.crash(last(&disk), torn).image().file("a").unwrap();
        let landed = torn.iter().filter(|b| **b == 2).count();
        assert_eq!(landed, sectors * SECTOR_BYTES);
    }
}

#[test]
fn a_mixed_crash_reaches_every_sector_both_ways() {
    let mut disk = with_file(1);
    disk.submit(Ticket(100), write(0, 2));
    let walk = {
        let mut walk = disk.walk();
        while walk.advance() {}
        walk
    };
    let mut seen = [[false; 2]; 8];
    for seed in 0..200 {
        let file = walk.crash(Fate::Mixed { seed }).file("a").unwrap();
        for (sector, seen) in file[..BLOCK_BYTES].chunks(SECTOR_BYTES).zip(&mut seen) {
            assert!(sector.iter().all(|b| *b == sector[0]), "a sector is never torn");
            seen[usize::from(sector[0] == 2)] = true;
        }
    }
    assert_eq!(seen, [[true; 2]; 8]);
}

#[test]
fn a_name_is_certain_only_after_the_directory_is_synced() {
    let mut disk = SimDisk::new(3);
    act(&mut disk, create("a", 4096)).unwrap();
    act(&mut disk, Action::Sync { file: FILE }).unwrap();
    assert_eq!(disk.crash(last(&disk), Fate::Lost).image().names().count(), 0);
    assert_eq!(disk.crash(last(&disk), Fate::Landed).image().names().count(), 1);
    // A sync covers what had ended before it was submitted, and nothing later.
    disk.submit(Ticket(50), Action::SyncDirectory);
    disk.submit(Ticket(51), Action::Rename { from: "a".into(), to: "b".into() });
    while disk.end_one().is_some() {}
    let names = |fate| {
        let image = disk.crash(last(&disk), fate).image();
        image.names().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(Fate::Lost), ["a"]);
    assert_eq!(names(Fate::Landed), ["b"]);
}

#[test]
fn names_are_never_invented_by_a_mixed_crash() {
    let mut disk = SimDisk::new(4);
    act(&mut disk, create("tmp", 4096)).unwrap();
    act(&mut disk, Action::Rename { from: "tmp".into(), to: "final".into() }).unwrap();
    act(&mut disk, Action::Remove { name: "final".into() }).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let image = disk.crash(last(&disk), Fate::Mixed { seed }).image();
        seen.insert(image.names().map(|(name, _)| name.to_owned()).collect::<Vec<_>>());
    }
    let seen: Vec<_> = seen.into_iter().collect();
    assert_eq!(seen, [vec![], vec!["final".to_owned()], vec!["tmp".to_owned()]]);
}

#[test]
fn a_length_is_certain_only_after_a_sync_or_a_write() {
    let mut disk = SimDisk::new(5);
    act(&mut disk, create("a", 4 * 4096)).unwrap();
    act(&mut disk, Action::SyncDirectory).unwrap();
    let length = |disk: &SimDisk, fate| {
        disk.crash(last(disk), fate).image().names().next().map(|(_, bytes)| bytes)
    };
    assert_eq!(length(&disk, Fate::Lost), Some(0));
    assert_eq!(length(&disk, Fate::Landed), Some(4 * 4096));
    act(&mut disk, write(4096, 1)).unwrap();
    assert_eq!(length(&disk, Fate::Lost), Some(2 * 4096));
    act(&mut disk, Action::Sync { file: FILE }).unwrap();
    assert_eq!(length(&disk, Fate::Lost), Some(4 * 4096));
}

#[test]
fn the_seed_decides_the_order_of_the_ends() {
    let order = |seed| {
        let mut disk = with_file(seed);
        for index in 0..4 {
            disk.submit(Ticket(100 + index), write(index * BLOCK_BYTES as u64, 1));
        }
        std::iter::from_fn(|| disk.end_one()).map(|end| end.ticket.0).collect::<Vec<_>>()
    };
    assert_eq!(order(1), order(1));
    assert!((2..20).any(|seed| order(seed) != order(1)));
}

#[test]
fn a_failed_action_leaves_no_promise() {
    let mut disk = with_file(6);
    let error = DeviceError::Io { doing: "write", errno: 5, error: "input/output error".into() };
    disk.fail(disk.submitted(), error.clone());
    assert_eq!(act(&mut disk, write(0, 9)).unwrap_err(), error);
    let after = disk.crash(last(&disk), Fate::Lost).image();
    assert_eq!(after, disk.image(), "what it left is settled when it fails");
    disk.limit_space(4 * 4096);
    let more = Action::Create { file: FileId(2), name: "b".into(), bytes: 1 };
    assert_eq!(act(&mut disk, more).unwrap_err(), DeviceError::NoSpace);
}

#[test]
fn a_crashed_disk_runs_and_crashes_again() {
    let mut disk = with_file(7);
    act(&mut disk, write(0, 1)).unwrap();
    let mut again = disk.crash(last(&disk), Fate::Lost);
    act(&mut again, Action::Open { file: FILE, name: "a".into() }).unwrap();
    again.submit(Ticket(70), write(0, 2));
    let kept = again.crash(last(&again), Fate::Lost).image().file("a").unwrap();
    assert_eq!(kept[0], 1);
    let buffer = AlignedBuffer::zeroed(8 * 4096);
    while again.end_one().is_some() {}
    let read = act(&mut again, Action::Read { file: FILE, offset: 0, buffer });
    let Ok(Done::Read { buffer, bytes }) = read else { panic!("{read:?}") };
    assert_eq!((bytes, buffer[0]), (4 * 4096, 2));
}

#[test]
fn an_image_can_be_damaged_by_hand() {
    let mut image = with_file(8).image();
    image.write("a", 4000, &[255; 200]);
    image.flip("a", 4100, 3);
    let file = image.file("a").unwrap();
    assert_eq!((file[3999], file[4000], file[4099], file[4100], file[4200]), (0, 255, 255, 247, 0));
    image.cut("a", 4100);
    image.write("a", 4105, &[1]);
    assert_eq!(image.file("a").unwrap()[4099..], [255, 0, 0, 0, 0, 0, 1]);
    image.remove("a");
    assert_eq!(image.names().count(), 0);
}

#[test]
#[should_panic(expected = "overlap")]
fn overlapping_writes_in_flight_are_refused() {
    let mut disk = with_file(9);
    disk.submit(Ticket(90), write(0, 1));
    disk.submit(Ticket(91), write(0, 1));
}
