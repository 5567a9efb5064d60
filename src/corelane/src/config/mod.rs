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
pub use show::Setting;

use layers::Layers;
use options::OptionSpec;

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

/// Checks a text by itself, as it would be read from a file.
pub fn check_text(text: &str) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::default();
    layers.add_toml(Path::new("the written file"), text)?;
    finish(layers)
}

/// A file with these settings, each with its reason, below `head`, which becomes a comment.
pub fn written(head: &str, settings: &[Setting]) -> String {
    show::written(head, settings)
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

    /// Whether `key` has another value than its default by the file, a variable or a flag.
    pub fn is_set(&self, key: &str) -> bool {
        self.layers.is_given(key)
    }

    /// What the file, variables and flags set, each with where.
    pub fn set(&self) -> Vec<Setting> {
        let given = options::all().map(OptionSpec::key).filter(|key| self.is_set(key));
        given
            .map(|key| Setting {
                value: self.layers.effective_text(&key, "").to_owned(),
                why: format!("as set by {}", self.layers.source(&key)),
                key,
            })
            .collect()
    }

    /// Where the value of `key` came from.
    #[cfg(test)]
    pub fn source(&self, key: &str) -> Source {
        self.layers.source(key)
    }
}
