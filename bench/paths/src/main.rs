//! The ways of a publish and of a delivery without sockets and disk, and the instructions that
//! they cost: counted by callgrind, compared with `bench/instructions.toml`.
//!
//! `corelane-paths run WAY TURNS` goes a way; `count` says what each costs; `check` compares.

mod callgrind;
mod kept;
#[path = "../../../wal/benches/memory.rs"]
mod memory;
mod rig;
mod ways;

use std::path::Path;
use std::process::ExitCode;

use callgrind::CountError;
use kept::{Kept, KeptError};
use ways::Way;

const USAGE: &str = "usage: corelane-paths run WAY TURNS | count | check [FILE] | keep [FILE]";
/// From the repository's root.
const FILE: &str = "bench/instructions.toml";

#[derive(Debug, thiserror::Error)]
enum PathsError {
    #[error("{USAGE}")]
    Usage,
    #[error("there is no way {name:?}; there are {known}")]
    NoWay { name: String, known: String },
    #[error(transparent)]
    Count(#[from] CountError),
    #[error(transparent)]
    Kept(#[from] KeptError),
    #[error(
        "the paths cost another number of instructions than {file} says:\n{differences}\nif that is meant, say so: cargo run --release -p corelane-paths -- keep"
    )]
    Changed { file: String, differences: String },
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match act(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn act(words: &[&str]) -> Result<(), PathsError> {
    match words {
        ["run", name, turns] => {
            let turns = turns.parse().map_err(|_| PathsError::Usage)?;
            way(name)?.go(turns);
            Ok(())
        }
        ["count"] => {
            let counted = Kept::count()?;
            print!("{}", counted.table());
            Ok(())
        }
        ["check"] => check(FILE),
        ["check", file] => check(file),
        ["keep"] => Ok(Kept::count()?.write(Path::new(FILE))?),
        ["keep", file] => Ok(Kept::count()?.write(Path::new(file))?),
        _ => Err(PathsError::Usage),
    }
}

fn way(name: &str) -> Result<&'static Way, PathsError> {
    let known = || ways::ALL.iter().map(|way| way.name).collect::<Vec<_>>().join(", ");
    let found = ways::ALL.iter().find(|way| way.name == name);
    found.ok_or_else(|| PathsError::NoWay { name: name.to_owned(), known: known() })
}

fn check(file: &str) -> Result<(), PathsError> {
    let kept = Kept::read(Path::new(file))?;
    let counted = Kept::count()?;
    print!("{}", counted.table());
    if let Some(why) = kept.why_not_comparable(&counted) {
        println!("not compared with {file}: {why}; its counts can be made anew with `keep`");
        return Ok(());
    }
    let differences = kept.differences(&counted);
    if differences.is_empty() {
        println!("as {file} says, within {}%", kept::TOLERANCE_PERCENT);
        return Ok(());
    }
    let file = file.to_owned();
    Err(PathsError::Changed { file, differences: differences.join("\n") })
}
