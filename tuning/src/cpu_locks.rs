//! One advisory lock per CPU, so that two brokers on a host take different CPUs.
//!
//! A lock is an flock on an empty file `cpu-N.lock`. The kernel drops it when its holder ends,
//! however it ends; the files stay. Brokers that see different folders (containers, other users
//! without a shared lock folder) do not see each other.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cpu_set::CpuSet;
use crate::host::Host;
use crate::placement::{CoreRequest, Placement, PlacementError, choose_cores};

/// How often the folder's own lock is tried, and how long between: 5 s in all.
const FOLDER_LOCK_TRIES: u32 = 500;
const FOLDER_LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The folder that holds the lock files.
#[derive(Clone, Debug)]
pub struct LockDir {
    path: PathBuf,
}

/// CPUs held by this process until dropped.
#[derive(Debug, Default)]
pub struct CpuLocks {
    held: Vec<(u32, File)>,
}

/// Chooses CPUs beside other brokers and holds their locks.
///
/// `host.taken` is set to what others hold. The locks are held when this returns. A lock folder
/// that cannot be used is a warning of the placement, not an error: the locks are advice.
pub fn place(
    request: &CoreRequest,
    host: &mut Host,
    folder: io::Result<LockDir>,
) -> Result<(Placement, CpuLocks), PlacementError> {
    match folder.and_then(|folder| lock_and_choose(request, host, &folder)) {
        Ok(placed) => placed,
        Err(error) => {
            let mut placement = choose_cores(request, host)?;
            placement.warnings.push(format!(
                "cannot see which CPUs other brokers hold ({error}); with more than one on this \
                 host, give each its own with --cores"
            ));
            Ok((placement, CpuLocks::default()))
        }
    }
}

fn lock_and_choose(
    request: &CoreRequest,
    host: &mut Host,
    folder: &LockDir,
) -> io::Result<Result<(Placement, CpuLocks), PlacementError>> {
    // Held while CPUs are tried: two brokers that start at once would otherwise each see the
    // other's trial as taken.
    let _turn = folder.lock_whole()?;
    let (mut locks, taken) = folder.try_lock(&host.allowed)?;
    host.taken = taken;
    Ok(choose_cores(request, host).map(|placement| {
        let pinned = placement.pinned();
        locks.held.retain(|(cpu, _)| pinned.contains(*cpu));
        (placement, locks)
    }))
}

impl CpuLocks {
    /// The CPUs whose locks this process holds.
    pub fn cpus(&self) -> CpuSet {
        self.held.iter().map(|(cpu, _)| *cpu).collect()
    }
}

impl LockDir {
    /// The host's folder: `/run/lock/corelane`, else `$XDG_RUNTIME_DIR/corelane`, else
    /// `/tmp/corelane-<uid>`; the first that can be made and written to.
    pub fn of_host() -> io::Result<Self> {
        if let Ok(folder) = Self::shared(Path::new("/run/lock/corelane")) {
            return Ok(folder);
        }
        if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR")
            && let Ok(folder) = Self::private(&Path::new(&runtime).join("corelane"))
        {
            return Ok(folder);
        }
        let uid = rustix::process::geteuid().as_raw();
        Self::private(Path::new(&format!("/tmp/corelane-{uid}")))
    }

    /// A folder for all users, like `/tmp`: anyone adds files, only their owners remove them.
    pub fn shared(path: &Path) -> io::Result<Self> {
        if make_folder(path, 0o755)? {
            fs::set_permissions(path, Permissions::from_mode(0o1777))?;
        }
        Self::checked(path, |_| true)
    }

    /// A folder for this user alone; another's is refused, as its owner could swap it.
    pub fn private(path: &Path) -> io::Result<Self> {
        make_folder(path, 0o700)?;
        let uid = rustix::process::geteuid().as_raw();
        Self::checked(path, |owner| owner == uid)
    }

    fn checked(path: &Path, owner_is_good: impl Fn(u32) -> bool) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        if !found.is_dir() || !owner_is_good(found.uid()) {
            let message = format!("{} is not a folder of this user", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        let folder = Self { path: path.to_owned() };
        folder.open("placement.lock")?;
        Ok(folder)
    }

    /// Locks those of `cpus` that are free; gives the locks and the CPUs that others hold.
    fn try_lock(&self, cpus: &CpuSet) -> io::Result<(CpuLocks, CpuSet)> {
        let (mut locks, mut taken) = (CpuLocks::default(), CpuSet::default());
        for cpu in cpus.iter() {
            let file = self.open(&format!("cpu-{cpu}.lock"))?;
            match file.try_lock() {
                Ok(()) => locks.held.push((cpu, file)),
                Err(TryLockError::WouldBlock) => taken.insert(cpu),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok((locks, taken))
    }

    /// The turn to choose. After 5 s it is given anyway: a stuck process must not stop
    /// others from starting.
    fn lock_whole(&self) -> io::Result<File> {
        let file = self.open("placement.lock")?;
        for _ in 0..FOLDER_LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => std::thread::sleep(FOLDER_LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(file)
    }

    /// Opens a lock file, made if it is missing. An existing one is opened without `O_CREAT`,
    /// which the kernel refuses for another user's file in a folder such as `/tmp`, and only for
    /// reading, which is enough to lock it. Symbolic links are not followed, devices not opened.
    fn open(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let existing = || OpenOptions::new().read(true).custom_flags(flags).open(&path);
        let fresh = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o644).open(&path)
        };
        let file = match existing() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fresh() {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => existing()?,
                made => {
                    let file = made?;
                    // The creator's umask must not keep other users from opening it.
                    file.set_permissions(Permissions::from_mode(0o644))?;
                    file
                }
            },
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            let message = format!("{} is not a plain file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(file)
    }
}

/// Makes the folder with `mode`; false when it was there already.
fn make_folder(path: &Path, mode: u32) -> io::Result<bool> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn shared(fixture: &Fixture) -> io::Result<LockDir> {
        LockDir::shared(&fixture.path("locks"))
    }

    #[test]
    fn a_second_broker_takes_other_cpus_and_a_third_says_it_shares() {
        let fixture = Fixture::flat(4);
        let mut host = fixture.host();
        let two = CoreRequest::Count(2);
        let (first, first_locks) = place(&two, &mut host, shared(&fixture)).unwrap();
        let (second, second_locks) =
            place(&CoreRequest::Auto, &mut host, shared(&fixture)).unwrap();
        assert_eq!(
            (first.pinned().to_string(), second.pinned().to_string()),
            ("0,1".into(), "2,3".into())
        );
        assert_eq!(first_locks.cpus(), first.pinned());
        assert!(second.why.contains("but 0,1, which another broker holds"), "{}", second.why);
        let (third, third_locks) = place(&two, &mut host, shared(&fixture)).unwrap();
        assert_eq!((third.warnings.len(), third_locks.cpus().len()), (1, 0));
        drop(second_locks);
        let (fourth, _) = place(&two, &mut host, shared(&fixture)).unwrap();
        assert_eq!((fourth.pinned().to_string(), fourth.warnings), ("2,3".into(), vec![]));
    }

    #[test]
    fn unpinned_cores_and_errors_hold_nothing() {
        let fixture = Fixture::flat(4);
        fixture.quota(200);
        let mut host = fixture.host();
        let (_, locks) = place(&CoreRequest::Auto, &mut host, shared(&fixture)).unwrap();
        assert!(locks.cpus().is_empty());
        let outside = CoreRequest::List(vec![9]);
        assert!(place(&outside, &mut host, shared(&fixture)).is_err());
        let (all, _) = shared(&fixture).unwrap().try_lock(&host.allowed).unwrap();
        assert_eq!(all.cpus(), host.allowed);
    }

    #[test]
    fn brokers_that_start_at_once_never_share() {
        let fixture = Fixture::flat(8);
        let start = std::sync::Barrier::new(8);
        let placed: Vec<(Placement, CpuLocks)> = std::thread::scope(|scope| {
            let brokers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut host = fixture.host();
                        start.wait();
                        place(&CoreRequest::Count(1), &mut host, shared(&fixture)).unwrap()
                    })
                })
                .collect();
            brokers.into_iter().map(|broker| broker.join().unwrap()).collect()
        });
        let all: CpuSet =
            placed.iter().flat_map(|(_, locks)| locks.cpus().iter().collect::<Vec<_>>()).collect();
        assert_eq!(all.to_string(), "0-7");
    }

    #[test]
    fn an_unusable_folder_is_a_warning() {
        let fixture = Fixture::flat(2);
        let mut host = fixture.host();
        fixture.write("locks", "a file");
        let (placement, locks) = place(&CoreRequest::Auto, &mut host, shared(&fixture)).unwrap();
        assert_eq!((placement.cores(), placement.warnings.len()), (2, 1));
        assert!(locks.cpus().is_empty());
    }

    #[test]
    fn links_are_not_followed_and_modes_are_right() {
        let fixture = Fixture::flat(1);
        let folder = shared(&fixture).unwrap();
        let mode = |path: &str| fs::metadata(fixture.path(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("locks"), mode("locks/placement.lock")), (0o1777, 0o644));
        std::os::unix::fs::symlink("/etc/passwd", fixture.path("locks/cpu-0.lock")).unwrap();
        assert!(folder.open("cpu-0.lock").is_err());
        std::os::unix::fs::symlink(fixture.path("locks"), fixture.path("link")).unwrap();
        assert!(LockDir::shared(&fixture.path("link")).is_err());
        assert!(LockDir::private(&fixture.path("own")).is_ok());
        assert_eq!(mode("own"), 0o700);
    }
}
