//! Whether the figures of a run are of the broker, or of a load generator that could not keep up.
//!
//! Only an open loop has times of its own to be late for. What the broker had no room for is the
//! broker's; what was sent late with room is the generator's.

use std::time::Duration;

use crate::generator::Measured;
use crate::ledger::Verdict;
use crate::options::Options;
use crate::pace::Pace;
use crate::report::{Figures, GeneratorFigures};

/// The generator's own lateness at p99 that is allowed unless told otherwise.
pub const LAG_MAX: Duration = Duration::from_millis(1);
/// A generator that works for a larger share of its CPU's time is taken to be the bottleneck.
const CPU_SHARE_MAX: f64 = 0.97;

/// What was measured in the form of a report, and why it would be invalid.
pub fn figures(
    measured: &Measured,
    options: &Options,
    latency_of: &str,
    verdict: Verdict,
) -> (Figures, Vec<String>) {
    let mut figures = Figures::new(&measured.recorder, measured.to_ns, latency_of, verdict);
    figures.set_server_cpu(measured.cpu);
    if let Pace::Open { arrivals, .. } = options.pace
        && let Ok(Some(pattern)) = options.pace.pattern(options.warmup, options.duration)
    {
        let from_s = options.warmup.as_secs_f64();
        let asked = pattern.mean_per_s(from_s, from_s + figures.seconds);
        let overdue = measured.overdue as f64 * options.batch as f64;
        figures.set_rate_asked(asked, overdue, arrivals);
    }
    let reasons;
    (figures.generator, reasons) = judge(measured, options.lag_max);
    (figures, reasons)
}

/// The generator's figures, and a sentence for each reason why the run is invalid.
fn judge(measured: &Measured, lag_max: Duration) -> (GeneratorFigures, Vec<String>) {
    let figures = GeneratorFigures {
        cpu_share: measured.generator_cpu_share,
        lag_us: measured.lag.as_ref().map(|lag| lag.summary()),
    };
    let mut reasons = Vec::new();
    if let Some(lag) = figures.lag_us {
        let lag_max_us = lag_max.as_secs_f64() * 1e6;
        if lag.p99 > lag_max_us {
            reasons.push(format!(
                "the load generator sent requests late though the broker had room for them (p99 \
                 {:.0} us, {lag_max_us:.0} allowed): give it a lower rate, larger batches or a CPU \
                 of its own",
                lag.p99
            ));
        }
        if let Some(share) = figures.cpu_share.filter(|share| *share > CPU_SHARE_MAX) {
            reasons.push(format!(
                "the load generator worked for {:.0}% of its CPU's time and is the bottleneck: \
                 give it a lower rate or larger batches",
                share * 100.0
            ));
        }
    }
    (figures, reasons)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Latencies;

    fn measured(lag_us: Option<u64>, share: f64) -> Measured {
        let lag = lag_us.map(|us| {
            let mut lag = Latencies::new();
            lag.record(us * 1_000, 100);
            lag
        });
        Measured { lag, generator_cpu_share: Some(share), ..Measured::default() }
    }

    #[test]
    fn a_late_or_busy_generator_makes_an_open_loop_invalid() {
        let reasons = |m: &Measured| judge(m, LAG_MAX).1.len();
        assert_eq!(reasons(&measured(Some(900), 0.5)), 0);
        assert_eq!(reasons(&measured(Some(1_100), 0.5)), 1);
        assert_eq!(reasons(&measured(Some(10), 0.99)), 1);
        assert_eq!(reasons(&measured(Some(10_000), 0.99)), 2);
        // A closed loop is as fast as it is.
        assert_eq!(reasons(&measured(None, 1.0)), 0);
        assert_eq!(judge(&measured(Some(5), 0.5), Duration::ZERO).1.len(), 1);
    }
}
