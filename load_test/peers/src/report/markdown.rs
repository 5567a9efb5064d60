//! The comparison as Markdown.

use std::fmt::Write;

use super::Comparison;
use super::view::{COLUMNS, Cells, Section, durable_against_memory, overviews, sections};
use crate::peer::Level;

pub fn render(comparison: &Comparison) -> String {
    let mut out = String::from("# Corelane and its peers\n\n");
    head(comparison, &mut out);
    let sections = sections(comparison);
    standings(&sections, comparison, &mut out);
    overview(comparison, &mut out);
    for level in Level::ALL {
        let of_it: Vec<&Section> = sections.iter().filter(|s| s.level == level).collect();
        if of_it.is_empty() {
            continue;
        }
        let _ = writeln!(out, "## {}: {}\n", capital(level.as_str()), level.title());
        of_it.iter().for_each(|section| table(section, &mut out));
    }
    subjects(comparison, &mut out);
    out
}

fn head(comparison: &Comparison, out: &mut String) {
    let machine = &comparison.machine;
    let _ = writeln!(
        out,
        "Machine: {}, {} CPUs, Linux {}, {}. Harness: {} ({}){}.\n",
        machine.machine.cpu_model,
        machine.machine.cpus_online,
        machine.machine.kernel,
        machine.filesystem.as_deref().unwrap_or("unknown filesystem"),
        machine.version,
        machine.commit,
        if machine.optimised { "" } else { ", UNOPTIMISED BUILD: the figures say nothing" },
    );
    out.push_str(
        "Every connection has a topic (stream, queue) with one partition of its own; where there are \
         many topics, each has an equal part of them. Every message \
         is checked: lost, repeated, out of order, altered. Load CPU is that of the client; near 100% \
         the client is what limits the row.\n\n",
    );
    for command in &comparison.commands {
        let _ = writeln!(out, "    {command}");
    }
    out.push('\n');
}

fn standings(sections: &[Section], comparison: &Comparison, out: &mut String) {
    let wins: Vec<&Section> =
        sections.iter().filter(|s| s.standing.as_ref().is_some_and(|s| s.peer_wins())).collect();
    if sections.iter().any(|section| section.standing.is_some()) {
        out.push_str("## Where a peer wins\n\n");
        if wins.is_empty() {
            out.push_str("Nowhere at equal durability in these runs.\n");
        }
        for section in wins {
            let words = section.standing.as_ref().map(|s| s.in_words()).unwrap_or_default();
            let _ =
                writeln!(out, "- {}, {}: {words}.", section.level.as_str(), section.workload.title);
        }
        out.push('\n');
    }
    let across = durable_against_memory(comparison);
    if !across.is_empty() {
        out.push_str("## Corelane durable against the peers' memory level\n\n");
        for (workload, standing) in across {
            let _ = writeln!(out, "- {}: {}.", workload.title, standing.in_words());
        }
        out.push('\n');
    }
}

/// What is said of its cells in both forms.
pub(super) const OVERVIEW_LEGEND: &str = "The best is marked. A dash: it did not keep the rate, \
     could not do the work, did not come through, or its figures do not count.";

fn overview(comparison: &Comparison, out: &mut String) {
    for overview in overviews(comparison).iter().filter(|overview| overview.brokers.len() > 1) {
        let level = overview.level;
        let _ = writeln!(out, "## All brokers, {}\n\n{OVERVIEW_LEGEND}\n", level.title());
        let names: Vec<&str> = overview.brokers.iter().map(|peer| peer.title()).collect();
        let _ = writeln!(out, "| work | {} |", names.join(" | "));
        let _ = writeln!(out, "|---|{}", "---:|".repeat(names.len()));
        for row in &overview.rows {
            let mark = |(at, cell): (usize, &String)| match row.best == Some(at) {
                true => format!("**{cell}**"),
                false => cell.clone(),
            };
            let cells: Vec<String> = row.cells.iter().enumerate().map(mark).collect();
            let _ = writeln!(out, "| {} | {} |", row.title, cells.join(" | "));
        }
        out.push('\n');
    }
}

fn table(section: &Section, out: &mut String) {
    let _ = writeln!(out, "### {}\n", section.workload.title);
    if let Some(of) = section.workload.latency_of() {
        let _ = writeln!(out, "Latency: {of}.\n");
    }
    let _ = writeln!(out, "| broker | {} |", COLUMNS.join(" | "));
    let _ = writeln!(out, "|---|{}", "---:|".repeat(COLUMNS.len()));
    for line in &section.lines {
        match &line.cells {
            Cells::Figures(cells) => {
                let _ = writeln!(out, "| {} | {} |", line.name, cells.join(" | "));
            }
            Cells::None(why) => {
                let why = why.replace('|', "/").replace('\n', " ");
                let rest = " |".repeat(COLUMNS.len() - 1);
                let _ = writeln!(out, "| {} | {why} |{rest}", line.name);
            }
        }
    }
    out.push('\n');
    if let Some(standing) = &section.standing {
        let _ = writeln!(out, "{}.\n", standing.in_words());
    }
    for line in section.lines.iter().filter(|line| !line.remarks.is_empty()) {
        let _ = writeln!(out, "- {}: {}", line.name, line.remarks.join("; "));
    }
    out.push('\n');
}

fn subjects(comparison: &Comparison, out: &mut String) {
    if !comparison.absences.is_empty() || !comparison.lacks.is_empty() {
        out.push_str("## Not measured\n\n");
        for absence in &comparison.absences {
            let _ = writeln!(out, "- {}: {}", absence.peer, absence.why.replace('\n', " "));
        }
        for lack in &comparison.lacks {
            let _ = writeln!(out, "- {}, {}: {}", lack.peer, lack.level.as_str(), lack.why);
        }
        out.push('\n');
    }
    out.push_str(
        "## Versions and settings\n\n| broker | version | client | level | setting | why |\n",
    );
    out.push_str("|---|---|---|---|---|---|\n");
    for subject in &comparison.subjects {
        let (peer, level) = (subject.peer, subject.level.as_str());
        if subject.settings.is_empty() {
            let _ = writeln!(
                out,
                "| {peer} | {} | {} | {level} | its owner's | it ran already |",
                subject.version,
                peer.client()
            );
        }
        for setting in &subject.settings {
            let _ = writeln!(
                out,
                "| {peer} | {} | {} | {level} | `{}` | {} |",
                subject.version,
                peer.client(),
                setting.what.replace('|', "/"),
                setting.why.replace('|', "/")
            );
        }
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
