//! The clock of the CPUs and how deep they sleep.

use std::collections::BTreeMap;

use super::Scene;
use super::finding::{Better, Findings};
use super::look::{Look, names};
use crate::cpu_set::CpuSet;

/// Waking from a sleep state that takes longer than this is felt beside a durable write.
const WAKE_US_MAX: u64 = 50;

pub fn check(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    check_governor(scene, look, findings);
    check_sleep(scene, look, findings);
}

fn check_governor(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    let id = "cpu.governor";
    let mut governors: BTreeMap<String, CpuSet> = BTreeMap::new();
    for cpu in scene.host.allowed.iter() {
        let file = format!("devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        if let Some(governor) = look.sys_text(&file) {
            governors.entry(governor).or_default().insert(cpu);
        }
    }
    if governors.is_empty() {
        let whose =
            if scene.is_virtual() { "the host's business" } else { "fixed, or the firmware's" };
        return findings.good(id, format!("no frequency control is shown: the clock is {whose}"));
    }
    let slow: Vec<String> = governors
        .iter()
        .filter(|(governor, _)| *governor != "performance")
        .map(|(governor, cpus)| format!("{governor} on CPUs {cpus}"))
        .collect();
    if slow.is_empty() {
        return findings.good(id, "governor performance on every CPU that may be used");
    }
    findings.costs(
        id,
        format!("governor {}", slow.join(", ")),
        Better {
            wanted: "performance",
            costs: "a core that was idle begins at a low clock and rises over milliseconds: the \
                    first requests after a pause take up to twice as long",
            fix: "for f in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do echo \
                  performance > $f; done",
        },
    );
}

fn check_sleep(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    let id = "cpu.sleep_states";
    let mut deepest: Option<(u64, String)> = None;
    let mut any = false;
    for cpu in scene.host.allowed.iter() {
        let folder = format!("devices/system/cpu/cpu{cpu}/cpuidle");
        for state in names(&look.sys.join(&folder)) {
            let number = |file: &str| look.sys_number(&format!("{folder}/{state}/{file}"));
            let Some(latency_us) = number("latency") else { continue };
            any = true;
            let enabled = number("disable") == Some(0);
            if enabled && deepest.as_ref().is_none_or(|(most, _)| latency_us > *most) {
                let name = look.sys_text(&format!("{folder}/{state}/name")).unwrap_or(state);
                deepest = Some((latency_us, name));
            }
        }
    }
    match deepest {
        Some((latency_us, name)) if latency_us > WAKE_US_MAX => findings.costs(
            id,
            format!("idle CPUs sleep as deep as {name}, {latency_us} us to wake from"),
            Better {
                wanted: "no state that takes more than 50 us to wake from",
                costs: &format!(
                    "up to {latency_us} us on a request that comes when its core sleeps"
                ),
                fix: "cpupower idle-set --disable-by-latency 51  # until the next boot",
            },
        ),
        Some((latency_us, name)) => {
            findings.good(
                id,
                format!("the deepest sleep state is {name}, {latency_us} us to wake from"),
            );
        }
        None if any => findings.good(id, "every sleep state is switched off"),
        None => findings
            .good(id, "no sleep states are shown (a virtual machine halts through its host)"),
    }
}
