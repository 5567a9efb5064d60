//! The names of the files in a shard's directory.

/// The two slots of the manifest.
pub const MANIFESTS: [&str; 2] = ["manifest-0", "manifest-1"];
/// A checkpoint while it is written.
pub const CHECKPOINT_TMP: &str = "checkpoint-tmp";
/// Spare segments for a full disk.
pub const RESERVES: [&str; 2] = ["reserve", "reserve-2"];
/// Space that is given back when a checkpoint finds none.
pub const BALLAST: &str = "reserve-checkpoint";

const SEGMENT: &str = "segment-";
const CHECKPOINT: &str = "checkpoint-";
const TORN: &str = "torn-";

/// `segment-` and the number in 20 digits.
pub fn segment(number: u64) -> String {
    format!("{SEGMENT}{number:020}")
}

/// `checkpoint-` and the LSN at its end in 20 digits.
pub fn checkpoint(end: u64) -> String {
    format!("{CHECKPOINT}{end:020}")
}

/// A cut tail: the first LSN cut, the incarnation that cut it, the segment it was in.
pub fn torn(lsn: u64, incarnation: u32, segment: u64) -> String {
    format!("{TORN}{lsn:020}-{incarnation:010}-{segment:020}")
}

/// The number in a segment's name.
pub fn parse_segment(name: &str) -> Option<u64> {
    digits(name.strip_prefix(SEGMENT)?)
}

/// The LSN in a checkpoint's name.
pub fn parse_checkpoint(name: &str) -> Option<u64> {
    digits(name.strip_prefix(CHECKPOINT)?)
}

/// Whether the name is that of a cut tail.
pub fn is_torn(name: &str) -> bool {
    name.starts_with(TORN)
}

/// Whether the name is one that a log gives to a file.
pub fn is_of_a_log(name: &str) -> bool {
    MANIFESTS.contains(&name)
        || RESERVES.contains(&name)
        || [CHECKPOINT_TMP, BALLAST].contains(&name)
        || parse_segment(name).is_some()
        || parse_checkpoint(name).is_some()
        || is_torn(name)
}

fn digits(text: &str) -> Option<u64> {
    (text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        assert_eq!(segment(7), "segment-00000000000000000007");
        assert_eq!(parse_segment(&segment(u64::MAX)), Some(u64::MAX));
        assert_eq!(parse_checkpoint(&checkpoint(12)), Some(12));
        assert!(is_torn(&torn(1, 2, 3)));
    }

    #[test]
    fn other_names_are_none_of_ours() {
        for name in ["segment-7", "segment-0000000000000000000x", "checkpoint-tmp", "segment-", ""]
        {
            assert_eq!(parse_segment(name), None);
            assert_eq!(parse_checkpoint(name), None);
            assert_eq!(is_of_a_log(name), name == CHECKPOINT_TMP);
        }
        assert!(
            is_of_a_log(&segment(1)) && is_of_a_log(&checkpoint(1)) && is_of_a_log(RESERVES[1])
        );
        assert_eq!(parse_segment("segment-99999999999999999999"), None);
    }
}
