//! The mount table of this process: what a path's filesystem calls itself and where it comes from.

use std::fs;
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor`, as `stat` gives it for files on it.
    pub device: String,
    pub point: PathBuf,
    /// `ext4`, `fuse.sshfs`.
    pub kind: String,
    /// A device, a host and path, or a word.
    pub source: String,
    /// Of this mount: `rw`, `noatime`.
    mount_options: String,
    /// Of the filesystem itself: layers, compression.
    options: String,
}

impl Mount {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let device = before.next()?.to_owned();
        let point = PathBuf::from(unescape(before.nth(1)?));
        let mount_options = before.next().unwrap_or_default().to_owned();
        let mut after = after.split(' ');
        let kind = after.next()?.to_owned();
        let source = unescape(after.next()?);
        let options = unescape(after.next().unwrap_or_default());
        Some(Self { device, point, kind, source, mount_options, options })
    }

    /// Whether `word` stands among the options of the mount or of its filesystem.
    pub fn has(&self, word: &str) -> bool {
        let both = self.mount_options.split(',').chain(self.options.split(','));
        both.into_iter().any(|option| option == word)
    }

    /// The value of `name=value` among the options.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The mount that holds `path`, which must exist; `None` where the table does not tell.
pub fn holding(path: &Path) -> Option<Mount> {
    let path = path.canonicalize().ok()?;
    holding_below(Path::new("/proc"), &path)
}

/// The same by the mount table below `proc`, with `path` taken as it is.
pub fn holding_below(proc: &Path, path: &Path) -> Option<Mount> {
    holding_in(&fs::read_to_string(proc.join("self/mountinfo")).ok()?, path)
}

/// The deepest mount point on the way to `path`; of several at one place the last counts.
fn holding_in(table: &str, path: &Path) -> Option<Mount> {
    let mounts = table.lines().filter_map(Mount::parse);
    mounts
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

/// mountinfo writes blank, tab, newline and backslash as `\` and three octal digits.
pub(crate) fn unescape(field: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /data rw shared:5 - tmpfs none rw,size=4k
31 22 0:27 / /data rw - fuse.sshfs me@host:/x rw,user_id=0
32 22 0:28 / /my\\040data rw - overlay overlay rw,lowerdir=/a,upperdir=/b\n";

    #[test]
    fn the_deepest_and_last_mount_counts() {
        let of = |path: &str| holding_in(TABLE, Path::new(path)).unwrap();
        assert_eq!((of("/data2").kind, of("/data2").source), ("ext4".into(), "/dev/vda".into()));
        assert_eq!(of("/data/deep/down").kind, "fuse.sshfs");
        assert_eq!(of("/my data/x").option("upperdir"), Some("/b"));
        assert_eq!(of("/my data/x").option("workdir"), None);
        assert_eq!(of("/").device, "254:0");
        assert!(of("/").has("relatime") && !of("/").has("noatime"));
        assert!(of("/data").has("user_id=0"));
        assert_eq!(holding_in("garbage\n1 - 2\n", Path::new("/")), None);
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(holding(Path::new("/")).is_some());
        assert!(holding(Path::new("/no/such/place")).is_none());
    }
}
