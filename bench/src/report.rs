//! What a run came to: as text for people, as JSON for everything else.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use serde::Serialize;
use tuning::{Filesystem, Machine, Percentiles};

use crate::generator::Measured;
use crate::latency::LatencyUs;
use crate::ledger::Verdict;
use crate::options::{Options, Route, Space, Work};

/// The result of [`crate::run`].
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Report {
    Run(Box<RunReport>),
    Raw(Box<RawReport>),
}

/// A run against a broker.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    pub work: Work,
    #[serde(flatten)]
    pub figures: Figures,
    pub settings: Settings,
    pub machine: MachineReport,
    /// What a reader of the figures has to know besides.
    pub notes: Vec<String>,
}

/// The ceilings of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct RawReport {
    pub work: Work,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loopback: Option<LoopbackReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<Figures>,
    pub settings: Settings,
    pub machine: MachineReport,
    pub notes: Vec<String>,
}

/// The figures of a run. Rates count what was acknowledged (produce) or received (consume, e2e)
/// in the measured time; bytes are payload.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    pub messages_per_s: f64,
    pub bytes_per_s: f64,
    pub latency_us: LatencyUs,
    /// What the latency is of.
    pub latency_of: &'static str,
    #[serde(flatten)]
    pub verdict: Verdict,
    pub messages: u64,
    pub seconds: f64,
    /// Open loop: what was asked for, messages per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_asked: Option<f64>,
    /// Open loop: whether that was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_kept: Option<bool>,
    /// CPU time of the server's process (raw: of the loop's thread), microseconds per message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_message: Option<f64>,
    /// The same as a share of the measured time; 1.0 is one CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_share: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct DiskReport {
    pub write_durable_4k_us: Percentiles,
    pub write_durable_256k_depth4_bytes_per_s: f64,
    pub read_sequential_bytes_per_s: f64,
    /// False where the filesystem refuses O_DIRECT: the reads may then have come from memory.
    pub direct: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct LoopbackReport {
    pub round_trip_64b_us: Percentiles,
    pub stream_64k_bytes_per_s: f64,
    pub eventfd_round_trip_us: Percentiles,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub size: usize,
    pub batch: usize,
    pub connections: usize,
    pub in_flight: usize,
    pub rate: Option<f64>,
    pub duration_s: f64,
    pub warmup_s: f64,
    pub ack: &'static str,
    pub space: Space,
    pub topics: usize,
    pub partitions: usize,
    pub route: Route,
    /// `embedded` or the server's address.
    pub server: String,
    pub server_cores: Option<u16>,
    pub generator_cpu: Option<usize>,
}

/// What it was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct MachineReport {
    #[serde(flatten)]
    pub machine: Machine,
    /// Of the data directory, where it is known.
    pub filesystem: Option<String>,
    pub version: &'static str,
    pub commit: String,
    /// Figures of an unoptimised build say nothing.
    pub optimised: bool,
}

impl Report {
    /// One JSON object on several lines.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    pub fn to_text(&self) -> String {
        match self {
            Self::Run(report) => report.to_text(),
            Self::Raw(report) => report.to_text(),
        }
    }

    /// Whether nothing was lost, repeated, out of order or altered.
    pub fn is_clean(&self) -> bool {
        match self {
            Self::Run(report) => report.figures.verdict.is_clean(),
            Self::Raw(report) => report.append.as_ref().is_none_or(|a| a.verdict.is_clean()),
        }
    }
}

impl RunReport {
    fn to_text(&self) -> String {
        let mut out = String::new();
        self.machine.write(&mut out);
        let title = format!("{:?}", self.work).to_lowercase();
        self.settings.write(&title, &mut out);
        self.figures.write(&mut out);
        notes(&self.notes, &mut out);
        out
    }
}

impl RawReport {
    fn to_text(&self) -> String {
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
        notes(&self.notes, &mut out);
        out
    }
}

impl Figures {
    /// `messages` of `size` payload bytes in the measured time.
    pub(crate) fn new(
        measured: &Measured,
        messages: u64,
        options: &Options,
        latency_of: &'static str,
        verdict: Verdict,
    ) -> Self {
        let seconds = measured.seconds.max(1e-9);
        let messages_per_s = messages as f64 / seconds;
        let cpu_us = measured.cpu.map(|cpu| cpu.as_secs_f64() * 1e6);
        let kept = |asked: f64| {
            let missed = measured.overdue as f64 * options.batch as f64;
            messages_per_s >= asked * 0.99 && missed <= asked * seconds * 0.01
        };
        Self {
            messages_per_s,
            bytes_per_s: messages_per_s * options.size as f64,
            latency_us: measured.latency,
            latency_of,
            verdict,
            messages,
            seconds: measured.seconds,
            rate_asked: options.rate,
            rate_kept: options.rate.map(kept),
            server_cpu_us_per_message: cpu_us.map(|us| us / messages.max(1) as f64),
            server_cpu_share: cpu_us.map(|us| us / 1e6 / seconds),
        }
    }

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
        if self.rate_kept == Some(false) {
            let asked = self.rate_asked.unwrap_or_default();
            let _ = writeln!(out, "  the asked rate of {asked:.0} messages/s was NOT kept");
        }
        let _ = writeln!(
            out,
            "  checked {}: lost {}, duplicated {}, reordered {}, corrupted {}",
            v.checked, v.lost, v.duplicated, v.reordered, v.corrupted
        );
    }
}

impl Settings {
    pub(crate) fn new(options: &Options, generator_cpu: Option<usize>) -> Self {
        let embedded = options.server.is_none() && options.work != Work::Raw;
        let server = match (options.work, options.server) {
            (Work::Raw, _) => "none".into(),
            (_, Some(address)) => address.to_string(),
            (_, None) => "embedded".into(),
        };
        Self {
            size: options.size,
            batch: options.batch,
            connections: options.connections,
            in_flight: options.in_flight,
            rate: options.rate,
            duration_s: options.duration.as_secs_f64(),
            warmup_s: options.warmup.as_secs_f64(),
            ack: options.ack.as_str(),
            space: options.space,
            topics: options.topics,
            partitions: options.partitions,
            route: options.route,
            server,
            server_cores: options.server_cores.filter(|_| embedded),
            generator_cpu,
        }
    }

    fn write(&self, title: &str, out: &mut String) {
        let Self { size, batch, connections, in_flight, ack, topics, partitions, .. } = self;
        let space = format!("{:?}", self.space).to_lowercase();
        let pace = match self.rate {
            Some(rate) => format!("open loop at {rate:.0}/s"),
            None => "closed loop".into(),
        };
        let _ = writeln!(
            out,
            "{title}: {size} B x {batch} a request, {connections} connections, {in_flight} in \
             flight, {pace}, ack {ack}, {space} space, {topics} topics x {partitions} partitions"
        );
    }
}

impl MachineReport {
    /// `data_dir`: whose filesystem is named. `commit`: what the caller knows.
    pub(crate) fn read(data_dir: Option<&Path>, commit: Option<&str>) -> Self {
        Self {
            machine: Machine::read(),
            filesystem: data_dir.and_then(|dir| Filesystem::of(dir).ok()).map(|f| f.kind),
            version: env!("CARGO_PKG_VERSION"),
            commit: commit.map_or_else(find_commit, str::to_owned),
            optimised: !cfg!(debug_assertions),
        }
    }

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

/// Given at build time as `CORELANE_COMMIT`, or asked of git where the program lies.
fn find_commit() -> String {
    if let Some(commit) = option_env!("CORELANE_COMMIT") {
        return commit.to_owned();
    }
    let asked = std::env::current_exe().ok().and_then(|program| {
        let mut git = Command::new("git");
        git.arg("-C").arg(program.parent()?).args(["describe", "--always", "--dirty"]);
        let output = git.output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    });
    asked.unwrap_or_else(|| "unknown".into())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let options = Options { rate: Some(1000.0), ..Options::new(Work::Produce) };
        let measured = Measured { seconds: 2.0, overdue: 500, ..Measured::default() };
        Figures::new(&measured, 1500, &options, "publish to acknowledgement", Verdict::default())
    }

    #[test]
    fn json_has_the_keys_that_others_read() {
        let options = Options::new(Work::Produce);
        let (settings, machine) = (Settings::new(&options, None), MachineReport::read(None, None));
        let run = Report::Run(Box::new(RunReport {
            work: Work::Produce,
            figures: figures(),
            settings: settings.clone(),
            machine: machine.clone(),
            notes: vec![],
        }));
        let json: serde_json::Value = serde_json::from_str(&run.to_json()).unwrap();
        for key in ["messages_per_s", "bytes_per_s", "lost", "duplicated", "reordered", "corrupted"]
        {
            assert!(json[key].is_number(), "{key} in {json}");
        }
        for key in ["p50", "p90", "p99", "p99_9", "p99_99", "max"] {
            assert!(json["latency_us"][key].is_number(), "{key} in {json}");
        }
        assert_eq!(json["messages_per_s"], 750.0);
        assert_eq!(json["rate_kept"], false);
        assert!(run.is_clean() && run.to_text().contains("NOT kept"));

        let raw = Report::Raw(Box::new(RawReport {
            work: Work::Raw,
            disk: Some(DiskReport {
                write_durable_4k_us: Percentiles::default(),
                write_durable_256k_depth4_bytes_per_s: 1.0,
                read_sequential_bytes_per_s: 1.0,
                direct: true,
            }),
            loopback: Some(LoopbackReport {
                round_trip_64b_us: Percentiles::default(),
                stream_64k_bytes_per_s: 1.0,
                eventfd_round_trip_us: Percentiles::default(),
            }),
            append: Some(figures()),
            settings,
            machine,
            notes: vec![],
        }));
        let json: serde_json::Value = serde_json::from_str(&raw.to_json()).unwrap();
        assert!(json["disk"]["write_durable_4k_us"]["p99_9"].is_number());
        assert!(json["loopback"]["eventfd_round_trip_us"]["max"].is_number());
        assert!(json["append"]["latency_us"]["p99_99"].is_number());
        assert!(json["append"]["messages_per_s"].is_number());
    }
}
