//! `corelane tune disk`: what the disk under a folder can do.

use std::fmt::Write;

use serde_json::json;
use tuning::disk_matrix::{Cell, MatrixFigures, Work, disk_matrix};
use tuning::{Machine, MatrixBounds};

use super::progress::Bar;
use super::stop;
use crate::args::Output;
use crate::args::tune::DiskArgs;
use crate::commands::error::CommandError;
use crate::commands::output::{human_bytes, table};
use crate::commands::{Outcome, output};

/// Of the JSON document.
const SCHEMA: u32 = 1;

pub fn run(args: &DiskArgs) -> Result<Outcome, CommandError> {
    let bounds = MatrixBounds { bytes: args.bounds.size, time: args.bounds.time };
    let stop = stop::on_signals()?;
    let bar = Bar::new();
    let figures = disk_matrix(&args.folder, &bounds, &stop, &mut |step| {
        bar.show(step.done, step.total, &step.next);
    });
    bar.finish();
    let figures = figures?;
    match args.output.output {
        Output::Text => output::print(&text(&figures))?,
        Output::Json => output::print_json(&json!({
            "schema": SCHEMA,
            "machine": Machine::read(),
            "disk": figures,
        }))?,
    }
    Ok(if figures.interrupted { Outcome::Bad } else { Outcome::Done })
}

fn text(figures: &MatrixFigures) -> String {
    let mut text = String::new();
    let device = if figures.device.is_empty() { "an unknown device" } else { &figures.device };
    let _ = writeln!(
        text,
        "{} on {}, {device}; {} overwritten, {} fresh, {:.1} s{}{}",
        figures.folder.display(),
        figures.filesystem,
        human_bytes(figures.recycled_bytes),
        human_bytes(figures.fresh_bytes),
        figures.seconds,
        if figures.direct { "" } else { "; NO O_DIRECT: reads may come from memory" },
        if figures.interrupted { "; INTERRUPTED, the rest is missing" } else { "" },
    );
    for (work, title) in [
        (Work::WriteRecycled, "durable writes (O_DIRECT, O_DSYNC) over written space"),
        (Work::WriteFresh, "durable writes to fresh space (fallocate)"),
        (Work::ReadSequential, "direct reads in order"),
        (Work::ReadRandom, "direct reads at random"),
    ] {
        let cells: Vec<&Cell> = figures.cells.iter().filter(|cell| cell.work == work).collect();
        if !cells.is_empty() {
            let _ = write!(text, "\n{title}\n{}", cell_table(&cells));
        }
    }
    text
}

fn cell_table(cells: &[&Cell]) -> String {
    let heads = ["SIZE", "DEPTH", "P50 US", "P99 US", "MAX US", "PER S", "MB/S"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(cells.iter().map(|cell| {
        vec![
            human_bytes(cell.size_bytes),
            cell.depth.to_string(),
            format!("{:.0}", cell.latency_us.p50),
            format!("{:.0}", cell.latency_us.p99),
            format!("{:.0}", cell.latency_us.max),
            format!("{:.0}", cell.per_s),
            format!("{:.0}", cell.bytes_per_s / 1e6),
        ]
    }));
    table(&rows)
}
