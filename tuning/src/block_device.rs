//! The block devices under a filesystem: partitions, mappings and arrays down to the disks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::mounts::Mount;

/// Mappings on mappings are followed so far.
const LAYERS_MAX: usize = 8;
/// Disks of one array that are looked at.
const DEVICES_MAX: usize = 64;

/// A block device as sysfs shows it; of a partition, the whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// `nvme0n1`, `dm-0`.
    pub name: String,
    folder: PathBuf,
}

impl BlockDevice {
    /// The device that a mount is of; `None` where it has none, as a network filesystem.
    pub fn of_mount(sys: &Path, mount: &Mount) -> Option<Self> {
        let by_number = sys.join("dev/block").join(&mount.device);
        let folder = fs::canonicalize(by_number).ok().or_else(|| by_source(sys, &mount.source))?;
        // A partition has no queue of its own.
        let whole = if folder.join("partition").exists() { folder.parent()? } else { &folder };
        Self::at(whole)
    }

    fn at(folder: &Path) -> Option<Self> {
        let name = folder.file_name()?.to_str()?.to_owned();
        Some(Self { name, folder: folder.to_owned() })
    }

    /// The devices that this one is made of; none for a disk.
    fn parts(&self, sys: &Path) -> Vec<Self> {
        let entries = fs::read_dir(self.folder.join("slaves")).into_iter().flatten().flatten();
        let found = entries.filter_map(|entry| {
            let folder = fs::canonicalize(entry.path())
                .or_else(|_| fs::canonicalize(sys.join("class/block").join(entry.file_name())))
                .ok()?;
            let whole = if folder.join("partition").exists() { folder.parent()? } else { &folder };
            Self::at(whole)
        });
        let mut parts: Vec<Self> = found.collect();
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        parts
    }

    /// This device and all it stands on, itself first, each once.
    pub fn layers(&self, sys: &Path) -> Vec<Self> {
        let mut all = vec![self.clone()];
        let mut layer = vec![self.clone()];
        for _ in 0..LAYERS_MAX {
            let below: Vec<Self> = layer.iter().flat_map(|device| device.parts(sys)).collect();
            layer = below.into_iter().filter(|device| !all.contains(device)).collect();
            layer.dedup();
            all.extend(layer.iter().cloned());
            if layer.is_empty() || all.len() >= DEVICES_MAX {
                break;
            }
        }
        all.truncate(DEVICES_MAX);
        all
    }

    /// Whether it is a disk and no mapping or array.
    pub fn is_disk(&self) -> bool {
        fs::read_dir(self.folder.join("slaves")).map_or(true, |mut parts| parts.next().is_none())
    }

    /// A file below the device, such as `queue/scheduler`.
    pub fn text(&self, file: &str) -> Option<String> {
        Some(fs::read_to_string(self.folder.join(file)).ok()?.trim().to_owned())
    }

    pub fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.parse().ok()
    }

    /// Every durable write is followed by a flush, which bounds on writes count as one as well.
    pub fn flushes_after_writes(&self) -> bool {
        self.text("queue/write_cache").as_deref() == Some("write back")
            && self.number("queue/fua") != Some(1)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// By the name of its node: `/dev/sda1`, `/dev/mapper/data`.
fn by_source(sys: &Path, source: &str) -> Option<PathBuf> {
    let name = source.strip_prefix("/dev/")?;
    let class = sys.join("class/block");
    if let Some(mapped) = name.strip_prefix("mapper/") {
        let entries = fs::read_dir(&class).ok()?.flatten();
        let mut folders = entries.filter_map(|entry| fs::canonicalize(entry.path()).ok());
        return folders.find(|folder| {
            fs::read_to_string(folder.join("dm/name")).is_ok_and(|text| text.trim() == mapped)
        });
    }
    if name.contains('/') {
        return None;
    }
    fs::canonicalize(class.join(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn mount(device: &str, source: &str) -> Mount {
        Mount::parse(&format!("9 1 {device} / / rw - ext4 {source} rw")).unwrap()
    }

    #[test]
    fn a_partition_is_its_disk() {
        let host = Fixture::flat(1);
        host.disk("sda", "8:0");
        host.partition("sda", "sda1", "8:1");
        let found = BlockDevice::of_mount(&host.sys(), &mount("8:1", "/dev/sda1")).unwrap();
        assert_eq!(found.name, "sda");
        assert!(found.is_disk() && found.number("queue/nr_requests").is_some());
        assert!(!found.flushes_after_writes());
        host.write("sys/devices/block/sda/queue/write_cache", "write back\n");
        assert!(found.flushes_after_writes());
        host.write("sys/devices/block/sda/queue/fua", "1\n");
        assert!(!found.flushes_after_writes());
        let by_name = BlockDevice::of_mount(&host.sys(), &mount("0:99", "/dev/sda1")).unwrap();
        assert_eq!(by_name, found);
        assert_eq!(BlockDevice::of_mount(&host.sys(), &mount("0:9", "host:/share")), None);
    }

    #[test]
    fn a_mapping_on_an_array_is_followed_to_its_disks() {
        let host = Fixture::flat(1);
        host.disk("sda", "8:0");
        host.disk("sdb", "8:16");
        host.disk("md0", "9:0");
        host.disk("dm-0", "253:0");
        host.write("sys/devices/block/dm-0/dm/name", "data\n");
        host.stack("md0", &["sda", "sdb"]);
        host.stack("dm-0", &["md0"]);
        let top = BlockDevice::of_mount(&host.sys(), &mount("0:9", "/dev/mapper/data")).unwrap();
        let names: Vec<String> =
            top.layers(&host.sys()).into_iter().map(|device| device.name).collect();
        assert_eq!(names, ["dm-0", "md0", "sda", "sdb"]);
        assert!(!top.is_disk());
    }

    #[test]
    fn devices_that_stand_on_each_other_end() {
        let host = Fixture::flat(1);
        host.disk("dm-0", "253:0");
        host.disk("dm-1", "253:1");
        host.stack("dm-0", &["dm-1"]);
        host.stack("dm-1", &["dm-0"]);
        let top = BlockDevice::of_mount(&host.sys(), &mount("253:0", "x")).unwrap();
        assert_eq!(top.layers(&host.sys()).len(), 2);
    }
}
