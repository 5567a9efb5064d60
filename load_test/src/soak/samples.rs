//! One row a second of what the server uses and how fast it answers.

use std::io;
use std::path::Path;

use super::slope::{Threshold, Trend, median};

const MIB: f64 = 1024.0 * 1024.0;
pub const HEADING: &str =
    "second,cycle,rate,acknowledged,resident_mib,descriptors,threads,disk_mib,p50_us,p99_us,max_us";

#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub second: f64,
    pub cycle: u32,
    /// Messages a second asked for.
    pub rate: u32,
    /// Messages acknowledged in this second.
    pub acknowledged: u64,
    pub resident_mib: f64,
    pub descriptors: u32,
    pub threads: u32,
    pub disk_mib: f64,
    pub latency: Latency,
}

/// Of the probe, from the intended time of sending, microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

impl Latency {
    /// `None` when nothing was answered.
    pub fn of(mut times_us: Vec<f64>) -> Option<Self> {
        times_us.sort_by(f64::total_cmp);
        let last = times_us.len().checked_sub(1)?;
        let at = |share: f64| times_us[(last as f64 * share).round() as usize];
        Some(Self { p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0) })
    }
}

impl Sample {
    /// What the process uses now.
    pub fn take(pid: u32, data_dir: &Path) -> io::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or(0u32)
        };
        Ok(Self {
            resident_mib: f64::from(field("VmRSS:")) / 1024.0,
            threads: field("Threads:"),
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u32,
            disk_mib: disk_bytes(data_dir)? as f64 / MIB,
            ..Self::default()
        })
    }

    pub fn row(&self) -> String {
        format!(
            "{:.0},{},{},{},{:.1},{},{},{:.0},{:.0},{:.0},{:.0}",
            self.second,
            self.cycle,
            self.rate,
            self.acknowledged,
            self.resident_mib,
            self.descriptors,
            self.threads,
            self.disk_mib,
            self.latency.p50_us,
            self.latency.p99_us,
            self.latency.max_us
        )
    }
}

/// Files come and go while they are counted.
fn disk_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += disk_bytes(&entry.path())?,
            Ok(metadata) => bytes += metadata.len(),
            Err(_) => {}
        }
    }
    Ok(bytes)
}

/// The figures' trends, the first cycle left out: it fills caches and pools.
pub fn trends(samples: &[Sample]) -> Vec<Trend> {
    let kept: Vec<&Sample> = samples.iter().filter(|sample| sample.cycle > 0).collect();
    let trend = |name, unit, threshold, figure: &dyn Fn(&Sample) -> f64| {
        let points: Vec<_> = kept.iter().map(|sample| (sample.second, figure(sample))).collect();
        Trend::of(name, unit, &points, threshold)
    };
    let few = |amount| Threshold { share: 0.0, amount };
    let share = |share, amount| Threshold { share, amount };
    vec![
        trend("resident", "MiB", share(0.05, 8.0), &|sample| sample.resident_mib),
        trend("descriptors", "", few(4.0), &|sample| f64::from(sample.descriptors)),
        trend("threads", "", few(1.0), &|sample| f64::from(sample.threads)),
        trend("disk", "MiB", share(0.10, 64.0), &|sample| sample.disk_mib),
        by_cycle("p50", &kept, &|sample| sample.latency.p50_us),
        by_cycle("p99", &kept, &|sample| sample.latency.p99_us),
    ]
}

/// Each cycle's median stands for it: one slow second is not growth.
fn by_cycle(name: &'static str, kept: &[&Sample], figure: &dyn Fn(&Sample) -> f64) -> Trend {
    let cycles = kept.chunk_by(|one, next| one.cycle == next.cycle);
    let points: Vec<_> = cycles
        .map(|cycle| {
            let middle = cycle[cycle.len() / 2].second;
            let answered = cycle.iter().filter(|sample| sample.latency.max_us > 0.0);
            (middle, median(&mut answered.map(|sample| figure(sample)).collect::<Vec<_>>()))
        })
        .collect();
    Trend::of(name, "us", &points, Threshold { share: 0.5, amount: 500.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(leak_mib_per_second: f64) -> Vec<Sample> {
        let sample = |second: u32| Sample {
            second: f64::from(second),
            cycle: second / 12,
            resident_mib: 100.0 + f64::from(second) * leak_mib_per_second,
            latency: Latency { p50_us: 300.0, p99_us: 900.0, max_us: 1000.0 },
            ..Sample::default()
        };
        (0..120).map(sample).collect()
    }

    #[test]
    fn a_leak_is_seen_and_no_leak_is_not() {
        assert!(trends(&samples(0.0)).iter().all(Trend::is_flat));
        let grown: Vec<_> =
            trends(&samples(0.5)).into_iter().filter(|trend| !trend.is_flat()).collect();
        assert_eq!(grown.len(), 1, "{grown:?}");
        assert_eq!(grown[0].name, "resident");
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let latency = Latency::of((0..=100).rev().map(f64::from).collect()).unwrap();
        assert!((latency.p50_us - 50.0).abs() < 0.01 && (latency.p99_us - 99.0).abs() < 0.01);
        assert!(Latency::of(Vec::new()).is_none());
    }
}
