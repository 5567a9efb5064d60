//! What a backup set is made of, as `backup.json` says it.
//!
//! No path stands in it: where each file lies follows from its numbers, so that a changed set
//! cannot point outside its directory.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The newest format of a set known here.
pub const SET_FORMAT: u32 = 1;
/// No set's description is longer, bytes: more than a million segments.
pub const SET_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// A set, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupSet {
    pub format: u32,
    pub name: String,
    /// When it was begun, Unix milliseconds, and the same for people.
    pub created_ms: i64,
    pub created: String,
    /// The data directory it was taken of.
    pub data_dir: String,
    /// The block size of the logs, bytes.
    pub block_bytes: u32,
    pub shards: Vec<ShardSet>,
}

/// One shard's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardSet {
    pub shard: u16,
    pub incarnation: u32,
    /// The last entry and the last block that are in it.
    pub durable_lsn: u64,
    pub last_sequence: u64,
    /// The newest first.
    pub checkpoints: Vec<CheckpointFile>,
    pub segments: Vec<SegmentFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointFile {
    pub start: u64,
    pub end: u64,
    pub bytes: u64,
}

/// One segment of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentFile {
    pub number: u64,
    pub generation: u32,
    /// Length of the log's file.
    pub bytes: u64,
    /// Where the blocks end.
    pub data_end: u64,
    pub first_lsn: u64,
    pub last_lsn: u64,
    pub first_sequence: u64,
    pub last_sequence: u64,
    /// Header checksum of the block before the first, and of the last.
    pub previous_crc: u32,
    pub last_crc: u32,
    /// Of a sealed segment with a footer.
    pub footer: Option<FooterPlace>,
}

/// Where a footer lies, and the checksum of its trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FooterPlace {
    pub at: u64,
    pub crc: u32,
}

/// Why a description is none.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error("it is not the description of a backup ({0}); this backup cannot be used")]
    Syntax(#[from] serde_json::Error),
    #[error("its checksum does not match; this backup cannot be used")]
    Checksum,
    #[error("it has format {found}, newer than {SET_FORMAT}; use the newer corelane")]
    Newer { found: u64 },
    #[error("{0}; this backup cannot be used")]
    Impossible(&'static str),
    #[error("it is longer than {SET_BYTES_MAX} bytes; this backup cannot be used")]
    TooLong,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// SHA-256 of the set, written without blanks.
    sha256: String,
    backup: BackupSet,
}

impl BackupSet {
    /// The description as it stands in the file.
    ///
    /// # Errors
    /// `Syntax`, which does not happen.
    pub fn to_text(&self) -> Result<String, SetError> {
        let document = Document { sha256: self.checksum()?, backup: self.clone() };
        let mut text = serde_json::to_string_pretty(&document)?;
        text.push('\n');
        Ok(text)
    }

    /// Reads and checks a description.
    ///
    /// # Errors
    /// See [`SetError`].
    pub fn parse(text: &[u8]) -> Result<Self, SetError> {
        let parsed = serde_json::from_slice::<Document>(text);
        let document = match parsed {
            Ok(document) => document,
            Err(error) => {
                // A newer one may well have other fields.
                let loose: serde_json::Value = serde_json::from_slice(text)?;
                return match loose["backup"]["format"].as_u64() {
                    Some(found) if found > u64::from(SET_FORMAT) => Err(SetError::Newer { found }),
                    _ => Err(SetError::Syntax(error)),
                };
            }
        };
        let set = document.backup;
        if set.checksum()? != document.sha256 {
            return Err(SetError::Checksum);
        }
        if set.format != SET_FORMAT {
            return Err(SetError::Newer { found: set.format.into() });
        }
        set.check()?;
        Ok(set)
    }

    fn checksum(&self) -> Result<String, SetError> {
        let digest = Sha256::digest(serde_json::to_vec(self)?);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// What the numbers must be for anything else to rely on them.
    fn check(&self) -> Result<(), SetError> {
        let unit = u64::from(self.block_bytes);
        if !(4096..=65536).contains(&self.block_bytes) || !self.block_bytes.is_power_of_two() {
            return Err(SetError::Impossible("its block size is impossible"));
        }
        if self.shards.is_empty() || self.shards.len() > usize::from(model::limits::SHARDS_MAX) {
            return Err(SetError::Impossible("its number of shards is impossible"));
        }
        for (number, shard) in (0..).zip(&self.shards) {
            if shard.shard != number || shard.checkpoints.len() > 2 {
                return Err(SetError::Impossible("its shards are not in order"));
            }
            if !shard.segments.is_sorted_by(|a, b| a.number < b.number) {
                return Err(SetError::Impossible("its segments are not in order"));
            }
            let places = shard.segments.iter().all(|segment| {
                segment.data_end > unit
                    && segment.data_end <= segment.bytes
                    && segment.bytes <= wal::config::SEGMENT_BYTES_MAX
                    && segment.number < u64::MAX
                    && segment.bytes.is_multiple_of(unit)
                    && segment.data_end.is_multiple_of(unit)
                    && segment.footer.is_none_or(|footer| {
                        footer.at >= segment.data_end
                            && footer.at < segment.bytes
                            && footer.at.is_multiple_of(unit)
                    })
            });
            if !places {
                return Err(SetError::Impossible("a segment's places are impossible"));
            }
        }
        Ok(())
    }

    /// Bytes of log that it holds, without what is not used.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        let shards = self.shards.iter();
        shards
            .map(|shard| {
                let segments: u64 = shard.segments.iter().map(SegmentFile::used_bytes).sum();
                segments + shard.checkpoints.iter().map(|checkpoint| checkpoint.bytes).sum::<u64>()
            })
            .sum()
    }

    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.segments.len()).sum()
    }
}

impl SegmentFile {
    /// Blocks and footer.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.data_end + self.footer.map_or(0, |footer| self.bytes - footer.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> BackupSet {
        let segment = SegmentFile {
            number: 7,
            generation: 1,
            bytes: 65_536,
            data_end: 8_192,
            first_lsn: 1,
            last_lsn: 9,
            first_sequence: 1,
            last_sequence: 3,
            previous_crc: 0,
            last_crc: 5,
            footer: Some(FooterPlace { at: 61_440, crc: 6 }),
        };
        BackupSet {
            format: SET_FORMAT,
            name: "a".into(),
            created_ms: 1,
            created: "then".into(),
            data_dir: "/d".into(),
            block_bytes: 4096,
            shards: vec![ShardSet {
                shard: 0,
                incarnation: 2,
                durable_lsn: 9,
                last_sequence: 3,
                checkpoints: vec![CheckpointFile { start: 1, end: 2, bytes: 8_192 }],
                segments: vec![segment],
            }],
        }
    }

    #[test]
    fn a_description_comes_back_as_it_was() {
        let text = set().to_text().unwrap();
        assert_eq!(BackupSet::parse(text.as_bytes()).unwrap(), set());
        assert_eq!(set().data_bytes(), 8_192 + 4_096 + 8_192);
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let text = set().to_text().unwrap().into_bytes();
        for at in 0..text.len() {
            if text[at].is_ascii_whitespace() {
                continue;
            }
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(BackupSet::parse(&changed).is_err(), "byte {at}");
        }
        for cut in 0..text.len() - 1 {
            assert!(BackupSet::parse(&text[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn impossible_numbers_are_refused_although_the_checksum_is_right() {
        let refused = |change: fn(&mut BackupSet), words: &str| {
            let mut set = set();
            change(&mut set);
            let error = BackupSet::parse(set.to_text().unwrap().as_bytes()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        };
        refused(|set| set.block_bytes = 0, "block size");
        refused(|set| set.block_bytes = 12_288, "block size");
        refused(|set| set.shards.clear(), "number of shards");
        refused(|set| set.shards[0].shard = 1, "in order");
        refused(|set| set.shards[0].segments[0].data_end = 65_537, "places");
        refused(|set| set.shards[0].segments[0].data_end = 4_096, "places");
        refused(|set| set.shards[0].segments[0].bytes = u64::MAX, "places");
        refused(
            |set| set.shards[0].segments[0].footer = Some(FooterPlace { at: 0, crc: 0 }),
            "places",
        );
        refused(|set| set.shards[0].segments[0].number = u64::MAX, "places");
        refused(|set| set.format = 2, "newer");
        refused(
            |set| {
                let twice = set.shards[0].segments[0];
                set.shards[0].segments.push(twice);
            },
            "in order",
        );
    }

    #[test]
    fn a_newer_format_with_other_fields_is_told_from_damage() {
        let text = br#"{"sha256": "x", "backup": {"format": 2, "flavour": "sweet"}}"#;
        let error = BackupSet::parse(text).unwrap_err();
        assert!(matches!(error, SetError::Newer { found: 2 }), "{error}");
    }
}
