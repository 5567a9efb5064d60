//! A file for each partition: a folder a topic, a file a number.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::args::offline::ExportFormat;
use crate::commands::error::CommandError;

/// Files open at once.
const OPEN_MAX: usize = 128;

pub struct Files {
    to: PathBuf,
    ending: &'static str,
    open: BTreeMap<PathBuf, BufWriter<File>>,
}

impl Files {
    /// Makes the directory, or takes an empty one.
    pub fn create(to: &Path, format: ExportFormat) -> Result<Self, CommandError> {
        fs::create_dir_all(to).map_err(failed(to))?;
        if fs::read_dir(to).map_err(failed(to))?.next().is_some() {
            let source = std::io::Error::other("it is not empty; choose a new or empty directory");
            return Err(CommandError::Write { path: to.to_owned(), source });
        }
        let ending = match format {
            ExportFormat::Jsonl => "jsonl",
            ExportFormat::Raw => "batches",
        };
        Ok(Self { to: to.to_owned(), ending, open: BTreeMap::new() })
    }

    pub fn write(&mut self, topic: &str, partition: u32, bytes: &[u8]) -> Result<(), CommandError> {
        let path = self.to.join(topic).join(format!("{partition}.{}", self.ending));
        if !self.open.contains_key(&path) {
            if self.open.len() >= OPEN_MAX {
                self.finish()?;
            }
            fs::create_dir_all(self.to.join(topic)).map_err(failed(&path))?;
            let file = OpenOptions::new().append(true).create(true).open(&path);
            self.open.insert(path.clone(), BufWriter::new(file.map_err(failed(&path))?));
        }
        match self.open.get_mut(&path) {
            Some(file) => file.write_all(bytes).map_err(failed(&path)),
            None => Ok(()),
        }
    }

    /// Everything is in the files when this returns.
    pub fn finish(&mut self) -> Result<(), CommandError> {
        for (path, mut file) in std::mem::take(&mut self.open) {
            file.flush().map_err(failed(&path))?;
        }
        Ok(())
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> CommandError {
    let path = path.to_owned();
    move |source| CommandError::Write { path, source }
}
