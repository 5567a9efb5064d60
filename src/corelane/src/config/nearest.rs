//! The known name nearest to a mistyped one.

/// The candidate that needs the fewest edits, if these are few for its length. A name without its
/// group (`segment_bytes`) finds the whole key (`storage.segment_bytes`).
pub fn nearest(typed: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let last_part = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let edits_to = |candidate: &str| {
        // One edit for the wrong group: an equal whole is always nearer.
        let by_name = edits(&last_part(typed), &last_part(candidate)) + 1;
        edits(typed, candidate).min(by_name)
    };
    candidates
        .map(|candidate| (edits_to(&candidate), candidate))
        .min()
        .filter(|(edits, candidate)| *edits <= last_part(candidate).len().div_ceil(3))
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(typed: &str) -> Option<String> {
        let known = ["storage.segment_bytes", "storage.cache_bytes", "server.listen", "log.format"];
        nearest(typed, known.iter().map(|name| name.to_string()))
    }

    #[test]
    fn slips_and_missing_groups_are_found() {
        assert_eq!(find("storage.segmet_bytes").unwrap(), "storage.segment_bytes");
        assert_eq!(find("segment_bytes").unwrap(), "storage.segment_bytes");
        assert_eq!(find("server.listn").unwrap(), "server.listen");
        assert_eq!(find("storage.format").unwrap(), "log.format");
    }

    #[test]
    fn nonsense_finds_nothing() {
        assert_eq!(find("zzz"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("same", "same"), 0);
    }
}
