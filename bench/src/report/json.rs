//! Reports as JSON, there and back.

use super::{RawReport, Report};

/// Version of the JSON: raised when a key changes its meaning or goes. New keys leave it as it is.
pub const SCHEMA: u32 = 1;

/// Most bytes of a report that is read.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a text is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("it is no JSON of a bench report: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("it has no number `schema`: it is no bench report, or older than reports are kept")]
    NoSchema,
    #[error("it has schema {0}, this version reads {SCHEMA}: use the version that wrote it")]
    Schema(u64),
    #[error("it is the report of `bench raw`, which has no broker: give reports of runs")]
    Raw,
    #[error("it has {0} bytes; a report has at most {BYTES_MAX}")]
    Size(usize),
}

impl Report {
    /// One JSON object on several lines.
    pub fn to_json(&self) -> String {
        pretty(self)
    }

    /// Reads what [`Report::to_json`] wrote, keys unknown here left out.
    pub fn from_json(text: &str) -> Result<Self, ReportError> {
        if text.len() > BYTES_MAX {
            return Err(ReportError::Size(text.len()));
        }
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            None => return Err(ReportError::NoSchema),
            Some(schema) if schema != u64::from(SCHEMA) => return Err(ReportError::Schema(schema)),
            Some(_) => {}
        }
        if value.get("work").is_some_and(|work| work == "raw") && value.get("broker").is_none() {
            return Err(ReportError::Raw);
        }
        Ok(serde_json::from_value(value)?)
    }
}

impl RawReport {
    /// One JSON object on several lines.
    pub fn to_json(&self) -> String {
        pretty(self)
    }
}

fn pretty(report: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(report)
        .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_report_comes_back_as_it_was() {
        let report = sample();
        let text = report.to_json();
        let back = Report::from_json(&text).unwrap();
        assert_eq!(back, report);
        assert_eq!(back.to_json(), text);
    }

    #[test]
    fn the_keys_that_others_read_are_at_the_top() {
        let json: serde_json::Value = serde_json::from_str(&sample().to_json()).unwrap();
        for key in ["messages_per_s", "bytes_per_s", "lost", "duplicated", "reordered", "corrupted"]
        {
            assert!(json[key].is_number(), "{key} in {json}");
        }
        for key in ["p50", "p90", "p99", "p99_9", "p99_99", "max"] {
            assert!(json["latency_us"][key].is_number(), "{key} in {json}");
        }
        assert_eq!((&json["schema"], &json["valid"]), (&SCHEMA.into(), &true.into()));
    }

    #[test]
    fn what_is_no_report_is_refused_with_a_reason() {
        let refused = |text: &str| Report::from_json(text).unwrap_err().to_string();
        assert!(refused("").contains("no JSON"));
        assert!(refused("[]").contains("schema"));
        assert!(refused(r#"{"schema": 99}"#).contains("99"));
        assert!(refused(r#"{"schema": 1, "work": "produce"}"#).contains("missing field"));
        assert!(refused(r#"{"schema": 1, "work": "raw"}"#).contains("bench raw"));
        let text = sample().to_json();
        let with_more = text.replacen('{', "{\"tomorrow\": [1],", 1);
        assert_eq!(Report::from_json(&with_more).unwrap(), sample());
        let text = text.replace("\"messages_per_s\": 1000.0", "\"messages_per_s\": \"many\"");
        assert!(refused(&text).contains("many"));
    }
}
