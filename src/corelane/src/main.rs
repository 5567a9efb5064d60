//! The `corelane` command.

mod args;
mod config;

fn main() {
    args::parse();
}
