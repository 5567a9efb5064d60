//! What a run shows while it goes on: one line that changes in a terminal, a line each second
//! elsewhere. All of it on stderr.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One second of a run.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    /// Since the run began.
    pub now_ns: u64,
    pub warming_up: bool,
    pub messages_per_s: f64,
    /// Payload bytes of a message, on average.
    pub payload_bytes: f64,
    /// The largest latency in it.
    pub slowest_ns: u64,
}

/// Shows one phase of a run; what it leaves in a terminal goes when it is dropped.
#[derive(Debug)]
pub struct Progress {
    phase: &'static str,
    began_ns: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `length`: how long it will take, where that is known.
    pub fn start(phase: &'static str, now_ns: u64, length: Option<Duration>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(length));
        Self { phase, began_ns: now_ns, bar }
    }

    pub fn show(&mut self, second: &Second) {
        let phase = if second.warming_up { "warm-up" } else { self.phase };
        let line = line(phase, second);
        match &self.bar {
            Some(bar) => {
                bar.set_position(second.now_ns.saturating_sub(self.began_ns) / 1_000_000);
                bar.set_message(line);
            }
            None => eprintln!("{:6.1} s  {line}", second.now_ns as f64 / 1e9),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(length: Option<Duration>) -> ProgressBar {
    let form = match length {
        Some(_) => "{bar:24} {elapsed:>4}  {msg}",
        None => "{spinner} {elapsed:>4}  {msg}",
    };
    let length = length.map(|length| length.as_millis() as u64);
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    // The templates are constants that the library accepts.
    bar.set_style(
        ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar
}

fn line(phase: &str, second: &Second) -> String {
    let Second { messages_per_s, payload_bytes, slowest_ns, .. } = second;
    let megabytes = messages_per_s * payload_bytes / 1e6;
    let slowest_us = *slowest_ns as f64 / 1e3;
    format!(
        "{phase:<8} {messages_per_s:>12.0} msg/s {megabytes:>9.1} MB/s  slowest {slowest_us:>9.1} us"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_rate_and_the_slowest() {
        let second = Second {
            now_ns: 1_500_000_000,
            warming_up: false,
            messages_per_s: 2_000.0,
            payload_bytes: 1_000.0,
            slowest_ns: 3_000,
        };
        let line = line("produce", &second);
        for part in ["produce", "2000 msg/s", "2.0 MB/s", "3.0 us"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
