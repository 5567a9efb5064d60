//! When a new place becomes a data directory, and what becomes of one that others touch.

#[path = "golden/archive.rs"]
#[allow(dead_code, reason = "other tests share this file")]
mod archive;

use std::fs;
use std::path::{Path, PathBuf};

use corelane_offline::backup::{Progress, Watch};
use corelane_offline::read::{ReadError, Source};
use corelane_offline::repair::{self, RepairError};
use corelane_offline::reshard::reshard;
use wal::verify::verify_directory;

/// Looks at the new place whenever something was read.
struct Looks(PathBuf, u32);

impl Watch for Looks {
    fn went_on(&mut self, _: &Progress) -> Result<(), String> {
        self.1 += 1;
        match self.0.join("corelane.dir").exists() {
            true => Err("it is a data directory already".to_owned()),
            false => Ok(()),
        }
    }
}

fn unpacked(temp: &Path) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1.zst");
    let data = temp.join("data");
    archive::unpack(&golden, &data);
    data
}

#[test]
fn a_resharded_place_is_a_data_directory_only_after_the_comparison() {
    let temp = tempfile::tempdir().unwrap();
    let (data, to) = (unpacked(temp.path()), temp.path().join("to"));
    let mut looks = Looks(to.clone(), 0);
    let done = reshard(&data, 3, &to, &mut looks).unwrap();
    assert!(looks.1 > 1 && done.records > 0, "{done:?}");
    assert!(verify_directory(&to).unwrap().is_good());
}

#[test]
fn a_server_that_takes_a_copy_without_a_lock_is_noticed() {
    let temp = tempfile::tempdir().unwrap();
    let (data, to) = (unpacked(temp.path()), temp.path().join("to"));
    assert!(!data.join("LOCK").exists());
    let source = Source::open(&data).unwrap();
    let plan = repair::plan(&source).unwrap();
    // As a server does at its start.
    fs::write(data.join("LOCK"), "1").unwrap();
    let refused = plan.write(&source, &to, |_| {}).unwrap_err();
    assert!(matches!(refused, RepairError::Read(ReadError::Taken { .. })), "{refused}");
    assert!(!to.join("corelane.dir").exists());
    assert!(repair::plan(&source).is_err());
}
