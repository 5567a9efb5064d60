//! What a superblock must have said, where it is damaged: told by the files it was the key to.
//!
//! The secret acts on checksums only by the state that it leaves the CRC in, 32 bits. Every header
//! with its checksum gives that state away: the CRC is run backwards from it. A secret that leaves
//! the same state does the same. Headers must agree on it before it is believed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::{Look, Superblock, shard_name};
use crate::format::{manifest, names, segment, u32_at, u64_at};

/// Headers that must agree.
const WITNESSES_MIN: usize = 2;
/// CRC32C, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The superblock of a directory that was complete; `None` when too little is left to tell.
#[must_use]
pub fn guess(look: &Look) -> Option<Superblock> {
    let mut votes: BTreeMap<([u8; 16], u32), usize> = BTreeMap::new();
    for shard in &look.shards {
        for vote in shard_votes(&look.path.join(shard_name(*shard))) {
            *votes.entry(vote).or_default() += 1;
        }
    }
    let ((secret, block_bytes), count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
    let shards = look.shards.last()?.checked_add(1)?;
    let superblock = Superblock { secret, shards, block_bytes, finished: true };
    (count >= WITNESSES_MIN).then_some(superblock)
}

/// A secret and a block size from each header in a shard's directory.
fn shard_votes(path: &Path) -> Vec<([u8; 16], u32)> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| vote(&path.join(&name), &name)).collect()
}

fn vote(path: &Path, name: &str) -> Option<([u8; 16], u32)> {
    let mut head = [0; manifest::HEADER_BYTES];
    File::open(path).ok()?.read_exact(&mut head).ok()?;
    let (number, magic, bytes) = match names::parse_segment(name) {
        Some(number) => (number, segment::MAGIC, segment::HEADER_BYTES),
        None if names::MANIFESTS.contains(&name) => {
            (u64_at(&head, 8), manifest::MAGIC, manifest::HEADER_BYTES)
        }
        None => return None,
    };
    if u32_at(&head, 0) != magic {
        return None;
    }
    let covered = bytes - 4;
    let text = [&number.to_le_bytes(), &0u64.to_le_bytes(), &head[..covered]].concat();
    let unit = u32_at(&head, 20);
    unit.is_power_of_two().then(|| (secret_behind(&text, u32_at(&head, covered)), unit))
}

/// A secret for which the checksum of secret and `text` is `crc`.
fn secret_behind(text: &[u8], crc: u32) -> [u8; 16] {
    let table = table();
    let back = |after: u32, byte: u8| {
        // The tops of the table's entries are all different.
        let at = table.iter().position(|entry| entry >> 24 == after >> 24).unwrap_or(0);
        ((after ^ table[at]) << 8) | (at as u32 ^ u32::from(byte))
    };
    let state = text.iter().rev().fold(!crc, |state, byte| back(state, *byte));
    // Twelve zeros, then the four bytes that lead from there to that state.
    let forward = |state: u32| table[(state & 0xff) as usize] ^ (state >> 8);
    let before = (0..12).fold(u32::MAX, |state, _| forward(state));
    let wanted = (0..4).fold(state, |state, _| back(state, 0));
    let mut secret = [0; 16];
    secret[12..].copy_from_slice(&(before ^ wanted).to_le_bytes());
    secret
}

fn table() -> [u32; 256] {
    std::array::from_fn(|at| {
        (0..8).fold(at as u32, |crc, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crc::{Seed, seeded};

    #[test]
    fn a_secret_is_found_that_does_the_same() {
        for secret in [[0; 16], *b"0123456789abcdef", [0xff; 16]] {
            let seed = Seed { secret, number: 77, offset: 0 };
            let crc = seeded(&seed, b"some header");
            let text = [&77u64.to_le_bytes()[..], &0u64.to_le_bytes(), b"some header"].concat();
            let found = secret_behind(&text, crc);
            for (number, offset, bytes) in [(77, 0, &b"some header"[..]), (5, 4096, b"another")] {
                let real = seeded(&Seed { secret, number, offset }, bytes);
                assert_eq!(seeded(&Seed { secret: found, number, offset }, bytes), real);
            }
        }
    }
}
