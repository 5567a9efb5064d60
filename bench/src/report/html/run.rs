//! The page of one run.

use crate::record::{LatencyUs, Point};
use crate::report::{Figures, MachineReport, Report, Settings, Stage, Sweep};

use super::axis::{Axis, count, latency, nines};
use super::chart::Line;
use super::page::{Page, escape, facts, list, table};

impl Report {
    /// One page that needs no other file.
    pub fn to_html(&self) -> String {
        let name = if self.title.is_empty() { &self.work } else { &self.title };
        let title = format!("{} {}: {name}", self.broker.name, self.broker.version);
        let mut page = Page::new(&title, &self.settings.describe());
        page.badges(&badges(self));
        page.alert("These figures cannot be relied on", &reasons(self));
        page.section("In short", &tiles(&self.figures));
        curve_chart(&mut page, &[(String::new(), &self.figures)]);
        series_charts(&mut page, &self.figures);
        if let Some(sweep) = &self.sweep {
            sweep_section(&mut page, sweep);
        }
        page.section("Where the time went", &stages(&self.stages, &self.figures));
        page.section("Measured against the machine's ceilings", &ceilings(self));
        page.pairs(&[
            ("Settings", settings(&self.settings)),
            ("Broker", broker(self)),
            ("Machine", machine(&self.machine)),
            ("Payloads and generator", checks(&self.figures)),
        ]);
        page.section("Notes", &list(&self.notes));
        page.finish(&format!(
            "Latency is of {}. Measured with corelane bench {} ({}).",
            self.figures.latency_of, self.machine.version, self.machine.commit
        ))
    }
}

fn badges(report: &Report) -> Vec<(&'static str, String)> {
    let verdict = &report.figures.verdict;
    let mut badges = vec![match report.valid {
        true => ("good", "valid".to_owned()),
        false => ("bad", "invalid".to_owned()),
    }];
    if report.partial {
        badges.push(("warn", "partial: ended early".to_owned()));
    }
    badges.push(match (verdict.is_clean(), verdict.checked) {
        (true, 0) => ("warn", "payloads not checked".to_owned()),
        (true, checked) => ("good", format!("{checked} payloads checked, all well")),
        (false, _) => ("bad", "payloads lost, repeated, out of order or altered".to_owned()),
    });
    if report.figures.rate_kept == Some(false) {
        badges.push(("warn", "rate not kept".to_owned()));
    }
    if !report.machine.optimised {
        badges.push(("bad", "unoptimised build".to_owned()));
    }
    badges
}

fn reasons(report: &Report) -> Vec<String> {
    let mut reasons = report.invalid_because.clone();
    let v = &report.figures.verdict;
    if !v.is_clean() {
        let (lost, twice) = (v.lost, v.duplicated);
        let (moved, altered) = (v.reordered, v.corrupted);
        reasons.push(format!(
            "{lost} messages lost, {twice} repeated, {moved} out of order, {altered} altered"
        ));
    }
    reasons
}

pub(super) fn tiles(figures: &Figures) -> String {
    let l = &figures.latency_us;
    let mut tiles = vec![
        (count(figures.messages_per_s), "messages/s".to_owned()),
        (format!("{:.1}", figures.bytes_per_s / 1e6), "MB/s of payload".to_owned()),
        (latency(l.p50), "p50".to_owned()),
        (latency(l.p99), "p99".to_owned()),
        (latency(l.p99_9), "p99.9".to_owned()),
        (latency(l.max), "slowest".to_owned()),
    ];
    if let Some(us) = figures.server_cpu_us_per_message {
        tiles.push((latency(us), "CPU a message".to_owned()));
    }
    let tile = |(value, name): &(String, String)| {
        format!("<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(value), escape(name))
    };
    format!("<div class=\"tiles\">{}</div>", tiles.iter().map(tile).collect::<String>())
}

/// The percentile curves of named runs on one chart.
pub fn curve_chart(page: &mut Page, runs: &[(String, &Figures)]) {
    let mut lines = Vec::new();
    let (mut min, mut max, mut most) = (f64::MAX, 0_f64, 0_f64);
    for (color, (name, figures)) in runs.iter().enumerate() {
        // The slowest of all has no percentile: it stands one halving beyond the one before.
        let before = figures.curve.iter().rev().find(|point| point.quantile < 1.0);
        let last = before.map_or(1.0, |point| nines(point.quantile) + 2_f64.log10());
        let points = (figures.curve.iter())
            .map(|p| (nines(p.quantile).min(last), p.us.max(0.1).log10()))
            .collect();
        for point in &figures.curve {
            (min, max) = (min.min(point.us.max(0.1)), max.max(point.us));
        }
        most = most.max(last);
        lines.push(Line::new(name, color, points));
    }
    let x = Axis::percentiles("", most);
    let y = Axis::latency("", min, max);
    page.chart("Latency by percentile", &x, &y, &lines);
}

pub(super) fn series_charts(page: &mut Page, figures: &Figures) {
    let Figures { series, interval_s, .. } = figures;
    let end_s = series.last().map_or(0.0, |point| point.at_s + interval_s);
    let line = |name: &str, color, value: fn(&Point) -> f64| {
        let points = series.iter().map(|point| (point.at_s + interval_s / 2.0, value(point)));
        Line::new(name, color, points.collect())
    };
    let most = series.iter().map(|point| point.messages_per_s).fold(0.0, f64::max);
    let x = Axis::seconds("", end_s);
    let rate = line("messages/s", 0, |point| point.messages_per_s);
    page.chart("Messages a second", &x, &Axis::numbers("", most, count), &[rate]);
    let log = [
        line("p50", 0, |point| point.p50_us.max(0.1).log10()),
        line("p99", 1, |point| point.p99_us.max(0.1).log10()),
        line("p99.9", 3, |point| point.p99_9_us.max(0.1).log10()),
    ];
    let least = series.iter().map(|p| p.p50_us).filter(|us| *us > 0.0).fold(f64::MAX, f64::min);
    let most = series.iter().map(|point| point.p99_9_us).fold(0.0, f64::max);
    if most > 0.0 {
        page.chart("Latency over time", &x, &Axis::latency("", least, most), &log);
    }
}

fn sweep_section(page: &mut Page, sweep: &Sweep) {
    let best = match sweep.best_per_s {
        Some(best) => format!("{} messages/s keep {}", count(best), sweep.objective),
        None => format!("No rate tried keeps {}", sweep.objective),
    };
    let mut probes: Vec<_> = sweep.probes.iter().collect();
    probes.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let row = |probe: &&crate::report::Probe| {
        let verdict = match probe.kept {
            true => "<span class=\"good\">kept</span>".to_owned(),
            false => format!("<span class=\"bad\">{}</span>", escape(&probe.because)),
        };
        let LatencyUs { p50, p99, p99_9, .. } = probe.latency_us;
        let mut row = vec![verdict, format!("{:.0}", probe.rate)];
        row.push(format!("{:.0}", probe.messages_per_s));
        row.extend([p50, p99, p99_9].map(latency));
        row
    };
    let rows: Vec<_> = probes.iter().map(row).collect();
    let heading = ["", "asked/s", "reached/s", "p50", "p99", "p99.9"];
    let inside = format!(
        "<p><b>{}</b>. {}</p>{}",
        escape(&best),
        escape(&sweep.limited_by),
        table(&heading, 1, &rows)
    );
    page.section("Sweep", &inside);
    let most = probes.iter().map(|probe| probe.rate).fold(0.0, f64::max);
    let latencies = probes.iter().flat_map(|p| [p.latency_us.p50, p.latency_us.p99]);
    let (least, slowest) = latencies
        .filter(|us| *us > 0.0)
        .fold((f64::MAX, 0_f64), |(a, b), us| (a.min(us), b.max(us)));
    let line = |name, color, value: fn(&LatencyUs) -> f64| {
        let at = |p: &&crate::report::Probe| (p.rate, value(&p.latency_us).max(0.1).log10());
        Line::new(name, color, probes.iter().map(at).collect())
    };
    let lines = [line("p50", 0, |l| l.p50), line("p99", 1, |l| l.p99)];
    let x = Axis::numbers("messages/s asked for", most, count);
    page.chart("Latency by rate", &x, &Axis::latency("", least, slowest), &lines);
}

fn stages(stages: &[Stage], figures: &Figures) -> String {
    if stages.is_empty() {
        return String::new();
    }
    let most = stages.iter().map(|stage| stage.latency_us.p99).fold(f64::MIN_POSITIVE, f64::max);
    let most = most.max(figures.latency_us.p99);
    let row = |name: &str, count: Option<u64>, l: &LatencyUs, color: usize| {
        let bar = |us: f64| {
            let percent = (us / most * 100.0).clamp(0.2, 100.0);
            format!(
                "<span class=\"track\"><span class=\"bar c{color}\" \
                 style=\"width:{percent:.1}%\"></span></span>"
            )
        };
        let mut cells = vec![escape(name), bar(l.p99)];
        cells.push(count.map_or(String::new(), |count| count.to_string()));
        cells.extend([l.p50, l.p99, l.p99_9, l.max].map(latency));
        cells
    };
    let mut rows: Vec<_> = (stages.iter().enumerate())
        .map(|(at, s)| row(&s.name, Some(s.count), &s.latency_us, at % 5))
        .collect();
    let client = format!("the client's view: {}", figures.latency_of);
    rows.push(row(&client, None, &figures.latency_us, 5));
    let heading = ["stage", "p99", "times", "p50", "p99", "p99.9", "slowest"];
    let note = "<p class=\"soft\">The broker's own clocks, of groups of messages rather than \
                single ones: the stages do not add up to the client's percentiles.</p>";
    format!("{note}{}", table(&heading, 2, &rows))
}

fn ceilings(report: &Report) -> String {
    if report.ceilings.is_empty() {
        return String::new();
    }
    let row = |ceiling: &crate::report::Ceiling| {
        let share = ceiling.measured / ceiling.predicted.max(f64::MIN_POSITIVE) * 100.0;
        vec![
            escape(&ceiling.name),
            format!("{} {}", count(ceiling.measured), escape(&ceiling.unit)),
            format!("{} {}", count(ceiling.predicted), escape(&ceiling.unit)),
            format!("{share:.0}%"),
        ]
    };
    let rows: Vec<_> = report.ceilings.iter().map(row).collect();
    table(&["", "measured", "predicted at most", "share"], 1, &rows)
}

pub(super) fn settings(s: &Settings) -> String {
    let plain = |text: &Option<String>| text.clone().unwrap_or_default();
    facts(&[
        ("message", s.sizes.clone().unwrap_or_else(|| format!("{:.0} B", s.size))),
        ("messages a request", s.batch.to_string()),
        ("connections", s.connections.to_string()),
        ("consumers", s.consumers.map_or(String::new(), |n| n.to_string())),
        ("requests in flight each", s.in_flight.to_string()),
        ("pace", s.pace.clone()),
        ("measured", format!("{} s after {} s of warm-up", s.duration_s, s.warmup_s)),
        ("acknowledged", s.ack.clone()),
        ("topics x partitions", format!("{} x {}", s.topics, s.partitions)),
        ("keys", plain(&s.keys)),
        ("log space", plain(&s.space)),
        ("connections go to core", plain(&s.route)),
        ("seed", s.seed.to_string()),
    ])
}

fn broker(report: &Report) -> String {
    let (broker, s) = (&report.broker, &report.settings);
    let cores = s.server_cores.map_or(String::new(), |cores| cores.to_string());
    let mut rows = vec![
        ("name", broker.name.clone()),
        ("version", broker.version.clone()),
        ("durability", broker.durability.clone()),
        ("server", s.server.clone()),
        ("cores", cores),
    ];
    rows.extend(broker.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
    facts(&rows)
}

pub(super) fn machine(m: &MachineReport) -> String {
    let memory = format!("{:.1} GiB", m.machine.memory_bytes as f64 / f64::from(1 << 30));
    facts(&[
        ("processor", m.machine.cpu_model.clone()),
        ("CPUs", format!("{} of {} cores", m.machine.cpus_online, m.machine.physical_cores)),
        ("NUMA nodes", m.machine.numa_nodes.to_string()),
        ("memory", memory),
        ("kernel", m.machine.kernel.clone()),
        ("virtualization", m.machine.virtualization.clone()),
        ("filesystem", m.filesystem.clone().unwrap_or_default()),
    ])
}

pub(super) fn checks(figures: &Figures) -> String {
    let v = &figures.verdict;
    let generator = &figures.generator;
    let percent =
        |share: Option<f64>| share.map_or(String::new(), |s| format!("{:.0}%", s * 100.0));
    let lag = generator.lag_us.map_or(String::new(), |lag| {
        format!("p50 {}, p99 {}, most {}", latency(lag.p50), latency(lag.p99), latency(lag.max))
    });
    facts(&[
        ("payloads checked", v.checked.to_string()),
        ("lost", v.lost.to_string()),
        ("repeated", v.duplicated.to_string()),
        ("out of order", v.reordered.to_string()),
        ("altered", v.corrupted.to_string()),
        ("asked for", figures.rate_asked.map_or(String::new(), |rate| format!("{rate:.0}/s"))),
        ("generator's CPU", percent(generator.cpu_share)),
        ("generator was late by", lag),
        ("broker's CPU", percent(figures.server_cpu_share)),
    ])
}
