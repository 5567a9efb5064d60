//! Which filesystem a path lies on.

use std::io;
use std::path::Path;

use serde::Serialize;

/// The filesystem that holds a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// `ext4`, `xfs`, `tmpfs` and so on; the magic number in hex where it is not known.
    pub kind: String,
    /// It lives in memory: nothing on it survives a power cut, whatever a sync says.
    pub is_memory: bool,
    /// It lives on another machine.
    pub is_network: bool,
    pub block_bytes: u64,
    pub total_bytes: u64,
    /// Free to this user.
    pub free_bytes: u64,
}

/// `statfs` magic numbers, from the kernel's `linux/magic.h` and filesystem sources.
const KINDS: &[(u32, &str)] = &[
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0xF2F5_2010, "f2fs"),
    (0x2FC1_2FC1, "zfs"),
    (0xCA45_1A4E, "bcachefs"),
    (0x794C_7630, "overlay"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58F6, "ramfs"),
    (0x6969, "nfs"),
    (0xFF53_4D42, "cifs"),
    (0xFE53_4D42, "smb2"),
    (0x00C3_6400, "ceph"),
    (0x0BD0_0BD0, "lustre"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x4D44, "vfat"),
    (0x2011_BAB0, "exfat"),
    (0x7366_746E, "ntfs"),
];

impl Filesystem {
    /// Asks the filesystem that holds `path`, which must exist.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statfs(path)?;
        let magic = stat.f_type as u32;
        let known = KINDS.iter().find(|(number, _)| *number == magic).map(|(_, kind)| *kind);
        let kind = known.map_or_else(|| format!("{magic:#x}"), str::to_owned);
        let block_bytes = stat.f_bsize as u64;
        Ok(Self {
            is_memory: matches!(kind.as_str(), "tmpfs" | "ramfs"),
            is_network: matches!(kind.as_str(), "nfs" | "cifs" | "smb2" | "ceph" | "lustre" | "9p"),
            kind,
            block_bytes,
            total_bytes: stat.f_blocks.saturating_mul(block_bytes),
            free_bytes: stat.f_bavail.saturating_mul(block_bytes),
        })
    }
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
            assert!(found.is_memory && !found.is_network);
        }
        let sysfs = Filesystem::of(Path::new("/proc")).unwrap();
        assert_eq!((sysfs.kind.as_str(), sysfs.is_memory), ("0x9fa0", false));
    }
}
