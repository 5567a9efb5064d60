//! The control groups of this process, version 2 and version 1: CPU quota, memory limit, and
//! whether its CPU set is its own.
//!
//! A limit of any group from the process's own up to the visible root applies, so the smallest
//! one counts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::mounts::unescape;

/// What the control groups allow. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CgroupLimits {
    /// CPU time per wall time: 1.5 is one and a half CPUs.
    pub cpu_quota: Option<f64>,
    pub memory_bytes: Option<u64>,
    /// No group outside this one shares its CPUs.
    pub cpu_set_exclusive: bool,
}

impl CgroupLimits {
    /// Reads the groups of the calling process, found through `self/cgroup` and `self/mountinfo`
    /// below `proc` (`/proc`). What cannot be read is taken as no limit.
    pub fn read(proc: &Path) -> Self {
        let groups = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
        let mounts = fs::read_to_string(proc.join("self/mountinfo")).unwrap_or_default();
        let mut limits = Self::default();
        for group in groups.lines().filter_map(Membership::parse) {
            for mount in mounts.lines().filter_map(Mount::parse).filter(|m| m.holds(&group)) {
                limits.merge(read_group(&group, &mount.folder_of(group.path), &mount.point));
            }
        }
        limits
    }

    fn merge(&mut self, other: Self) {
        self.cpu_quota = smaller(self.cpu_quota, other.cpu_quota);
        self.memory_bytes = smaller(self.memory_bytes, other.memory_bytes);
        self.cpu_set_exclusive |= other.cpu_set_exclusive;
    }
}

/// A bound that a control group sets to a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoLimit {
    /// `major:minor`.
    pub device: String,
    /// `writes/s`, `bytes/s written`, `reads/s`, `bytes/s read`.
    pub what: &'static str,
    pub amount: u64,
}

/// Version 2 key, version 1 file, and what both bound.
const IO_BOUNDS: &[(&str, &str, &str)] = &[
    ("wiops", "blkio.throttle.write_iops_device", "writes/s"),
    ("wbps", "blkio.throttle.write_bps_device", "bytes/s written"),
    ("riops", "blkio.throttle.read_iops_device", "reads/s"),
    ("rbps", "blkio.throttle.read_bps_device", "bytes/s read"),
];

/// The bounds on block devices of the calling process's groups; of several of one kind the
/// smallest.
pub fn io_limits(proc: &Path) -> Vec<IoLimit> {
    let groups = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    let mounts = fs::read_to_string(proc.join("self/mountinfo")).unwrap_or_default();
    let mut found: Vec<IoLimit> = Vec::new();
    for group in groups.lines().filter_map(Membership::parse) {
        for mount in mounts.lines().filter_map(Mount::parse).filter(|m| m.holds(&group)) {
            let folder = mount.folder_of(group.path);
            let levels = folder.ancestors().take_while(|level| level.starts_with(&mount.point));
            for limit in levels.flat_map(|level| read_io_level(&group, level)) {
                let same = |known: &&mut IoLimit| {
                    (&known.device, known.what) == (&limit.device, limit.what)
                };
                match found.iter_mut().find(same) {
                    Some(known) => known.amount = known.amount.min(limit.amount),
                    None => found.push(limit),
                }
            }
        }
    }
    found
}

fn read_io_level(group: &Membership<'_>, level: &Path) -> Vec<IoLimit> {
    let mut found = Vec::new();
    if group.is_v2() {
        // `8:16 rbps=2097152 wbps=max riops=max wiops=120`
        for line in read_text(level, "io.max").unwrap_or_default().lines() {
            let Some((device, bounds)) = line.split_once(' ') else { continue };
            for (key, value) in bounds.split(' ').filter_map(|bound| bound.split_once('=')) {
                let bound = IO_BOUNDS.iter().find(|(name, _, _)| *name == key);
                if let (Some((_, _, what)), Ok(amount)) = (bound, value.parse()) {
                    found.push(IoLimit { device: device.to_owned(), what, amount });
                }
            }
        }
    } else if group.controls("blkio") {
        for (_, file, what) in IO_BOUNDS {
            for line in read_text(level, file).unwrap_or_default().lines() {
                let Some((device, amount)) = line.split_once(' ') else { continue };
                if let Ok(amount) = amount.trim().parse() {
                    found.push(IoLimit { device: device.to_owned(), what, amount });
                }
            }
        }
    }
    found
}

/// One line of `/proc/self/cgroup`: `hierarchy:controllers:path`.
struct Membership<'a> {
    /// Empty for the version 2 hierarchy.
    controllers: &'a str,
    path: &'a str,
}

impl<'a> Membership<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(3, ':');
        let _hierarchy = fields.next()?;
        Some(Self { controllers: fields.next()?, path: fields.next()? })
    }

    fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    fn controls(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|name| name == controller)
    }
}

/// One control group line of `/proc/self/mountinfo`.
struct Mount<'a> {
    /// The group that is mounted there.
    root: String,
    point: PathBuf,
    is_v2: bool,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (unescape(before.next()?), unescape(before.next()?));
        let mut after = after.split(' ');
        let is_v2 = match after.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let options = after.nth(1).unwrap_or_default();
        Some(Self { root, point: PathBuf::from(point), is_v2, options })
    }

    fn holds(&self, group: &Membership<'_>) -> bool {
        match (self.is_v2, group.is_v2()) {
            (true, true) => true,
            (false, false) => self.options.split(',').any(|name| group.controls(name)),
            _ => false,
        }
    }

    /// The folder of the group `path`; the mount itself where the group lies outside of it, as in
    /// a container that shares its host's control group namespace.
    fn folder_of(&self, path: &str) -> PathBuf {
        let inside = if self.root == "/" {
            Some(path)
        } else {
            path.strip_prefix(self.root.as_str())
                .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let inside = inside.map(|rest| rest.trim_matches('/')).filter(|rest| !rest.is_empty());
        let folder = inside.map(|rest| self.point.join(rest));
        folder.filter(|folder| folder.is_dir()).unwrap_or_else(|| self.point.clone())
    }
}

fn read_group(group: &Membership<'_>, folder: &Path, top: &Path) -> CgroupLimits {
    let mut limits = CgroupLimits::default();
    for level in folder.ancestors().take_while(|level| level.starts_with(top)) {
        limits.merge(if group.is_v2() {
            read_level_v2(level)
        } else {
            read_level_v1(group, level)
        });
    }
    // An exclusive set further up may be shared with our neighbours, so only our own group counts.
    limits.cpu_set_exclusive = if group.is_v2() {
        matches!(read_text(folder, "cpuset.cpus.partition").as_deref(), Some("root" | "isolated"))
    } else {
        group.controls("cpuset")
            && folder != top
            && read_text(folder, "cpuset.cpu_exclusive").as_deref() == Some("1")
    };
    limits
}

fn read_level_v2(level: &Path) -> CgroupLimits {
    let cpu_quota = read_text(level, "cpu.max").and_then(|text| {
        let (quota, period) = text.split_once(' ')?;
        quota_of(quota.parse().ok()?, period.parse().ok()?)
    });
    let memory_bytes = read_text(level, "memory.max").and_then(|text| text.parse().ok());
    CgroupLimits { cpu_quota, memory_bytes, cpu_set_exclusive: false }
}

fn read_level_v1(group: &Membership<'_>, level: &Path) -> CgroupLimits {
    let number = |name: &str| read_text(level, name).and_then(|text| text.parse::<f64>().ok());
    let mut limits = CgroupLimits::default();
    if group.controls("cpu") {
        let quota = number("cpu.cfs_quota_us").zip(number("cpu.cfs_period_us"));
        limits.cpu_quota = quota.and_then(|(quota, period)| quota_of(quota, period));
    }
    if group.controls("memory") {
        // "No limit" is the largest whole number of pages, near 2^63.
        let bytes = read_text(level, "memory.limit_in_bytes").and_then(|text| text.parse().ok());
        limits.memory_bytes = bytes.filter(|bytes: &u64| *bytes < 1 << 62);
    }
    limits
}

fn quota_of(quota_us: f64, period_us: f64) -> Option<f64> {
    (quota_us > 0.0 && period_us > 0.0).then(|| quota_us / period_us)
}

fn read_text(folder: &Path, name: &str) -> Option<String> {
    Some(fs::read_to_string(folder.join(name)).ok()?.trim().to_owned())
}

fn smaller<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b < a { b } else { a }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn version_2_takes_the_smallest_on_the_way_up() {
        let host = Fixture::flat(4);
        host.cgroup_v2("/", "/app/broker");
        host.write("cgroup/app/cpu.max", "150000 100000\n");
        host.write("cgroup/app/memory.max", "max\n");
        host.write("cgroup/app/broker/cpu.max", "max 100000\n");
        host.write("cgroup/app/broker/memory.max", "1073741824\n");
        let limits = CgroupLimits::read(&host.proc());
        assert_eq!(limits.cpu_quota, Some(1.5));
        assert_eq!(limits.memory_bytes, Some(1 << 30));
        assert!(!limits.cpu_set_exclusive);
        host.write("cgroup/app/broker/cpuset.cpus.partition", "isolated\n");
        assert!(CgroupLimits::read(&host.proc()).cpu_set_exclusive);
    }

    #[test]
    fn a_container_sees_its_group_at_the_mount() {
        for (root, path) in [("/", "/"), ("/docker/abc", "/docker/abc"), ("/../..", "/docker/abc")]
        {
            let host = Fixture::flat(4);
            host.cgroup_v2(root, path);
            host.write("cgroup/cpu.max", "200000 100000\n");
            assert_eq!(CgroupLimits::read(&host.proc()).cpu_quota, Some(2.0), "{root} {path}");
        }
    }

    #[test]
    fn version_1_reads_each_controller_where_it_is_mounted() {
        let host = Fixture::flat(4);
        host.cgroup_v1("/svc");
        host.write("cgroup/cpu,cpuacct/svc/cpu.cfs_quota_us", "250000\n");
        host.write("cgroup/cpu,cpuacct/svc/cpu.cfs_period_us", "100000\n");
        host.write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        host.write("cgroup/memory/svc/memory.limit_in_bytes", "536870912\n");
        host.write("cgroup/cpuset/svc/cpuset.cpu_exclusive", "1\n");
        let limits = CgroupLimits::read(&host.proc());
        assert_eq!(limits.cpu_quota, Some(2.5));
        assert_eq!(limits.memory_bytes, Some(512 << 20));
        assert!(limits.cpu_set_exclusive);
        host.write("cgroup/cpu,cpuacct/svc/cpu.cfs_quota_us", "-1\n");
        assert_eq!(CgroupLimits::read(&host.proc()).cpu_quota, None);
    }

    #[test]
    fn bounds_on_a_device_are_found_in_both_versions() {
        let host = Fixture::flat(1);
        host.cgroup_v2("/", "/app/broker");
        host.write("cgroup/app/io.max", "254:0 rbps=max wbps=max riops=max wiops=3000\n");
        host.write("cgroup/app/broker/io.max", "254:0 wiops=5000 wbps=1048576\n8:0 x=y\n");
        let limit = |what, amount| IoLimit { device: "254:0".to_owned(), what, amount };
        let expected = [limit("writes/s", 3000), limit("bytes/s written", 1_048_576)];
        assert_eq!(io_limits(&host.proc()), expected);
        let host = Fixture::flat(1);
        host.cgroup_v1("/svc");
        host.write("cgroup/blkio/svc/blkio.throttle.write_iops_device", "254:0 3000\n");
        assert_eq!(io_limits(&host.proc()), [limit("writes/s", 3000)]);
        assert!(io_limits(&Fixture::flat(1).proc()).is_empty());
    }

    #[test]
    fn no_groups_and_garbage_are_no_limit() {
        let host = Fixture::flat(1);
        assert_eq!(CgroupLimits::read(&host.proc()), CgroupLimits::default());
        host.cgroup_v2("/", "/");
        host.write("cgroup/cpu.max", "0 0 0\n");
        host.write("cgroup/memory.max", "lots\n");
        assert_eq!(CgroupLimits::read(&host.proc()), CgroupLimits::default());
    }
}
