use super::*;

const SECRET: [u8; 16] = [7; 16];

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    (directory, path)
}

#[test]
fn a_directory_is_made_finished_and_opened_again() {
    let (_keep, path) = place();
    let mut made = create(&path, 2, SECRET).unwrap();
    assert!(!made.is_finished());
    made.finish().unwrap();
    drop(made);
    let opened = open(&path).unwrap();
    assert!(opened.is_finished() && opened.is_locked());
    assert_eq!((opened.shards(), opened.secret()), (2, SECRET));
    assert!(opened.block_bytes() >= 4096);
    assert_eq!(opened.shard_path(1), path.join("shard-0001"));
    assert!(opened.shard_path(1).is_dir());
}

#[test]
fn an_interrupted_creation_is_seen_and_can_be_started_again() {
    let (_keep, path) = place();
    drop(create(&path, 2, SECRET).unwrap());
    assert!(!open(&path).unwrap().is_finished());
    fs::rename(path.join(SUPERBLOCK_NAME), path.join(SUPERBLOCK_TMP_NAME)).unwrap();
    create(&path, 2, SECRET).unwrap();
}

#[test]
fn only_one_may_use_it() {
    let (_keep, path) = place();
    let held = create(&path, 1, SECRET).unwrap();
    let refused = open(&path).unwrap_err();
    assert!(
        matches!(refused, DirectoryError::InUse { pid: Some(pid), .. } if pid == std::process::id())
    );
    assert!(refused.to_string().contains("in use by process"), "{refused}");
    assert!(matches!(open_read_only(&path), Err(DirectoryError::InUse { .. })));
    assert!(matches!(create(&path, 1, SECRET), Err(DirectoryError::InUse { .. })));
    drop(held);
    let first = open_read_only(&path).unwrap();
    open_read_only(&path).unwrap();
    assert!(matches!(open(&path), Err(DirectoryError::InUse { .. })));
    drop(first);
    open(&path).unwrap();
    assert!(matches!(create(&path, 1, SECRET), Err(DirectoryError::Exists { .. })));
}

#[test]
fn a_foreign_directory_is_left_alone() {
    let (_keep, path) = place();
    assert!(matches!(open(&path), Err(DirectoryError::NotADirectoryOfOurs { .. })));
    fs::create_dir(&path).unwrap();
    fs::create_dir(path.join("lost+found")).unwrap();
    fs::write(path.join("thesis.tex"), "x").unwrap();
    let refused = create(&path, 1, SECRET).unwrap_err();
    assert!(matches!(&refused, DirectoryError::NotEmpty { found, .. } if found == "thesis.tex"));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "nothing was added");
    fs::remove_file(path.join("thesis.tex")).unwrap();
    create(&path, 1, SECRET).unwrap();
}

#[test]
fn a_log_without_a_superblock_is_not_taken_for_empty() {
    let (_keep, path) = place();
    drop(create(&path, 1, SECRET).unwrap());
    fs::write(path.join("shard-0000/segment-00000000000000000001"), "x").unwrap();
    fs::remove_file(path.join(SUPERBLOCK_NAME)).unwrap();
    let refused = create(&path, 1, SECRET).unwrap_err();
    assert!(matches!(refused, DirectoryError::NoSuperblock { .. }), "{refused}");
}

#[test]
fn a_place_that_cannot_be_is_named() {
    let (_keep, path) = place();
    let refused = create(&path.join("a/b"), 1, SECRET).unwrap_err();
    assert!(
        matches!(&refused, DirectoryError::NoParent { parent, .. } if *parent == path.join("a"))
    );
    fs::write(&path, "a file").unwrap();
    let refused = create(&path, 1, SECRET).unwrap_err();
    assert!(matches!(refused, DirectoryError::NotAFolder { .. }), "{refused}");
    let below = create(&path.join("data"), 1, SECRET).unwrap_err();
    assert!(matches!(below, DirectoryError::NotAFolder { .. }), "{below}");
}

#[test]
fn what_the_system_says_becomes_what_to_do() {
    let say = |errno: Errno| failed("open the lock of", Path::new("/"))(errno.into()).to_string();
    assert!(say(Errno::ROFS).contains("mounted read-only"));
    assert!(say(Errno::ACCESS).contains("user 0's") && say(Errno::PERM).contains("chown"));
    assert!(say(Errno::NOSPC).contains("no space left"));
    assert!(say(Errno::IO).starts_with("cannot open the lock of /: "));
}

#[test]
fn damage_and_absence_are_named() {
    let (_keep, path) = place();
    drop(create(&path, 2, SECRET).unwrap());
    fs::remove_dir(path.join("shard-0001")).unwrap();
    open(&path).unwrap();
    let missing = open_read_only(&path).unwrap_err();
    assert!(
        matches!(&missing, DirectoryError::MissingShard { missing, .. } if missing == "shard-0001")
    );
    let file = path.join(SUPERBLOCK_NAME);
    let mut bytes = fs::read(&file).unwrap();
    bytes[20] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let damaged = open(&path).unwrap_err();
    assert!(matches!(damaged, DirectoryError::Damaged { .. }), "{damaged}");
    fs::write(&file, "short").unwrap();
    assert!(matches!(open(&path), Err(DirectoryError::Damaged { .. })));
}

#[test]
fn the_number_of_shards_is_bounded() {
    let (_keep, path) = place();
    for asked in [0, model::limits::SHARDS_MAX + 1] {
        assert!(matches!(create(&path, asked, SECRET), Err(DirectoryError::Shards { .. })));
    }
}
