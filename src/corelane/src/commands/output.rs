//! Standard output that may close at any time. `print!` would panic then.

use std::io::{self, Write};

use serde_json::Value;

use super::error::CommandError;

/// Writes `text` as it is.
pub fn print(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(CommandError::Output)
}

/// Writes one JSON document on several lines.
pub fn print_json(value: &Value) -> Result<(), CommandError> {
    print(&format!("{value:#}\n"))
}

/// Rows of words in columns, two blanks apart; the first row is the heading. Columns of numbers
/// (all rows but the heading) are set to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, at: usize| row.get(at).cloned().unwrap_or_default();
    let width = |at: usize| rows.iter().map(|row| cell(row, at).chars().count()).max();
    let is_number = |at: usize| {
        let mut cells = rows.iter().skip(1).map(|row| cell(row, at)).peekable();
        cells.peek().is_some() && cells.all(|text| text.starts_with(|c: char| c.is_ascii_digit()))
    };
    let shape: Vec<_> = (0..columns).map(|at| (width(at).unwrap_or(0), is_number(at))).collect();
    let mut text = String::new();
    for row in rows {
        let cells = shape.iter().enumerate().map(|(at, (width, right))| match right {
            true => format!("{:>width$}", cell(row, at)),
            false => format!("{:<width$}", cell(row, at)),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A size for people, such as `12.3 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["NAME", "N", "ACK"]), row(["a", "10", "x"]), row(["longer", "2", ""])];
        assert_eq!(table(&rows), "NAME     N  ACK\na       10  x\nlonger   2\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn sizes_have_a_unit() {
        let shown = [0, 1023, 1024, 1_600_000, 5 << 40].map(human_bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 TiB"]);
    }
}
