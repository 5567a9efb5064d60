//! The bar on stderr while something is measured.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar where stderr is a terminal, nothing where it is not.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    pub fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
        Self { bar: style.map_or(bar.clone(), |style| bar.with_style(style)) }
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
