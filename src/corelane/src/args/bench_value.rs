//! Parsers of the values that only `bench` has.

use bench::{Objective, Sizes};

use super::bench::Bursts;
use super::value;

/// `1KiB`, `100..4KiB` or `100:80,1KiB:20`.
pub fn sizes(text: &str) -> Result<Sizes, String> {
    Sizes::parse(text, |size| {
        let bytes = value::bytes(size)?;
        usize::try_from(bytes).map_err(|_| format!("{size:?} is too large"))
    })
}

/// `FROM..TO`, messages a second.
pub fn ramp(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is no FROM..TO in messages a second, such as 1000..50000");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let rate = |text: &str| text.parse().ok().filter(|rate| *rate > 0).ok_or_else(wrong);
    Ok((rate(from)?, rate(to)?))
}

/// `RATE:LENGTH:EVERY`.
pub fn bursts(text: &str) -> Result<Bursts, String> {
    let wrong = || format!("{text:?} is no RATE:LENGTH:EVERY, such as 100000:100ms:1s");
    let parts: Vec<&str> = text.split(':').collect();
    let &[rate, length, every] = parts.as_slice() else { return Err(wrong()) };
    let rate = rate.parse().map_err(|_| wrong())?;
    Ok(Bursts { rate, length: value::wait(length)?, every: value::wait(every)? })
}

/// `p99=1ms`.
pub fn objective(text: &str) -> Result<Objective, String> {
    Objective::parse(text, |limit| match limit.parse::<u64>() {
        Ok(_) => Err(format!("{limit:?} has no unit; write one such as 500us or 1ms")),
        Err(_) => value::wait(limit),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sizes_have_units() {
        assert_eq!(sizes("1KiB"), Ok(Sizes::Fixed(1024)));
        assert_eq!(sizes("100..4KiB"), Ok(Sizes::Uniform { min: 100, max: 4096 }));
        assert_eq!(sizes("100:80,1KiB:20"), Ok(Sizes::Weighted(vec![(100, 80), (1024, 20)])));
        assert!(sizes("100:x").is_err() && sizes("4KiB..1KiB").is_err());
    }

    #[test]
    fn objectives_have_a_unit() {
        let limit = Duration::from_millis(1);
        let percentile = bench::Percentile::P99;
        assert_eq!(objective("p99=1ms"), Ok(Objective { percentile, limit }));
        for wrong in ["p99", "p99=1", "p98=1ms", "p99=0ms"] {
            assert!(objective(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shapes_of_rates() {
        assert_eq!(ramp("10..500"), Ok((10, 500)));
        let (length, every) = (Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(bursts("5000:100ms:1s"), Ok(Bursts { rate: 5000, length, every }));
        for wrong in ["", "10", "0..5", "a..b"] {
            assert!(ramp(wrong).is_err(), "{wrong}");
        }
        assert!(bursts("5000:1s").is_err() && bursts("x:1s:2s").is_err());
    }
}
