//! What a crash leaves of a recorded run.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::{Content, Effect, Image, InodeId, NameChange, Names, State};
use super::{Dice, Event, Recording, SECTOR_BYTES};

/// What becomes of all that is not yet promised to be on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// None of it is there.
    Lost,
    /// All of it is there.
    Landed,
    /// One write in flight (counted from the oldest) left its first `sectors` sectors; the other
    /// writes, names and lengths are all lost, or with `others` all there.
    Torn { write: usize, sectors: usize, others: bool },
    /// The seed decides for each write, sector, name and length.
    Mixed { seed: u64 },
}

/// A walk through the crash points of a run.
#[derive(Debug)]
pub struct CrashWalk<'a> {
    recording: &'a Recording,
    point: usize,
    state: State,
}

impl<'a> CrashWalk<'a> {
    pub(super) fn new(recording: &'a Recording) -> Self {
        Self { recording, point: 0, state: State::from_image(&recording.start) }
    }

    /// Events that have happened.
    #[must_use]
    pub fn point(&self) -> usize {
        self.point
    }

    /// Lets the next event happen; false at the end of the run.
    pub fn advance(&mut self) -> bool {
        let Some(event) = self.recording.events.get(self.point) else { return false };
        match event {
            Event::Submitted(number, effect) => self.state.begin(*number, effect),
            Event::Done(number) => self.state.end(*number),
            Event::Failed(number, left) => self.state.end_failed(*number, left),
        }
        self.point += 1;
        true
    }

    /// Sectors of each write in flight, the oldest write first.
    #[must_use]
    pub fn writes_in_flight(&self) -> Vec<usize> {
        let sectors = |effect: &Effect| match effect {
            Effect::Write { data, .. } => Some(data.len() / SECTOR_BYTES),
            _ => None,
        };
        self.state.in_flight.values().filter_map(sectors).collect()
    }

    /// Whether a crash here can leave more than one thing.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        let changing = |effect: &Effect| !matches!(effect, Effect::Nothing | Effect::Sync { .. });
        !self.state.changes.is_empty()
            || self.state.in_flight.values().any(changing)
            || self.state.inodes.iter().any(|file| file.bytes_synced != file.content.bytes)
    }

    /// What a crash here leaves.
    #[must_use]
    pub fn crash(&self, fate: Fate) -> Image {
        let mut dice = Dice::new(match fate {
            Fate::Mixed { seed } => seed,
            _ => 0,
        });
        let left = self.writes_left(fate, &mut dice);
        let mut contents = BTreeMap::new();
        let mut files = BTreeMap::new();
        for (name, inode) in self.names_left(fate, &mut dice) {
            let content = contents
                .entry(inode)
                .or_insert_with(|| self.content_left(inode, &left, fate, &mut dice));
            files.insert(name, content.clone());
        }
        Image { files }
    }

    fn writes_left(&self, fate: Fate, dice: &mut Dice) -> Vec<Effect> {
        let mut left = Vec::new();
        let mut writes = 0;
        for effect in self.state.in_flight.values() {
            let Effect::Write { inode, offset, data } = effect else { continue };
            match fate {
                Fate::Lost => {}
                Fate::Landed => left.push(effect.clone()),
                Fate::Torn { write, sectors, others } => {
                    if write == writes {
                        let bytes = (sectors * SECTOR_BYTES).min(data.len());
                        let data = Arc::from(&data[..bytes]);
                        left.push(Effect::Write { inode: *inode, offset: *offset, data });
                    } else if others {
                        left.push(effect.clone());
                    }
                }
                Fate::Mixed { .. } => match dice.below(4) {
                    0 => {}
                    1 => left.push(effect.clone()),
                    _ => left.extend(some_sectors(*inode, *offset, data, dice)),
                },
            }
            writes += 1;
        }
        left
    }

    fn content_left(
        &self,
        inode: InodeId,
        left: &[Effect],
        fate: Fate,
        dice: &mut Dice,
    ) -> Content {
        let file = self.state.inode(inode);
        let mut content = file.content.clone();
        for effect in self.state.in_flight.values() {
            if let Effect::Create { inode: created, bytes, .. } = effect
                && *created == inode
            {
                content.bytes = *bytes;
            }
        }
        if !keeps(fate, dice) && file.bytes_synced < content.bytes {
            content.cut(file.bytes_synced);
        }
        for effect in left {
            if let Effect::Write { inode: written, offset, data } = effect
                && *written == inode
                && !data.is_empty()
            {
                content.write(*offset, data);
            }
        }
        content
    }

    /// The names whose changes reached the medium: with `Mixed` either the first few of them, as a
    /// journal leaves it, or any that do not build on a lost one.
    fn names_left(&self, fate: Fate, dice: &mut Dice) -> Names {
        let mut changes = self.state.changes.clone();
        let mut seen = self.state.names.clone();
        for effect in self.state.in_flight.values() {
            if let Some(change) = NameChange::resolve(effect, &seen) {
                change.apply(&mut seen);
                changes.push(change);
            }
        }
        let prefix = dice.chance(2).then(|| dice.below(changes.len() as u64 + 1));
        let mut names = self.state.names_synced.clone();
        for (index, change) in changes.iter().enumerate() {
            let kept = match (fate, prefix) {
                (Fate::Mixed { .. }, Some(first)) => (index as u64) < first,
                _ => keeps(fate, dice),
            };
            if kept {
                change.apply(&mut names);
            }
        }
        names
    }
}

fn keeps(fate: Fate, dice: &mut Dice) -> bool {
    match fate {
        Fate::Lost => false,
        Fate::Landed => true,
        Fate::Torn { others, .. } => others,
        Fate::Mixed { .. } => dice.chance(2),
    }
}

/// Part of a write: its first sectors, its last, or any.
pub(super) fn some_sectors(
    inode: InodeId,
    offset: u64,
    data: &[u8],
    dice: &mut Dice,
) -> Vec<Effect> {
    let sectors = data.len() / SECTOR_BYTES;
    let manner = dice.below(3);
    let cut = dice.below(sectors as u64 + 1) as usize;
    let mut left = Vec::new();
    for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
        let kept = match manner {
            0 => index < cut,
            1 => index >= cut,
            _ => dice.chance(2),
        };
        if kept {
            let offset = offset + (index * SECTOR_BYTES) as u64;
            left.push(Effect::Write { inode, offset, data: Arc::from(sector) });
        }
    }
    left
}
