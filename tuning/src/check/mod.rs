//! The machine judged: what is, what is wanted, what the difference costs and the command that
//! mends it.
//!
//! Everything is read below [`Roots`], so that a copy of another machine's `/sys` and `/proc` can
//! be judged as well. Nothing is changed, made or written.

mod cpu;
mod cpu_power;
mod disk;
mod disk_device;
mod finding;
mod kernel;
mod look;
mod memory;
mod net;
mod place;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Serialize;

pub use finding::{Better, Finding, Findings, Severity, Verdict};
pub use place::Place;

use crate::host::{Host, HostError, Roots};
use crate::machine::Machine;
use crate::placement::{CoreRequest, Placement, choose_cores};
use look::Look;

/// What is judged, and for which use.
#[derive(Clone, Debug)]
pub struct Subject {
    pub roots: Roots,
    /// The folder that holds the data, or will.
    pub data_dir: PathBuf,
    /// The filesystem it is on; `None` where that cannot be told.
    pub place: Option<Place>,
    /// The CPUs that the broker is to have.
    pub cores: CoreRequest,
    /// The CPU of the threads that are no core.
    pub control_cpu: Option<u32>,
    /// Clients come from other machines.
    pub serves_network: bool,
    /// Connections that each core is to have.
    pub connections_per_core_max: u64,
    /// Memory that must be lockable, bytes.
    pub locked_memory_needed: u64,
    /// Log writes of a shard that are under way at once.
    pub writes_in_flight: u64,
    /// The broker's own budget of writes on the device.
    pub device_writes_per_second: Option<u64>,
    /// The configured cache, bytes; 0: the default's share.
    pub cache_bytes: u64,
    /// Whether a ring could be made, or the sentence that says why not; `None`: not tried, as on a
    /// copy of another machine.
    pub io_uring: Option<Result<(), String>>,
}

/// The machine and all that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub verdict: Verdict,
    /// The worst first; within that by id.
    pub findings: Vec<Finding>,
}

/// Judges the machine.
///
/// # Errors
/// When not even the CPUs and the memory can be read: nothing can be said then.
pub fn check(subject: &Subject) -> Result<Report, HostError> {
    let mut findings = Findings::default();
    let mut host = Host::read_from(&subject.roots)?;
    if let Some(Err(error)) = subject.control_cpu.map(|cpu| host.reserve_control(cpu)) {
        let fix = "take server.control_cpu out of the configuration";
        let better = Better { wanted: "", costs: "the broker does not start", fix };
        findings.fails("cpu.control", error.to_string(), better);
    }
    let machine = Machine::read_below(&subject.roots);
    let placement = choose_cores(&subject.cores, &host).ok();
    let scene = Scene { subject, host: &host, machine: &machine, placement: placement.as_ref() };
    let look = Look::new(&subject.roots);
    kernel::check(&scene, &look, &mut findings);
    cpu::check(&scene, &look, &mut findings);
    cpu_power::check(&scene, &look, &mut findings);
    memory::check(&scene, &look, &mut findings);
    disk::check(&scene, &look, &mut findings);
    net::check(&scene, &look, &mut findings);
    let (verdict, findings) = findings.into_sorted();
    Ok(Report { machine, verdict, findings })
}

/// What every room of the check looks at.
struct Scene<'a> {
    subject: &'a Subject,
    host: &'a Host,
    machine: &'a Machine,
    /// `None`: the cores asked for cannot be had here.
    placement: Option<&'a Placement>,
}

impl Scene<'_> {
    fn is_virtual(&self) -> bool {
        !self.machine.virtualization.is_empty()
    }

    fn cores(&self) -> usize {
        self.placement.map_or(1, Placement::cores)
    }
}
