//! Which filesystem a path lies on, and of which nature that is.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::mounts::{self, Mount};

/// The filesystem that holds a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// `ext4`, `xfs`, `tmpfs` and so on; the magic number in hex where it is not known.
    pub kind: String,
    pub nature: Nature,
    pub block_bytes: u64,
    pub total_bytes: u64,
    /// Free to this user.
    pub free_bytes: u64,
}

/// What a log can expect of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Nature {
    /// On a disk of this machine, overwritten in place.
    Disk,
    /// On a disk of this machine; what is overwritten goes to another place.
    CopyOnWrite,
    /// In memory: nothing on it survives a power cut, whatever a sync says.
    Memory,
    /// On another machine, or shared with others.
    Network,
    /// Served by a program of this machine (FUSE).
    UserSpace,
    /// Layers of other filesystems, as a container's own.
    Overlay,
    Unknown,
}

use Nature::{CopyOnWrite, Disk, Memory, Network, Overlay, Unknown, UserSpace};

/// `statfs` magic numbers, from the kernel's `linux/magic.h` and filesystem sources.
const KINDS: &[(u32, &str, Nature)] = &[
    (0xEF53, "ext4", Disk),
    (0x5846_5342, "xfs", Disk),
    (0xF2F5_2010, "f2fs", Unknown),
    (0x3153_464A, "jfs", Unknown),
    (0x4D44, "vfat", Unknown),
    (0x2011_BAB0, "exfat", Unknown),
    (0x7366_746E, "ntfs", Unknown),
    (0x9123_683E, "btrfs", CopyOnWrite),
    (0x2FC1_2FC1, "zfs", CopyOnWrite),
    (0xCA45_1A4E, "bcachefs", CopyOnWrite),
    (0x3434, "nilfs2", CopyOnWrite),
    (0x794C_7630, "overlay", Overlay),
    (0x0102_1994, "tmpfs", Memory),
    (0x8584_58F6, "ramfs", Memory),
    (0x9584_58F6, "hugetlbfs", Memory),
    (0x6969, "nfs", Network),
    (0xFF53_4D42, "cifs", Network),
    (0xFE53_4D42, "smb2", Network),
    (0x517B, "smb", Network),
    (0x00C3_6400, "ceph", Network),
    (0x0BD0_0BD0, "lustre", Network),
    (0x0102_1997, "9p", Network),
    (0x5346_414F, "afs", Network),
    (0x6B41_4653, "afs", Network),
    (0x7375_7245, "coda", Network),
    (0x564C, "ncp", Network),
    (0x0116_1970, "gfs2", Network),
    (0x7461_636F, "ocfs2", Network),
    (0x4750_4653, "gpfs", Network),
    (0x1983_0326, "beegfs", Network),
    (0x2003_0528, "orangefs", Network),
    (0x786F_4256, "vboxsf", Network),
    (0xBACB_ACBC, "vmhgfs", Network),
    (0x6573_5546, "fuse", UserSpace),
];

impl Filesystem {
    /// Asks the filesystem that holds `path`, which must exist.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statfs(path)?;
        let (kind, nature) = kind_of(stat.f_type as u32);
        let block_bytes = stat.f_bsize as u64;
        let mut found = Self {
            kind,
            nature,
            block_bytes,
            total_bytes: stat.f_blocks.saturating_mul(block_bytes),
            free_bytes: stat.f_bavail.saturating_mul(block_bytes),
        };
        found.refine(mounts::holding(path).as_ref());
        Ok(found)
    }

    /// The mount table knows more than the magic number of filesystems that share one.
    fn refine(&mut self, mount: Option<&Mount>) {
        let Some(mount) = mount else { return };
        match self.nature {
            // fuse.sshfs, fuseblk, virtiofs; ext2 and ext3 share the number of ext4.
            UserSpace => self.kind = mount.kind.clone(),
            Disk if mount.kind.starts_with("ext") => self.kind = mount.kind.clone(),
            Unknown if self.kind.starts_with("0x") => self.kind = mount.kind.clone(),
            Overlay if upper_is_memory(mount) => {
                self.kind = "overlay on a memory filesystem".to_owned();
                self.nature = Memory;
            }
            _ => {}
        }
    }
}

fn kind_of(magic: u32) -> (String, Nature) {
    match KINDS.iter().find(|(number, _, _)| *number == magic) {
        Some((_, kind, nature)) => ((*kind).to_owned(), *nature),
        None => (format!("{magic:#x}"), Unknown),
    }
}

/// The nature of a filesystem by its name in a mount table, where it cannot be asked.
pub(crate) fn nature_of_kind(kind: &str) -> Nature {
    if kind.starts_with("fuse") || kind == "virtiofs" {
        return UserSpace;
    }
    if matches!(kind, "ext2" | "ext3") {
        return Disk;
    }
    if matches!(kind, "nfs4" | "smb3") {
        return Network;
    }
    KINDS.iter().find(|(_, name, _)| *name == kind).map_or(Unknown, |(_, _, nature)| *nature)
}

/// What is written to an overlay goes to its upper layer, where that can be seen.
fn upper_is_memory(mount: &Mount) -> bool {
    let upper = mount.option("upperdir");
    upper.is_some_and(|upper| {
        let stat = rustix::fs::statfs(Path::new(upper));
        stat.is_ok_and(|stat| kind_of(stat.f_type as u32).1 == Memory)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_folder_has_a_filesystem_with_space() {
        let folder = tempfile::tempdir().unwrap();
        let found = Filesystem::of(folder.path()).unwrap();
        assert!(found.total_bytes >= found.free_bytes && found.block_bytes >= 512, "{found:?}");
        assert!(Filesystem::of(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn memory_is_told_apart() {
        if let Ok(found) = Filesystem::of(Path::new("/dev/shm"))
            && found.kind == "tmpfs"
        {
            assert_eq!(found.nature, Memory);
        }
        let procfs = Filesystem::of(Path::new("/proc")).unwrap();
        assert_eq!((procfs.kind.as_str(), procfs.nature), ("proc", Unknown));
    }

    #[test]
    fn every_number_has_one_kind() {
        for (number, kind, nature) in KINDS {
            assert_eq!(kind_of(*number), ((*kind).to_owned(), *nature), "{number:#x}");
        }
        assert_eq!(kind_of(1), ("0x1".to_owned(), Unknown));
    }

    #[test]
    fn the_mount_table_names_what_shares_a_number() {
        let mount = |text: &str| Mount::parse(text).unwrap();
        let refined = |magic, text: &str| {
            let (kind, nature) = kind_of(magic);
            let mut found =
                Filesystem { kind, nature, block_bytes: 1, total_bytes: 1, free_bytes: 1 };
            found.refine(Some(&mount(text)));
            (found.kind, found.nature)
        };
        let sshfs = "9 1 0:9 / /a rw - fuse.sshfs me@there:/ rw,user_id=0";
        assert_eq!(refined(0x6573_5546, sshfs), ("fuse.sshfs".to_owned(), UserSpace));
        let ext2 = "9 1 0:9 / /a rw - ext2 /dev/x rw";
        assert_eq!(refined(0xEF53, ext2), ("ext2".to_owned(), Disk));
        let layers = "9 1 0:9 / /a rw - overlay overlay rw,upperdir=/nowhere";
        assert_eq!(refined(0x794C_7630, layers), ("overlay".to_owned(), Overlay));
        let memory = "9 1 0:9 / /a rw - overlay overlay rw,upperdir=/dev/shm";
        if Filesystem::of(Path::new("/dev/shm")).is_ok_and(|shm| shm.nature == Memory) {
            assert_eq!(refined(0x794C_7630, memory).1, Memory);
        }
    }
}
