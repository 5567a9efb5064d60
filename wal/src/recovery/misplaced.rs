//! Files that are whole and not where they belong: renamed, of another shard, of another data
//! directory. Telling them from damage saves who moved them from a restore.

use super::blocking::Blocking;
use super::list;
use crate::config::WalConfig;
use crate::device::{Action, LogDevice};
use crate::error::OpenError;
use crate::format::names;
use crate::format::segment::Claim;

/// Looks again at what an opening failed for: `error` itself, or a truer one.
pub(super) fn explain<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    config: &WalConfig,
    error: OpenError,
) -> OpenError {
    let (OpenError::Damaged { file, .. } | OpenError::Missing { file }) = &error else {
        return error;
    };
    let Some(number) = names::parse_segment(file) else { return error };
    let found = match claim_of(disk, config, file) {
        Some(claim) => what_is_wrong(&claim, config, Some(number)),
        None => find_under_another_name(disk, config, number),
    };
    let file = file.clone();
    found.map_or(error, |what| OpenError::Misplaced { file, what })
}

/// Refuses a segment that the manifest does not name and that is not this log's: it would be
/// removed as a leftover, and may be the only copy of what another log misses.
pub(super) fn refuse_stray<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    config: &WalConfig,
    name: &str,
) -> Result<(), OpenError> {
    let claim = claim_of(disk, config, name);
    match claim.and_then(|claim| what_is_wrong(&claim, config, None)) {
        Some(what) => Err(OpenError::Misplaced { file: name.to_owned(), what }),
        None => Ok(()),
    }
}

/// What a segment's header says of itself. `None`: there is no such file, or no header in it.
fn claim_of<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    config: &WalConfig,
    name: &str,
) -> Option<Claim> {
    let (file, _) = disk.open(name).ok()??;
    let unit = disk.device.block_bytes();
    // A read that fails here says nothing of the log's end.
    let earlier = disk.read_error.take();
    let head = disk.read(file, 0, unit);
    disk.read_error = earlier;
    let _ = disk.run(Action::Close { file });
    Claim::read(&head.ok()?, &config.secret)
}

/// `number`: what the file's name says; `None` where any number of this log's will do.
fn what_is_wrong(claim: &Claim, config: &WalConfig, number: Option<u64>) -> Option<String> {
    if !claim.is_of_this_directory {
        return Some(
            "its header does not carry this data directory's checksum, so it is a segment of \
             another data directory, or damaged; put the right file back or restore it from a \
             backup, and keep this one"
                .to_owned(),
        );
    }
    if claim.shard != config.shard {
        return Some(format!(
            "it is a segment of shard {}, in the directory of shard {}; put each shard's files \
             back where they were",
            claim.shard, config.shard
        ));
    }
    let number = number.filter(|number| *number != claim.number)?;
    Some(format!(
        "it is {} under the name of {}; give both their own names back",
        names::segment(claim.number),
        names::segment(number)
    ))
}

fn find_under_another_name<D: LogDevice>(
    disk: &mut Blocking<'_, D>,
    config: &WalConfig,
    number: u64,
) -> Option<String> {
    let listed = list(disk).ok()?;
    for (name, _) in listed {
        let is_it = claim_of(disk, config, &name).is_some_and(|claim| {
            claim.is_of_this_directory && claim.shard == config.shard && claim.number == number
        });
        if is_it {
            return Some(format!(
                "the manifest names it, and it lies there as {name}; rename it back"
            ));
        }
    }
    None
}

/// Why no manifest is good: both are whole by the checksum that needs no secret.
pub(super) fn foreign_manifests(file: &str) -> OpenError {
    let what = "no manifest carries this data directory's checksum though each is whole \
                otherwise, so these are a shard's files of another data directory (or both are \
                damaged); put the right ones back or restore them from a backup"
        .to_owned();
    OpenError::Misplaced { file: file.to_owned(), what }
}

pub(super) fn manifest_of_other_shard(file: String, found: u16, own: u16) -> OpenError {
    let what = format!(
        "it is the manifest of shard {found}, in the directory of shard {own}; put each shard's \
         files back where they were"
    );
    OpenError::Misplaced { file, what }
}
