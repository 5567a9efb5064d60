//! `corelane bench`: hands the flags over and prints the report.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use bench::{Options, Work};

use super::error::CommandError;
use super::{Outcome, output};
use crate::args::Output;
use crate::args::bench::{BenchCommand, BenchLoad, BenchRun, RawPart, Route, Space};

pub fn run(command: &BenchCommand) -> Result<Outcome, CommandError> {
    let (options, form) = match command {
        BenchCommand::Produce(run) => (run_options(Work::Produce, run)?, run.output.output),
        BenchCommand::Consume(run) => (run_options(Work::Consume, run)?, run.output.output),
        BenchCommand::E2e(run) => (run_options(Work::E2e, run)?, run.output.output),
        BenchCommand::Raw { load, data_dir, only, output } => {
            let mut options = load_options(Work::Raw, load);
            options.data_dir = Some(data_dir.clone());
            options.only = only.iter().map(|part| raw_part(*part)).collect();
            (options, output.output)
        }
    };
    let report = bench::run(&options)?;
    match form {
        Output::Text => output::print(&format!("{}\n", report.to_text().trim_end()))?,
        Output::Json => output::print(&format!("{}\n", report.to_json()))?,
    }
    Ok(if report.is_clean() { Outcome::Done } else { Outcome::Bad })
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
    options.cold = run.cold;
    Ok(options)
}

/// The first address of a name.
fn resolve(name: &str) -> Result<SocketAddr, CommandError> {
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
    options.size = usize::try_from(load.size).unwrap_or(usize::MAX);
    options.batch = load.batch as usize;
    options.connections = load.connections as usize;
    options.in_flight = load.in_flight as usize;
    options.rate = load.rate.map(|rate| rate as f64);
    options.duration = load.duration;
    options.warmup = load.warmup;
    options.ack = load.ack;
    options.topics = load.topics as usize;
    options.partitions = load.partitions as usize;
    options.cpu = load.cpu.map(|cpu| cpu as usize);
    options
}

fn raw_part(part: RawPart) -> bench::RawPart {
    match part {
        RawPart::Disk => bench::RawPart::Disk,
        RawPart::Loopback => bench::RawPart::Loopback,
        RawPart::Append => bench::RawPart::Append,
    }
}
