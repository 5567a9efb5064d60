//! The line on stderr that says how far a copy has come.

use std::time::Instant;

use indicatif::ProgressBar;
use offline::backup::{Progress, Watch};

use crate::commands::bar::on_terminal;

/// A bar where stderr is a terminal, nothing where it is not.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    pub fn new() -> Self {
        let template = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";
        Self { bar: on_terminal(ProgressBar::new(0), template) }
    }

    pub fn show(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Watch for Bar {
    fn went_on(&mut self, progress: &Progress) -> Result<(), String> {
        self.show(progress.bytes, progress.bytes_total);
        Ok(())
    }
}

pub fn seconds_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64()
}
