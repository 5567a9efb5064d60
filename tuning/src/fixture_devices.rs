//! Devices of made-up machines: caches, clocks, disks and network interfaces.

use std::fs;
use std::os::unix::fs::symlink;

use crate::fixture::Fixture;

impl Fixture {
    /// A healthy server: nothing that a check would find fault with.
    pub fn well_kept() -> Self {
        let host = Self::two_nodes();
        host.caches();
        let cpus = 16;
        for cpu in 0..cpus {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}");
            host.write(&format!("{folder}/cpufreq/scaling_governor"), "performance\n");
            for (state, name, latency) in [(0, "POLL", 0), (1, "C1", 2), (2, "C6", 133)] {
                host.write(&format!("{folder}/cpuidle/state{state}/name"), &format!("{name}\n"));
                host.write(
                    &format!("{folder}/cpuidle/state{state}/latency"),
                    &format!("{latency}\n"),
                );
                let off = if latency > 50 { "1\n" } else { "0\n" };
                host.write(&format!("{folder}/cpuidle/state{state}/disable"), off);
            }
        }
        host.write("sys/devices/system/cpu/isolated", "0-15\n");
        let clock = "sys/devices/system/clocksource/clocksource0";
        host.write(&format!("{clock}/current_clocksource"), "tsc\n");
        host.write(&format!("{clock}/available_clocksource"), "tsc hpet acpi_pm \n");
        let pages = "sys/kernel/mm/transparent_hugepage";
        host.write(&format!("{pages}/enabled"), "always [madvise] never\n");
        host.write(&format!("{pages}/defrag"), "always defer defer+madvise [madvise] never\n");
        host.write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        host.write("proc/stat", "cpu  100 0 50 1000 0 0 0 0 0 0\n");
        host.write("proc/sys/kernel/osrelease", "6.6.1-server\n");
        host.write("proc/sys/kernel/numa_balancing", "0\n");
        host.write("proc/sys/net/core/somaxconn", "4096\n");
        host.limits("unlimited", "1048576");
        host.write("proc/cpuinfo", "model name\t: Fast CPU\nflags\t: fpu\n");
        host.disk("nvme0n1", "259:0");
        host.mount("259:0", "/data", "xfs", "/dev/nvme0n1", "rw,noatime");
        host.nic("eth0", 16, &(0..16).collect::<Vec<_>>(), Some(0));
        host
    }

    pub fn limits(&self, locked_bytes: &str, files: &str) {
        self.write(
            "proc/self/limits",
            &format!(
                "Limit  Soft Limit  Hard Limit  Units\n\
                 Max open files            1024   {files}   files\n\
                 Max locked memory         65536  {locked_bytes}   bytes\n"
            ),
        );
    }

    /// Adds a line to the mount table.
    pub fn mount(&self, device: &str, point: &str, kind: &str, source: &str, options: &str) {
        let file = self.path("proc/self/mountinfo");
        let table = fs::read_to_string(file).unwrap_or_default();
        let line = format!("40 1 {device} / {point} {options} - {kind} {source} {options}\n");
        self.write("proc/self/mountinfo", &(table + &line));
    }

    /// Two sockets with an L3 each, and an L1 for each core of `two_nodes`.
    pub fn caches(&self) {
        for cpu in 0..16 {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}");
            let socket = cpu % 8 / 4;
            self.write(&format!("{folder}/topology/physical_package_id"), &format!("{socket}\n"));
            let l1 = format!("{},{}", cpu % 8, cpu % 8 + 8);
            let l3 = if socket == 0 { "0-3,8-11" } else { "4-7,12-15" };
            let all = [
                ("Data", 1, "48K", l1.as_str()),
                ("Instruction", 1, "32K", &l1),
                ("Unified", 3, "32768K", l3),
            ];
            for (at, (kind, level, size, cpus)) in all.into_iter().enumerate() {
                let cache = format!("{folder}/cache/index{at}");
                self.write(&format!("{cache}/type"), &format!("{kind}\n"));
                self.write(&format!("{cache}/level"), &format!("{level}\n"));
                self.write(&format!("{cache}/size"), &format!("{size}\n"));
                self.write(&format!("{cache}/shared_cpu_list"), &format!("{cpus}\n"));
            }
        }
    }

    /// A good NVMe disk, whatever its name.
    pub fn disk(&self, name: &str, number: &str) {
        let folder = format!("sys/devices/block/{name}");
        for (file, text) in [
            ("queue/scheduler", "[none] mq-deadline kyber"),
            ("queue/rotational", "0"),
            ("queue/write_cache", "write through"),
            ("queue/fua", "0"),
            ("queue/nr_requests", "1023"),
            ("queue/max_sectors_kb", "1280"),
            ("queue/max_hw_sectors_kb", "2048"),
            ("queue/logical_block_size", "512"),
            ("queue/physical_block_size", "4096"),
            ("device/model", "Fast Disk 1"),
            ("dev", number),
        ] {
            self.write(&format!("{folder}/{file}"), &format!("{text}\n"));
        }
        for queue in 0..16 {
            fs::create_dir_all(self.path(&format!("{folder}/mq/{queue}"))).unwrap();
        }
        self.link_block(&folder, name, number);
    }

    pub fn partition(&self, disk: &str, name: &str, number: &str) {
        let folder = format!("sys/devices/block/{disk}/{name}");
        self.write(&format!("{folder}/partition"), "1\n");
        self.link_block(&folder, name, number);
    }

    fn link_block(&self, folder: &str, name: &str, number: &str) {
        for place in [format!("sys/dev/block/{number}"), format!("sys/class/block/{name}")] {
            let link = self.path(&place);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(self.path(folder), link).unwrap();
        }
    }

    /// Puts `upper` on top of other devices.
    pub fn stack(&self, upper: &str, lower: &[&str]) {
        let slaves = self.path(&format!("sys/devices/block/{upper}/slaves"));
        fs::create_dir_all(&slaves).unwrap();
        for name in lower {
            symlink(self.path(&format!("sys/devices/block/{name}")), slaves.join(name)).unwrap();
        }
    }

    /// An interface that is up, with as many queue pairs and the CPUs their interrupts go to.
    pub fn nic(&self, name: &str, queues: u32, cpus: &[u32], node: Option<u32>) {
        let device = format!("sys/devices/pci/{name}");
        let node = node.map_or(-1, i64::from);
        self.write(&format!("{device}/numa_node"), &format!("{node}\n"));
        let class = format!("sys/class/net/{name}");
        self.write(&format!("{class}/operstate"), "up\n");
        self.write(&format!("{class}/speed"), "25000\n");
        for queue in 0..queues {
            self.write(&format!("{class}/queues/rx-{queue}/rps_cpus"), "0\n");
            fs::create_dir_all(self.path(&format!("{class}/queues/tx-{queue}"))).unwrap();
        }
        symlink(self.path(&device), self.path(&format!("{class}/device"))).unwrap();
        let base = 100 + name.bytes().map(u32::from).sum::<u32>() * 100;
        self.interrupt(&device, base, &format!("{name}-config"), 0);
        for (at, cpu) in cpus.iter().enumerate() {
            let number = base + 1 + at as u32;
            self.interrupt(&device, number, &format!("{name}-TxRx-{at}"), *cpu);
        }
    }

    fn interrupt(&self, device: &str, number: u32, handler: &str, cpu: u32) {
        self.write(&format!("{device}/msi_irqs/{number}"), "msix\n");
        let folder = format!("proc/irq/{number}");
        self.write(&format!("{folder}/effective_affinity_list"), &format!("{cpu}\n"));
        fs::create_dir_all(self.path(&format!("{folder}/{handler}"))).unwrap();
    }
}
