//! What the server's process holds at one moment.

use std::path::PathBuf;

use crate::error::ScenarioError;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub resident_bytes: u64,
    /// All descriptors, sockets among them.
    pub descriptors: u64,
    pub sockets: u64,
}

impl Reading {
    pub fn take(pid: u32) -> Result<Self, ScenarioError> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let doing = || ScenarioError::io("look at the server's process");
        let status = std::fs::read_to_string(process.join("status")).map_err(doing())?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let mut reading = Self { resident_bytes: resident.unwrap_or(0) * 1024, ..Self::default() };
        for entry in std::fs::read_dir(process.join("fd")).map_err(doing())?.flatten() {
            reading.descriptors += 1;
            // One that was closed meanwhile leads nowhere.
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            reading.sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
        }
        Ok(reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_descriptor_and_told_from_a_file() {
        let held = || {
            let sockets = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let file = std::fs::File::open("/proc/self/status").unwrap();
            let links = [std::os::fd::AsRawFd::as_raw_fd(&sockets), file_number(&file)]
                .map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap());
            (links, sockets, file)
        };
        let (links, ..) = held();
        assert!(links[0].to_string_lossy().starts_with("socket:"));
        assert!(!links[1].to_string_lossy().starts_with("socket:"));
        let now = Reading::take(std::process::id()).unwrap();
        assert!(now.resident_bytes > 0 && now.descriptors >= now.sockets);
        assert!(Reading::take(u32::MAX).is_err());
    }

    fn file_number(file: &std::fs::File) -> i32 {
        std::os::fd::AsRawFd::as_raw_fd(file)
    }
}
