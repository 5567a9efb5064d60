//! Whether a figure grows: a straight line through its samples by least squares, and how much the
//! line rises over the time measured.

use std::fmt;

/// What may be called flat: the line rises by less than a share of the figure's mean and a fixed
/// amount together.
#[derive(Clone, Copy, Debug)]
pub struct Threshold {
    pub share: f64,
    pub amount: f64,
}

/// A figure over the run.
#[derive(Clone, Debug)]
pub struct Trend {
    pub name: &'static str,
    pub unit: &'static str,
    pub mean: f64,
    pub slope_per_hour: f64,
    /// Over the time measured.
    pub rise: f64,
    pub rise_max: f64,
}

impl Trend {
    /// `samples`: seconds since the start and the figure.
    pub fn of(
        name: &'static str,
        unit: &'static str,
        samples: &[(f64, f64)],
        threshold: Threshold,
    ) -> Self {
        let mean = mean(samples.iter().map(|(_, figure)| *figure));
        let slope = slope(samples);
        let seconds = match (samples.first(), samples.last()) {
            (Some((first, _)), Some((last, _))) => last - first,
            _ => 0.0,
        };
        Self {
            name,
            unit,
            mean,
            slope_per_hour: slope * 3600.0,
            rise: slope * seconds,
            rise_max: mean * threshold.share + threshold.amount,
        }
    }

    pub fn is_flat(&self) -> bool {
        self.rise <= self.rise_max
    }
}

impl fmt::Display for Trend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<12} mean {:>9.2} {:<4} slope {:>+9.2} an hour, {:>+8.2} over the run (at most {:.2}): {}",
            self.name,
            self.mean,
            self.unit,
            self.slope_per_hour,
            self.rise,
            self.rise_max,
            if self.is_flat() { "flat" } else { "GROWS" }
        )
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0u64, 0.0), |(count, sum), value| (count + 1, sum + value));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// The slope of the least squares line.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let (time, figure) = (mean(samples.iter().map(|s| s.0)), mean(samples.iter().map(|s| s.1)));
    let (mut above, mut below) = (0.0, 0.0);
    for (at, value) in samples {
        above += (at - time) * (value - figure);
        below += (at - time) * (at - time);
    }
    if below > 0.0 { above / below } else { 0.0 }
}

/// The middle value; 0 of none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLD: Threshold = Threshold { share: 0.05, amount: 1.0 };

    fn trend(figure: impl Fn(f64) -> f64) -> Trend {
        let samples: Vec<_> = (0..600).map(|s| (f64::from(s), figure(f64::from(s)))).collect();
        Trend::of("memory", "MiB", &samples, THRESHOLD)
    }

    #[test]
    fn growth_is_told_from_waves() {
        let leak = trend(|second| 100.0 + second * 0.02);
        assert!((leak.slope_per_hour - 72.0).abs() < 0.001, "{leak}");
        assert!(!leak.is_flat(), "{leak}");
        let waves = trend(|second| 100.0 + 20.0 * (second * std::f64::consts::TAU / 60.0).sin());
        assert!(waves.is_flat(), "{waves}");
        assert!(trend(|second| 100.0 - second * 0.1).is_flat());
        assert!(Trend::of("nothing", "", &[], THRESHOLD).is_flat());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&mut [3.0, 1.0, 900.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median(&mut []).abs() < f64::EPSILON);
    }
}
