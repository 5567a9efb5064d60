//! Partitions by stream number: two loads to find one, always in rising order, no hashing.
//!
//! Stream numbers rise for ever while partitions come and go, so pages without a partition are
//! given back; what remains of them is one pointer per 256 numbers ever given out.

use model::StreamId;

use crate::partition::Partition;

const PAGE_STREAMS: usize = 256;

struct Page {
    used: usize,
    slots: [Option<Box<Partition>>; PAGE_STREAMS],
}

/// See the module's header.
#[derive(Default)]
pub(crate) struct StreamTable {
    pages: Vec<Option<Box<Page>>>,
    used: usize,
}

fn place(stream: StreamId) -> (usize, usize) {
    let number = stream.0 as usize;
    (number / PAGE_STREAMS, number % PAGE_STREAMS)
}

impl StreamTable {
    pub fn len(&self) -> usize {
        self.used
    }

    pub fn get(&self, stream: StreamId) -> Option<&Partition> {
        let (page, slot) = place(stream);
        self.pages.get(page)?.as_ref()?.slots[slot].as_deref()
    }

    pub fn get_mut(&mut self, stream: StreamId) -> Option<&mut Partition> {
        let (page, slot) = place(stream);
        self.pages.get_mut(page)?.as_mut()?.slots[slot].as_deref_mut()
    }

    /// Puts a partition where none may be yet.
    pub fn insert(&mut self, stream: StreamId, partition: Partition) {
        let (page, slot) = place(stream);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let empty = || Box::new(Page { used: 0, slots: [const { None }; PAGE_STREAMS] });
        let page = self.pages[page].get_or_insert_with(empty);
        assert!(page.slots[slot].is_none(), "stream {stream} exists already");
        page.slots[slot] = Some(Box::new(partition));
        page.used += 1;
        self.used += 1;
    }

    pub fn remove(&mut self, stream: StreamId) -> Option<Box<Partition>> {
        let (at, slot) = place(stream);
        let page = self.pages.get_mut(at)?.as_mut()?;
        let removed = page.slots[slot].take()?;
        page.used -= 1;
        self.used -= 1;
        if page.used == 0 {
            self.pages[at] = None;
        }
        Some(removed)
    }

    /// Every partition from `first` on, in the order of stream numbers.
    pub fn range(&self, first: StreamId) -> impl Iterator<Item = (StreamId, &Partition)> {
        let (first_page, first_slot) = place(first);
        self.pages.iter().enumerate().skip(first_page).flat_map(move |(at, page)| {
            let skip = if at == first_page { first_slot } else { 0 };
            let slots = page.as_deref().map(|page| &page.slots[skip..]).unwrap_or_default();
            slots.iter().enumerate().filter_map(move |(slot, partition)| {
                let number = at * PAGE_STREAMS + skip + slot;
                Some((StreamId(number as u32), partition.as_deref()?))
            })
        })
    }
}
