//! Whether a filesystem is a place for a log, in sentences that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::filesystem::{Filesystem, Nature, nature_of_kind};
use crate::mounts::{self, Mount};

/// What a place for data is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A write that the system calls done is on a disk.
    Durable {
        /// What should be set or changed; `None` where all is well.
        advice: Option<String>,
    },
    /// Nothing survives: the name of the filesystem.
    Volatile { kind: String },
    /// No place for a log; the sentence says why and what to do.
    Unfit { reason: String },
}

/// Judges the filesystem that holds `path`, or will hold it once it is made.
pub fn judge(path: &Path) -> io::Result<Medium> {
    let existing = existing_part(path);
    let found = Filesystem::of(&existing)?;
    let source = mounts::holding(&existing).map(|mount| mount.source).unwrap_or_default();
    Ok(judge_one(path, &found, &source, is_no_copy_on_write(&existing)))
}

/// Judges by a line of a mount table alone, as of another machine.
pub(crate) fn judge_mount(path: &Path, mount: &Mount) -> Medium {
    let found = Filesystem {
        kind: mount.kind.clone(),
        nature: nature_of_kind(&mount.kind),
        block_bytes: 0,
        total_bytes: 0,
        free_bytes: 0,
    };
    judge_one(path, &found, &mount.source, false)
}

/// The path itself, or the nearest folder above that exists.
pub(crate) fn existing_part(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|part| part.exists());
    match found {
        Some(part) if !part.as_os_str().is_empty() => part.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// `chattr +C`: files made in this folder are overwritten in place.
fn is_no_copy_on_write(folder: &Path) -> bool {
    let flags = std::fs::File::open(folder).and_then(|folder| {
        let flags = rustix::fs::ioctl_getflags(&folder)?;
        Ok(flags.contains(rustix::fs::IFlags::NOCOW))
    });
    flags.unwrap_or(false)
}

fn judge_one(path: &Path, found: &Filesystem, source: &str, no_copy_on_write: bool) -> Medium {
    let place = path.display();
    let kind = &found.kind;
    let durable = |advice: String| Medium::Durable { advice: Some(advice) };
    match found.nature {
        Nature::Disk => Medium::Durable { advice: None },
        Nature::Memory => Medium::Volatile { kind: kind.clone() },
        Nature::Network => Medium::Unfit {
            reason: format!(
                "{place} is on {kind} ({source}), a network or shared filesystem: its writes may \
                 be called done before they are on a disk, and its locks may not keep a second \
                 server out; put the data directory on a local disk with ext4 or xfs"
            ),
        },
        Nature::UserSpace => Medium::Unfit {
            reason: format!(
                "{place} is on {kind} ({source}), a filesystem that a program or another machine \
                 serves (FUSE): nobody can tell when its writes are on a disk; put the data \
                 directory on a local disk with ext4 or xfs"
            ),
        },
        Nature::CopyOnWrite if kind == "btrfs" && no_copy_on_write => {
            Medium::Durable { advice: None }
        }
        Nature::CopyOnWrite if kind == "btrfs" => durable(format!(
            "{place} is on btrfs, which writes a copy of every block that is overwritten: the log \
             gets slow and scattered; make the directory empty, run `chattr +C` on it before its \
             first use (which turns compression off there as well), or use ext4 or xfs"
        )),
        Nature::CopyOnWrite if kind == "zfs" => durable(format!(
            "{place} is on ZFS, which writes a copy of every block that is overwritten; set for \
             its dataset: recordsize=128K, primarycache=metadata (Corelane has a cache of its \
             own), logbias=latency, compression=off, atime=off, and never sync=disabled, with \
             which acknowledged messages can be lost"
        )),
        Nature::Overlay => durable(format!(
            "{place} is on overlayfs, a container's own layers: it is slower and goes away with \
             the container; mount a volume there"
        )),
        Nature::CopyOnWrite | Nature::Unknown => durable(format!(
            "{place} is on {kind}, which Corelane has not been tried on; ext4 and xfs are known \
             to be good"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(kind: &str, nature: Nature, no_copy_on_write: bool) -> Medium {
        let found = Filesystem {
            kind: kind.to_owned(),
            nature,
            block_bytes: 4096,
            total_bytes: 1,
            free_bytes: 1,
        };
        judge_one(Path::new("/data"), &found, "host:/share", no_copy_on_write)
    }

    #[test]
    fn disks_need_no_word() {
        for kind in ["ext4", "xfs"] {
            assert_eq!(judged(kind, Nature::Disk, false), Medium::Durable { advice: None });
        }
        let quiet = judged("btrfs", Nature::CopyOnWrite, true);
        assert_eq!(quiet, Medium::Durable { advice: None });
    }

    #[test]
    fn copies_and_layers_are_told_what_to_set() {
        for (kind, nature, words) in [
            ("btrfs", Nature::CopyOnWrite, "chattr +C"),
            ("zfs", Nature::CopyOnWrite, "recordsize=128K"),
            ("zfs", Nature::CopyOnWrite, "never sync=disabled"),
            ("bcachefs", Nature::CopyOnWrite, "not been tried"),
            ("overlay", Nature::Overlay, "mount a volume"),
            ("0x1234", Nature::Unknown, "ext4 and xfs"),
        ] {
            let Medium::Durable { advice: Some(advice) } = judged(kind, nature, false) else {
                panic!("{kind}");
            };
            assert!(advice.contains("/data") && advice.contains(words), "{advice}");
        }
    }

    #[test]
    fn other_machines_and_programs_are_refused_by_name() {
        for (kind, nature) in [
            ("nfs", Nature::Network),
            ("cifs", Nature::Network),
            ("gfs2", Nature::Network),
            ("fuse.sshfs", Nature::UserSpace),
            ("virtiofs", Nature::UserSpace),
        ] {
            let Medium::Unfit { reason } = judged(kind, nature, false) else { panic!("{kind}") };
            let named = reason.contains(&format!("on {kind} (host:/share)"));
            assert!(named && reason.contains("local disk"), "{reason}");
        }
        let memory = Medium::Volatile { kind: "tmpfs".to_owned() };
        assert_eq!(judged("tmpfs", Nature::Memory, false), memory);
    }

    #[test]
    fn a_place_that_is_yet_to_be_made_is_judged_by_what_is_above() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        assert_eq!(existing_part(&deep), folder.path());
        assert!(judge(&deep).is_ok());
        assert_eq!(existing_part(Path::new("nothing-here")), Path::new("."));
    }
}
