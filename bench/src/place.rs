//! Where a run writes: a directory of its own, removed at the end.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::BenchError;

/// A directory for one run. What was made here is removed when it is dropped.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// A new directory inside `inside` (made if missing), or inside the working directory: a
    /// system's temporary directory may be in memory.
    pub fn make(inside: Option<&Path>) -> Result<Self, BenchError> {
        let inside = inside.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        let doing = || BenchError::io(format!("making a directory in {}", inside.display()));
        std::fs::create_dir_all(&inside).map_err(doing())?;
        let inside_absolute = inside.canonicalize().map_err(doing())?;
        tempfile::Builder::new()
            .prefix("corelane-bench-")
            .tempdir_in(inside_absolute)
            .map(Self)
            .map_err(doing())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
