//! `load-test`: runs one scenario against the real binary.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use corelane_load_test::{ScenarioError, crash};

/// Scenarios over the real broker.
#[derive(Debug, Parser)]
#[command(name = "load-test", version)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Kill the broker with -9 at random moments under full load, and audit each restart
    Crash(CrashArgs),
}

/// What every scenario is told.
#[derive(Debug, Args)]
struct CommonArgs {
    /// The broker's binary
    #[arg(long, value_name = "FILE", default_value = "target/release/corelane")]
    binary: PathBuf,
    /// Folder on the disk to use; the data directory is made in it and removed at the end
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Makes the same moments again [default: from the clock; printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl CommonArgs {
    fn seed(&self) -> u64 {
        let seed = self.seed.unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
        });
        eprintln!("seed {seed}");
        seed
    }
}

#[derive(Debug, Args)]
struct CrashArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Kills
    #[arg(long, value_name = "N", default_value_t = 20)]
    rounds: u32,
    /// Messages a second of each of the four producers at most [default: all the broker takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Longest time from the end of an audit to the next kill, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_500)]
    life_ms: u64,
}

fn main() -> ExitCode {
    match Cli::parse().scenario {
        Scenario::Crash(args) => tell(crash::run(&crash::Options {
            seed: args.common.seed(),
            program: args.common.binary,
            folder: args.common.folder,
            rounds: args.rounds,
            rate: args.rate,
            life_max: Duration::from_millis(args.life_ms),
            verbose: true,
        })),
    }
}

fn tell<Report: std::fmt::Display>(result: Result<Report, ScenarioError>) -> ExitCode {
    match result {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load-test: {error}");
            ExitCode::FAILURE
        }
    }
}
