//! `load-test`: runs one scenario against the real binary.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use corelane_load_test::crash;

/// Scenarios over the real broker.
#[derive(Debug, Parser)]
#[command(name = "load-test", version)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Kill the broker with -9 at random moments while producers go on, and audit each restart
    Crash {
        /// The broker's binary
        #[arg(long, value_name = "FILE", default_value = "target/release/corelane")]
        binary: PathBuf,
        /// Folder on the disk to use; the data directory is made in it and removed at the end
        #[arg(long, value_name = "DIR", default_value = ".")]
        folder: PathBuf,
        /// Kills
        #[arg(long, value_name = "N", default_value_t = 20)]
        rounds: u32,
        /// Makes the same moments again [default: from the clock; printed]
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// Messages a second of each of the four producers at most
        #[arg(long, value_name = "N", default_value_t = 5_000)]
        rate: u32,
    },
}

/// Longest time from a start to its kill.
const LIFE_MAX: Duration = Duration::from_millis(2_500);

fn main() -> ExitCode {
    let Scenario::Crash { binary, folder, rounds, seed, rate } = Cli::parse().scenario;
    let seed = seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
    });
    eprintln!("seed {seed}");
    let program = binary;
    let options =
        crash::Options { program, folder, rounds, seed, rate, life_max: LIFE_MAX, verbose: true };
    match crash::run(&options) {
        Ok(report) => {
            println!(
                "good: {} kills ({} more while starting), {} messages acknowledged and found once \
                 each in order, longest start {} ms, {:.1} s, seed {}",
                report.rounds,
                report.killed_while_starting,
                report.acknowledged,
                report.start_max.as_millis(),
                report.time.as_secs_f64(),
                report.seed
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load-test: seed {seed}: {error}");
            ExitCode::FAILURE
        }
    }
}
