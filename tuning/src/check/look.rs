//! Reading the kernel's small files: what is absent is told apart from what may not be read.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::host::Roots;

/// Files longer than this are cut; the kernel's tables that are read here are shorter.
const BYTES_MAX: u64 = 1 << 20;

/// The two trees.
#[derive(Clone, Debug)]
pub struct Look {
    pub sys: PathBuf,
    pub proc: PathBuf,
}

/// What a file holds.
#[derive(Debug)]
pub enum Seen {
    Text(String),
    /// The kernel, or this machine, has no such thing.
    Absent,
    /// A sentence.
    Unreadable(String),
}

impl Seen {
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}

impl Look {
    pub fn new(roots: &Roots) -> Self {
        Self { sys: roots.sys.clone(), proc: roots.proc.clone() }
    }

    pub fn sys(&self, file: &str) -> Seen {
        read(&self.sys.join(file))
    }

    pub fn proc(&self, file: &str) -> Seen {
        read(&self.proc.join(file))
    }

    pub fn sys_text(&self, file: &str) -> Option<String> {
        self.sys(file).text()
    }

    pub fn sys_number(&self, file: &str) -> Option<u64> {
        self.sys_text(file)?.parse().ok()
    }

    pub fn proc_number(&self, file: &str) -> Option<u64> {
        self.proc(file).text()?.parse().ok()
    }
}

/// The file without the blanks around it.
pub fn read(path: &Path) -> Seen {
    match read_bounded(path) {
        Ok(text) => Seen::Text(text.trim().to_owned()),
        // Some files of sysfs are there and answer that the device has no such thing.
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
                || matches!(
                    error.raw_os_error(),
                    Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENODEV | libc::EIO)
                ) =>
        {
            Seen::Absent
        }
        Err(error) => Seen::Unreadable(format!("cannot read {}: {error}", path.display())),
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names in a folder, sorted as people count: `rx-2` before `rx-10`.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_by_key(|name| {
        (name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(), number_at_end(name))
    });
    names
}

fn number_at_end(name: &str) -> u64 {
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|d| d.parse().ok()).unwrap_or(0)
}

/// The chosen word of `none [mq-deadline] kyber`; the whole text where none is marked.
pub fn chosen(text: &str) -> &str {
    let marked = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    marked.map_or(text, |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marked_word_is_the_chosen_one() {
        assert_eq!(chosen("none [mq-deadline] kyber"), "mq-deadline");
        assert_eq!(chosen("none"), "none");
        assert_eq!(chosen("[none"), "[none");
    }

    #[test]
    fn names_are_counted_as_people_do() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rx-10", "rx-2", "tx-0", "rx-1"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(names(folder.path()), ["rx-1", "rx-2", "rx-10", "tx-0"]);
        assert!(names(&folder.path().join("missing")).is_empty());
    }

    #[test]
    fn absent_is_not_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), " 7\n").unwrap();
        assert!(matches!(read(&folder.path().join("file")), Seen::Text(text) if text == "7"));
        assert!(matches!(read(&folder.path().join("none")), Seen::Absent));
        assert!(matches!(read(&folder.path().join("file/below")), Seen::Absent));
        assert!(matches!(read(folder.path()), Seen::Unreadable(_)));
    }
}
