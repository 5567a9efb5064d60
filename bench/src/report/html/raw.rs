//! The page of the machine's ceilings.

use tuning::Percentiles;

use crate::report::RawReport;

use super::axis::latency;
use super::page::{Page, escape, facts, list, table};
use super::run;

impl RawReport {
    /// One page that needs no other file.
    pub fn to_html(&self) -> String {
        let mut page = Page::new("What this machine can do", "Measured with no broker in the way");
        page.badges(&[match self.valid {
            true => ("good", "valid".to_owned()),
            false => ("bad", "invalid".to_owned()),
        }]);
        page.alert("The bare loop's figures cannot be relied on", &self.invalid_because);
        let mut rows = Vec::new();
        let mut rates = Vec::new();
        if let Some(disk) = &self.disk {
            rows.push(row("durable 4 KiB write", &disk.write_durable_4k_us));
            let write = disk.write_durable_256k_depth4_bytes_per_s;
            rates.push(("durable 256 KiB writes, four in flight", megabytes(write)));
            rates.push(("sequential direct read", megabytes(disk.read_sequential_bytes_per_s)));
        }
        if let Some(loopback) = &self.loopback {
            rows.push(row("loopback round trip of 64 B", &loopback.round_trip_64b_us));
            rows.push(row("eventfd round trip", &loopback.eventfd_round_trip_us));
            rates.push(("loopback stream", megabytes(loopback.stream_64k_bytes_per_s)));
        }
        if !rows.is_empty() {
            let heading = ["", "p50", "p90", "p99", "p99.9", "slowest"];
            page.section("Disk and loopback: times", &table(&heading, 1, &rows));
            page.section("Disk and loopback: rates", &facts(&rates));
        }
        if let Some(append) = &self.append {
            let what = format!("<p class=\"soft\">{}</p>", escape(&self.settings.describe()));
            page.section("Bare append loop", &format!("{what}{}", run::tiles(append)));
            run::curve_chart(&mut page, &[(String::new(), append)]);
            run::series_charts(&mut page, append);
        }
        let checks = self.append.as_ref().map(run::checks).unwrap_or_default();
        page.pairs(&[
            ("Settings", run::settings(&self.settings)),
            ("Machine", run::machine(&self.machine)),
            ("Payloads and generator", checks),
        ]);
        page.section("Notes", &list(&self.notes));
        let (version, commit) = (&self.machine.version, &self.machine.commit);
        page.finish(&format!("Measured with corelane bench {version} ({commit})."))
    }
}

fn row(name: &str, p: &Percentiles) -> Vec<String> {
    let times = [p.p50, p.p90, p.p99, p.p99_9, p.max].map(latency);
    std::iter::once(escape(name)).chain(times).collect()
}

fn megabytes(bytes_per_s: f64) -> String {
    format!("{:.0} MB/s", bytes_per_s / 1e6)
}
