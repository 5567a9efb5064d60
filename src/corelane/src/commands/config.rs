//! `corelane config`.

use super::error::CommandError;
use super::{Outcome, output};
use crate::args::ConfigCommand;
use crate::config;

pub fn run(command: &ConfigCommand) -> Result<Outcome, CommandError> {
    match command {
        ConfigCommand::Sample => output::print(&config::sample())?,
        ConfigCommand::Check { file } => {
            config::check_file(file)?;
            output::print(&format!("{} is good\n", file.display()))?;
        }
        ConfigCommand::Show(args) => {
            let file = args.config.as_deref();
            let loaded = config::load(file, std::env::vars_os(), &args.overrides())?;
            output::print(&loaded.show())?;
        }
    }
    Ok(Outcome::Done)
}
