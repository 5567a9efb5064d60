//! What is known of the filesystem that holds the data.

use std::io;
use std::path::Path;

use crate::filesystem::Filesystem;
use crate::medium::{self, Medium};
use crate::mounts::{self, Mount};

/// Where the data lies.
#[derive(Clone, Debug)]
pub struct Place {
    pub medium: Medium,
    pub mount: Option<Mount>,
    /// `None` on a copy of another machine.
    pub free_bytes: Option<u64>,
}

impl Place {
    /// Asks the filesystem that holds `path`, or will hold it once it is made.
    pub fn of(path: &Path) -> io::Result<Self> {
        let existing = medium::existing_part(path);
        Ok(Self {
            medium: medium::judge(path)?,
            mount: mounts::holding(&existing),
            free_bytes: Some(Filesystem::of(&existing)?.free_bytes),
        })
    }

    /// By the mount table below `proc` alone.
    pub fn below(proc: &Path, path: &Path) -> Option<Self> {
        let mount = mounts::holding_below(proc, path)?;
        let medium = medium::judge_mount(path, &mount);
        Some(Self { medium, mount: Some(mount), free_bytes: None })
    }
}
