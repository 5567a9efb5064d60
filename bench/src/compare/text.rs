//! A comparison as text for a terminal.

use std::fmt::Write;

use super::{Comparison, Metric, Spread};

/// Width of a column of one group.
const COLUMN: usize = 34;

impl Comparison {
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for group in &self.groups {
            let run = &group.runs[0];
            let (name, version, work) = (&run.broker.name, &run.broker.version, &run.work);
            let count = group.runs.len();
            let runs = if count == 1 { "1 run".to_owned() } else { format!("{count} runs") };
            let _ = writeln!(
                out,
                "{}: {name} {version}, {work}, {runs}: {}",
                group.name,
                run.settings.describe()
            );
        }
        self.write_differences(&mut out);
        self.write_figures(&mut out);
        for finding in self.findings() {
            let _ = writeln!(out, "  {finding}");
        }
        if self.groups.len() > 1 && self.findings().is_empty() {
            out.push_str("  nothing has changed beyond noise\n");
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "  note: {warning}");
        }
        out
    }

    fn write_differences(&self, out: &mut String) {
        let differences = self.differences();
        if !differences.is_empty() {
            out.push_str("what differs\n");
        }
        for (name, values) in differences {
            let _ = writeln!(out, "  {name:<22} {}", values.join(" | "));
        }
    }

    fn write_figures(&self, out: &mut String) {
        let names: String =
            self.groups.iter().map(|group| format!("{:<COLUMN$}", group.name)).collect();
        let _ = writeln!(out, "{:<24}{}", "median (least to most)", names.trim_end());
        for (metric, cells) in self.rows() {
            let mut line = format!("  {:<22}", metric.name);
            for (spread, change) in &cells {
                let words = change.words();
                let text = format!("{} {words}", shown(&metric, spread));
                let _ = write!(line, "{:<COLUMN$}", text.trim_end());
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
}

/// `120 (110 to 140)`, or the one value there is.
pub(super) fn shown(metric: &Metric, spread: &Spread) -> String {
    let show = metric.show;
    match spread.runs {
        1 => show(spread.median),
        _ => format!("{} ({} to {})", show(spread.median), show(spread.min), show(spread.max)),
    }
}
