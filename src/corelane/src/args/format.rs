//! `consume --format`: what is printed for a message.

use std::str::FromStr;

/// A parsed format; a newline follows each message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFormat {
    pub parts: Vec<FormatPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatPart {
    Literal(String),
    Topic,
    Partition,
    Offset,
    /// Unix milliseconds.
    Time,
    Key,
    Value,
}

impl FromStr for RecordFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            let part = match c {
                '%' => match field(characters.next())? {
                    Some(part) => part,
                    None => {
                        literal.push('%');
                        continue;
                    }
                },
                '\\' => {
                    literal.push(escaped(characters.next())?);
                    continue;
                }
                c => {
                    literal.push(c);
                    continue;
                }
            };
            if !literal.is_empty() {
                parts.push(FormatPart::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part);
        }
        if !literal.is_empty() {
            parts.push(FormatPart::Literal(literal));
        }
        if parts.is_empty() {
            Err("write at least one field, such as %v".to_owned())
        } else {
            Ok(Self { parts })
        }
    }
}

/// The field of `%c`; `None` for `%%`.
fn field(c: Option<char>) -> Result<Option<FormatPart>, String> {
    match c {
        Some('%') => Ok(None),
        Some('t') => Ok(Some(FormatPart::Topic)),
        Some('p') => Ok(Some(FormatPart::Partition)),
        Some('o') => Ok(Some(FormatPart::Offset)),
        Some('T') => Ok(Some(FormatPart::Time)),
        Some('k') => Ok(Some(FormatPart::Key)),
        Some('v') => Ok(Some(FormatPart::Value)),
        Some(c) => Err(format!("%{c} is no field; there are %t %p %o %T %k %v and %%")),
        None => Err("% stands at the end; write %% for a percent sign".to_owned()),
    }
}

fn escaped(c: Option<char>) -> Result<char, String> {
    match c {
        Some('t') => Ok('\t'),
        Some('n') => Ok('\n'),
        Some('0') => Ok('\0'),
        Some('\\') => Ok('\\'),
        Some(c) => Err(format!("\\{c} is no escape; there are \\t \\n \\0 and \\\\")),
        None => Err("\\ stands at the end; write \\\\ for a backslash".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_literals_and_escapes() {
        let format: RecordFormat = "%t/%p\\t%o %% %k=%v\\n".parse().unwrap();
        let literal = |text: &str| FormatPart::Literal(text.to_owned());
        assert_eq!(
            format.parts,
            [
                FormatPart::Topic,
                literal("/"),
                FormatPart::Partition,
                literal("\t"),
                FormatPart::Offset,
                literal(" % "),
                FormatPart::Key,
                literal("="),
                FormatPart::Value,
                literal("\n"),
            ]
        );
    }

    #[test]
    fn slips_are_refused() {
        for text in ["", "%", "%x", "\\", "\\x"] {
            assert!(text.parse::<RecordFormat>().is_err(), "{text}");
        }
    }
}
