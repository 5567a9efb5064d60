//! Axes of charts: where the ticks lie and what stands beside them.

/// One axis, in the units that are drawn.
#[derive(Clone, Debug)]
pub struct Axis {
    pub title: String,
    pub from: f64,
    pub to: f64,
    pub ticks: Vec<f64>,
    pub label: fn(f64) -> String,
}

/// Most ticks of an axis of numbers.
const TICKS_MAX: f64 = 6.0;
/// Percentiles are drawn up to so many nines.
const NINES_MAX: f64 = 6.0;

impl Axis {
    /// From 0 to a little above `max`, at round numbers.
    pub fn numbers(title: &str, max: f64, label: fn(f64) -> String) -> Self {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let step = round_up(max / TICKS_MAX);
        let count = (max / step).ceil().max(1.0);
        let ticks = (0..=count as usize).map(|k| k as f64 * step).collect();
        Self { title: title.to_owned(), from: 0.0, to: count * step, ticks, label }
    }

    /// From 0 to `max` exactly: time.
    pub fn seconds(title: &str, max: f64) -> Self {
        let axis = Self::numbers(title, max, seconds);
        let to = if max > 0.0 { max } else { 1.0 };
        let ticks = axis.ticks.into_iter().filter(|tick| *tick <= to * 1.000_001).collect();
        Self { to, ticks, ..axis }
    }

    /// Latencies in microseconds on a log scale, around `min..max`; drawn are their logarithms.
    pub fn latency(title: &str, min_us: f64, max_us: f64) -> Self {
        let max_us = if max_us.is_finite() && max_us > 0.0 { max_us } else { 1_000.0 };
        let min_us = if min_us > 0.0 && min_us <= max_us { min_us } else { max_us / 10.0 };
        let (from, to) = (floor_125(min_us), ceil_125(max_us * 1.02));
        let decades = (to / from).log10();
        let mut ticks = Vec::new();
        let mut tick = from;
        while tick <= to * 1.000_001 {
            let whole = tick.log10();
            // Every decade; within few of them also its second and fifth part.
            if decades <= 2.5 || (whole - whole.round()).abs() < 1e-6 {
                ticks.push(whole);
            }
            tick = next_125(tick);
        }
        let (from, to) = (from.log10(), to.log10());
        Self { title: title.to_owned(), from, to, ticks, label: |log| latency(10_f64.powf(log)) }
    }

    /// Percentiles, spaced by how much lies beyond them: 90, 99, 99.9 are equally far apart. Drawn
    /// is the number of nines.
    pub fn percentiles(title: &str, max_nines: f64) -> Self {
        let to = max_nines.ceil().clamp(2.0, NINES_MAX);
        let mut ticks: Vec<f64> = (0..=to as usize).map(|k| k as f64).collect();
        ticks.insert(1, nines(0.5));
        Self { title: title.to_owned(), from: 0.0, to, ticks, label: percentile }
    }
}

/// How many nines a quantile has: 0.99 has two.
pub fn nines(quantile: f64) -> f64 {
    (-(1.0 - quantile).max(1e-9).log10()).clamp(0.0, NINES_MAX)
}

fn percentile(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-nines));
    let digits = (nines.round() as usize).saturating_sub(2);
    format!("{percent:.digits$}%")
}

/// `850 us`, `1.5 ms`, `2 s`.
pub fn latency(us: f64) -> String {
    if us >= 999_500.0 {
        format!("{} s", short(us / 1e6))
    } else if us >= 999.5 {
        format!("{} ms", short(us / 1e3))
    } else {
        format!("{} µs", short(us))
    }
}

/// `950`, `12.3k`, `1.25M`.
pub fn count(value: f64) -> String {
    if value >= 999_500_000.0 {
        format!("{}G", short(value / 1e9))
    } else if value >= 999_500.0 {
        format!("{}M", short(value / 1e6))
    } else if value >= 999.5 {
        format!("{}k", short(value / 1e3))
    } else {
        short(value)
    }
}

fn seconds(value: f64) -> String {
    format!("{} s", short(value))
}

/// Three digits, no zeros at the end.
fn short(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// The next of 1, 2, 5, 10, 20, ... that is not below.
fn round_up(value: f64) -> f64 {
    ceil_125(value)
}

fn floor_125(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let factor = if value >= decade * 5.0 {
        5.0
    } else if value >= decade * 2.0 {
        2.0
    } else {
        1.0
    };
    decade * factor
}

fn ceil_125(value: f64) -> f64 {
    let floor = floor_125(value);
    if floor >= value * 0.999_999 { floor } else { next_125(floor) }
}

fn next_125(value: f64) -> f64 {
    let decade = 10_f64.powf((value.log10() + 1e-9).floor());
    let factor = (value / decade).round();
    if factor < 2.0 {
        decade * 2.0
    } else if factor < 5.0 {
        decade * 5.0
    } else {
        decade * 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|tick| (axis.label)(*tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_the_data() {
        let axis = Axis::numbers("", 12_345.0, count);
        assert_eq!(labels(&axis), ["0", "5k", "10k", "15k"]);
        assert_eq!(labels(&Axis::seconds("", 10.0)), ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]);
        assert_eq!(
            labels(&Axis::latency("", 60.0, 450.0)),
            ["50 µs", "100 µs", "200 µs", "500 µs"]
        );
        let wide = Axis::latency("", 60.0, 2_500_000.0);
        assert_eq!(labels(&wide), ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        let axis = Axis::percentiles("", 3.4);
        assert_eq!(labels(&axis), ["0%", "50%", "90%", "99%", "99.9%", "99.99%"]);
    }

    #[test]
    fn odd_data_give_an_axis_all_the_same() {
        for value in [0.0, f64::NAN, f64::INFINITY, -1.0] {
            for axis in [
                Axis::numbers("", value, count),
                Axis::seconds("", value),
                Axis::latency("", value, value),
                Axis::percentiles("", value.max(0.0)),
            ] {
                assert!(axis.from < axis.to && !axis.ticks.is_empty(), "{value}: {axis:?}");
            }
        }
        let axis = Axis::latency("", 100.0, 100.0);
        assert!(axis.from < axis.to && axis.from <= 2.0, "{axis:?}");
    }

    #[test]
    fn nines_are_counted() {
        for (quantile, expected) in [(0.0, 0.0), (0.9, 1.0), (0.99, 2.0), (0.999, 3.0), (1.0, 6.0)]
        {
            assert!((nines(quantile) - expected).abs() < 1e-9, "{quantile}");
        }
    }

    #[test]
    fn values_have_three_digits_and_a_unit() {
        let shown = [0.0, 7.25, 64.06, 999.4, 1_500.0, 999_600.0].map(latency);
        assert_eq!(shown, ["0 µs", "7.25 µs", "64.1 µs", "999 µs", "1.5 ms", "1 s"]);
        assert_eq!([0.0, 950.0, 12_345.0, 1.25e6].map(count), ["0", "950", "12.3k", "1.25M"]);
    }
}
