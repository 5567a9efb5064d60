//! The server's configuration: TOML, overridden by `CORELANE_*` variables, overridden by flags.
//!
//! Options are declared in `options`; this module reads, checks and shows them. It opens nothing
//! but the file and knows nothing of what the values do.

mod conflicts;
mod error;
pub mod kind;
mod layers;
mod nearest;
pub mod options;
mod show;
pub mod units;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::Path;

pub use error::ConfigError;
#[cfg(test)]
pub use error::Source;
pub use layers::FlagValue;
pub use options::Config;

use layers::Layers;

/// A checked configuration that remembers where each value came from.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    layers: Layers,
}

/// Reads and checks the configuration of `serve`.
///
/// `environment` is usually `std::env::vars_os()`; only names that begin with `CORELANE_` count.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: &[FlagValue],
) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::default();
    if let Some(file) = file {
        layers.add_file(file)?;
    }
    layers.add_environment(environment)?;
    layers.add_flags(flags)?;
    finish(layers)
}

/// Checks a file by itself, without the environment.
pub fn check_file(file: &Path) -> Result<Loaded, ConfigError> {
    load(Some(file), [], &[])
}

/// A file with every option, its default and what it does.
pub fn sample() -> String {
    show::sample()
}

fn finish(layers: Layers) -> Result<Loaded, ConfigError> {
    let config = Config::from_layers(&layers)?;
    conflicts::check(&config, &layers)?;
    Ok(Loaded { config, layers })
}

impl Loaded {
    /// The values in effect as TOML, each with its source in a comment. Loads as an equal
    /// configuration.
    pub fn show(&self) -> String {
        show::effective(&self.layers)
    }

    /// Where the value of `key` came from.
    #[cfg(test)]
    pub fn source(&self, key: &str) -> Source {
        self.layers.source(key)
    }
}
