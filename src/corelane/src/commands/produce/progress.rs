//! What is said on stderr while producing and at the end.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use model::AckLevel;

use crate::commands::bar::on_terminal;
use crate::commands::output::human_bytes;

/// A server that keeps its data in memory cannot do more.
const LESS_THAN_WANTED: &str = "corelane: warning: durable was asked for and the server acknowledges \
     in memory: its data directory is on a filesystem in memory (see its log)";

/// Counts of a run, and the bar where stderr is a terminal.
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    pub read_bytes: u64,
    pub sent: u64,
    pub sent_bytes: u64,
    pub acknowledged: u64,
    pub failed: u64,
    /// The least that is true of any message acknowledged so far.
    pub level: Option<AckLevel>,
    /// What was asked for; less is worth a word, once.
    pub wanted: AckLevel,
    warned: bool,
}

impl Progress {
    /// `file` tells how much there is to come, where it is a plain file.
    pub fn new(file: Option<&Path>) -> Self {
        Self {
            bar: bar(file),
            began: Instant::now(),
            read_bytes: 0,
            sent: 0,
            sent_bytes: 0,
            acknowledged: 0,
            failed: 0,
            level: None,
            wanted: AckLevel::None,
            warned: false,
        }
    }

    pub fn reached(&mut self, level: AckLevel) {
        self.acknowledged += 1;
        self.level = Some(self.level.map_or(level, |least| least.min(level)));
        if level < self.wanted && !self.warned {
            self.warned = true;
            self.bar.suspend(|| {
                let _ = writeln!(std::io::stderr(), "{LESS_THAN_WANTED}");
            });
        }
    }

    pub fn show(&self) {
        self.bar.set_position(self.read_bytes);
        self.bar.set_message(format!("{} messages", self.acknowledged));
    }

    /// Takes the bar away and writes the summary.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
        let _ = writeln!(std::io::stderr(), "{}", self.summary(self.began.elapsed()));
    }

    fn summary(&self, time: Duration) -> String {
        let seconds = time.as_secs_f64().max(1e-6);
        let plural = if self.acknowledged == 1 { "" } else { "s" };
        let level = match self.level {
            None => "",
            Some(AckLevel::None) => ", not acknowledged",
            Some(AckLevel::Memory) => ", acknowledged in memory",
            Some(AckLevel::Durable) => ", acknowledged durable",
        };
        format!(
            "{} message{plural}, {} in {seconds:.3} s: {:.0} messages/s, {}/s{level}",
            self.acknowledged,
            human_bytes(self.sent_bytes),
            self.acknowledged as f64 / seconds,
            human_bytes((self.sent_bytes as f64 / seconds) as u64),
        )
    }
}

fn bar(file: Option<&Path>) -> ProgressBar {
    let length = file
        .and_then(|file| std::fs::metadata(file).ok())
        .filter(std::fs::Metadata::is_file)
        .map(|metadata| metadata.len());
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {msg}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {bytes_per_sec} {msg}"),
    };
    on_terminal(bar, template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts() {
        let mut progress = Progress::new(None);
        progress.sent_bytes = 2048;
        progress.reached(AckLevel::Durable);
        progress.reached(AckLevel::Memory);
        assert_eq!(
            progress.summary(Duration::from_millis(500)),
            "2 messages, 2.0 KiB in 0.500 s: 4 messages/s, 4.0 KiB/s, acknowledged in memory"
        );
    }
}
