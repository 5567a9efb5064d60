//! Files against the real kernel.

mod common;

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use bytes::Bytes;
use common::*;
use corelane_ring::{AlignedBuffer, Completion, Ring};

fn name(name: &str) -> CString {
    CString::new(name).expect("no zero byte")
}

fn open(ring: &mut Ring, dir: RawFd, file: &str, flags: i32) -> std::io::Result<OwnedFd> {
    ring.open_at(1, dir, name(file), flags, 0o600);
    match next(ring) {
        Completion::Opened { token: 1, result } => result,
        other => panic!("unexpected {other:?}"),
    }
}

fn done(ring: &mut Ring, token: u64) -> std::io::Result<u32> {
    match next(ring) {
        Completion::Done { token: of, result } if of == token => result,
        other => panic!("unexpected {other:?}"),
    }
}

fn read(ring: &mut Ring, file: RawFd, offset: u64, len: usize) -> (AlignedBuffer, u32) {
    ring.read_at(7, file, offset, AlignedBuffer::new(len));
    match next(ring) {
        Completion::Read { token: 7, buffer, result } => {
            let buffer = buffer.into_any().downcast::<AlignedBuffer>().expect("the buffer given");
            (*buffer, result.expect("read"))
        }
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn direct_durable_writes_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = std::fs::File::open(folder.path()).expect("open the folder");
    let mut ring = ring();
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_DIRECT | libc::O_DSYNC;
    let file = match open(&mut ring, dir.as_raw_fd(), "log", flags) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            println!("this filesystem refuses O_DIRECT: {}", folder.path().display());
            return;
        }
        Err(error) => panic!("open: {error}"),
    };
    let fd = file.as_raw_fd();
    ring.fallocate(2, fd, 0, 0, 1 << 20);
    assert_eq!(done(&mut ring, 2).expect("fallocate"), 0);
    // Sixteen blocks in flight at once, each reported once.
    for block in 0..16u64 {
        let mut data = AlignedBuffer::new(64 << 10);
        data.fill(block as u8 + 1);
        ring.write_at(100 + block, fd, block * (64 << 10), data.into_bytes());
    }
    let mut seen = [false; 16];
    for _ in 0..16 {
        let Completion::Done { token, result } = next(&mut ring) else { panic!("not done") };
        assert_eq!(result.expect("write"), 64 << 10);
        assert!(!std::mem::replace(&mut seen[token as usize - 100], true));
    }
    let (buffer, len) = read(&mut ring, fd, 0, 1 << 20);
    assert_eq!(len, 1 << 20);
    for (block, bytes) in buffer.chunks(64 << 10).enumerate() {
        assert!(bytes.iter().all(|byte| *byte == block as u8 + 1));
    }
    // An odd end of file: direct I/O cannot continue there, and it is the end all the same.
    std::fs::File::from(file.try_clone().expect("dup")).set_len((1 << 20) - 100).expect("cut");
    let (_, len) = read(&mut ring, fd, (1 << 20) - 8192, 16 << 10);
    assert_eq!(len, 8192 - 100);
    let (_, len) = read(&mut ring, fd, 2 << 20, 4096);
    assert_eq!(len, 0);
    // What is not aligned is refused, not half done.
    ring.write_at(3, fd, 1, Bytes::from_static(b"x"));
    assert_eq!(done(&mut ring, 3).expect_err("odd write").raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn buffered_files_open_write_sync_rename_unlink() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = std::fs::File::open(folder.path()).expect("open the folder");
    let dir_fd = dir.as_raw_fd();
    let mut ring = ring();
    let missing = open(&mut ring, dir_fd, "none", libc::O_RDONLY).expect_err("missing");
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    let file = open(&mut ring, dir_fd, "a", libc::O_RDWR | libc::O_CREAT).expect("create");
    let data: Vec<u8> = (0..1_000_003u32).map(|i| (i * 31) as u8).collect();
    ring.write_at(2, file.as_raw_fd(), 5, data.clone().into());
    assert_eq!(done(&mut ring, 2).expect("write"), 1_000_003);
    ring.fdatasync(3, file.as_raw_fd());
    assert_eq!(done(&mut ring, 3).expect("fdatasync"), 0);
    ring.fsync(4, dir_fd);
    assert_eq!(done(&mut ring, 4).expect("fsync"), 0);
    let (buffer, len) = read(&mut ring, file.as_raw_fd(), 5, 2_000_000);
    assert!(len == 1_000_003 && buffer[..len as usize] == data[..]);
    ring.write_at(5, file.as_raw_fd(), 0, Bytes::new());
    assert_eq!(done(&mut ring, 5).expect("an empty write"), 0);

    let (old, new) = ((dir_fd, name("a")), (dir_fd, name("b")));
    ring.rename_at(6, old.clone(), new.clone(), 0);
    done(&mut ring, 6).expect("rename");
    assert_eq!(std::fs::metadata(folder.path().join("b")).expect("b").size(), 1_000_008);
    open(&mut ring, dir_fd, "a", libc::O_RDWR | libc::O_CREAT).expect("create again");
    ring.rename_at(7, old, new, libc::RENAME_NOREPLACE);
    assert_eq!(done(&mut ring, 7).expect_err("b exists").raw_os_error(), Some(libc::EEXIST));
    for file in ["a", "b"] {
        ring.unlink_at(8, dir_fd, name(file), 0);
        done(&mut ring, 8).expect("unlink");
    }
    ring.unlink_at(8, dir_fd, name("a"), 0);
    assert_eq!(done(&mut ring, 8).expect_err("gone").raw_os_error(), Some(libc::ENOENT));
    assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 0);
    ring.close(9, file);
    done(&mut ring, 9).expect("close");
    assert_eq!(ring.in_flight(), 0);
}
