//! `docs/operations.md` has a row for every error code, and for every line that the server logs as
//! a warning or an error.

use std::path::{Path, PathBuf};

use model::ErrorCode;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn runbook() -> String {
    let text = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    text.split("## Runbook").nth(1).expect("the runbook").to_owned()
}

#[test]
fn every_error_code_has_its_row() {
    let runbook = runbook();
    let missing: Vec<_> = ErrorCode::ALL
        .iter()
        .filter(|code| !runbook.contains(&format!("\n| `{code}` | ")))
        .collect();
    assert!(missing.is_empty(), "docs/operations.md, \"Error codes\", lacks {missing:?}");
}

#[test]
fn every_line_that_asks_for_action_has_its_row() {
    let runbook = runbook();
    let mut lines = Vec::new();
    for folder in ["src/server/src", "wal/src", "shards/src", "src/ring/src", "src/corelane/src"] {
        visit(&root().join(folder), &mut lines);
    }
    assert!(lines.len() > 20, "the search found only {lines:?}");
    let missing: Vec<_> = lines
        .iter()
        .filter(|(_, line)| {
            // What a row quotes: the words before the first value, list or further clause.
            let head = line.split(['{', ';', '(', ':']).next().unwrap_or_default().trim();
            head.len() > 8 && !runbook.contains(&format!("| `{head}"))
        })
        .collect();
    assert!(missing.is_empty(), "docs/operations.md, \"Lines of the log\", lacks {missing:#?}");
}

fn visit(path: &Path, lines: &mut Vec<(PathBuf, String)>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            visit(&entry.unwrap().path(), lines);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let text = std::fs::read_to_string(path).unwrap();
        for name in ["warn!(", "error!("] {
            for (at, _) in text.match_indices(name) {
                let before = text[..at].chars().next_back();
                let is_another = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
                if !is_another && let Some(line) = message(&text[at + name.len()..]) {
                    lines.push((path.to_owned(), line));
                }
            }
        }
    }
}

/// The last string among a macro's arguments: what the log line says.
fn message(arguments: &str) -> Option<String> {
    let mut characters = arguments.chars().peekable();
    let mut depth = 1;
    let mut found = None;
    while let Some(c) = characters.next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '"' => {
                let mut text = String::new();
                while let Some(c) = characters.next() {
                    match c {
                        '"' => break,
                        '\\' if characters.peek() == Some(&'\n') => {
                            while characters.next_if(|c| c.is_whitespace()).is_some() {}
                        }
                        '\\' => text.extend(characters.next()),
                        c => text.push(c),
                    }
                }
                found = Some(text);
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

#[test]
fn messages_are_read_out_of_the_source() {
    let arguments = "shard = f(1), why = \"x\", \"one \\\n        line; {of} it\");\nother(\"no\")";
    assert_eq!(message(arguments).unwrap(), "one line; {of} it");
    assert_eq!(message("%error);"), None);
}
