//! One block device: how it queues, what its cache promises, what lies between it and the log.

use super::Scene;
use super::finding::{Better, Findings};
use super::look::chosen;
use crate::block_device::BlockDevice;

/// A group of the log is written at once up to here by default, KiB.
const GROUP_KIB: u64 = 1024;
/// Requests shorter than this cut a group into more than four.
const REQUEST_KIB_MIN: u64 = 256;

pub fn check_device(scene: &Scene<'_>, device: &BlockDevice, findings: &mut Findings) {
    check_mapping(device, findings);
    if !device.is_disk() {
        return;
    }
    describe(scene, device, findings);
    check_scheduler(scene, device, findings);
    check_medium(scene, device, findings);
    check_cache(device, findings);
    check_depth(scene, device, findings);
    check_request(device, findings);
    check_queues(scene, device, findings);
}

fn describe(scene: &Scene<'_>, device: &BlockDevice, findings: &mut Findings) {
    let model = device.text("device/model").filter(|model| !model.is_empty());
    let model = model.map_or_else(String::new, |model| format!(" {model}"));
    let kind = match (device.name.as_str(), scene.is_virtual()) {
        (name, _) if is_virtual_disk(name) => "virtual disk",
        (name, _) if name.starts_with("nvme") => "NVMe",
        (name, _) if name.starts_with("loop") => "loop device over a file",
        (name, _) if name.starts_with("zram") || name.starts_with("ram") => "disk in memory",
        _ => "disk",
    };
    let blocks = |file: &str| device.number(file).map_or("?".to_owned(), |n| n.to_string());
    findings.good(
        "disk.device",
        format!(
            "{}: {kind}{model}, blocks of {} bytes, {} bytes physical",
            device.name,
            blocks("queue/logical_block_size"),
            blocks("queue/physical_block_size"),
        ),
    );
}

fn is_virtual_disk(name: &str) -> bool {
    name.starts_with("vd") || name.starts_with("xvd")
}

/// What does work of its own on every write.
fn check_mapping(device: &BlockDevice, findings: &mut Findings) {
    let name = &device.name;
    if device.text("dm/uuid").is_some_and(|uuid| uuid.starts_with("CRYPT-")) {
        let mapped = device.text("dm/name").unwrap_or_else(|| name.clone());
        findings.costs(
            "disk.encryption",
            format!("{name} ({mapped}) is encrypted by the kernel"),
            Better {
                wanted: "encryption without its work queues, or by the drive itself",
                costs: "every write goes through queues of kernel threads and is copied once more: \
                        tens of microseconds",
                fix: &format!(
                    "cryptsetup refresh --persistent --perf-no_read_workqueue \
                     --perf-no_write_workqueue {mapped}  # LUKS2"
                ),
            },
        );
    }
    let level = device.text("md/level").unwrap_or_default();
    if matches!(level.as_str(), "raid4" | "raid5" | "raid6") {
        findings.costs(
            "disk.array",
            format!("{name} is a software {level}"),
            Better {
                wanted: "raid1 or raid10, or no array once data is replicated",
                costs: "a small write reads the old data and parity first: four to six disk \
                        operations for each durable write",
                fix: "",
            },
        );
    }
}

fn check_scheduler(scene: &Scene<'_>, device: &BlockDevice, findings: &mut Findings) {
    let id = "disk.scheduler";
    let name = &device.name;
    let Some(text) = device.text("queue/scheduler") else {
        return findings.good(id, format!("{name} has no scheduler"));
    };
    let scheduler = chosen(&text);
    let spinning = device.number("queue/rotational") == Some(1)
        && !is_virtual_disk(name)
        && !scene.is_virtual();
    match scheduler {
        "none" => findings.good(id, format!("{name}: none")),
        "mq-deadline" if spinning => findings.good(id, format!("{name}: {scheduler}")),
        _ if text.split(' ').any(|word| word.trim_matches(['[', ']']) == "none") => findings.costs(
            id,
            format!("{name}: {scheduler}"),
            Better {
                wanted: "none: the log writes in the order it needs, and the device or the host \
                         has a queue of its own",
                costs: "a lock that all CPUs share, and a few microseconds for each request; bfq \
                        far more",
                fix: &format!("echo none > /sys/block/{name}/queue/scheduler"),
            },
        ),
        _ => findings.good(id, format!("{name}: {scheduler}, and there is no other")),
    }
}

fn check_medium(scene: &Scene<'_>, device: &BlockDevice, findings: &mut Findings) {
    let id = "disk.medium";
    let name = &device.name;
    match device.number("queue/rotational") {
        Some(1) if is_virtual_disk(name) || scene.is_virtual() => findings.good(
            id,
            format!("{name} calls itself spinning, as virtual disks do; `tune disk` measures it"),
        ),
        Some(1) if name.starts_with("loop") => {
            findings.good(id, format!("{name} tells nothing of the disk below it"));
        }
        Some(1) => findings.costs(
            id,
            format!("{name} is a spinning disk"),
            Better {
                wanted: "an SSD, best NVMe with power-loss protection",
                costs: "4 to 10 ms for each durable write",
                fix: "",
            },
        ),
        Some(_) => findings.good(id, format!("{name} has no moving parts")),
        None => findings.unknown(id, format!("{name} does not tell whether it spins")),
    }
}

fn check_cache(device: &BlockDevice, findings: &mut Findings) {
    let id = "disk.write_cache";
    let name = &device.name;
    let fua = device.number("queue/fua") == Some(1);
    match device.text("queue/write_cache").as_deref() {
        Some("write through") => {
            findings
                .good(id, format!("{name}: no cache that must be flushed; a write is one step"));
        }
        Some(cache) if fua => {
            findings.good(id, format!("{name}: {cache} with FUA; a durable write is one step"));
        }
        Some(cache) => findings.note(
            id,
            format!("{name}: {cache} without FUA"),
            Better {
                wanted: "a drive with power-loss protection (which says write through) or FUA",
                costs: "every durable write is two steps: the write, then a flush of the drive's \
                        whole cache",
                fix: &format!(
                    "echo 'write through' > /sys/block/{name}/queue/write_cache  # ONLY where the \
                     cache survives a power cut; else acknowledged messages can be lost"
                ),
            },
        ),
        None => findings.unknown(id, format!("{name} does not tell of its cache")),
    }
}

fn check_depth(scene: &Scene<'_>, device: &BlockDevice, findings: &mut Findings) {
    let id = "disk.queue_depth";
    let name = &device.name;
    let wanted = (scene.subject.writes_in_flight * scene.cores() as u64).max(8);
    let requests = device.number("queue/nr_requests");
    let depth = device.number("device/queue_depth");
    let least = requests.into_iter().chain(depth).min();
    let shown = match (requests, depth) {
        (Some(requests), Some(depth)) => {
            format!("{name}: {requests} requests, {depth} in the device")
        }
        (Some(requests), None) => format!("{name}: {requests} requests"),
        _ => return,
    };
    if least.is_some_and(|least| least < wanted) {
        findings.costs(
            id,
            shown,
            Better {
                wanted: &format!(
                    "{wanted} or more: {} writes under way for each core",
                    scene.subject.writes_in_flight
                ),
                costs: "log writes wait for each other before they reach the device",
                fix: &format!("echo 256 > /sys/block/{name}/queue/nr_requests"),
            },
        );
    } else {
        findings.good(id, shown);
    }
}

fn check_request(device: &BlockDevice, findings: &mut Findings) {
    let id = "disk.request_size";
    let name = &device.name;
    let Some(most) = device.number("queue/max_sectors_kb") else { return };
    let hardware = device.number("queue/max_hw_sectors_kb").unwrap_or(most);
    let shown = format!("{name}: requests up to {most} KiB (the device takes {hardware})");
    if most < REQUEST_KIB_MIN && hardware > most {
        let fix =
            format!("echo {} > /sys/block/{name}/queue/max_sectors_kb", hardware.min(GROUP_KIB));
        findings.costs(
            id,
            shown,
            Better {
                wanted: "256 KiB or more",
                costs: "a group of 1 MiB is cut into many requests: more CPU, and its last part \
                        waits for all others",
                fix: &fix,
            },
        );
    } else {
        findings.good(id, shown);
    }
}

fn check_queues(scene: &Scene<'_>, device: &BlockDevice, findings: &mut Findings) {
    let id = "disk.hardware_queues";
    let entries = std::fs::read_dir(device.folder().join("mq")).into_iter().flatten().flatten();
    let queues = entries.count();
    let cores = scene.cores();
    if queues == 0 {
        return;
    }
    let shown = format!("{}: {queues} hardware queue(s) for {cores} core(s)", device.name);
    if queues < cores && cores > 4 {
        findings.note(
            id,
            shown,
            Better {
                wanted: "a queue for each core (NVMe, or virtio with num-queues set on the host)",
                costs: "cores share a queue and its lock: felt above some 100,000 writes/s",
                fix: "",
            },
        );
    } else {
        findings.good(id, shown);
    }
}
