//! `peers`: runs the same work against Corelane and its peers, and writes one report.
//!
//! Exit codes: 0, or [`WRONG`], or [`NO_REPORT`], which clap gives for a bad command line, too.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use corelane_peers::compare::{self, Options};
use corelane_peers::peer::{Level, Peer};
use corelane_peers::report::Comparison;
use corelane_peers::workload::Workload;

/// The report is written, and a row of it failed or has messages that are not as they were sent.
const WRONG: u8 = 1;
/// There is no report.
const NO_REPORT: u8 = 2;

/// Corelane against its peers, on this machine, in one run.
#[derive(Debug, Parser)]
#[command(name = "peers", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start each broker, give it each workload, and write a report
    Run(Box<RunArgs>),
    /// Write one report of the results of several runs
    Report(ReportArgs),
    /// Say which brokers, levels and workloads there are, and which this build can drive
    List,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Only these brokers, in this order [default: all, Corelane first and again last]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<Peer>,
    /// Only these levels
    #[arg(long, value_name = "LEVEL,...", value_delimiter = ',')]
    levels: Vec<Level>,
    /// Only these workloads
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// How long each workload is measured
    #[arg(long, value_name = "N", default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// How long each runs before it is measured
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = seconds)]
    warmup: f64,
    /// How long each server works before anything counts
    #[arg(long, value_name = "N", default_value_t = 5.0, value_parser = seconds)]
    server_warmup: f64,
    /// What is published before a consume run, at most; the default is more than a second's worth
    /// for the quickest
    #[arg(long, value_name = "N", default_value_t = 1024,
        value_parser = clap::value_parser!(u64).range(1..=65_536))]
    preload_mib: u64,
    /// A server that runs already, instead of one started here; its settings and pinning are its
    /// owner's
    #[arg(long, value_name = "NAME=HOST:PORT")]
    address: Vec<String>,
    /// The CPUs of the brokers
    #[arg(long, value_name = "LIST", default_value = "0")]
    server_cpus: String,
    /// The CPU of the load
    #[arg(long, value_name = "N", default_value_t = 1)]
    load_cpu: usize,
    /// Where servers keep their data: a folder on the disk that is meant
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Where the report goes: report.md, report.html, results.json
    #[arg(long, value_name = "DIR", default_value = "peers-report")]
    out: PathBuf,
    /// Fail when a server cannot be brought, instead of naming it in the report
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, clap::Args)]
struct ReportArgs {
    /// results.json files, in the order they are to be shown
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Where the report goes
    #[arg(long, value_name = "DIR", default_value = "peers-report")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run(*args),
        Command::Report(args) => report(&args),
        Command::List => {
            print!("{}", compare::list());
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("peers: {error}");
        ExitCode::from(NO_REPORT)
    })
}

type Failure = Box<dyn std::error::Error>;

fn run(args: RunArgs) -> Result<ExitCode, Failure> {
    let addresses: Result<_, String> = args.address.iter().map(|text| address(text)).collect();
    let options = Options {
        peers: args.only,
        levels: if args.levels.is_empty() { Level::ALL.to_vec() } else { args.levels },
        workloads: if args.workloads.is_empty() { Workload::ALL.to_vec() } else { args.workloads },
        duration: Duration::from_secs_f64(args.seconds),
        warmup: Duration::from_secs_f64(args.warmup),
        server_warmup: Duration::from_secs_f64(args.server_warmup),
        preload_bytes: args.preload_mib * 1024 * 1024,
        addresses: addresses?,
        server_cpus: args.server_cpus,
        load_cpu: args.load_cpu,
        folder: args.folder,
        strict: args.strict,
    };
    let comparison = compare::run(&options)?;
    write(&comparison, &args.out)
}

fn report(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let mut all = Vec::new();
    for file in &args.results {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let one = Comparison::from_json(&text)
            .map_err(|error| format!("{} holds no results: {error}", file.display()))?;
        all.push(one);
    }
    let mut all = all.into_iter();
    let mut first = all.next().ok_or("no results were given")?;
    all.for_each(|other| first.add(other));
    write(&first, &args.out)
}

fn write(comparison: &Comparison, out: &std::path::Path) -> Result<ExitCode, Failure> {
    let fails = |error: std::io::Error| format!("cannot write to {}: {error}", out.display());
    std::fs::create_dir_all(out).map_err(fails)?;
    let files = [
        ("results.json", comparison.to_json()),
        ("report.md", comparison.to_markdown()),
        ("report.html", comparison.to_html()),
    ];
    for (name, text) in files {
        std::fs::write(out.join(name), text).map_err(fails)?;
    }
    let report = out.join("report.md");
    eprintln!("written: {}", report.display());
    let Some(wrongs) = comparison.wrongs() else { return Ok(ExitCode::SUCCESS) };
    eprintln!("peers: {wrongs}; {} says what came of each", report.display());
    Ok(ExitCode::from(WRONG))
}

fn address(text: &str) -> Result<(Peer, String), String> {
    let (name, address) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not of the form NAME=HOST:PORT"))?;
    let peer = name.parse()?;
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok((peer, address.to_owned()))
        }
        _ => Err(format!("{address:?} is not of the form HOST:PORT")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("0.1 to 3600 seconds are allowed".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_address_names_its_broker() {
        let given = address("kafka=127.0.0.1:9092").unwrap();
        assert_eq!(given, (Peer::Kafka, "127.0.0.1:9092".to_owned()));
        for wrong in ["kafka", "kafka=", "kafka=9092", "cafka=h:1", "kafka=h:99999"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
        assert!(seconds("0").is_err() && seconds("nan").is_err() && seconds("2.5") == Ok(2.5));
    }
}
