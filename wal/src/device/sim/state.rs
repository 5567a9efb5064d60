//! What is on the simulated medium, what its user sees, and what lies between the two.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Dice, SECTOR_BYTES};

const PAGE_BYTES: usize = 4096;

/// A file apart from its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InodeId(usize);

/// What an action does to the medium.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Nothing,
    Create {
        name: String,
        inode: InodeId,
        bytes: u64,
    },
    Write {
        inode: InodeId,
        offset: u64,
        data: Arc<[u8]>,
    },
    /// The file has at least this length, durably.
    Sync {
        inode: InodeId,
        bytes: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    /// The first `changes` changes of names ever made are durable.
    SyncNames {
        changes: u64,
    },
}

/// A change of names with the file it means.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link { name: String, inode: InodeId },
    Move { from: String, to: String, inode: InodeId },
    Unlink { name: String, inode: InodeId },
}

pub(super) type Names = BTreeMap<String, InodeId>;

/// Bytes of a file; pages never written read as zeros. Cloning shares the pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
    pub(super) bytes: u64,
}

/// A directory at rest: names, lengths, bytes. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub(super) files: BTreeMap<String, Content>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// Writes count here when they end, and are durable then.
    pub(super) content: Content,
    /// The length that a crash leaves at least.
    pub(super) bytes_synced: u64,
}

/// The disk in the middle of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(super) inodes: Vec<Inode>,
    pub(super) names: Names,
    pub(super) names_synced: Names,
    /// Made to `names` since `names_synced`, oldest first.
    pub(super) changes: Vec<NameChange>,
    /// Changes ever synced.
    changes_synced: u64,
    pub(super) in_flight: BTreeMap<u64, Effect>,
}

impl State {
    pub(crate) fn from_image(image: &Image) -> Self {
        let mut state = State::default();
        for (name, content) in &image.files {
            let inode = state.new_inode();
            state.inodes[inode.0] = Inode { content: content.clone(), bytes_synced: content.bytes };
            state.names.insert(name.clone(), inode);
        }
        state.names_synced = state.names.clone();
        state
    }

    pub(crate) fn new_inode(&mut self) -> InodeId {
        self.inodes.push(Inode::default());
        InodeId(self.inodes.len() - 1)
    }

    /// An action is under way: a crash may leave some of it.
    pub(crate) fn begin(&mut self, number: u64, effect: &Effect) {
        if let Effect::Create { inode, .. } = effect {
            while self.inodes.len() <= inode.0 {
                self.new_inode();
            }
        }
        self.in_flight.insert(number, effect.clone());
    }

    /// The action has ended well.
    pub(crate) fn end(&mut self, number: u64) {
        if let Some(effect) = self.in_flight.remove(&number) {
            self.apply(&effect);
        }
    }

    /// The action has failed and left this.
    pub(crate) fn end_failed(&mut self, number: u64, left: &[Effect]) {
        self.in_flight.remove(&number);
        for effect in left {
            self.apply(effect);
        }
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Create { inode, bytes, .. } => {
                self.inodes[inode.0].content.bytes = *bytes;
                self.change_names(effect);
            }
            Effect::Write { inode, offset, data } => {
                let end = offset + data.len() as u64;
                let file = &mut self.inodes[inode.0];
                file.content.write(*offset, data);
                file.bytes_synced = file.bytes_synced.max(end);
            }
            Effect::Sync { inode, bytes } => {
                let file = &mut self.inodes[inode.0];
                file.bytes_synced = file.bytes_synced.max(*bytes);
            }
            Effect::Rename { .. } | Effect::Remove { .. } => self.change_names(effect),
            Effect::SyncNames { changes } => {
                let newly = changes.saturating_sub(self.changes_synced);
                for change in self.changes.drain(..newly as usize) {
                    change.apply(&mut self.names_synced);
                }
                self.changes_synced += newly;
            }
        }
    }

    fn change_names(&mut self, effect: &Effect) {
        if let Some(change) = NameChange::resolve(effect, &self.names) {
            change.apply(&mut self.names);
            self.changes.push(change);
        }
    }

    /// Changes of names ever made.
    pub(crate) fn name_changes(&self) -> u64 {
        self.changes_synced + self.changes.len() as u64
    }

    pub(crate) fn named(&self, name: &str) -> Option<InodeId> {
        self.names.get(name).copied()
    }

    pub(super) fn inode(&self, inode: InodeId) -> &Inode {
        &self.inodes[inode.0]
    }

    pub(crate) fn len(&self, inode: InodeId) -> u64 {
        self.inodes[inode.0].content.bytes
    }

    /// All files together, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.names.values().map(|inode| self.len(*inode)).sum()
    }

    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        self.names.iter().map(|(name, inode)| (name.clone(), self.len(*inode))).collect()
    }

    pub(crate) fn visible(&self) -> Image {
        let content = |inode: &InodeId| self.inodes[inode.0].content.clone();
        let files = self.names.iter().map(|(name, inode)| (name.clone(), content(inode)));
        Image { files: files.collect() }
    }

    fn writes_in_flight(&self, wanted: InodeId) -> impl Iterator<Item = (u64, &Arc<[u8]>)> {
        self.in_flight.values().filter_map(move |effect| match effect {
            Effect::Write { inode, offset, data } if *inode == wanted => Some((*offset, data)),
            _ => None,
        })
    }

    pub(crate) fn in_flight_overlaps(&self, inode: InodeId, start: u64, end: u64) -> bool {
        self.writes_in_flight(inode)
            .any(|(offset, data)| offset < end && start < offset + data.len() as u64)
    }

    /// The write's bytes as they were when it was submitted.
    pub(crate) fn in_flight_write(&self, number: u64) -> Option<&[u8]> {
        match self.in_flight.get(&number) {
            Some(Effect::Write { data, .. }) => Some(data),
            _ => None,
        }
    }

    /// Fills the buffer as far as the file reaches, and with rubbish after that. Sectors being
    /// written come out old or new.
    pub(crate) fn read(
        &self,
        inode: InodeId,
        offset: u64,
        buffer: &mut [u8],
        dice: &mut Dice,
    ) -> usize {
        let file = &self.inodes[inode.0].content;
        let bytes = file.bytes.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut seen = file.clone();
        for (at, data) in self.writes_in_flight(inode) {
            for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                if dice.chance(2) {
                    seen.write(at + (index * SECTOR_BYTES) as u64, sector);
                }
            }
        }
        seen.read(offset, &mut buffer[..bytes]);
        buffer[bytes..].fill(0xa5);
        bytes
    }
}

impl NameChange {
    /// The change that `effect` makes to `names`, `None` where there is nothing to change.
    pub(super) fn resolve(effect: &Effect, names: &Names) -> Option<NameChange> {
        match effect {
            Effect::Create { name, inode, .. } => {
                Some(NameChange::Link { name: name.clone(), inode: *inode })
            }
            Effect::Rename { from, to } => names.get(from).map(|inode| NameChange::Move {
                from: from.clone(),
                to: to.clone(),
                inode: *inode,
            }),
            Effect::Remove { name } => names
                .get(name)
                .map(|inode| NameChange::Unlink { name: name.clone(), inode: *inode }),
            _ => None,
        }
    }

    /// Makes the change, unless one that it builds on was not made.
    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Move { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                    names.insert(to.clone(), *inode);
                }
            }
            NameChange::Unlink { name, inode } => {
                if names.get(name) == Some(inode) {
                    names.remove(name);
                }
            }
        }
    }
}

impl Content {
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let within = (at % PAGE_BYTES as u64) as usize;
            let take = rest.len().min(PAGE_BYTES - within);
            let page = self
                .pages
                .entry(at / PAGE_BYTES as u64)
                .or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[within..within + take].copy_from_slice(&rest[..take]);
            at += take as u64;
            rest = &rest[take..];
        }
        self.bytes = self.bytes.max(at);
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) {
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = (at % PAGE_BYTES as u64) as usize;
            let take = rest.len().min(PAGE_BYTES - within);
            let (now, later) = rest.split_at_mut(take);
            match self.pages.get(&(at / PAGE_BYTES as u64)) {
                Some(page) => now.copy_from_slice(&page[within..within + take]),
                None => now.fill(0),
            }
            at += take as u64;
            rest = later;
        }
    }

    pub(super) fn cut(&mut self, bytes: u64) {
        self.bytes = bytes;
        let _ = self.pages.split_off(&bytes.div_ceil(PAGE_BYTES as u64));
        let within = (bytes % PAGE_BYTES as u64) as usize;
        if within > 0
            && let Some(page) = self.pages.get_mut(&(bytes / PAGE_BYTES as u64))
        {
            Arc::make_mut(page)[within..].fill(0);
        }
    }
}

impl Image {
    /// File names with lengths in bytes, in order.
    pub fn names(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(name, content)| (name.as_str(), content.bytes))
    }

    /// A file's bytes.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        let content = self.files.get(name)?;
        let mut bytes = vec![0; content.bytes as usize];
        content.read(0, &mut bytes);
        Some(bytes)
    }

    /// Overwrites part of a file, which is made or grows where needed.
    pub fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        self.files.entry(name.to_owned()).or_default().write(offset, bytes);
    }

    /// Turns one bit of a file round; nothing past its end.
    pub fn flip(&mut self, name: &str, offset: u64, bit: u8) {
        if let Some(content) = self.files.get_mut(name)
            && offset < content.bytes
        {
            let mut byte = [0];
            content.read(offset, &mut byte);
            content.write(offset, &[byte[0] ^ (1 << (bit % 8))]);
        }
    }

    /// Shortens a file.
    pub fn cut(&mut self, name: &str, bytes: u64) {
        if let Some(content) = self.files.get_mut(name)
            && bytes < content.bytes
        {
            content.cut(bytes);
        }
    }

    /// Takes a file away.
    pub fn remove(&mut self, name: &str) {
        self.files.remove(name);
    }
}
