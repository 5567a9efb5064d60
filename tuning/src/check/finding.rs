//! One thing found, and what all of them come to.

use serde::Serialize;

/// How much a finding matters. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The broker does not start here, or what it acknowledges may be lost.
    Fails,
    /// It costs performance, and there is a way to mend it.
    Costs,
    /// It could not be looked at.
    Unknown,
    /// Worth knowing; nothing is wrong.
    Note,
    /// As wanted.
    Good,
}

/// What all findings come to; the exit code of `tune check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Good,
    /// Something fails or costs performance.
    Costs,
    /// Nothing known to be wrong, but something could not be looked at.
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, such as `disk.scheduler`; the same from version to version.
    pub id: &'static str,
    pub severity: Severity,
    /// What is.
    pub is: String,
    /// What is wanted instead; `None` where all is well.
    pub wanted: Option<String>,
    /// What the difference costs.
    pub costs: Option<String>,
    /// The command that mends it; `None` where no command can.
    pub fix: Option<String>,
}

/// What is found, as it is found.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    pub fn good(&mut self, id: &'static str, is: impl Into<String>) {
        self.push(id, Severity::Good, is, None);
    }

    pub fn note(&mut self, id: &'static str, is: impl Into<String>, better: Better<'_>) {
        self.push(id, Severity::Note, is, Some(better));
    }

    pub fn costs(&mut self, id: &'static str, is: impl Into<String>, better: Better<'_>) {
        self.push(id, Severity::Costs, is, Some(better));
    }

    pub fn fails(&mut self, id: &'static str, is: impl Into<String>, better: Better<'_>) {
        self.push(id, Severity::Fails, is, Some(better));
    }

    /// `why`: what kept it from being looked at.
    pub fn unknown(&mut self, id: &'static str, why: impl Into<String>) {
        self.push(id, Severity::Unknown, why, None);
    }

    fn push(
        &mut self,
        id: &'static str,
        severity: Severity,
        is: impl Into<String>,
        better: Option<Better<'_>>,
    ) {
        let better = better.unwrap_or(Better { wanted: "", costs: "", fix: "" });
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        self.list.push(Finding {
            id,
            severity,
            is: is.into(),
            wanted: given(better.wanted),
            costs: given(better.costs),
            fix: given(better.fix),
        });
    }

    pub fn into_sorted(mut self) -> (Verdict, Vec<Finding>) {
        self.list.sort_by_key(|finding| (finding.severity, finding.id));
        let verdict = match self.list.first().map(|finding| finding.severity) {
            Some(Severity::Fails | Severity::Costs) => Verdict::Costs,
            Some(Severity::Unknown) => Verdict::Unknown,
            _ => Verdict::Good,
        };
        (verdict, self.list)
    }
}

/// How it would be better. An empty text is not shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Better<'a> {
    pub wanted: &'a str,
    pub costs: &'a str,
    pub fix: &'a str,
}
