//! A comparison as one page.

use crate::report::Report;
use crate::report::html::axis::{Axis, count};
use crate::report::html::chart::Line;
use crate::report::html::{Page, curve_chart, escape, list, table};

use super::text::shown;
use super::{Change, Comparison, Group};

impl Comparison {
    /// One page that needs no other file.
    pub fn to_html(&self) -> String {
        let names: Vec<_> = self.groups.iter().map(|group| group.name.as_str()).collect();
        let title = format!("Compared: {}", names.join(", "));
        let runs: usize = self.groups.iter().map(|group| group.runs.len()).sum();
        let mut page = Page::new(&title, &format!("{runs} runs in {} groups", self.groups.len()));
        page.badges(&self.badges());
        page.alert("To be known first", &self.warnings);
        page.section("Groups", &self.group_table());
        page.section("What differs", &self.difference_table());
        page.section("Figures: median, and least to most", &self.figure_table());
        page.section("Beyond noise", &list(&self.findings()));
        let middle: Vec<_> =
            self.groups.iter().map(|g| (g.name.clone(), &middle_run(g).figures)).collect();
        curve_chart(&mut page, &middle);
        self.series(&mut page);
        page.finish(
            "Curves and series are of the run with the middle p99 of each group. A change is \
             beyond noise when no run of one group lies among those of the other and the medians \
             are 1% apart or more.",
        )
    }

    fn badges(&self) -> Vec<(&'static str, String)> {
        let changes = self.rows().into_iter().flat_map(|(_, cells)| cells).map(|(_, c)| c);
        let (mut better, mut worse) = (0, 0);
        for change in changes {
            match change {
                Change::Beyond { better: true, .. } => better += 1,
                Change::Beyond { better: false, .. } => worse += 1,
                _ => {}
            }
        }
        match (better, worse) {
            (0, 0) => vec![("warn", "nothing has changed beyond noise".to_owned())],
            _ => [("good", better, "better"), ("bad", worse, "worse")]
                .into_iter()
                .filter(|(_, count, _)| *count > 0)
                .map(|(kind, count, word)| (kind, format!("{count} figures {word}")))
                .collect(),
        }
    }

    fn group_table(&self) -> String {
        let row = |group: &Group| {
            let run = &group.runs[0];
            let broker = format!("{} {}", run.broker.name, run.broker.version);
            let what = format!("{}: {}", run.work, run.settings.describe());
            let cells = [&group.name, &broker, &what, &run.broker.durability];
            let mut cells: Vec<String> = cells.into_iter().map(|text| escape(text)).collect();
            cells.push(group.runs.len().to_string());
            cells
        };
        let rows: Vec<_> = self.groups.iter().map(row).collect();
        table(&["", "broker", "work", "durability", "runs"], 4, &rows)
    }

    fn difference_table(&self) -> String {
        let differences = self.differences();
        if differences.is_empty() {
            return String::new();
        }
        let row = |(name, values): (String, Vec<String>)| {
            std::iter::once(escape(&name)).chain(values.iter().map(|v| escape(v))).collect()
        };
        let rows: Vec<Vec<String>> = differences.into_iter().map(row).collect();
        table(&self.heading(), usize::MAX, &rows)
    }

    fn figure_table(&self) -> String {
        let row = |(metric, cells): (super::Metric, Vec<(super::Spread, Change)>)| {
            let cell = |(spread, change): &(super::Spread, Change)| {
                let class = match change {
                    Change::Beyond { better: true, .. } => "good",
                    Change::Beyond { better: false, .. } => "bad",
                    _ => "soft",
                };
                let value = escape(&shown(&metric, spread));
                format!("{value}<br><span class=\"{class}\">{}</span>", escape(&change.words()))
            };
            std::iter::once(escape(metric.name)).chain(cells.iter().map(cell)).collect()
        };
        let rows: Vec<Vec<String>> = self.rows().into_iter().map(row).collect();
        table(&self.heading(), 1, &rows)
    }

    fn heading(&self) -> Vec<&str> {
        std::iter::once("").chain(self.groups.iter().map(|group| group.name.as_str())).collect()
    }

    fn series(&self, page: &mut Page) {
        let runs: Vec<(&Group, &Report)> =
            self.groups.iter().map(|group| (group, middle_run(group))).collect();
        let points = || runs.iter().flat_map(|(_, run)| &run.figures.series);
        let end_s = runs
            .iter()
            .filter_map(|(_, r)| r.figures.series.last().map(|p| p.at_s + r.figures.interval_s))
            .fold(0.0, f64::max);
        let lines = |value: fn(&crate::record::Point) -> f64| -> Vec<Line> {
            let line = |(at, (group, run)): (usize, &(&Group, &Report))| {
                let middle = run.figures.interval_s / 2.0;
                let points = run.figures.series.iter().map(|p| (p.at_s + middle, value(p)));
                Line::new(&group.name, at, points.collect())
            };
            runs.iter().enumerate().map(line).collect()
        };
        let x = Axis::seconds("", end_s);
        let most = points().map(|point| point.messages_per_s).fold(0.0, f64::max);
        let y = Axis::numbers("", most, count);
        page.chart("Messages a second", &x, &y, &lines(|point| point.messages_per_s));
        let slow = points().map(|p| p.p99_us).fold(0.0, f64::max);
        let fast = points().map(|p| p.p99_us).filter(|us| *us > 0.0).fold(f64::MAX, f64::min);
        if slow > 0.0 {
            let y = Axis::latency("", fast, slow);
            page.chart("p99 over time", &x, &y, &lines(|point| point.p99_us.max(0.1).log10()));
        }
    }
}

/// The run that stands for its group.
fn middle_run(group: &Group) -> &Report {
    let mut runs: Vec<&Report> = group.runs.iter().collect();
    runs.sort_by(|a, b| a.figures.latency_us.p99.total_cmp(&b.figures.latency_us.p99));
    runs[runs.len() / 2]
}
