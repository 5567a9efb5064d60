//! A soak as a page to look at, drawn as the bench's reports are: each figure over time, and its
//! trend.

use bench::report::html::axis::{Axis, count};
use bench::report::html::chart::Line;
use bench::report::html::{Page, escape, table};

use super::Report;
use super::samples::Sample;
use super::slope::Trend;

pub fn draw(report: &Report, samples: &[Sample]) -> String {
    let minutes = report.time.as_secs_f64() / 60.0;
    let subtitle =
        format!("{minutes:.1} minutes in {} cycles, seed {}", super::CYCLES, report.seed);
    let mut page = Page::new("Corelane under a long load", &subtitle);
    page.badges(&[match report.is_flat() {
        true => ("good", "nothing grows".to_owned()),
        false => ("bad", "something grows".to_owned()),
    }]);
    page.section("Trends, the first cycle left out", &trends(&report.trends));
    let charts = Charts { samples, trends: &report.trends };
    charts.figure(&mut page, "Resident memory", "resident", mib, |sample| sample.resident_mib);
    charts.figure(&mut page, "Descriptors", "descriptors", count, |sample| {
        f64::from(sample.descriptors)
    });
    charts.latency(&mut page);
    charts.figure(&mut page, "Disk", "disk", mib, |sample| sample.disk_mib);
    charts.figure(&mut page, "Threads", "threads", count, |sample| f64::from(sample.threads));
    charts.load(&mut page);
    let totals = &report.totals;
    page.finish(&format!(
        "{} messages acknowledged durable and found once each in order, {} records read by \
         followers; {}.",
        totals.acknowledged, totals.followed, report.churn
    ))
}

fn trends(trends: &[Trend]) -> String {
    let row = |trend: &Trend| {
        let Trend { mean, slope_per_hour, rise, rise_max, unit, .. } = trend;
        vec![
            escape(trend.name),
            escape(unit),
            format!("{mean:.1}"),
            format!("{slope_per_hour:+.2}"),
            format!("{rise:+.2}"),
            format!("{rise_max:.2}"),
            if trend.is_flat() {
                "flat".to_owned()
            } else {
                "<b class=\"bad\">grows</b>".to_owned()
            },
        ]
    };
    let heading =
        ["figure", "unit", "mean", "slope an hour", "rise over the run", "at most", "verdict"];
    table(&heading, 2, &trends.iter().map(row).collect::<Vec<_>>())
}

struct Charts<'a> {
    samples: &'a [Sample],
    trends: &'a [Trend],
}

impl Charts<'_> {
    fn time(&self) -> Axis {
        Axis::seconds("", self.samples.last().map_or(0.0, |sample| sample.second))
    }

    fn points(&self, value: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
        self.samples.iter().map(|sample| (sample.second, value(sample))).collect()
    }

    /// A figure of the server's process, and the line of its trend.
    fn figure(
        &self,
        page: &mut Page,
        title: &str,
        trend: &str,
        label: fn(f64) -> String,
        value: fn(&Sample) -> f64,
    ) {
        let points = self.points(value);
        let max = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let mut lines = vec![Line::new("measured", 0, points)];
        if let Some(trend) = self.trends.iter().find(|found| found.name == trend) {
            lines.push(Line::new("trend", 1, self.trend_line(trend)));
        }
        page.chart(title, &self.time(), &Axis::numbers("", max, label), &lines);
    }

    /// From the second cycle to the end, which is what the trend is of.
    fn trend_line(&self, trend: &Trend) -> Vec<(f64, f64)> {
        let kept: Vec<f64> =
            self.samples.iter().filter(|s| s.cycle > 0).map(|s| s.second).collect();
        let (Some(first), Some(last)) = (kept.first(), kept.last()) else { return Vec::new() };
        let middle = kept.iter().sum::<f64>() / kept.len() as f64;
        let at = |second: f64| trend.mean + trend.slope_per_hour / 3600.0 * (second - middle);
        vec![(*first, at(*first)), (*last, at(*last))]
    }

    /// Of the probe; a second without an answer has none.
    fn latency(&self, page: &mut Page) {
        let answered = || self.samples.iter().filter(|sample| sample.latency.max_us > 0.0);
        let line = |name: &str, color, value: fn(&Sample) -> f64| {
            let points = answered().map(|s| (s.second, value(s).max(0.1).log10())).collect();
            Line::new(name, color, points)
        };
        let min = answered().map(|sample| sample.latency.p50_us).fold(f64::MAX, f64::min);
        let max = answered().map(|sample| sample.latency.max_us).fold(0.0, f64::max);
        let lines = [
            line("p50", 0, |sample| sample.latency.p50_us),
            line("p99", 1, |sample| sample.latency.p99_us),
            line("slowest", 2, |sample| sample.latency.max_us),
        ];
        let title = "Latency of a publish, from the intended time of sending";
        page.chart(title, &self.time(), &Axis::latency("", min, max), &lines);
    }

    fn load(&self, page: &mut Page) {
        let lines = [
            Line::new("asked for", 0, self.points(|sample| f64::from(sample.rate))),
            Line::new("acknowledged", 1, self.points(|sample| sample.acknowledged as f64)),
        ];
        let points = lines.iter().flat_map(|line| &line.points);
        let max = points.map(|(_, value)| *value).fold(0.0, f64::max);
        page.chart("Messages a second", &self.time(), &Axis::numbers("", max, count), &lines);
    }
}

fn mib(value: f64) -> String {
    format!("{value:.0} MiB")
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Latency, trends};
    use super::*;
    use std::time::Duration;

    fn report(leak_mib_per_second: f64) -> (Report, Vec<Sample>) {
        let sample = |second: u32| Sample {
            second: f64::from(second),
            cycle: second / 12,
            rate: 100,
            acknowledged: 99,
            resident_mib: 100.0 + f64::from(second) * leak_mib_per_second,
            descriptors: 40,
            threads: 5,
            disk_mib: 64.0,
            latency: Latency { p50_us: 300.0, p99_us: 900.0, max_us: 1000.0 },
        };
        let samples: Vec<_> = (0..120).map(sample).collect();
        let report = Report {
            seed: 7,
            totals: crate::Totals::default(),
            trends: trends(&samples),
            churn: "3 <topics>".to_owned(),
            time: Duration::from_secs(120),
        };
        (report, samples)
    }

    #[test]
    fn every_figure_is_drawn_and_growth_is_named() {
        let (flat, samples) = report(0.0);
        let page = draw(&flat, &samples);
        for part in ["Resident memory", "Descriptors", "Latency", "Disk", "nothing grows"] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<svg").count(), 6);
        assert!(page.contains("3 &lt;topics&gt;") && !page.contains("<script"));
        let (grown, samples) = report(0.5);
        let page = draw(&grown, &samples);
        assert!(page.contains("something grows") && page.contains(">grows<"));
        // A run that was over at once has nothing to draw, and says so by having no charts.
        assert!(!draw(&flat, &[]).contains("<svg"));
    }
}
