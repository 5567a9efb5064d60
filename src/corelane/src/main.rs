//! The `corelane` command: reads the command line and hands each command to its room.

mod args;
mod commands;
mod config;

use std::process::ExitCode;

fn main() -> ExitCode {
    ring::prepare_process();
    commands::run(args::parse().command)
}
