//! Progress bars on stderr.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// `bar` in the form of `template` where stderr is a terminal, nothing where it is not.
pub fn on_terminal(bar: ProgressBar, template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
