//! Partitions by stream number: two loads to find one, always in rising order, no hashing.
//!
//! Stream numbers rise for ever while partitions come and go, so pages without a partition are
//! given back; what remains of them is one pointer per 256 numbers ever given out. That row ends at
//! [`ROW_PAGES`]; behind it only pages that hold something are kept, in a tree, since a log may
//! name any number.

use std::collections::BTreeMap;

use model::StreamId;

use crate::partition::Partition;

const PAGE_STREAMS: usize = 256;
/// Pages in the row: 16 million stream numbers in half a MiB.
const ROW_PAGES: usize = 65_536;

struct Page {
    used: usize,
    slots: [Option<Box<Partition>>; PAGE_STREAMS],
}

/// See the module's header.
#[derive(Default)]
pub(crate) struct StreamTable {
    pages: Vec<Option<Box<Page>>>,
    /// Those from [`ROW_PAGES`] on, by their place; none is empty.
    far: BTreeMap<usize, Box<Page>>,
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
        match self.pages.get(page) {
            Some(page) => page.as_ref()?.slots[slot].as_deref(),
            None => self.far.get(&page)?.slots[slot].as_deref(),
        }
    }

    pub fn get_mut(&mut self, stream: StreamId) -> Option<&mut Partition> {
        let (page, slot) = place(stream);
        match self.pages.get_mut(page) {
            Some(page) => page.as_mut()?.slots[slot].as_deref_mut(),
            None => self.far.get_mut(&page)?.slots[slot].as_deref_mut(),
        }
    }

    /// Puts a partition where none may be yet.
    pub fn insert(&mut self, stream: StreamId, partition: Partition) {
        let (at, slot) = place(stream);
        let empty = || Box::new(Page { used: 0, slots: [const { None }; PAGE_STREAMS] });
        let page = if at < ROW_PAGES {
            if self.pages.len() <= at {
                self.pages.resize_with(at + 1, || None);
            }
            self.pages[at].get_or_insert_with(empty)
        } else {
            self.far.entry(at).or_insert_with(empty)
        };
        assert!(page.slots[slot].is_none(), "stream {stream} exists already");
        page.slots[slot] = Some(Box::new(partition));
        page.used += 1;
        self.used += 1;
    }

    pub fn remove(&mut self, stream: StreamId) -> Option<Box<Partition>> {
        let (at, slot) = place(stream);
        let page = match self.pages.get_mut(at) {
            Some(page) => page.as_mut()?,
            None => self.far.get_mut(&at)?,
        };
        let removed = page.slots[slot].take()?;
        page.used -= 1;
        self.used -= 1;
        if page.used == 0 {
            match self.pages.get_mut(at) {
                Some(page) => *page = None,
                None => drop(self.far.remove(&at)),
            }
        }
        Some(removed)
    }

    /// Every partition from `first` on, in the order of stream numbers.
    pub fn range(&self, first: StreamId) -> impl Iterator<Item = (StreamId, &Partition)> {
        let (first_page, first_slot) = place(first);
        let row = self.pages.iter().enumerate().skip(first_page);
        let row = row.filter_map(|(at, page)| Some((at, page.as_deref()?)));
        let far = self.far.range(first_page..).map(|(at, page)| (*at, &**page));
        row.chain(far).flat_map(move |(at, page)| {
            let skip = if at == first_page { first_slot } else { 0 };
            page.slots[skip..].iter().enumerate().filter_map(move |(slot, partition)| {
                let number = at * PAGE_STREAMS + skip + slot;
                Some((StreamId(number as u32), partition.as_deref()?))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use model::{Lsn, PartitionIndex, TopicConfig, TopicId, TopicName};

    use super::*;

    fn partition(index: u32) -> Partition {
        let name = TopicName::parse("t").unwrap();
        let config = TopicConfig::default();
        Partition::new(TopicId(1), PartitionIndex(index), name, config, 1, Lsn(1))
    }

    /// Both sides of the row's end, and the last number there is.
    #[test]
    fn far_numbers_take_no_room_for_those_between() {
        let end = (ROW_PAGES * PAGE_STREAMS) as u32;
        let numbers = [1, 255, 256, end - 1, end, end + 700, u32::MAX - 1];
        let mut table = StreamTable::default();
        for number in numbers.into_iter().rev() {
            table.insert(StreamId(number), partition(number));
        }
        assert_eq!(table.len(), numbers.len());
        assert!(table.pages.len() <= ROW_PAGES);
        assert_eq!(table.far.len(), 3);
        for (at, first) in numbers.into_iter().enumerate() {
            let found: Vec<u32> = table.range(StreamId(first)).map(|(id, _)| id.0).collect();
            assert_eq!(found, numbers[at..], "from {first}");
            assert_eq!(table.get(StreamId(first)).unwrap().index.0, first);
            assert!(table.get(StreamId(first + 1)).is_none() || numbers.contains(&(first + 1)));
        }
        for number in numbers {
            assert!(table.get_mut(StreamId(number)).is_some());
            assert_eq!(table.remove(StreamId(number)).unwrap().index.0, number);
            assert!(table.remove(StreamId(number)).is_none());
        }
        assert_eq!((table.len(), table.far.len()), (0, 0));
        assert!(table.range(StreamId(0)).next().is_none());
    }
}
