//! Where the append loop writes: files opened O_DIRECT|O_DSYNC, used from front to back.
//!
//! The three kinds differ in what lies under a write: extents written before (one file, over and
//! over), extents zeroed just before (a chain of files, the next one zeroed while this one is
//! written), or extents only reserved.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ring::{AlignedBuffer, Ring};
use rustix::fs::{FallocateFlags, OFlags, fallocate};

use crate::error::BenchError;
use crate::options::Space;

/// Step of zeroing, bytes.
const STEP_BYTES: u64 = 1024 * 1024;
/// Zeroing writes under way at once.
const ZEROING_MAX: u64 = 2;

/// A place for one write.
#[derive(Debug)]
pub struct Place {
    /// Kept open until the write is done.
    pub file: Arc<File>,
    pub offset: u64,
}

/// The file after the one being written (`fresh` only).
#[derive(Debug)]
struct Next {
    file: Arc<File>,
    /// Zeroing begun and done, bytes from the front.
    begun: u64,
    done: u64,
}

/// The files of one append loop. They are removed when it is dropped.
#[derive(Debug)]
pub struct Files {
    kind: Space,
    dir: PathBuf,
    /// Bytes of one file.
    bytes: u64,
    /// Number of the file made last.
    number: u64,
    current: Arc<File>,
    at: u64,
    next: Option<Next>,
    zeros: Bytes,
}

impl Files {
    /// Makes the first file of `bytes` (a multiple of 1 MiB) in `dir`, written or reserved whole
    /// and on the medium.
    pub fn prepare(kind: Space, dir: &Path, bytes: u64) -> Result<Self, BenchError> {
        assert!(bytes > 0 && bytes.is_multiple_of(STEP_BYTES), "{bytes} bytes a file");
        let zeros = Bytes::from(AlignedBuffer::new(STEP_BYTES as usize));
        let first = create(dir, 1, bytes)?;
        if kind != Space::Fallocated {
            for at in (0..bytes).step_by(STEP_BYTES as usize) {
                first.write_all_at(&zeros, at).map_err(BenchError::io("writing the raw file"))?;
            }
        }
        first.sync_all().map_err(BenchError::io("syncing the raw file"))?;
        let (dir, current) = (dir.to_owned(), Arc::new(first));
        Ok(Self { kind, dir, bytes, number: 1, current, at: 0, next: None, zeros })
    }

    /// Room for `bytes`, which is at most a file; `None` until more is zeroed.
    pub fn place(&mut self, bytes: u64) -> Result<Option<Place>, BenchError> {
        assert!(bytes <= self.bytes, "a block of {bytes} bytes in a file of {}", self.bytes);
        if self.at + bytes > self.bytes && !self.turn_over()? {
            return Ok(None);
        }
        let offset = self.at;
        self.at += bytes;
        Ok(Some(Place { file: Arc::clone(&self.current), offset }))
    }

    /// Goes on with the next file, or from the front. `false`: it is not zeroed yet.
    fn turn_over(&mut self) -> Result<bool, BenchError> {
        match self.kind {
            Space::Recycled => {}
            Space::Fallocated => {
                let next = create(&self.dir, self.number + 1, self.bytes)?;
                self.replace(Arc::new(next));
            }
            Space::Fresh => match self.next.take() {
                Some(next) if next.done == self.bytes => self.replace(next.file),
                other => {
                    self.next = other;
                    return Ok(false);
                }
            },
        }
        self.at = 0;
        Ok(true)
    }

    fn replace(&mut self, next: Arc<File>) {
        let _ = std::fs::remove_file(path(&self.dir, self.number));
        self.current = next;
        self.number += 1;
    }

    /// Goes on zeroing the next file; `token` marks the writes.
    pub fn zero_ahead(&mut self, token: u64, ring: &mut Ring) -> Result<(), BenchError> {
        if self.kind != Space::Fresh {
            return Ok(());
        }
        if self.next.is_none() {
            let file = Arc::new(create(&self.dir, self.number + 1, self.bytes)?);
            self.next = Some(Next { file, begun: 0, done: 0 });
        }
        let Some(next) = &mut self.next else { return Ok(()) };
        while next.begun < self.bytes && next.begun - next.done < ZEROING_MAX * STEP_BYTES {
            ring.write_at(token, next.file.as_raw_fd(), next.begun, self.zeros.clone());
            next.begun += STEP_BYTES;
        }
        Ok(())
    }

    /// One zeroing write is done.
    pub fn zeroed(&mut self) {
        if let Some(next) = &mut self.next {
            next.done += STEP_BYTES;
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for number in [self.number, self.number + 1] {
            let _ = std::fs::remove_file(path(&self.dir, number));
        }
    }
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("raw-append-{number}"))
}

fn create(dir: &Path, number: u64, bytes: u64) -> Result<File, BenchError> {
    let path = path(dir, number);
    let doing = || BenchError::io(format!("making {}", path.display()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags((OFlags::DIRECT | OFlags::DSYNC).bits() as i32)
        .open(&path)
        .map_err(doing())?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(|error| doing()(error.into()))?;
    Ok(file)
}
