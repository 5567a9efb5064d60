//! What a comparison came to: kept as JSON, shown as Markdown and as a page.

mod html;
mod markdown;
#[cfg(test)]
mod tests;
mod view;

use bench::report::{MachineReport, Report};
use serde::{Deserialize, Serialize};

use crate::peer::{Level, Peer};
use crate::server::Setting;

/// Version of the JSON: raised when a key changes its meaning or goes.
const SCHEMA: u32 = 1;
/// Rows of a kind that [`Comparison::wrongs`] names.
const WRONGS_NAMED_MAX: usize = 5;

/// Everything that was measured, in the order it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    pub schema: u32,
    pub machine: MachineReport,
    /// The command lines of the runs.
    pub commands: Vec<String>,
    pub subjects: Vec<Subject>,
    pub absences: Vec<Absence>,
    pub lacks: Vec<Lack>,
    pub rows: Vec<Row>,
}

/// A broker at a level, as it was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub peer: Peer,
    pub level: Level,
    pub version: String,
    pub settings: Vec<Setting>,
}

/// A broker that could not be had, or not in whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    pub peer: Peer,
    pub why: String,
}

/// A level that a broker does not offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    pub peer: Peer,
    pub level: Level,
    pub why: String,
}

/// One workload on one broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub peer: Peer,
    pub level: Level,
    pub workload: String,
    /// 2: the broker's second turn.
    pub pass: u32,
    pub outcome: RowOutcome,
}

impl Row {
    /// As flags name what is in it.
    fn name(&self) -> String {
        format!("{} {} {}", self.peer.as_str(), self.level.as_str(), self.workload)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowOutcome {
    Measured(Box<Report>),
    Failed(String),
    /// The broker is not made for it and says so, or has not got ready for it in time.
    Beyond(String),
}

/// Why a text holds no comparison.
#[derive(Debug, thiserror::Error)]
pub enum ComparisonError {
    #[error("it is no JSON of a comparison: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("it has schema {0}, this version reads {SCHEMA}: use the version that wrote it")]
    Schema(u32),
}

impl Comparison {
    pub fn new(machine: MachineReport, command: String) -> Self {
        Self {
            schema: SCHEMA,
            machine,
            commands: vec![command],
            subjects: Vec::new(),
            absences: Vec::new(),
            lacks: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub fn subject(&mut self, subject: Subject) {
        if !self.subjects.contains(&subject) {
            self.subjects.push(subject);
        }
    }

    pub fn absent(&mut self, absence: Absence) {
        if !self.absences.contains(&absence) {
            self.absences.push(absence);
        }
    }

    pub fn lacks(&mut self, peer: Peer, level: Level, why: &str) {
        let lack = Lack { peer, level, why: why.to_owned() };
        if !self.lacks.contains(&lack) {
            self.lacks.push(lack);
        }
    }

    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds another run's results. A broker's rows there are a further turn of it.
    pub fn add(&mut self, other: Self) {
        let turns = |peer, level, workload: &str, rows: &[Row]| {
            let same =
                |row: &&Row| row.peer == peer && row.level == level && row.workload == workload;
            rows.iter().filter(same).count() as u32
        };
        self.commands.extend(other.commands);
        other.subjects.into_iter().for_each(|subject| self.subject(subject));
        other.absences.into_iter().for_each(|absence| self.absent(absence));
        other.lacks.iter().for_each(|lack| self.lacks(lack.peer, lack.level, &lack.why));
        for mut row in other.rows {
            row.pass = turns(row.peer, row.level, &row.workload, &self.rows) + 1;
            self.rows.push(row);
        }
        // What one run could not have, another may have had.
        let rows = &self.rows;
        self.absences.retain(|absence| rows.iter().all(|row| row.peer != absence.peer));
    }

    /// Rows that failed and rows whose messages were not all there once, in order and unaltered,
    /// in one sentence; `None` when there are none.
    pub fn wrongs(&self) -> Option<String> {
        let failed = |row: &&Row| matches!(row.outcome, RowOutcome::Failed(_));
        let damaged = |row: &&Row| match &row.outcome {
            RowOutcome::Measured(report) => !report.figures.verdict.is_clean(),
            RowOutcome::Failed(_) | RowOutcome::Beyond(_) => false,
        };
        let told = |what: &str, rows: Vec<&Row>| {
            let names: Vec<String> =
                rows.iter().take(WRONGS_NAMED_MAX).map(|row| row.name()).collect();
            let more = rows.len() - names.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            (!rows.is_empty())
                .then(|| format!("{} {what} ({}{more})", rows.len(), names.join(", ")))
        };
        let parts: Vec<String> = [
            told("failed", self.rows.iter().filter(failed).collect()),
            told(
                "with messages lost, repeated, out of order or altered",
                self.rows.iter().filter(damaged).collect(),
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| format!("of {} rows {}", self.rows.len(), parts.join(", ")))
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    pub fn from_json(text: &str) -> Result<Self, ComparisonError> {
        let comparison: Self = serde_json::from_str(text)?;
        match comparison.schema {
            SCHEMA => Ok(comparison),
            other => Err(ComparisonError::Schema(other)),
        }
    }

    pub fn to_markdown(&self) -> String {
        markdown::render(self)
    }

    /// One self-contained page.
    pub fn to_html(&self) -> String {
        html::render(self)
    }
}
