//! The bar on stderr while something is measured.

use indicatif::ProgressBar;

use crate::commands::bar::on_terminal;

/// A bar where stderr is a terminal, nothing where it is not.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    pub fn new() -> Self {
        let template = "{bar:30} {pos}/{len} {elapsed} {msg}";
        Self { bar: on_terminal(ProgressBar::new(0), template) }
    }

    pub fn show(&self, done: usize, total: usize, next: &str) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(next.to_owned());
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
