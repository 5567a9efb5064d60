//! Byte sizes and durations as people write them: `64MiB`, `20ms`, `1h30m`.

use std::time::Duration;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
pub const TIB: u64 = 1 << 40;

/// Largest first, so that showing finds the shortest form; the powers of 1000 are only read.
const BYTE_UNITS: &[(&str, u64)] = &[
    ("TiB", TIB),
    ("GiB", GIB),
    ("MiB", MIB),
    ("KiB", KIB),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Largest first; nanoseconds each.
const TIME_UNITS: &[(&str, u64)] = &[
    ("w", 7 * 86_400_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads `4096`, `64MiB`, `1 GiB`, `5MB` (a power of 1000). Units in any case.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let refused = || format!("{text:?} is no size; write bytes or a size such as 64MiB or 1GiB");
    let (digits, unit) = split_number(text.trim()).ok_or_else(refused)?;
    let scale = match unit {
        "" => 1,
        unit => {
            let known = BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
            known.ok_or_else(refused)?.1
        }
    };
    let too_large = || format!("{text:?} is more bytes than 64 bits count");
    parse_digits(digits).and_then(|count| count.checked_mul(scale)).ok_or_else(too_large)
}

/// The shortest exact form: `64MiB`, `1500KiB`, `4097`.
pub fn show_bytes(bytes: u64) -> String {
    let fits = |(_, scale): &&(&str, u64)| {
        scale.is_power_of_two() && *scale > 1 && bytes >= *scale && bytes.is_multiple_of(*scale)
    };
    match BYTE_UNITS.iter().find(fits) {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => bytes.to_string(),
    }
}

/// Reads `20ms`, `7d`, `1h30m`, `0`. Units: ns us ms s m h d w.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused = || {
        format!("{text:?} is no duration; write a number with its unit, such as 20ms, 5s, 1h or 7d")
    };
    let too_long = || format!("{text:?} is too long a duration; at most 584 years can be told");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total_ns: u64 = 0;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (digits, tail) = split_number(rest).ok_or_else(refused)?;
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        let known = TIME_UNITS.iter().find(|(name, _)| *name == unit);
        let scale = known.ok_or_else(refused)?.1;
        if scale >= smallest {
            return Err(refused());
        }
        smallest = scale;
        let part = parse_digits(digits).and_then(|count| count.checked_mul(scale));
        total_ns = part.and_then(|ns| total_ns.checked_add(ns)).ok_or_else(too_long)?;
        rest = after.trim_start();
    }
    if smallest == u64::MAX { Err(refused()) } else { Ok(Duration::from_nanos(total_ns)) }
}

/// The shortest exact form in one unit, weeks left out: `7d`, `90m`, `1500ms`.
pub fn show_duration(duration: Duration) -> String {
    let ns = duration_ns(duration);
    if ns == 0 {
        return "0".to_owned();
    }
    let fits = |(unit, scale): &&(&str, u64)| *unit != "w" && ns.is_multiple_of(*scale);
    match TIME_UNITS.iter().find(fits) {
        Some((unit, scale)) => format!("{}{unit}", ns / scale),
        None => format!("{ns}ns"),
    }
}

/// Nanoseconds, as far as 64 bits reach (584 years).
pub fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The leading digits (with `_` between them) and what follows, blanks cut.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    digits.starts_with(|c: char| c.is_ascii_digit()).then(|| (digits, rest.trim_start()))
}

fn parse_digits(digits: &str) -> Option<u64> {
    digits.replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_show() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("4096", 4096, "4KiB"),
            ("4_097 b", 4097, "4097"),
            ("64MiB", 64 * MIB, "64MiB"),
            ("1 gib", GIB, "1GiB"),
            ("1500KiB", 1500 * KIB, "1500KiB"),
            ("5MB", 5_000_000, "5000000"),
            ("3TiB", 3 * TIB, "3TiB"),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
            assert_eq!(show_bytes(bytes), shown);
            assert_eq!(parse_bytes(shown), Ok(bytes));
        }
    }

    #[test]
    fn bad_sizes_are_refused() {
        for text in ["", "MiB", "-1", "1.5GiB", "5M", "5 potatoes", "_5", "99999999999TiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_and_show() {
        for (text, ns, shown) in [
            ("0", 0, "0"),
            ("20ms", 20_000_000, "20ms"),
            ("7d", 604_800_000_000_000, "7d"),
            ("1w", 604_800_000_000_000, "7d"),
            ("1h30m", 5_400_000_000_000, "90m"),
            ("1h 30m", 5_400_000_000_000, "90m"),
            ("1s500ms", 1_500_000_000, "1500ms"),
            ("500us", 500_000, "500us"),
            ("7ns", 7, "7ns"),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(ns)), "{text}");
            assert_eq!(show_duration(Duration::from_nanos(ns)), shown);
            assert_eq!(parse_duration(shown), Ok(Duration::from_nanos(ns)));
        }
    }

    #[test]
    fn bad_durations_are_refused() {
        for text in ["", "5", "ms", "1.5s", "-1s", "5 minutes", "1m1h", "1s1s", "999999w"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
