//! What messages look like: how their sizes and keys are spread. Pure; chance comes from a seed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use fastrand::Rng;

/// Sizes that a uniform spread is made of.
const UNIFORM_CLASSES: usize = 16;
/// Most sizes of a weighted spread.
pub const CLASSES_MAX: usize = 64;
/// Most different keys.
pub const KEYS_MAX: u32 = 1_000_000;

/// How the payload sizes of a run are spread, bytes. All messages of a request have one size.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    Fixed(usize),
    /// Evenly from one to the other, in sixteen steps.
    Uniform {
        min: usize,
        max: usize,
    },
    /// Each size as often as its weight says.
    Weighted(Vec<(usize, u32)>),
}

impl Sizes {
    /// The sizes there are and how often each comes, together 1.
    pub fn classes(&self) -> Vec<(usize, f64)> {
        match self {
            Self::Fixed(size) => vec![(*size, 1.0)],
            Self::Uniform { min, max } => {
                let step = (max - min) as f64 / (UNIFORM_CLASSES - 1) as f64;
                let size = |k: usize| min + (step * k as f64).round() as usize;
                (0..UNIFORM_CLASSES).map(|k| (size(k), 1.0 / UNIFORM_CLASSES as f64)).collect()
            }
            Self::Weighted(sizes) => {
                let total: f64 = sizes.iter().map(|(_, weight)| f64::from(*weight)).sum();
                sizes.iter().map(|(size, weight)| (*size, f64::from(*weight) / total)).collect()
            }
        }
    }

    pub fn mean(&self) -> f64 {
        self.classes().iter().map(|(size, share)| *size as f64 * share).sum()
    }

    pub fn min(&self) -> usize {
        self.classes().iter().map(|(size, _)| *size).min().unwrap_or(0)
    }

    pub fn max(&self) -> usize {
        self.classes().iter().map(|(size, _)| *size).max().unwrap_or(0)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size} B"),
            Self::Uniform { min, max } => write!(f, "{min} to {max} B"),
            Self::Weighted(sizes) => {
                let total: u64 = sizes.iter().map(|(_, weight)| u64::from(*weight)).sum();
                for (at, (size, weight)) in sizes.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    let percent = f64::from(*weight) * 100.0 / total.max(1) as f64;
                    write!(f, "{comma}{percent:.0}% {size} B")?;
                }
                Ok(())
            }
        }
    }
}

/// How often each key comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keys {
    /// Different keys.
    pub count: u32,
    /// Zipf's exponent: 0 is all alike, 1 is the skew of words in a text.
    pub zipf: f64,
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys, Zipf {}", self.count, self.zipf)
    }
}

/// One of a few things, each as often as its weight says: a table of running sums.
#[derive(Clone, Debug)]
pub struct Table(Arc<[f64]>);

impl Table {
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = weights
            .into_iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        sums.iter_mut().for_each(|s| *s /= sum);
        Self(sums.into())
    }

    pub fn zipf(keys: Keys) -> Self {
        Self::new((1..=keys.count).map(|rank| f64::from(rank).powf(-keys.zipf)))
    }

    #[inline]
    pub fn pick(&self, rng: &mut Rng) -> usize {
        if self.0.len() == 1 {
            return 0;
        }
        let at = rng.f64();
        self.0.partition_point(|sum| *sum <= at).min(self.0.len() - 1)
    }
}

/// Which of `partitions` a key belongs to: always the same, neighbours apart.
pub fn partition_of(key: u64, partitions: usize) -> usize {
    let mixed = (key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((u128::from(mixed ^ (mixed >> 29)) * partitions as u128) >> 64) as usize
}

/// `constant` things such as `64..4096` or `100:80,1024:15,65536:5` for tests and harnesses; units
/// are the command line's.
impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, |size| {
            size.parse().map_err(|_| format!("{size:?} is no number of bytes"))
        })
    }
}

impl Sizes {
    /// One size, `MIN..MAX`, or `SIZE:WEIGHT,SIZE:WEIGHT,...`; `size` reads a single one.
    pub fn parse(text: &str, size: impl Fn(&str) -> Result<usize, String>) -> Result<Self, String> {
        if let Some((min, max)) = text.split_once("..") {
            let (min, max) = (size(min)?, size(max)?);
            if min > max {
                return Err(format!("{text:?} goes down; write the smaller size first"));
            }
            return Ok(Self::Uniform { min, max });
        }
        if !text.contains(':') {
            return size(text).map(Self::Fixed);
        }
        let mut sizes = Vec::new();
        for part in text.split(',') {
            let wrong = || format!("{part:?} is no SIZE:WEIGHT, such as 1KiB:80");
            let (bytes, weight) = part.split_once(':').ok_or_else(wrong)?;
            let weight = weight.parse().ok().filter(|weight| *weight > 0).ok_or_else(wrong)?;
            sizes.push((size(bytes)?, weight));
        }
        if sizes.len() > CLASSES_MAX {
            return Err(format!("{} sizes; at most {CLASSES_MAX} are allowed", sizes.len()));
        }
        Ok(Self::Weighted(sizes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_spread_as_they_say() {
        let sizes = |text: &str| text.parse::<Sizes>();
        assert_eq!(sizes("100"), Ok(Sizes::Fixed(100)));
        let uniform = sizes("100..1600").unwrap();
        assert_eq!((uniform.classes().len(), uniform.min(), uniform.max()), (16, 100, 1600));
        assert!((uniform.mean() - 850.0).abs() < 1.0);
        let weighted = sizes("100:90,1000:10").unwrap();
        assert_eq!((weighted.mean(), weighted.max()), (190.0, 1000));
        assert_eq!(weighted.to_string(), "90% 100 B, 10% 1000 B");
        for wrong in ["", "x", "9..1", "1:", "1:0", "1:2,3", ":1"] {
            assert!(sizes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn zipf_keys_come_as_often_as_their_rank_says() {
        let table = Table::zipf(Keys { count: 1000, zipf: 1.0 });
        let mut rng = Rng::with_seed(7);
        let mut counts = vec![0_f64; 1000];
        for _ in 0..200_000 {
            counts[table.pick(&mut rng)] += 1.0;
        }
        // The sum of 1/k up to 1000 is 7.485.
        for rank in [1_usize, 2, 10] {
            let expected = 200_000.0 / 7.485 / rank as f64;
            let got = counts[rank - 1];
            assert!((got / expected - 1.0).abs() < 0.1, "rank {rank}: {got} of {expected}");
        }
        let even = Table::zipf(Keys { count: 4, zipf: 0.0 });
        let picked: Vec<_> = (0..100).map(|_| even.pick(&mut rng)).collect();
        assert!((0..4).all(|key| picked.contains(&key)));
    }

    #[test]
    fn keys_are_spread_over_all_partitions() {
        for partitions in [1, 3, 64] {
            let mut counts = vec![0; partitions];
            (0..10_000).for_each(|key| counts[partition_of(key, partitions)] += 1);
            let even = 10_000 / partitions;
            assert!(counts.iter().all(|c| *c > even / 2 && *c < even * 2), "{counts:?}");
        }
    }
}
