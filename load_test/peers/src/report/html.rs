//! The comparison as one self-contained page, light or dark as the reader's system is.

use std::fmt::Write;

use super::Comparison;
use super::markdown::{OVERVIEW_LEGEND, capital};
use super::view::{COLUMNS, Cells, Line, Section, durable_against_memory, overviews, sections};
use crate::peer::Level;

const STYLE: &str = include_str!("page.css");

pub fn render(comparison: &Comparison) -> String {
    let mut out =
        String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    let _ =
        write!(out, "<title>Corelane and its peers</title>\n<style>\n{STYLE}</style>\n</head>\n");
    out.push_str("<body>\n<main>\n<h1>Corelane and its peers</h1>\n");
    head(comparison, &mut out);
    let sections = sections(comparison);
    standings(&sections, comparison, &mut out);
    overview(comparison, &mut out);
    for level in Level::ALL {
        let of_it: Vec<&Section> = sections.iter().filter(|s| s.level == level).collect();
        if of_it.is_empty() {
            continue;
        }
        let title = capital(level.as_str());
        let _ = writeln!(out, "<h2>{title} <small>{}</small></h2>", level.title());
        of_it.iter().for_each(|section| table(section, &mut out));
    }
    subjects(comparison, &mut out);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn head(comparison: &Comparison, out: &mut String) {
    let machine = &comparison.machine;
    let _ = writeln!(
        out,
        "<p class=\"machine\">{}, {} CPUs, Linux {}, {}; harness {} ({}){}</p>",
        escape(&machine.machine.cpu_model),
        machine.machine.cpus_online,
        escape(&machine.machine.kernel),
        escape(machine.filesystem.as_deref().unwrap_or("unknown filesystem")),
        escape(&machine.version),
        escape(&machine.commit),
        if machine.optimised { "" } else { ", <b>unoptimised build: the figures say nothing</b>" },
    );
    out.push_str(
        "<p>Every connection has a topic with one partition of its own; where there are many topics, each \
         has an equal part of them. Every message is checked. The \
         bars show the rate, or the inverse of the p99 where the rate is given. Load CPU is the \
         client&rsquo;s; near 100% the client limits the row.</p>\n",
    );
    out.push_str("<details><summary>Commands</summary>\n");
    for command in &comparison.commands {
        let _ = writeln!(out, "<pre>{}</pre>", escape(command));
    }
    out.push_str("</details>\n");
}

fn standings(sections: &[Section], comparison: &Comparison, out: &mut String) {
    if sections.iter().any(|section| section.standing.is_some()) {
        out.push_str("<h2>Corelane beside the best peer</h2>\n<div class=\"wide\"><table class=\"standing\">\n<thead><tr><th>work</th>");
        let levels = Level::ALL.map(Level::as_str).map(|name| format!("<th>{name}</th>"));
        let _ = writeln!(
            out,
            "{}<th>durable, peers from memory</th></tr></thead>\n<tbody>",
            levels.concat()
        );
        let across = durable_against_memory(comparison);
        for workload in crate::workload::Workload::ALL {
            let at = |level| {
                let of_it = sections.iter().find(|s| s.level == level && s.workload == workload);
                of_it.and_then(|section| section.standing.as_ref())
            };
            let beside =
                across.iter().find(|(of, _)| *of == workload).map(|(_, standing)| standing);
            let cells = [at(Level::Durable), at(Level::Memory), beside];
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(out, "<tr><th>{}</th>", workload.title);
            for cell in cells {
                match cell {
                    Some(standing) => {
                        let class = match standing {
                            standing if standing.peer_wins() => "behind",
                            standing if standing.is_even() => "even",
                            _ => "ahead",
                        };
                        let _ = write!(
                            out,
                            "<td class=\"{class}\">{:.2}&times; <span>{}</span></td>",
                            standing.ratio, standing.best_peer
                        );
                    }
                    None => out.push_str("<td></td>"),
                }
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>\n");
    }
}

fn overview(comparison: &Comparison, out: &mut String) {
    for overview in overviews(comparison).iter().filter(|overview| overview.brokers.len() > 1) {
        let title = overview.level.title();
        let _ = writeln!(out, "<h2>All brokers <small>{title}</small></h2>");
        let _ = writeln!(out, "<p>{OVERVIEW_LEGEND}</p>");
        out.push_str("<div class=\"wide\"><table class=\"overview\">\n<thead><tr><th>work</th>");
        for peer in &overview.brokers {
            let _ = write!(out, "<th>{peer}</th>");
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &overview.rows {
            let _ = write!(out, "<tr><th>{}</th>", row.title);
            for (at, cell) in row.cells.iter().enumerate() {
                let class = if row.best == Some(at) { " class=\"best\"" } else { "" };
                let _ = write!(out, "<td{class}>{cell}</td>");
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>\n");
    }
}

fn table(section: &Section, out: &mut String) {
    let _ = writeln!(out, "<h3>{}</h3>", section.workload.title);
    out.push_str("<div class=\"wide\"><table class=\"figures\">\n<thead><tr><th>broker</th>");
    for column in COLUMNS {
        let _ = write!(out, "<th>{column}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    section.lines.iter().for_each(|line| row(line, out));
    out.push_str("</tbody></table></div>\n");
    if let Some(standing) = &section.standing {
        let _ = writeln!(out, "<p class=\"verdict\">{}.</p>", standing.in_words());
    }
    let remarked: Vec<&Line> =
        section.lines.iter().filter(|line| !line.remarks.is_empty()).collect();
    if !remarked.is_empty() {
        out.push_str("<details><summary>Remarks</summary><ul>\n");
        for line in remarked {
            let remarks = escape(&line.remarks.join("; "));
            let _ = writeln!(out, "<li>{}: {remarks}</li>", escape(&line.name));
        }
        out.push_str("</ul></details>\n");
    }
}

fn row(line: &Line, out: &mut String) {
    let own = if line.name.starts_with("Corelane") { " class=\"own\"" } else { "" };
    let _ = write!(out, "<tr{own}><th>{}</th>", escape(&line.name));
    match &line.cells {
        Cells::Figures(cells) => {
            for (at, cell) in cells.iter().enumerate() {
                let cell = escape(cell);
                if at == 0 {
                    let percent = line.bar * 100.0;
                    let _ = write!(
                        out,
                        "<td class=\"bar\"><i style=\"width:{percent:.1}%\"></i><b>{cell}</b></td>"
                    );
                } else {
                    let _ = write!(out, "<td>{cell}</td>");
                }
            }
        }
        Cells::None(why) => {
            let why = escape(why);
            let _ = write!(out, "<td class=\"failed\" colspan=\"{}\">{why}</td>", COLUMNS.len());
        }
    }
    out.push_str("</tr>\n");
}

fn subjects(comparison: &Comparison, out: &mut String) {
    if !comparison.absences.is_empty() || !comparison.lacks.is_empty() {
        out.push_str("<h2>Not measured</h2>\n<ul>\n");
        for absence in &comparison.absences {
            let _ = writeln!(out, "<li>{}: {}</li>", absence.peer, escape(&absence.why));
        }
        for lack in &comparison.lacks {
            let (level, why) = (lack.level.as_str(), escape(&lack.why));
            let _ = writeln!(out, "<li>{}, {level}: {why}</li>", lack.peer);
        }
        out.push_str("</ul>\n");
    }
    out.push_str(
        "<h2>Versions and settings</h2>\n<div class=\"wide\"><table class=\"settings\">\n",
    );
    out.push_str("<thead><tr><th>broker</th><th>level</th><th>setting</th><th>why</th></tr></thead>\n<tbody>\n");
    for subject in &comparison.subjects {
        let name = format!(
            "{} {} <small>by {}</small>",
            subject.peer,
            escape(&subject.version),
            subject.peer.client()
        );
        let rows = subject.settings.len().max(1);
        let level = subject.level.as_str();
        let _ = write!(
            out,
            "<tr><th rowspan=\"{rows}\">{name}</th><td rowspan=\"{rows}\">{level}</td>"
        );
        if subject.settings.is_empty() {
            out.push_str("<td>its owner&rsquo;s</td><td>it ran already</td></tr>\n");
        }
        for (at, setting) in subject.settings.iter().enumerate() {
            let open = if at == 0 { "" } else { "<tr>" };
            let (what, why) = (escape(&setting.what), escape(&setting.why));
            let _ = writeln!(out, "{open}<td><code>{what}</code></td><td>{why}</td></tr>");
        }
    }
    out.push_str("</tbody></table></div>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
