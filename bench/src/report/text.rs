//! Reports as text for a terminal.

use std::fmt::Write;

use tuning::{Machine, Percentiles};

use super::{Ceiling, Figures, MachineReport, RawReport, Report, Settings, Stage};
use crate::record::LatencyUs;

impl Report {
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.machine.write(&mut out);
        let title = if self.title.is_empty() { &self.work } else { &self.title };
        self.settings.write(title, &mut out);
        if self.partial {
            out.push_str("  PARTIAL: ended early by a signal\n");
        }
        self.figures.write(&mut out);
        self.write_parts(&mut out);
        for reason in &self.invalid_because {
            let _ = writeln!(out, "  INVALID: {reason}");
        }
        notes(&self.notes, &mut out);
        out
    }

    /// Where the time went, the ceilings and the sweep, where there are such.
    fn write_parts(&self, out: &mut String) {
        if !self.stages.is_empty() {
            let heading = ["times", "p50", "p99", "p99.9", "max"].map(|name| format!("{name:>11}"));
            let _ = writeln!(out, "  where the time went, us      {}", heading.concat());
        }
        for Stage { name, count, latency_us: l, .. } in &self.stages {
            let cells = [l.p50, l.p99, l.p99_9, l.max].map(|us| format!("{us:>11.1}"));
            let _ = writeln!(out, "    {name:<25}{count:>11}{}", cells.concat());
        }
        if let Some(memory) = &self.server_memory {
            let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
            let _ = writeln!(
                out,
                "  server memory {:.1} MiB before connecting, {:.1} connected, {:.1} at the end",
                mib(memory.before_bytes),
                mib(memory.connected_bytes),
                mib(memory.loaded_bytes)
            );
        }
        for Ceiling { name, predicted, measured, unit } in &self.ceilings {
            let percent = measured / predicted.max(f64::MIN_POSITIVE) * 100.0;
            let _ = writeln!(
                out,
                "  {name}: {measured:.0} of {predicted:.0} {unit} predicted at most, {percent:.0}%"
            );
        }
        let Some(sweep) = &self.sweep else { return };
        for probe in &sweep.probes {
            let verdict = if probe.kept { "kept" } else { probe.because.as_str() };
            let (rate, p99) = (probe.rate, probe.latency_us.p99);
            let _ = writeln!(out, "  {rate:>12.0} messages/s  p99 {p99:>9.1} us  {verdict}");
        }
        let _ = match sweep.best_per_s {
            Some(best) => writeln!(out, "  {best:.0} messages/s keep {}", sweep.objective),
            None => writeln!(out, "  no rate tried keeps {}", sweep.objective),
        };
        let _ = writeln!(out, "  {}", sweep.limited_by);
    }
}

impl RawReport {
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.machine.write(&mut out);
        if let Some(disk) = &self.disk {
            out.push_str("disk\n");
            percentiles("durable 4 KiB write, us", &disk.write_durable_4k_us, &mut out);
            rate("durable 256 KiB, depth 4", disk.write_durable_256k_depth4_bytes_per_s, &mut out);
            rate("sequential read", disk.read_sequential_bytes_per_s, &mut out);
        }
        if let Some(loopback) = &self.loopback {
            out.push_str("loopback\n");
            percentiles("64 B round trip, us", &loopback.round_trip_64b_us, &mut out);
            rate("64 KiB stream", loopback.stream_64k_bytes_per_s, &mut out);
            percentiles("eventfd round trip, us", &loopback.eventfd_round_trip_us, &mut out);
        }
        if let Some(append) = &self.append {
            self.settings.write("bare append loop", &mut out);
            append.write(&mut out);
        }
        for reason in &self.invalid_because {
            let _ = writeln!(out, "  INVALID: {reason}");
        }
        notes(&self.notes, &mut out);
        out
    }
}

impl Figures {
    fn write(&self, out: &mut String) {
        let Self { messages_per_s, bytes_per_s, latency_us: l, verdict: v, .. } = self;
        let _ = writeln!(
            out,
            "  {:.0} messages/s, {:.1} MB/s ({} in {:.1} s)",
            messages_per_s,
            bytes_per_s / 1e6,
            self.messages,
            self.seconds
        );
        let _ = writeln!(out, "  latency of {}, us", self.latency_of);
        let _ = writeln!(
            out,
            "  {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "p50", "p90", "p99", "p99.9", "p99.99", "max"
        );
        let _ = writeln!(
            out,
            "  {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
            l.p50, l.p90, l.p99, l.p99_9, l.p99_99, l.max
        );
        if let (Some(us), Some(share)) = (self.server_cpu_us_per_message, self.server_cpu_share) {
            let percent = share * 100.0;
            let _ = writeln!(out, "  server CPU {us:.3} us a message, {percent:.0}% of one CPU");
        }
        self.write_generator(out);
        if self.rate_kept == Some(false) {
            let asked = self.rate_asked.unwrap_or_default();
            let _ = writeln!(out, "  the asked rate of {asked:.0} messages/s was NOT kept");
        }
        let _ = writeln!(
            out,
            "  payloads checked {}: lost {}, duplicated {}, reordered {}, corrupted {}",
            v.checked, v.lost, v.duplicated, v.reordered, v.corrupted
        );
    }

    fn write_generator(&self, out: &mut String) {
        let mut parts = Vec::new();
        if let Some(share) = self.generator.cpu_share {
            parts.push(format!("{:.0}% of one CPU", share * 100.0));
        }
        if let Some(LatencyUs { p50, p99, max, .. }) = self.generator.lag_us {
            parts.push(format!("late by p50 {p50:.1}, p99 {p99:.1}, max {max:.1} us"));
        }
        if !parts.is_empty() {
            let _ = writeln!(out, "  generator: {}", parts.join(", "));
        }
    }
}

impl Settings {
    /// The whole of it in one line.
    pub fn describe(&self) -> String {
        let Self { batch, connections, in_flight, ack, topics, partitions, pace, .. } = self;
        let size = self.sizes.clone().unwrap_or_else(|| format!("{:.0} B", self.size));
        let mut parts = vec![format!("{size} x {batch} a request")];
        parts.push(match self.consumers {
            Some(consumers) => format!("{connections} producers to {consumers} consumers"),
            None => format!("{connections} connections"),
        });
        parts.push(format!("{in_flight} in flight"));
        parts.push(pace.clone());
        parts.push(format!("ack {ack}"));
        parts.extend(self.space.iter().map(|space| format!("{space} space")));
        parts.push(format!("{topics} topics x {partitions} partitions"));
        parts.extend(self.keys.iter().cloned());
        parts.extend(self.client.iter().map(|client| format!("through {client}")));
        parts.join(", ")
    }

    fn write(&self, title: &str, out: &mut String) {
        let _ = writeln!(out, "{title}: {}", self.describe());
    }
}

impl MachineReport {
    fn write(&self, out: &mut String) {
        let Machine { cpu_model, cpus_online, kernel, .. } = &self.machine;
        let filesystem = self.filesystem.as_deref().unwrap_or("unknown filesystem");
        let build = if self.optimised { "" } else { ", UNOPTIMISED BUILD" };
        let _ = writeln!(
            out,
            "corelane {} ({}){build} on {cpu_model}, {cpus_online} CPUs, Linux {kernel}, {filesystem}",
            self.version, self.commit
        );
    }
}

fn percentiles(name: &str, p: &Percentiles, out: &mut String) {
    let _ = writeln!(
        out,
        "  {name:<26} p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  p99.99 {:.1}  max {:.1}",
        p.p50, p.p90, p.p99, p.p99_9, p.p99_99, p.max
    );
}

fn rate(name: &str, bytes_per_s: f64, out: &mut String) {
    let _ = writeln!(out, "  {name:<26} {:.1} MB/s", bytes_per_s / 1e6);
}

fn notes(notes: &[String], out: &mut String) {
    for note in notes {
        let _ = writeln!(out, "  note: {note}");
    }
}
