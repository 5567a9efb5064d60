//! Who refuses io_uring to this process, and what to tell those who run it.

use std::fs;

const DISABLED_SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";
const STATUS: &str = "/proc/self/status";

/// The ways to let a seccomp filter pass the three system calls. A privileged container is none
/// of them: it gives up every other protection as well.
const ALLOW_IN_SECCOMP: &str = "let the profile of this one container or service pass \
    io_uring_setup, io_uring_enter and io_uring_register, as the one shipped as \
    deploy/seccomp.json does (Docker and Podman: --security-opt seccomp=deploy/seccomp.json; \
    Kubernetes: put it below the kubelet's seccomp folder and set seccompProfile to type Localhost \
    with localhostProfile: corelane.json; systemd: add the three names to SystemCallFilter=)";

/// How the kernel answered a call of io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// EPERM or EACCES.
    NotPermitted,
    /// ENOSYS.
    NoSuchCall,
}

impl Answer {
    /// `None` when an error is of another kind.
    pub fn of(error: &std::io::Error) -> Option<Self> {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Some(Self::NotPermitted),
            Some(libc::ENOSYS) => Some(Self::NoSuchCall),
            _ => None,
        }
    }
}

/// What forbids it, and what to change.
pub(crate) fn explain(answer: Answer) -> String {
    let sysctl = fs::read_to_string(DISABLED_SYSCTL).unwrap_or_default();
    let status = fs::read_to_string(STATUS).unwrap_or_default();
    explain_with(answer, sysctl.trim(), is_filtered(&status))
}

/// `Seccomp: 2` in a process's status is a filter.
fn is_filtered(status: &str) -> bool {
    let value = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    value.is_some_and(|value| value.trim() == "2")
}

fn explain_with(answer: Answer, sysctl: &str, filtered: bool) -> String {
    let also = |text: &str| match filtered {
        true => format!("{text} (a seccomp filter is in force as well)"),
        false => text.to_owned(),
    };
    match (answer, sysctl, filtered) {
        (Answer::NotPermitted, "2", _) => also(
            "the sysctl kernel.io_uring_disabled of this host is 2, which switches it off for all; \
             set it to 0: sysctl -w kernel.io_uring_disabled=0",
        ),
        (Answer::NotPermitted, "1", _) => also(
            "the sysctl kernel.io_uring_disabled of this host is 1, which leaves it to the \
             privileged; set it to 0, or set kernel.io_uring_group to a group that the server's \
             user is in",
        ),
        (_, _, true) => {
            format!("a seccomp filter (a container's, or systemd's) refuses it; {ALLOW_IN_SECCOMP}")
        }
        (Answer::NotPermitted, _, false) => "no seccomp filter is in force and \
             kernel.io_uring_disabled is not set, so a security module (SELinux, AppArmor) must \
             forbid it: look for a denial of io_uring in the audit log and allow it"
            .to_owned(),
        (Answer::NoSuchCall, _, false) => "this kernel was built without it (CONFIG_IO_URING); \
             run Linux 6.1 or newer as distributions ship it"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answer::{NoSuchCall, NotPermitted};

    #[test]
    fn the_sysctl_is_told_from_a_filter_and_from_neither() {
        let two = explain_with(NotPermitted, "2", false);
        assert!(two.contains("is 2") && two.contains("sysctl -w"), "{two}");
        let one = explain_with(NotPermitted, "1", false);
        assert!(one.contains("is 1") && one.contains("io_uring_group"), "{one}");
        assert!(explain_with(NotPermitted, "2", true).contains("filter is in force as well"));
        let neither = explain_with(NotPermitted, "0", false);
        assert!(neither.contains("security module"), "{neither}");
        let absent = explain_with(NoSuchCall, "", false);
        assert!(absent.contains("CONFIG_IO_URING"), "{absent}");
    }

    #[test]
    fn a_filter_is_met_with_a_profile_for_every_runtime_and_never_with_privilege() {
        for (answer, sysctl) in [(NotPermitted, "0"), (NotPermitted, ""), (NoSuchCall, "0")] {
            let text = explain_with(answer, sysctl, true);
            for word in ["Docker", "Podman", "Kubernetes", "localhostProfile", "systemd"] {
                assert!(text.contains(word), "{word}: {text}");
            }
            assert!(text.contains("deploy/seccomp.json") && !text.contains("privileged"), "{text}");
        }
    }

    #[test]
    fn the_filter_is_read_from_the_status() {
        assert!(is_filtered("Name:\tx\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!is_filtered("Seccomp:\t0\nSeccomp_filters:\t2\n"));
        assert!(!is_filtered(""));
    }
}
