//! Findings for people: the bad ones in full, the good ones a line each.

use std::fmt::Write;

use tuning::check::{Finding, Severity};

/// Lines are broken before this many characters.
const WIDTH: usize = 100;
const INDENT: usize = 9;

pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        push(&mut text, finding);
    }
    text
}

fn push(text: &mut String, finding: &Finding) {
    let word = match finding.severity {
        Severity::Fails => "FAILS",
        Severity::Costs => "COSTS",
        Severity::Unknown => "UNSEEN",
        Severity::Note => "note",
        Severity::Good => "good",
    };
    let _ = write!(text, "{word:INDENT$}");
    push_wrapped(text, &format!("{}: {}", finding.id, finding.is), INDENT);
    let rest = [("wanted", &finding.wanted), ("costs", &finding.costs)];
    for (name, value) in rest {
        if let Some(value) = value {
            let _ = write!(text, "{:INDENT$}{name:8}", "");
            push_wrapped(text, value, INDENT + 8);
        }
    }
    // On one line, whatever its length: it is copied.
    if let Some(fix) = &finding.fix {
        let _ = writeln!(text, "{:INDENT$}{:8}{fix}", "", "fix");
    }
}

/// Ends with a newline; the first line goes on where `text` stands, `indent` characters in.
fn push_wrapped(text: &mut String, words: &str, indent: usize) {
    let mut column = indent;
    for (at, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if at > 0 && column + 1 + length > WIDTH {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        } else if at > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

/// One line: how many of each.
pub fn summary(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let parts = [
        (count(Severity::Fails), "keep the broker from starting or data from being safe"),
        (count(Severity::Costs), "cost performance"),
        (count(Severity::Unknown), "could not be looked at"),
        (count(Severity::Note), "worth knowing"),
        (count(Severity::Good), "good"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    format!("{} looked at: {}\n", findings.len(), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_broken_and_commands_are_not() {
        let finding = Finding {
            id: "disk.scheduler",
            severity: Severity::Costs,
            is: "vda: mq-deadline".to_owned(),
            wanted: Some("word ".repeat(40).trim_end().to_owned()),
            costs: None,
            fix: Some("echo ".repeat(40)),
        };
        let text = text(std::slice::from_ref(&finding));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "COSTS    disk.scheduler: vda: mq-deadline");
        assert!(lines[1].starts_with("         wanted  word word") && lines[1].len() <= WIDTH);
        assert!(lines[2].starts_with("                 word"));
        assert!(lines.last().unwrap().len() > WIDTH);
        let summary = summary(&[finding]);
        assert_eq!(summary, "1 looked at: 1 cost performance\n");
    }
}
