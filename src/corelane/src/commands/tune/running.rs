//! `corelane tune check --running`: a live broker on this machine, seen from outside.

use std::fmt::Write;
use std::time::Duration;

use model::reply::ServerStatus;
use serde_json::json;
use tuning::check::{Finding, Verdict};
use tuning::running::{Role, Running, Thread, judge, listening_process, watch};
use tuning::{Host, Roots};

use super::check::{SCHEMA, outcome};
use super::findings;
use crate::args::tune::Broker;
use crate::args::{Output, ServerArg};
use crate::commands::error::CommandError;
use crate::commands::output::{human_bytes, table};
use crate::commands::{Outcome, bench, connect, output};

/// The process is watched so long, for rates.
const WINDOW: Duration = Duration::from_millis(500);
/// The start of the name of a broker's process.
const PROCESS: &str = "corelane";

pub fn run(broker: &Broker, form: Output) -> Result<Outcome, CommandError> {
    let roots = Roots::default();
    let (pid, status) = match broker {
        Broker::Process(pid) => (*pid, None),
        Broker::At(address) => {
            let server = ServerArg { server: address.clone() };
            // It is a broker, and says which CPUs it believes to be on.
            let status =
                connect::with_operator(&server, async |client| Ok(client.status().await?))?;
            (listening_process(&roots, bench::resolve(address)?)?, Some(status))
        }
    };
    let running = watch(&roots, pid, PROCESS, WINDOW)?;
    let (verdict, found) = judge(&running, &Host::read()?.topology);
    match form {
        Output::Text => output::print(&text(&running, status.as_ref(), &found))?,
        Output::Json => output::print_json(&document(&running, status.as_ref(), verdict, &found))?,
    }
    Ok(outcome(verdict))
}

fn text(running: &Running, status: Option<&ServerStatus>, found: &[Finding]) -> String {
    let mut text = String::new();
    let _ = write!(text, "process {}", running.pid);
    if let Some(status) = status {
        let _ = write!(text, ", version {}, data directory {}", status.version, status.data_dir);
    }
    let _ = writeln!(text, ", watched for {} ms\n", running.watched_ms);
    let heads = [
        "THREAD",
        "ID",
        "ROLE",
        "MAY RUN ON",
        "LAST ON",
        "CPU %",
        "WAITS/S",
        "PREEMPTED/S",
        "STATUS SAYS",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(running.threads.iter().map(|thread| row(thread, status)));
    text.push_str(&table(&rows));
    let memory = &running.memory;
    let nodes: Vec<String> = memory
        .by_node
        .iter()
        .map(|(node, bytes)| format!("node {node} {}", human_bytes(*bytes)))
        .collect();
    let _ = writeln!(
        text,
        "\nmemory {} resident, {} on huge pages, {} in swap; by node: {}\n",
        human_bytes(memory.resident_bytes),
        human_bytes(memory.huge_page_bytes),
        human_bytes(memory.swapped_bytes),
        if nodes.is_empty() { "not told".to_owned() } else { nodes.join(", ") }
    );
    text.push_str(&findings::text(found));
    text.push('\n');
    text.push_str(&findings::summary(found));
    text
}

fn row(thread: &Thread, status: Option<&ServerStatus>) -> Vec<String> {
    let core = thread.core.filter(|_| thread.is_core());
    let told = core.zip(status).and_then(|(number, status)| {
        let core = status.cores.iter().find(|core| u32::from(core.core.0) == number)?;
        Some(core.cpu.map_or_else(|| "any CPU".to_owned(), |cpu| format!("CPU {cpu}")))
    });
    vec![
        thread.name.clone(),
        thread.id.to_string(),
        match thread.role {
            Role::Core => "core",
            Role::Helper => "helper",
            Role::IoWorker => "io worker",
            Role::Other => "",
        }
        .to_owned(),
        thread.allowed.clone(),
        thread.last_on.to_string(),
        format!("{:.1}", thread.cpu_share * 100.0),
        format!("{:.0}", thread.waits_per_s),
        format!("{:.0}", thread.preempted_per_s),
        told.unwrap_or_default(),
    ]
}

fn document(
    running: &Running,
    status: Option<&ServerStatus>,
    verdict: Verdict,
    found: &[Finding],
) -> serde_json::Value {
    let cores = status.map(|status| {
        let cores = status.cores.iter();
        cores.map(|core| json!({ "core": core.core.0, "cpu": core.cpu })).collect::<Vec<_>>()
    });
    json!({
        "schema": SCHEMA,
        "verdict": verdict,
        "running": running,
        "status_cores": cores,
        "findings": found,
    })
}
