//! Runs side by side: those of one kind together with their spread, and what has changed beyond it.

mod html;
mod metric;
mod text;

use std::collections::BTreeMap;

use crate::report::Report;
pub use metric::{Better, Change, Metric, Spread};

/// Most reports of one comparison.
pub const REPORTS_MAX: usize = 64;

/// A report and what it is called: reports of one name are runs of the same thing.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `None`: told by its settings.
    pub name: Option<String>,
    /// Where it came from, for messages.
    pub source: String,
    pub report: Report,
}

/// Runs of the same thing.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    pub runs: Vec<Report>,
}

/// Groups in the order they were given; the first is what the others are compared with.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub groups: Vec<Group>,
    /// What has to be known before the figures are believed.
    pub warnings: Vec<String>,
}

/// Why reports cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("{0} reports; between 1 and {REPORTS_MAX} can be compared")]
    Count(usize),
}

impl Comparison {
    pub fn of(entries: Vec<Entry>) -> Result<Self, CompareError> {
        if entries.is_empty() || entries.len() > REPORTS_MAX {
            return Err(CompareError::Count(entries.len()));
        }
        let mut warnings = Vec::new();
        let mut groups: Vec<(String, Group)> = Vec::new();
        for Entry { name, source, report } in entries {
            warnings.extend(doubts(&source, &report));
            let key = name.clone().unwrap_or_else(|| identity(&report));
            if let Some((_, group)) = groups.iter_mut().find(|(known, _)| *known == key) {
                group.runs.push(report);
                continue;
            }
            let name = name.unwrap_or_else(|| letter(groups.len()));
            groups.push((key, Group { name, runs: vec![report] }));
        }
        let groups: Vec<Group> = groups.into_iter().map(|(_, group)| group).collect();
        let mut comparison = Self { groups, warnings };
        comparison.warn();
        Ok(comparison)
    }

    /// What is not the same in all groups: its name, and the value in each.
    pub fn differences(&self) -> Vec<(String, Vec<String>)> {
        let all: Vec<_> = self.groups.iter().map(|group| attributes(&group.runs[0])).collect();
        let mut names: Vec<&String> = all.iter().flat_map(BTreeMap::keys).collect();
        names.sort_unstable();
        names.dedup();
        let value = |of: &BTreeMap<String, String>, name: &String| {
            of.get(name).filter(|text| !text.is_empty()).cloned().unwrap_or_else(|| "-".to_owned())
        };
        names
            .into_iter()
            .map(|name| (name.clone(), all.iter().map(|of| value(of, name)).collect::<Vec<_>>()))
            .filter(|(_, values)| values.iter().any(|other| *other != values[0]))
            .collect()
    }

    /// What the figures are in each group, and how they have changed against the first.
    pub fn rows(&self) -> Vec<(Metric, Vec<(Spread, Change)>)> {
        let spreads = |metric: &Metric| -> Option<Vec<Spread>> {
            self.groups.iter().map(|group| metric.spread(&group.runs)).collect()
        };
        let row = |metric: Metric| {
            let spreads = spreads(&metric)?;
            let base = spreads[0];
            let changed = |spread: Spread| (spread, metric.change(&base, &spread));
            Some((metric, spreads.into_iter().map(changed).collect()))
        };
        Metric::all().into_iter().filter_map(row).collect()
    }

    /// Sentences on what is better or worse beyond noise.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (metric, cells) in self.rows() {
            for ((_, change), group) in cells.iter().zip(&self.groups).skip(1) {
                if let Change::Beyond { percent, better } = change {
                    let verdict = if *better { "better" } else { "worse" };
                    findings.push(format!(
                        "{} of {} is {percent:+.1}% against {}: {verdict}",
                        metric.name, group.name, self.groups[0].name
                    ));
                }
            }
        }
        findings
    }

    fn warn(&mut self) {
        let differ = |of: fn(&Report) -> String| {
            let mut values: Vec<_> =
                self.groups.iter().flat_map(|g| g.runs.iter().map(of)).collect();
            values.sort_unstable();
            values.dedup();
            values.len() > 1
        };
        let mut warnings = Vec::new();
        if self.groups.iter().flat_map(|group| &group.runs).any(|run| !run.machine.optimised) {
            warnings.push("there are runs of unoptimised builds: their figures say nothing");
        }
        if differ(|report| report.work.clone()) {
            warnings
                .push("the runs did different work; figures of one kind say nothing of another");
        }
        if differ(|r| format!("{:?}", r.machine.machine)) {
            warnings.push("the runs were made on different machines or kernels");
        }
        if self.groups.len() > 1 && self.groups.iter().any(|group| group.runs.len() < 2) {
            warnings.push(
                "some were run once: how far such figures move by themselves is not known; repeat \
                 the runs and give all reports",
            );
        }
        self.warnings.extend(warnings.into_iter().map(str::to_owned));
    }
}

/// Why the figures of a report may not be believed.
fn doubts(source: &str, report: &Report) -> Vec<String> {
    let mut doubts = Vec::new();
    if !report.valid {
        doubts
            .push(format!("{source} is of an invalid run: {}", report.invalid_because.join("; ")));
    }
    if !report.figures.verdict.is_clean() {
        doubts.push(format!("{source}: messages were lost, repeated, out of order or altered"));
    }
    if report.partial {
        doubts.push(format!("{source} is of a run that was ended early"));
    }
    doubts
}

/// Equal for runs of the same thing.
fn identity(report: &Report) -> String {
    format!("{:?}", attributes(report))
}

fn attributes(report: &Report) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, value: &str| {
        all.insert(name.to_owned(), value.to_owned());
    };
    put("broker", &report.broker.name);
    put("version", &report.broker.version);
    put("durability", &report.broker.durability);
    put("work", &report.work);
    put("title", &report.title);
    put("bench version", &report.machine.version);
    put("commit", &report.machine.commit);
    put("processor", &report.machine.machine.cpu_model);
    put("kernel", &report.machine.machine.kernel);
    put("filesystem", report.machine.filesystem.as_deref().unwrap_or_default());
    for (name, value) in &report.broker.settings {
        put(name, value);
    }
    if let Ok(serde_json::Value::Object(settings)) = serde_json::to_value(&report.settings) {
        for (name, value) in settings {
            // The port of a server started for a run, and the seed, do not make it another thing.
            if name != "seed" && !value.is_null() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                put(&name, &text);
            }
        }
    }
    all
}

fn letter(at: usize) -> String {
    match u8::try_from(at) {
        Ok(at) if at < 26 => char::from(b'A' + at).to_string(),
        _ => format!("group {}", at + 1),
    }
}

#[cfg(test)]
mod tests;
