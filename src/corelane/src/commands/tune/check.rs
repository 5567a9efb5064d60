//! `corelane tune check`: the verdict on this machine for a server with these flags.

use std::path::{Path, PathBuf};

use serde_json::json;
use tuning::Roots;
use tuning::check::{Place, Report, Subject, Verdict};

use super::findings;
use crate::args::Output;
use crate::args::tune::CheckArgs;
use crate::commands::error::CommandError;
use crate::commands::{Outcome, output};
use crate::config::{self, Config};

/// Of the JSON document.
pub const SCHEMA: u32 = 1;

pub fn run(args: &CheckArgs) -> Result<Outcome, CommandError> {
    let file = args.serve.config.as_deref();
    let config = config::load(file, std::env::vars_os(), &args.serve.overrides())?.config;
    let report = tuning::check::check(&subject(&config, args.root.as_deref()))?;
    match args.output.output {
        Output::Text => output::print(&text(&report))?,
        Output::Json => output::print_json(&json!({
            "schema": SCHEMA,
            "verdict": report.verdict,
            "machine": report.machine,
            "findings": report.findings,
        }))?,
    }
    Ok(outcome(report.verdict))
}

pub fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Good => Outcome::Done,
        Verdict::Costs => Outcome::Bad,
        Verdict::Unknown => Outcome::Unseen,
    }
}

/// This machine, or the copy below `root`, as the place of such a server.
pub fn subject(config: &Config, root: Option<&Path>) -> Subject {
    let data_dir = absolute(&config.server.data_dir);
    let roots = match root {
        None => Roots::default(),
        Some(root) => Roots { sys: root.join("sys"), proc: root.join("proc") },
    };
    let place = match root {
        None => Place::of(&data_dir).ok(),
        Some(_) => Place::below(&roots.proc, &data_dir),
    };
    Subject {
        roots,
        data_dir,
        place,
        cores: config.server.cores.clone(),
        control_cpu: config.server.control_cpu,
        serves_network: !config.server.listen.ip().to_canonical().is_loopback(),
        connections_per_core_max: config.server.connections_per_core_max.into(),
        locked_memory_needed: server::LOCKED_MEMORY_BYTES,
        writes_in_flight: config.storage.writes_in_flight.into(),
        device_writes_per_second: config.storage.device_writes_per_second.map(u64::from),
        cache_bytes: config.storage.cache_bytes,
        io_uring: root.is_none().then(|| ring::probe().map_err(|error| error.to_string())),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn text(report: &Report) -> String {
    let mut text = findings::text(&report.findings);
    text.push('\n');
    text.push_str(&findings::summary(&report.findings));
    text
}
