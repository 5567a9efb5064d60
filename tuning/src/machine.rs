//! The machine in a few words, for reports.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::host::Roots;
use crate::memory::physical_memory_bytes;
use crate::topology::Topology;

/// What a figure was measured on. What cannot be read is empty or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu_model: String,
    pub cpus_online: usize,
    pub physical_cores: usize,
    pub numa_nodes: usize,
    pub memory_bytes: u64,
    /// Kernel release, such as `6.1.0-18-amd64`.
    pub kernel: String,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// The hypervisor, as far as the machine tells; empty on bare metal.
    pub virtualization: String,
}

impl Machine {
    pub fn read() -> Self {
        let uname = rustix::system::uname();
        Self {
            kernel: uname.release().to_string_lossy().into_owned(),
            architecture: uname.machine().to_string_lossy().into_owned(),
            ..Self::read_below(&Roots::default())
        }
    }

    /// The same from other places; the architecture is not told there.
    pub fn read_below(roots: &Roots) -> Self {
        let cpuinfo = fs::read_to_string(roots.proc.join("cpuinfo")).unwrap_or_default();
        let mut machine = Self {
            cpu_model: read_cpu_model(&cpuinfo),
            memory_bytes: physical_memory_bytes(&roots.proc).unwrap_or(0),
            virtualization: read_virtualization(&roots.sys, &cpuinfo),
            kernel: read_trimmed(&roots.proc.join("sys/kernel/osrelease")),
            ..Self::default()
        };
        if let Ok(topology) = Topology::read(&roots.sys) {
            let online = topology.online();
            let first_thread = |id: &u32| {
                topology.cpu(*id).is_some_and(|cpu| topology.siblings(cpu).next() == Some(cpu.id))
            };
            machine.cpus_online = online.len();
            machine.physical_cores = online.iter().filter(first_thread).count();
            machine.numa_nodes = topology.nodes().len();
        }
        machine
    }
}

fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// x86 has a model name; ARM has an implementer and a part number.
fn read_cpu_model(cpuinfo: &str) -> String {
    if let Some(model) = field(cpuinfo, "model name") {
        return model.to_owned();
    }
    match (field(cpuinfo, "CPU implementer"), field(cpuinfo, "CPU part")) {
        (Some(implementer), Some(part)) => format!("implementer {implementer} part {part}"),
        _ => String::new(),
    }
}

fn read_trimmed(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn read_virtualization(sys: &Path, cpuinfo: &str) -> String {
    let read = |file: &str| read_trimmed(&sys.join(file));
    let kind = read("hypervisor/type");
    if !kind.is_empty() {
        return kind;
    }
    let flagged = field(cpuinfo, "flags").is_some_and(|f| f.split(' ').any(|f| f == "hypervisor"));
    let maker =
        format!("{} {}", read("class/dmi/id/sys_vendor"), read("class/dmi/id/product_name"));
    let known = ["QEMU", "KVM", "VMware", "VirtualBox", "Virtual Machine", "Amazon EC2", "Google"];
    let named = known.iter().any(|name| maker.contains(name)) && !maker.contains(".metal");
    match (flagged, named) {
        (_, true) => maker.trim().to_owned(),
        (true, false) => "unknown hypervisor".to_owned(),
        (false, false) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn read(fixture: &Fixture) -> Machine {
        Machine::read_below(&Roots { sys: fixture.sys(), proc: fixture.proc() })
    }

    #[test]
    fn an_x86_guest_of_two_nodes() {
        let fixture = Fixture::two_nodes();
        let cpuinfo = "model name\t: Fast CPU @ 3GHz\nflags\t\t: fpu hypervisor avx\n";
        fixture.write("proc/cpuinfo", cpuinfo);
        let machine = read(&fixture);
        assert_eq!(machine.cpu_model, "Fast CPU @ 3GHz");
        assert_eq!((machine.cpus_online, machine.physical_cores, machine.numa_nodes), (16, 8, 2));
        assert_eq!(machine.memory_bytes, 8 << 30);
        assert_eq!(machine.virtualization, "unknown hypervisor");
        fixture.write("sys/class/dmi/id/sys_vendor", "QEMU\n");
        assert_eq!(read(&fixture).virtualization, "QEMU");
    }

    #[test]
    fn bare_arm_metal() {
        let fixture = Fixture::flat(2);
        fixture.write("proc/cpuinfo", "CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n");
        fixture.write("sys/class/dmi/id/sys_vendor", "Amazon EC2\n");
        fixture.write("sys/class/dmi/id/product_name", "m7g.metal\n");
        let machine = read(&fixture);
        assert_eq!(machine.cpu_model, "implementer 0x41 part 0xd0c");
        assert_eq!(machine.virtualization, "");
    }

    #[test]
    fn this_machine_has_a_kernel() {
        let machine = Machine::read();
        assert!(!machine.kernel.is_empty() && machine.cpus_online > 0 && machine.memory_bytes > 0);
    }
}
