//! CPU time of the broker's process.

use std::time::Duration;

/// Whose CPU time counts; `None`: it is out of sight, on another machine or not started here.
#[derive(Clone, Copy, Debug)]
pub struct Meter(Option<u32>);

impl Meter {
    pub fn of(process: Option<u32>) -> Self {
        Self(process)
    }

    /// Time that all threads of the process, ended ones too, have spent on a CPU so far.
    pub fn read(self) -> Option<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0?)).ok()?;
        let ticks = ticks(&text)?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// The most of the process that was resident at once, bytes.
    pub fn resident_bytes_max(self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
    }
}

/// User and system time of a line of `/proc/PID/stat`: the 14th and 15th field. The second, the
/// program's name, is in brackets and may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat = "7 (a ) 1 2) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 6 7 20 0 1 0 99";
        assert_eq!(ticks(stat), Some(175));
        assert_eq!(ticks("7 (name"), None);
    }

    #[test]
    fn this_process_is_seen_and_no_process_is_not() {
        let own = Meter::of(Some(std::process::id()));
        assert!(own.read().is_some());
        assert!(own.resident_bytes_max().unwrap() > 0);
        assert!(Meter::of(None).read().is_none());
    }
}
