//! The counts kept in the repository: per message of each way, with what they were made by.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::callgrind::{CountError, instructions};
use crate::ways::{self, Way};

/// A count may differ by so much, in either direction, before it is called another.
pub const TOLERANCE_PERCENT: f64 = 3.0;
/// The difference of two runs leaves start and end out.
const TURNS: [u32; 2] = [200, 1_000];

#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{path} cannot be understood: {error}")]
    Form { path: PathBuf, error: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Counts of other compilers cannot be compared.
    rustc: String,
    /// Nor those of other instruction sets: checksums and copies choose by them.
    cpu: String,
    /// Instructions per message.
    ways: BTreeMap<String, f64>,
}

const HEAD: &str = "\
# Instructions per message on the ways of publishes and deliveries, without sockets, disk and kernel.
# Counted by callgrind: `cargo run --release -p corelane-paths -- keep` makes this file anew,
# `... -- check` (in CI) fails when a count is off by more than 3%.

";

impl Kept {
    /// Counts every way.
    pub fn count() -> Result<Self, CountError> {
        let counted = ways::ALL.iter().map(|way| Ok((way.name.to_owned(), per_message(way)?)));
        Ok(Self { rustc: compiler(), cpu: features(), ways: counted.collect::<Result<_, _>>()? })
    }

    pub fn read(path: &Path) -> Result<Self, KeptError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| KeptError::Io { path: path.to_owned(), error })?;
        let form = |error: toml::de::Error| KeptError::Form {
            path: path.to_owned(),
            error: error.to_string(),
        };
        toml::from_str(&text).map_err(form)
    }

    pub fn write(&self, path: &Path) -> Result<(), KeptError> {
        let text = toml::to_string(self)
            .map_err(|error| KeptError::Form { path: path.to_owned(), error: error.to_string() })?;
        std::fs::write(path, format!("{HEAD}{text}"))
            .map_err(|error| KeptError::Io { path: path.to_owned(), error })
    }

    /// Why counts made here cannot be held against these.
    pub fn why_not_comparable(&self, counted: &Self) -> Option<String> {
        if self.rustc != counted.rustc {
            return Some(format!("it was made by {}, this is {}", self.rustc, counted.rustc));
        }
        let other = format!("it was made with {}, this CPU has {}", self.cpu, counted.cpu);
        (self.cpu != counted.cpu).then_some(other)
    }

    /// One line for each way whose count is another.
    pub fn differences(&self, counted: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, now) in &counted.ways {
            match self.ways.get(name) {
                None => lines.push(format!("{name}: {now:.1}, and nothing is kept of it")),
                Some(was) => {
                    let percent = (now - was) / was * 100.0;
                    if percent.abs() > TOLERANCE_PERCENT {
                        lines.push(format!("{name}: {now:.1}, was {was:.1} ({percent:+.1}%)"));
                    }
                }
            }
        }
        let gone = self.ways.keys().filter(|name| !counted.ways.contains_key(*name));
        lines.extend(gone.map(|name| format!("{name}: is kept, and there is no such way")));
        lines
    }

    pub fn table(&self) -> String {
        let line = |(name, count): (&String, &f64)| format!("{name:<28} {count:>9.1}\n");
        format!("{:<28} {:>9}\n", "way", "per message")
            + &self.ways.iter().map(line).collect::<String>()
    }
}

fn per_message(way: &Way) -> Result<f64, CountError> {
    let [few, many] = TURNS;
    let more = instructions(way.name, many)?.saturating_sub(instructions(way.name, few)?);
    let per_message = more as f64 / f64::from((many - few) * way.messages_per_turn());
    Ok((per_message * 10.0).round() / 10.0)
}

/// `rustc 1.95.0`; empty where it cannot be asked.
fn compiler() -> String {
    let asked = Command::new("rustc").arg("--version").output();
    let text = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// What of the instruction set the counted code chooses by, as far as valgrind passes it on.
fn features() -> String {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("pclmulqdq", std::is_x86_feature_detected!("pclmulqdq")),
        ("sse4.2", std::is_x86_feature_detected!("sse4.2")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let found: [(&str, bool); 0] = [];
    let named: Vec<_> = found.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    format!("{} {}", std::env::consts::ARCH, named.join(" ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(counts: &[(&str, f64)]) -> Kept {
        let ways = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Kept { rustc: "rustc 1".into(), cpu: "x86_64 avx2".into(), ways }
    }

    #[test]
    fn only_what_is_beyond_the_tolerance_is_a_difference() {
        let was = kept(&[("a", 1_000.0), ("b", 1_000.0), ("c", 1_000.0), ("gone", 1.0)]);
        let now = kept(&[("a", 1_029.0), ("b", 1_031.0), ("c", 969.0), ("new", 1.0)]);
        let lines = was.differences(&now);
        assert_eq!(lines.len(), 4, "{lines:?}");
        for (line, says) in lines.iter().zip(["b: 1031.0", "c: 969.0", "new", "gone"]) {
            assert!(line.starts_with(says), "{line}");
        }
        assert!(was.differences(&was).is_empty());
    }

    #[test]
    fn other_compilers_and_cpus_are_not_compared() {
        let was = kept(&[("a", 1.0)]);
        assert_eq!(was.why_not_comparable(&was), None);
        let other = Kept { rustc: "rustc 2".into(), ..was.clone() };
        assert!(was.why_not_comparable(&other).unwrap().contains("rustc 2"));
        let other = Kept { cpu: "x86_64".into(), ..was.clone() };
        assert!(was.why_not_comparable(&other).is_some());
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = std::env::temp_dir().join(format!("corelane-paths-{}", std::process::id()));
        let was = kept(&[("a", 1.5), ("b.c", 2.0)]);
        was.write(&folder).unwrap();
        assert_eq!(Kept::read(&folder).unwrap(), was);
        std::fs::remove_file(&folder).unwrap();
        assert!(Kept::read(&folder).is_err());
    }

    /// The file in the repository is of this form and knows every way.
    #[test]
    fn the_kept_counts_are_of_the_ways_there_are() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../instructions.toml");
        let kept = Kept::read(&path).unwrap();
        let names: Vec<_> = kept.ways.keys().map(String::as_str).collect();
        let mut known: Vec<_> = ways::ALL.iter().map(|way| way.name).collect();
        known.sort_unstable();
        assert_eq!(names, known);
    }
}
