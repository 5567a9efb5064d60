//! `load-test`: runs one scenario against the real binary.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use corelane_load_test::{crash, faults, soak, storm, torture};

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
    /// Attack the broker in every way a client can, beside normal clients, and hold what these see
    /// against what they see alone
    Torture(TortureArgs),
    /// Random faults against a running broker under load, with an audit after each
    Faults(FaultsArgs),
    /// A day of changing load pressed into minutes; fails when memory, descriptors or latency grow
    Soak(SoakArgs),
    /// Crowds, readers that do not read, bursts and clients that leave, all at once, beside normal
    /// clients; fails unless memory and descriptors are afterwards what they were before
    Storm(StormArgs),
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
    /// Messages a second of each of the four producers at most. Above what the audits read meanwhile, each round
    /// brings more than the one before, until retention removes what was not read
    #[arg(long, value_name = "N", default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Longest time from the end of an audit to the next kill, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_500)]
    life_ms: u64,
}

#[derive(Debug, Args)]
struct TortureArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Length of each attack
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// Length of the quiet time before the first attack and after each
    #[arg(long, value_name = "N", default_value_t = 10)]
    quiet_seconds: u64,
    /// Frames a second that the attackers may send together; 0: as many as they can
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    hostile_rate: u64,
    /// Only this attack; may be given several times [default: all, then all at once]
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// The broker's CPUs
    #[arg(long, value_name = "LIST", default_value = "0-0")]
    cores: String,
    /// The CPU of all clients, normal and hostile; best none of the broker's
    #[arg(long, value_name = "N")]
    load_cpu: Option<u32>,
    /// The attackers meet a listener on this CPU that only reads, instead of the broker: what is
    /// left is what their bytes cost the machine
    #[arg(long, value_name = "CPU")]
    decoy: Option<u32>,
    /// How many times the p99 alone an attack may cost the normal clients
    #[arg(long, value_name = "X", default_value_t = 2.0)]
    ratio: f64,
}

#[derive(Debug, Args)]
struct FaultsArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How long faults go on; each is met at least once
    #[arg(long, value_name = "N", default_value_t = 5)]
    minutes: u64,
    /// Connection attempts in a burst
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    attempts: usize,
    /// Messages a second of each of the three producers at most [default: all the broker takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Only these faults, by their places in the table from 0
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    only: Vec<usize>,
}

#[derive(Debug, Args)]
struct SoakArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How long the load goes on
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Messages a second at full load
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..))]
    rate: u32,
    /// Stop the broker and start it again at the end of every cycle
    #[arg(long)]
    restarts: bool,
    /// Write a row a second here
    #[arg(long, value_name = "FILE", default_value = "soak.csv")]
    csv: PathBuf,
    /// Draw the rows as a page to look at
    #[arg(long, value_name = "FILE", default_value = "soak.html")]
    html: PathBuf,
}

#[derive(Debug, Args)]
struct StormArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How long rounds go on
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Connections of the crowd of each round
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Messages a second of the normal clients, who go up to four times that
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    rate: u32,
}

fn main() -> ExitCode {
    match Cli::parse().scenario {
        Scenario::Crash(args) => tell(crash::run(&crash::Options {
            seed: args.common.seed(),
            program: args.common.binary,
            folder: args.common.folder,
            rounds: args.rounds,
            rate: Some(args.rate),
            life_max: Duration::from_millis(args.life_ms),
            verbose: true,
        })),
        Scenario::Torture(args) => tell(torture::run(&torture::Options {
            seed: args.common.seed(),
            program: args.common.binary,
            folder: args.common.folder,
            seconds: args.seconds,
            quiet_seconds: args.quiet_seconds,
            frames_per_second: NonZeroU64::new(args.hostile_rate),
            only: args.cases,
            cores: args.cores,
            load_cpu: args.load_cpu,
            decoy_cpu: args.decoy,
            ratio_max: args.ratio,
        })),
        Scenario::Soak(args) => {
            let result = soak::run(&soak::Options {
                seed: args.common.seed(),
                program: args.common.binary,
                folder: args.common.folder,
                time: Duration::from_secs(args.minutes * 60),
                rate: args.rate,
                restarts: args.restarts,
                csv: Some(args.csv),
                html: Some(args.html),
                verbose: true,
            });
            let grows = result.as_ref().is_ok_and(|report| !report.is_flat());
            let code = tell(result);
            if grows { ExitCode::FAILURE } else { code }
        }
        Scenario::Storm(args) => tell(storm::run(&storm::Options {
            seed: args.common.seed(),
            program: args.common.binary,
            folder: args.common.folder,
            time: Duration::from_secs(args.seconds),
            connections: args.connections as usize,
            rate: args.rate,
            verbose: true,
        })),
        Scenario::Faults(args) => tell(faults::run(&faults::Options {
            seed: args.common.seed(),
            program: args.common.binary,
            folder: args.common.folder,
            time: Duration::from_secs(args.minutes * 60),
            faults: (0..)
                .zip(faults::Fault::ALL)
                .filter(|(at, _)| args.only.is_empty() || args.only.contains(at))
                .map(|(_, fault)| fault)
                .collect(),
            attempts: args.attempts,
            rate: args.rate,
            verbose: true,
        })),
    }
}

fn tell<R: std::fmt::Display, E: std::fmt::Display>(result: Result<R, E>) -> ExitCode {
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
