//! `corelane bench`: hands the flags over and prints the report.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use bench::compare::{Comparison, Entry};
use bench::{ClientLoad, Keys, Options, Pace, Rates, Report, Source, SweepOptions, Work};

use super::error::CommandError;
use super::{Outcome, output};
use crate::args::Output;
use crate::args::bench::{
    Arrivals, BenchCommand, BenchCompare, BenchLoad, BenchRun, BenchSweep, Bursts, ClientKind,
    RawPart, Route, Space, SweepWork,
};

pub fn run(command: &BenchCommand) -> Result<Outcome, CommandError> {
    match command {
        BenchCommand::Produce(run) => measure(Work::Produce, run),
        BenchCommand::Consume(run) => measure(Work::Consume, run),
        BenchCommand::E2e(run) => measure(Work::E2e, run),
        BenchCommand::Sweep(sweep) => search(sweep),
        BenchCommand::Compare(args) => compare(args),
        BenchCommand::Raw { load, data_dir, only, files, output } => {
            let mut options = load_options(Work::Raw, load);
            options.data_dir = Some(data_dir.clone());
            options.only = only.iter().map(|part| raw_part(*part)).collect();
            let report = bench::raw(&options)?;
            write_file(files.json.as_deref(), || report.to_json())?;
            write_file(files.html.as_deref(), || report.to_html())?;
            match output.output {
                Output::Text => output::print(&report.to_text())?,
                Output::Json => output::print(&format!("{}\n", report.to_json()))?,
            }
            Ok(outcome(report.is_good()))
        }
    }
}

fn measure(work: Work, run: &BenchRun) -> Result<Outcome, CommandError> {
    show(run, &bench::run(&run_options(work, run)?)?)
}

fn search(sweep: &BenchSweep) -> Result<Outcome, CommandError> {
    let work = match sweep.work {
        SweepWork::Produce => Work::Produce,
        SweepWork::E2e => Work::E2e,
    };
    let mut options = run_options(work, &sweep.run)?;
    let arrivals = arrivals(&sweep.run.load);
    options.pace = Pace::Open { rates: Rates::Constant(sweep.from as f64), arrivals };
    if sweep.run.load.in_flight.is_none() {
        options.in_flight = bench::in_flight_open(options.connections);
    }
    let wanted = SweepOptions {
        objectives: sweep.slo.clone(),
        min_per_s: sweep.from as f64,
        max_per_s: sweep.to as f64,
        tolerance: sweep.tolerance / 100.0,
        probe: sweep.probe,
    };
    let report = bench::sweep(&options, &wanted)?;
    let found = report.sweep.as_ref().is_some_and(|sweep| sweep.best_per_s.is_some());
    Ok(match show(&sweep.run, &report)? {
        Outcome::Done if !found && !report.partial => Outcome::Bad,
        outcome => outcome,
    })
}

fn compare(args: &BenchCompare) -> Result<Outcome, CommandError> {
    let entries = args.reports.iter().map(|word| entry(word)).collect::<Result<_, _>>()?;
    let comparison = Comparison::of(entries)?;
    write_file(args.html.as_deref(), || comparison.to_html())?;
    output::print(&comparison.to_text())?;
    Ok(Outcome::Done)
}

/// `FILE` or `NAME=FILE`; a file whose own name has the sign in it is taken as it is.
fn entry(word: &str) -> Result<Entry, CommandError> {
    let (name, path) = match word.split_once('=') {
        Some((name, path)) if !Path::new(word).exists() && !name.is_empty() => {
            (Some(name.to_owned()), PathBuf::from(path))
        }
        _ => (None, PathBuf::from(word)),
    };
    let input = |source| CommandError::Input { path: path.clone(), source };
    let text = std::fs::read_to_string(&path).map_err(input)?;
    let report = Report::from_json(&text)
        .map_err(|source| CommandError::Report { path: path.clone(), source })?;
    Ok(Entry { name, source: path.display().to_string(), report })
}

fn show(run: &BenchRun, report: &Report) -> Result<Outcome, CommandError> {
    write_file(run.files.json.as_deref(), || report.to_json())?;
    write_file(run.files.html.as_deref(), || report.to_html())?;
    match run.output.output {
        Output::Text => output::print(&report.to_text())?,
        Output::Json => output::print(&format!("{}\n", report.to_json()))?,
    }
    Ok(outcome(report.is_good()))
}

fn outcome(good: bool) -> Outcome {
    if good { Outcome::Done } else { Outcome::Bad }
}

fn write_file(path: Option<&Path>, text: impl FnOnce() -> String) -> Result<(), CommandError> {
    let Some(path) = path else { return Ok(()) };
    let failed = |source| CommandError::Write { path: path.to_owned(), source };
    std::fs::write(path, text() + "\n").map_err(failed)
}

fn run_options(work: Work, run: &BenchRun) -> Result<Options, CommandError> {
    let mut options = load_options(work, &run.load);
    if !run.target.embedded {
        options.server = Some(resolve(&run.target.server)?);
    }
    options.data_dir = run.target.data_dir.clone();
    options.server_cores = run.target.server_cores;
    options.route = match run.route {
        Route::Any => bench::Route::Any,
        Route::Owner => bench::Route::Owner,
        Route::Other => bench::Route::Other,
    };
    options.messages = run.messages;
    options.source = match (run.cold, run.backlog) {
        (true, _) => Source::Cold,
        (_, true) => Source::Backlog,
        _ => Source::Hot,
    };
    options.consumers = run.consumers.map(|consumers| consumers as usize);
    options.predicted = match &run.ceilings {
        Some(path) => Some(tuning::Ceilings::read(path)?.predicted),
        None => None,
    };
    options.client = match run.client {
        ClientKind::Lean => None,
        ClientKind::Tokio => Some(ClientLoad { linger: run.linger }),
    };
    options.keys = run.keys.map(|count| Keys { count, zipf: run.zipf });
    Ok(options)
}

/// The first address of a name.
pub fn resolve(name: &str) -> Result<SocketAddr, CommandError> {
    let failed = |source| CommandError::Resolve { name: name.to_owned(), source };
    let mut found = name.to_socket_addrs().map_err(failed)?;
    found.next().ok_or_else(|| failed(io::Error::other("the name has no address")))
}

fn load_options(work: Work, load: &BenchLoad) -> Options {
    let mut options = Options::new(work);
    options.space = match load.space {
        Space::Recycled => bench::Space::Recycled,
        Space::Fresh => bench::Space::Fresh,
        Space::Fallocated => bench::Space::Fallocated,
    };
    options.sizes = load.size.clone();
    options.batch = load.batch as usize;
    options.connections = load.connections as usize;
    options.pace = pace(work, load);
    options.in_flight = match (load.in_flight, &options.pace) {
        (Some(in_flight), _) => in_flight as usize,
        (None, Pace::Closed) => 1,
        (None, Pace::Open { .. }) => bench::in_flight_open(options.connections),
    };
    options.seed = load.seed;
    options.lag_max = load.lag_max;
    options.duration = load.duration;
    options.warmup = load.warmup;
    options.ack = load.ack;
    options.topics = load.topics as usize;
    options.partitions = load.partitions as usize;
    options.cpu = load.cpu.map(|cpu| cpu as usize);
    options
}

/// An open loop, unless the flags or the kind of work say otherwise.
fn pace(work: Work, load: &BenchLoad) -> Pace {
    let closed = load.in_flight.is_some() || load.lockstep;
    let rates = if let Some(Bursts { rate, length, every }) = load.bursts {
        let (base, burst) = (load.rate.unwrap_or(1) as f64, rate as f64);
        Rates::Bursts { base, burst, length, every }
    } else if let Some(rate) = load.rate {
        Rates::Constant(rate as f64)
    } else if let Some((from, to)) = load.ramp {
        Rates::Ramp { from: from as f64, to: to as f64 }
    } else if !load.steps.is_empty() {
        Rates::Steps(load.steps.iter().map(|rate| *rate as f64).collect())
    } else if closed || matches!(work, Work::Consume | Work::Raw) {
        return Pace::Closed;
    } else {
        Rates::Constant(bench::RATE_DEFAULT)
    };
    Pace::Open { rates, arrivals: arrivals(load) }
}

fn arrivals(load: &BenchLoad) -> bench::schedule::Arrivals {
    match load.arrivals {
        Arrivals::Constant => bench::schedule::Arrivals::Constant,
        Arrivals::Poisson => bench::schedule::Arrivals::Poisson,
    }
}

fn raw_part(part: RawPart) -> bench::RawPart {
    match part {
        RawPart::Disk => bench::RawPart::Disk,
        RawPart::Loopback => bench::RawPart::Loopback,
        RawPart::Append => bench::RawPart::Append,
    }
}
