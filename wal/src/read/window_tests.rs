//! The window alone, over a file whose bytes say where they are; reads end in any order.

use bytes::Bytes;

use super::{Got, PartNumbers, ReadOrder, Window};
use crate::cache::{Chunks, Tail};
use crate::device::DeviceError;
use crate::device::sim::Dice;

const MIB: u64 = 1024 * 1024;
const UNIT: u64 = 4096;
/// One read, bytes.
const READ: u64 = MIB / 2;

struct Reader {
    window: Window,
    chunks: Chunks,
    tail: Tail,
    end: u64,
    ahead_max: u64,
    in_order: bool,
    under_way: Vec<ReadOrder>,
    dice: Dice,
    /// The read that begins here brings fewer bytes or none.
    cut: Option<(u64, Option<usize>)>,
}

impl Reader {
    fn new(end: u64) -> Self {
        let named = std::env::var("CORELANE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = named.unwrap_or(7);
        println!("CORELANE_SEED={seed}");
        Self {
            window: Window::new(UNIT, PartNumbers::default()),
            chunks: Chunks::new(128 * MIB, MIB as usize),
            tail: Tail::default(),
            end,
            ahead_max: 8 * MIB,
            in_order: false,
            under_way: Vec::new(),
            dice: Dice::new(seed),
            cut: None,
        }
    }

    fn plan(&mut self, offset: u64, bytes: u64) {
        let Self { chunks, tail, end, ahead_max, .. } = self;
        let orders = self.window.plan(offset, bytes, *end, *ahead_max, chunks, tail);
        self.under_way.extend(orders);
    }

    fn bytes_under_way(&self) -> u64 {
        self.under_way.iter().map(|order| order.buffer.len() as u64).sum()
    }

    /// One read ends: the oldest, or any.
    fn end_one(&mut self) {
        let at =
            if self.in_order { 0 } else { self.dice.below(self.under_way.len() as u64) as usize };
        let ReadOrder { part, slot, offset, mut buffer } = self.under_way.remove(at);
        let read = content(offset, buffer.len());
        buffer.copy_from_slice(&read);
        let result = match self.cut {
            Some((cut, Some(bytes))) if cut == offset => {
                buffer.truncate(bytes);
                Ok(buffer)
            }
            Some((cut, None)) if cut == offset => Err(DeviceError::NotFound),
            _ => Ok(buffer),
        };
        self.window.read_done(part, slot, result);
    }

    /// `None` when it cannot be read.
    fn get(&mut self, offset: u64, bytes: u64) -> Option<Bytes> {
        self.plan(offset, bytes);
        loop {
            let got = self.window.get(offset, bytes, &mut self.chunks, &mut self.tail);
            assert_eq!(matches!(got, Got::Missing), !self.window.has(offset, bytes));
            match got {
                Got::Bytes(bytes) => return Some(bytes),
                Got::Failed => return None,
                Got::Missing => self.end_one(),
            }
        }
    }
}

fn content(offset: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    for (unit, at) in content.chunks_mut(UNIT as usize).zip((offset..).step_by(UNIT as usize)) {
        unit.fill((at / UNIT % 251) as u8);
        unit[..8].copy_from_slice(&at.to_le_bytes());
    }
    content
}

#[test]
fn a_reader_from_block_to_block_has_much_under_way() {
    let mut reader = Reader::new(256 * MIB);
    reader.in_order = true;
    let block = MIB + 5 * UNIT;
    reader.plan(0, block);
    assert!(reader.bytes_under_way() < 2 * MIB, "the first read is as large as it must be");
    for number in 0..60 {
        let offset = number * block;
        assert!(reader.get(offset, block).as_deref() == Some(&content(offset, block as usize)));
        reader.plan(offset + block, block);
        let ahead = reader.bytes_under_way();
        match number {
            0 => assert!((MIB..=4 * MIB).contains(&ahead), "{ahead} after one"),
            1 | 2 => {}
            _ => assert!((4 * MIB..=10 * MIB).contains(&ahead), "{ahead} after {number}"),
        }
    }
    let most = 6 * reader.chunks.chunk_bytes() as u64;
    assert!(reader.chunks.allocated_bytes() <= most, "memory is used again");
}

#[test]
fn little_is_read_ahead_while_others_wait() {
    let mut reader = Reader::new(64 * MIB);
    reader.ahead_max = MIB;
    for number in 0..500 {
        assert!(reader.get(number * 16 * UNIT, 16 * UNIT).is_some());
        assert!(reader.bytes_under_way() <= MIB);
    }
}

#[test]
fn any_range_has_its_bytes() {
    let mut reader = Reader::new(48 * MIB);
    let mut offset = 0;
    for _ in 0..600 {
        let blocks = if reader.dice.below(256) < 8 { 2_000 } else { 1 + reader.dice.below(39) };
        let bytes = blocks * UNIT;
        if offset + bytes > reader.end || reader.dice.below(256) < 10 {
            offset = reader.dice.below(9_000) * UNIT;
        }
        for bytes in [UNIT, bytes] {
            let got = reader.get(offset, bytes);
            assert!(got.as_deref() == Some(&content(offset, bytes as usize)), "at {offset}");
        }
        offset += bytes;
    }
}

#[test]
fn a_bad_read_loses_nothing_before_it_or_after_its_part() {
    let cuts = [None, Some(0), Some(3 * UNIT as usize)];
    for (slot, cut) in [0, 1].into_iter().flat_map(|slot| cuts.map(|cut| (slot, cut))) {
        // What of a part comes after the bad read is of no use.
        let rest = (2 - u64::from(slot)) * READ;
        let mut reader = Reader::new(32 * MIB);
        // Up to full speed, then one of the two reads of a part fails.
        for offset in (0..8 * MIB).step_by(MIB as usize) {
            assert!(reader.get(offset, MIB).is_some());
        }
        let ordered = reader.under_way.iter().map(|order| order.offset + READ).max();
        let mut bad = None;
        let mut lost = 0;
        for offset in (8 * MIB..32 * MIB).step_by(UNIT as usize) {
            reader.plan(offset, UNIT);
            if bad.is_none() {
                let later = reader.under_way.iter().filter(|o| Some(o.offset) >= ordered);
                bad = later.filter(|order| order.slot == slot).map(|order| order.offset).min();
                reader.cut = bad.map(|bad| (bad, cut));
            }
            match reader.get(offset, UNIT) {
                Some(got) => assert!(got == content(offset, UNIT as usize)),
                None => {
                    let bad = bad.expect("none fails before");
                    let from = bad + cut.unwrap_or(0) as u64;
                    assert!((from..bad + rest).contains(&offset), "{offset} is not in {bad}");
                    lost += 1;
                }
            }
        }
        assert_eq!(lost, (rest - cut.unwrap_or(0) as u64) / UNIT);
    }
}
