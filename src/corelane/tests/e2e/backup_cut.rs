//! What stands in the way of a backup or cuts a copy short: a full disk, a killed command.

use std::path::Path;

use model::{ErrorCode, Reply, Request};
use rustix::process::Signal;

use crate::harness::{Launch, Running, corelane, folder, wait_for};
use crate::small_disk::{MIB, SmallDisk};
use crate::wire::Wire;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn lines(count: usize) -> String {
    format!("{}\n", "f".repeat(1023)).repeat(count)
}

#[test]
fn a_full_disk_takes_the_files_back_and_publishing_goes_on() {
    let folder = folder();
    let mounted = folder.path().join("disk");
    std::fs::create_dir(&mounted).unwrap();
    let image = folder.path().join("image");
    let Some(disk) = SmallDisk::new(&image, 320 * MIB, &mounted) else { return };
    let data = mounted.join("data");
    let server = Launch::new(&data)
        .set("CORELANE_STORAGE_RETENTION_CHECK", "20ms")
        .set("CORELANE_STORAGE_POOL_SEGMENTS_MAX", "1")
        .start();
    server.run(&["topic", "create", "t", "--retention-bytes", "8MiB"]).ok();
    for _ in 0..8 {
        server.publish("t", &lines(8 * 1024));
    }
    let mut wire = Wire::open(server.address);
    let backup = match wire.request(&Request::BackupBegin { nonce: [1; 16] }).reply() {
        Reply::BackupBegun(point) => point.backup,
        other => panic!("{other:?}"),
    };
    let mut rounds = 0;
    let broken = loop {
        match wire.request(&Request::BackupKeep { backup }).reply() {
            Reply::BackupKept => {}
            Reply::Rejected(rejection) => break rejection,
            other => panic!("{other:?}"),
        }
        // More than the disk holds: without the pin, retention makes room for it.
        server.publish("t", &lines(8 * 1024));
        rounds += 1;
        assert!(rounds < 100, "the disk is full by now");
    };
    assert_eq!(broken.code, ErrorCode::BackupBroken);
    assert!(broken.message.contains("ran full"), "{broken}");
    assert!(rounds > 5, "space was left at first: {rounds}");
    for _ in 0..20 {
        server.publish("t", &lines(8 * 1024));
    }
    assert!(server.log().contains("the backup under way is given up"));
    // There is another as soon as there is room.
    let backups = folder.path().join("backups");
    server.run(&["backup", "create", "--to", text(&backups)]).ok();
    server.stop();

    // A disk without room for it is met before anything is served from it.
    let eaten = disk.eat();
    let to = mounted.join("restored");
    let words = ["backup", "restore", "--from", text(&backups), "--to", text(&to)];
    let full = corelane(&words).failed();
    assert!(full.to_lowercase().contains("no space"), "{full}");
    assert!(!to.join("corelane.dir").exists());
    std::fs::remove_file(eaten).unwrap();
}

#[test]
fn a_killed_restore_or_reshard_leaves_no_data_directory() {
    let folder = folder();
    let (data, backups) = (folder.path().join("data"), folder.path().join("backups"));
    let server = Launch::new(&data).start();
    server.create("t", 1);
    for _ in 0..4 {
        server.publish("t", &lines(32 * 1024));
    }
    server.run(&["backup", "create", "--to", text(&backups)]).ok();
    server.stop();
    let (restored, resharded) = (folder.path().join("restored"), folder.path().join("resharded"));
    let restore = ["backup", "restore", "--from", text(&backups), "--to", text(&restored)];
    let reshard = ["reshard", "--from", text(&data), "--shards", "3", "--to", text(&resharded)];
    for (words, to) in [(&restore[..], &restored), (&reshard[..], &resharded)] {
        let running = Running::start(words, &[]);
        wait_for("the writing to begin", || {
            let begun = std::fs::read_dir(to.join("shard-0000"));
            begun.is_ok_and(|mut files| files.next().is_some()).then_some(())
        });
        running.signal(Signal::KILL);
        assert_eq!(running.finish().code, None, "it was killed while it wrote");
        let refused = Launch::new(to).try_start().unwrap_err().failed_after_logs();
        assert!(refused.contains("was cut short there"), "{refused}");
        let again = corelane(words).failed_after_logs();
        assert!(again.contains("was cut short there"), "{again}");
        std::fs::remove_dir_all(to).unwrap();
        corelane(words).ok();
        let server = Launch::new(to).start();
        assert_eq!(server.values("t").len(), 4 * 32 * 1024);
    }
}
