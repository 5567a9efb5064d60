//! The filesystem of the data and the devices under it.

use super::Scene;
use super::disk_device::check_device;
use super::finding::{Better, Findings};
use super::look::Look;
use super::place::Place;
use crate::block_device::BlockDevice;
use crate::cgroup::io_limits;
use crate::medium::Medium;
use crate::mounts::Mount;

const GIB: u64 = 1 << 30;
/// Less free space than this is soon used up by the segments kept ready.
const FREE_BYTES_MIN: u64 = 8 * GIB;

pub fn check(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    let Some(place) = &scene.subject.place else {
        let path = scene.subject.data_dir.display();
        return findings
            .unknown("disk.filesystem", format!("cannot tell which filesystem {path} is on"));
    };
    check_filesystem(scene, place, findings);
    check_space(scene, place, findings);
    let Some(mount) = &place.mount else {
        return findings.unknown("disk.mount", "the mount table does not tell where the data is");
    };
    check_mount(mount, findings);
    let Some(device) = BlockDevice::of_mount(&look.sys, mount) else {
        let sentence = format!("{} is on no block device that can be seen", mount.source);
        return match place.medium {
            Medium::Durable { .. } => findings.unknown("disk.device", sentence),
            // Said already, and worse.
            _ => findings.note("disk.device", sentence, Better::default()),
        };
    };
    for layer in device.layers(&look.sys) {
        check_device(scene, &layer, findings);
    }
    check_cgroup(scene, look, mount, &device, findings);
}

fn check_filesystem(scene: &Scene<'_>, place: &Place, findings: &mut Findings) {
    let id = "disk.filesystem";
    let path = scene.subject.data_dir.display();
    let kind = place.mount.as_ref().map_or("a filesystem", |mount| mount.kind.as_str());
    match &place.medium {
        Medium::Durable { advice: None } => findings.good(id, format!("{path} is on {kind}")),
        Medium::Durable { advice: Some(advice) } => findings.costs(
            id,
            format!("{path} is on {kind}"),
            Better { wanted: advice, costs: "slower or less even durable writes", fix: "" },
        ),
        Medium::Volatile { kind } => findings.fails(
            id,
            format!("{path} is on {kind}, which lives in memory"),
            Better {
                wanted: "a disk with ext4 or xfs",
                costs: "the broker does not start; with --allow-volatile nothing survives the \
                        machine's stop and acknowledgements say memory",
                fix: "corelane serve --data-dir …  # on a disk",
            },
        ),
        Medium::Unfit { reason } => findings.fails(
            id,
            format!("{path} is on {kind}"),
            Better { wanted: reason, costs: "the broker does not start", fix: "" },
        ),
    }
}

fn check_space(scene: &Scene<'_>, place: &Place, findings: &mut Findings) {
    let Some(free) = place.free_bytes else { return };
    let id = "disk.space";
    let shown = format!("{:.1} GiB free", free as f64 / GIB as f64);
    // A segment in use, one ready, and the reserve, for each shard.
    let wanted = FREE_BYTES_MIN.max(scene.cores() as u64 * GIB);
    if free < wanted {
        findings.costs(
            id,
            shown,
            Better {
                wanted: &format!("{} GiB or more", wanted / GIB),
                costs: "no room to write segments out ahead: writes go to fresh space and cost \
                        about twice as much, and the disk is soon full",
                fix: "",
            },
        );
    } else {
        findings.good(id, shown);
    }
}

fn check_mount(mount: &Mount, findings: &mut Findings) {
    let id = "disk.mount";
    let point = mount.point.display();
    let remount = |option: &str| format!("mount -o remount,{option} {point}  # and in /etc/fstab");
    if mount.has("ro") {
        return findings.fails(
            id,
            format!("{point} is mounted read-only"),
            Better { wanted: "rw", costs: "the broker does not start", fix: &remount("rw") },
        );
    }
    if mount.has("nobarrier") || mount.option("barrier") == Some("0") {
        return findings.fails(
            id,
            format!("{point} is mounted with write barriers off"),
            Better {
                wanted: "barriers on",
                costs: "a power cut can take messages that were acknowledged as durable",
                fix: &remount("barrier=1"),
            },
        );
    }
    if mount.option("data") == Some("journal") {
        return findings.costs(
            id,
            format!("{point} is mounted with data=journal"),
            Better {
                wanted: "data=ordered, the default",
                costs: "the filesystem takes no O_DIRECT: every byte is copied and written twice",
                fix: "tune2fs -o ^journal_data …  # and without data=journal in /etc/fstab; unmount first",
            },
        );
    }
    let slow = ["sync", "dirsync"].into_iter().find(|option| mount.has(option));
    if let Some(option) = slow {
        let undo = if option == "sync" { "async" } else { "rw" };
        return findings.costs(
            id,
            format!("{point} is mounted with {option}"),
            Better {
                wanted: "without: the broker syncs what must be synced",
                costs: "every change of a file or folder waits for the disk, segments and \
                        checkpoints included",
                fix: &remount(undo),
            },
        );
    }
    if mount.has("discard") {
        return findings.note(
            id,
            format!("{point} is mounted with discard"),
            Better {
                wanted: "nodiscard, and fstrim once a week",
                costs: "removing a file tells the device of every block at once: on some devices a \
                        pause of milliseconds; segments are reused, so it is rare here",
                fix: &format!("{}; systemctl enable --now fstrim.timer", remount("nodiscard")),
            },
        );
    }
    findings.good(id, format!("{point} is mounted without options that cost"));
}

/// Bounds that a control group sets to the device.
fn check_cgroup(
    scene: &Scene<'_>,
    look: &Look,
    mount: &Mount,
    device: &BlockDevice,
    findings: &mut Findings,
) {
    let id = "disk.cgroup_limit";
    let whole = device.text("dev").unwrap_or_default();
    let budget = scene.subject.device_writes_per_second;
    let limits = io_limits(&look.proc);
    let binding: Vec<String> = limits
        .iter()
        .filter(|limit| limit.device == mount.device || limit.device == whole)
        // The broker's own budget keeps it below.
        .filter(|limit| limit.what != "writes/s" || budget.is_none_or(|own| own >= limit.amount))
        .map(|limit| format!("{} {}", limit.amount, limit.what))
        .collect();
    if binding.is_empty() {
        return findings
            .good(id, "no control group bounds the device below what the broker asks of it");
    }
    findings.costs(
        id,
        format!("a control group bounds {} to {}", device.name, binding.join(" and ")),
        Better {
            wanted: "no bound, or the broker's own budget a little below it \
                     (storage.device_writes_per_second)",
            costs: "at the bound the kernel holds all writes back for a part of every time slice: \
                    p99 rises to tens of milliseconds",
            fix: "systemctl set-property corelane IOWriteIOPSMax= IOWriteBandwidthMax=",
        },
    );
}
