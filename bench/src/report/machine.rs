//! What a run was measured on.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use tuning::{Filesystem, Machine};

/// The machine, and the program that measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineReport {
    #[serde(flatten)]
    pub machine: Machine,
    /// Of the data directory, where it is known.
    pub filesystem: Option<String>,
    /// Of the program that measured.
    pub version: String,
    pub commit: String,
    /// Figures of an unoptimised build say nothing.
    pub optimised: bool,
}

impl MachineReport {
    /// `data_dir`: whose filesystem is named. `commit`: what the caller knows.
    pub fn read(data_dir: Option<&Path>, commit: Option<&str>) -> Self {
        Self {
            machine: Machine::read(),
            filesystem: data_dir.and_then(|dir| Filesystem::of(dir).ok()).map(|f| f.kind),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit.map_or_else(find_commit, str::to_owned),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// Given at build time as `CORELANE_COMMIT`, or asked of git where the program lies.
fn find_commit() -> String {
    if let Some(commit) = option_env!("CORELANE_COMMIT") {
        return commit.to_owned();
    }
    let asked = std::env::current_exe().ok().and_then(|program| {
        let mut git = Command::new("git");
        git.arg("-C").arg(program.parent()?).args(["describe", "--always", "--dirty"]);
        let output = git.output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    });
    asked.unwrap_or_else(|| "unknown".into())
}
