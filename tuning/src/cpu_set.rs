//! A set of CPU numbers in the kernel's list form: `0-3,8`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// One past the highest CPU number accepted; the kernel's own highest is 8191.
pub const CPU_ID_END: u32 = 65_536;

/// CPU numbers, each once, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

/// Why a text is no list of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    #[error("{0:?} is not a CPU number or a range such as 0-3")]
    NotANumber(String),
    #[error("the range {0:?} runs backwards; write the lower CPU first")]
    Backwards(String),
    #[error("CPU {0} is beyond the highest number allowed, {max}", max = CPU_ID_END - 1)]
    TooHigh(u32),
}

impl CpuSet {
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn insert(&mut self, cpu: u32) {
        self.0.insert(cpu);
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    #[must_use]
    pub fn intersection(&self, other: &CpuSet) -> CpuSet {
        self.iter().filter(|cpu| other.contains(*cpu)).collect()
    }

    #[must_use]
    pub fn without(&self, other: &CpuSet) -> CpuSet {
        self.iter().filter(|cpu| !other.contains(*cpu)).collect()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = CpuListError;

    /// Reads `0-3,8`; blanks and empty parts are skipped, so that `3,` is CPU 3 alone.
    fn from_str(text: &str) -> Result<Self, CpuListError> {
        let mut cpus = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (parse_cpu(first, part)?, parse_cpu(last, part)?);
            if first > last {
                return Err(CpuListError::Backwards(part.to_owned()));
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

fn parse_cpu(text: &str, part: &str) -> Result<u32, CpuListError> {
    let cpu: u32 = text.trim().parse().map_err(|_| CpuListError::NotANumber(part.to_owned()))?;
    if cpu >= CPU_ID_END {
        return Err(CpuListError::TooHigh(cpu));
    }
    Ok(cpu)
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while cpus.peek() == Some(&(last + 1)) {
                last += 1;
                cpus.next();
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_round_trip_in_the_kernels_form() {
        for (text, shown) in [("0", "0"), ("0-3,8", "0-3,8"), ("5,4,1", "1,4,5"), ("3,\n", "3")] {
            assert_eq!(text.parse::<CpuSet>().unwrap().to_string(), shown);
        }
        assert!("".parse::<CpuSet>().unwrap().is_empty());
    }

    #[test]
    fn bad_lists_say_what_is_wrong() {
        assert_eq!("a".parse::<CpuSet>(), Err(CpuListError::NotANumber("a".into())));
        assert_eq!("-1".parse::<CpuSet>(), Err(CpuListError::NotANumber("-1".into())));
        assert_eq!("3-1".parse::<CpuSet>(), Err(CpuListError::Backwards("3-1".into())));
        assert_eq!("0-99999".parse::<CpuSet>(), Err(CpuListError::TooHigh(99_999)));
    }
}
