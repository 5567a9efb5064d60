//! Made-up machines for tests: sysfs, procfs and control group files in a temporary folder.

use std::fs;
use std::path::PathBuf;

use crate::host::{Host, Roots};

pub struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    /// `cpus` CPUs and nothing said of cores or nodes.
    pub fn flat(cpus: u32) -> Self {
        // Hundreds of small files: in memory where that can be.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let host = Self { folder: folder.unwrap() };
        host.write("sys/devices/system/cpu/online", &format!("0-{}\n", cpus - 1));
        host.allow(&format!("0-{}", cpus - 1));
        host.write("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
        host
    }

    /// 2 nodes x 4 physical cores x 2 threads; CPU n and n + 8 share a core, node 1 has 4-7,12-15.
    pub fn two_nodes() -> Self {
        let host = Self::flat(16);
        host.write("sys/devices/system/node/online", "0-1\n");
        host.write("sys/devices/system/node/node0/cpulist", "0-3,8-11\n");
        host.write("sys/devices/system/node/node1/cpulist", "4-7,12-15\n");
        for cpu in 0..16 {
            let file = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            host.write(&file, &format!("{},{}\n", cpu % 8, cpu % 8 + 8));
        }
        host
    }

    /// Sets the affinity mask.
    pub fn allow(&self, cpus: &str) {
        let status = format!("Name:\ttest\nCpus_allowed:\tffff\nCpus_allowed_list:\t{cpus}\n");
        self.write("proc/thread-self/status", &status);
    }

    pub fn cgroup_v2(&self, root: &str, path: &str) {
        let point = self.path("cgroup");
        fs::create_dir_all(&point).unwrap();
        self.write("proc/self/cgroup", &format!("0::{path}\n"));
        let mount = format!("30 1 0:26 {root} {} rw - cgroup2 cgroup2 rw\n", point.display());
        self.write("proc/self/mountinfo", &format!("1 0 8:1 / / rw - ext4 /dev/x rw\n{mount}"));
    }

    pub fn cgroup_v1(&self, path: &str) {
        let controllers = ["cpu,cpuacct", "memory", "cpuset", "blkio"];
        let lines = |line: &dyn Fn(&str) -> String| -> String {
            controllers.iter().map(|name| line(name)).collect()
        };
        let groups = lines(&|name| format!("2:{name}:{path}\n")) + "0::/\n";
        let mounts = lines(&|name| {
            let point = self.path(&format!("cgroup/{name}"));
            format!("31 1 0:27 / {} rw shared:9 - cgroup cgroup rw,{name}\n", point.display())
        });
        self.write("proc/self/cgroup", &groups);
        self.write("proc/self/mountinfo", &mounts);
    }

    /// A quota of this many hundredths of a CPU.
    pub fn quota(&self, hundredths: u32) {
        self.cgroup_v2("/", "/");
        self.write("cgroup/cpu.max", &format!("{} 100000\n", hundredths * 1000));
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub fn sys(&self) -> PathBuf {
        self.path("sys")
    }

    pub fn proc(&self) -> PathBuf {
        self.path("proc")
    }

    pub fn roots(&self) -> Roots {
        Roots { sys: self.sys(), proc: self.proc() }
    }

    pub fn host(&self) -> Host {
        Host::read_from(&self.roots()).unwrap()
    }
}
