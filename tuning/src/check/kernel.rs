//! The kernel, io_uring and the limits of the process.

use super::Scene;
use super::finding::{Better, Findings};
use super::look::{Look, Seen};

/// The first kernel with all that is used.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// What one core may need beside its connections, with room to spare.
const DESCRIPTORS_BESIDE: u64 = 4096;
/// What the broker asks the kernel to queue for each listening socket.
const LISTEN_BACKLOG: u64 = 4096;

pub fn check(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    check_version(look, findings);
    check_io_uring(scene, look, findings);
    match look.proc("self/limits") {
        Seen::Text(limits) => check_limits(scene, &limits, findings),
        Seen::Absent => findings.unknown("limits", "there is no self/limits below /proc"),
        Seen::Unreadable(why) => findings.unknown("limits", why),
    }
    check_backlog(look, findings);
}

fn check_version(look: &Look, findings: &mut Findings) {
    let id = "kernel.version";
    let Some(release) = look.proc("sys/kernel/osrelease").text() else {
        return findings.unknown(id, "the kernel's release is not to be seen below /proc");
    };
    match parse_version(&release) {
        Some(version) if version >= KERNEL_MIN => findings.good(id, format!("Linux {release}")),
        Some(_) => findings.fails(
            id,
            format!("Linux {release}"),
            Better {
                wanted: "Linux 6.1 or newer",
                costs: "the broker does not start: its io_uring features are missing",
                fix: "",
            },
        ),
        None => findings.unknown(id, format!("{release:?} does not begin with a version")),
    }
}

/// `6.1.0-18-amd64` is (6, 1).
fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn check_io_uring(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    let id = "kernel.io_uring";
    let wanted = "every io_uring operation that the broker uses";
    let refused = |sysctl: u64| {
        format!(
            "the sysctl kernel.io_uring_disabled is {sysctl}: {}",
            match sysctl {
                1 => "only the privileged and kernel.io_uring_group may use it",
                _ => "switched off for all",
            }
        )
    };
    let costs = "the broker does not start";
    match (&scene.subject.io_uring, look.proc_number("sys/kernel/io_uring_disabled")) {
        (Some(Ok(())), _) => {
            findings.good(id, "a ring with every feature and operation needed can be made");
        }
        (Some(Err(sentence)), sysctl) => {
            let fix = if sysctl.is_some_and(|value| value > 0) {
                "sysctl -w kernel.io_uring_disabled=0"
            } else {
                ""
            };
            findings.fails(id, sentence.clone(), Better { wanted, costs, fix });
        }
        (None, Some(sysctl)) if sysctl > 0 => {
            let fix = "sysctl -w kernel.io_uring_disabled=0";
            findings.fails(id, refused(sysctl), Better { wanted, costs, fix });
        }
        (None, _) => findings.note(
            id,
            "not switched off; whether it works can only be tried on the machine itself",
            Better { wanted, ..Better::default() },
        ),
    }
}

fn check_limits(scene: &Scene<'_>, limits: &str, findings: &mut Findings) {
    let needed = scene.subject.locked_memory_needed;
    match hard_limit(limits, "Max locked memory") {
        None => findings.unknown("limits.locked_memory", "self/limits has no such line"),
        Some(Some(bytes)) if bytes < needed => findings.fails(
            "limits.locked_memory",
            format!("at most {} KiB may be locked", bytes / 1024),
            Better {
                wanted: &format!("{} KiB or more, best no limit", needed / 1024),
                costs: "the broker does not start: io_uring cannot register its buffers",
                fix: "systemctl edit corelane  # [Service] LimitMEMLOCK=infinity; Docker: --ulimit \
                      memlock=-1:-1",
            },
        ),
        Some(limit) => {
            let shown =
                limit.map_or("no limit".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
            findings.good("limits.locked_memory", format!("memory that may be locked: {shown}"));
        }
    }
    let id = "limits.open_files";
    let connections = scene.subject.connections_per_core_max.saturating_mul(scene.cores() as u64);
    let wanted = connections.saturating_add(DESCRIPTORS_BESIDE);
    match hard_limit(limits, "Max open files") {
        None => findings.unknown(id, "self/limits has no such line"),
        Some(Some(files)) if files < wanted => findings.costs(
            id,
            format!("at most {files} open files"),
            Better {
                wanted: &format!(
                    "{wanted} or more: {connections} connections, and the logs beside them"
                ),
                costs: "fewer connections than configured; the rest are refused",
                fix: "systemctl edit corelane  # [Service] LimitNOFILE=1048576; Docker: --ulimit \
                      nofile=1048576:1048576",
            },
        ),
        Some(limit) => {
            let shown = limit.map_or("no limit".to_owned(), |files| files.to_string());
            findings.good(id, format!("open files: {shown}"));
        }
    }
}

/// The hard limit of a line of `/proc/self/limits`; the inner `None` is no limit. The broker
/// raises the soft one to it.
fn hard_limit(limits: &str, name: &str) -> Option<Option<u64>> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_ascii_whitespace().nth(1)? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

fn check_backlog(look: &Look, findings: &mut Findings) {
    let id = "net.backlog";
    match look.proc_number("sys/net/core/somaxconn") {
        None => findings.unknown(id, "net.core.somaxconn is not to be seen below /proc"),
        Some(most) if most < LISTEN_BACKLOG => findings.costs(
            id,
            format!("net.core.somaxconn is {most}"),
            Better {
                wanted: "4096 or more",
                costs: "when thousands of clients connect at once, the kernel drops some of their \
                        first packets; each of those tries again after a second",
                fix: "sysctl -w net.core.somaxconn=4096",
            },
        ),
        Some(most) => findings.good(id, format!("net.core.somaxconn is {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(parse_version("5.15"), Some((5, 15)));
        assert_eq!(parse_version("linux"), None);
        assert!(parse_version("6.10.0").unwrap() > KERNEL_MIN);
    }

    #[test]
    fn the_hard_limit_is_the_second_number() {
        let limits = "Limit      Soft Limit   Hard Limit   Units\n\
                      Max open files            1024                 20000                files\n\
                      Max locked memory         8388608              unlimited            bytes\n";
        assert_eq!(hard_limit(limits, "Max open files"), Some(Some(20_000)));
        assert_eq!(hard_limit(limits, "Max locked memory"), Some(None));
        assert_eq!(hard_limit(limits, "Max cpu time"), None);
    }
}
