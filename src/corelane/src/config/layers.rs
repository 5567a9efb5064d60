//! Values as given, from the file, the environment and the flags, each with its source. A later
//! layer overrides an earlier one; every given value is checked, overridden or not.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Source};
use super::kind::TomlForm;
use super::nearest::nearest;
use super::options::{self, OptionSpec};

/// A value given by a flag of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagValue {
    /// The option's key, such as `server.listen`.
    pub key: &'static str,
    /// The flag as typed, such as `--listen`.
    pub flag: &'static str,
    pub text: String,
}

/// Variables that are not options and yet may be set: the seed of randomized tests.
const OTHER_VARIABLES: &[&str] = &["CORELANE_SEED"];

/// The given values by key.
#[derive(Debug, Default)]
pub struct Layers {
    given: BTreeMap<String, Given>,
}

#[derive(Debug)]
struct Given {
    text: String,
    source: Source,
}

impl Layers {
    /// The text in effect: what was given last, or the default.
    pub fn effective_text<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.given.get(key).map_or(default, |given| &given.text)
    }

    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    pub fn source(&self, key: &str) -> Source {
        self.given.get(key).map_or(Source::Default, |given| given.source.clone())
    }

    /// The error for the value in effect of `key`.
    pub fn refused(&self, key: &str, default: &str, problem: String) -> ConfigError {
        let (key, text) = (key.to_owned(), self.effective_text(key, default).to_owned());
        let origin = self.source(&key);
        ConfigError::Value { key, text, origin, problem }
    }

    /// Adds the values of a TOML file.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        self.add_toml(path, &text)
    }

    /// Adds the values of a TOML text; `path` only names it in messages.
    pub fn add_toml(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let at = |position: usize| Source::File {
            path: path.to_owned(),
            line: text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1,
        };
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            origin: at(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        self.add_table("", table.get_ref(), &at)
    }

    fn add_table(
        &mut self,
        prefix: &str,
        table: &DeTable<'_>,
        at: &dyn Fn(usize) -> Source,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let source = at(name.span().start);
            match (options::find(&key), value.get_ref()) {
                (Some(option), value) => {
                    self.add(option, toml_text(option, value, &source)?, source)?
                }
                (None, DeValue::Table(inner)) if is_group(&key) => {
                    self.add_table(&format!("{key}."), inner, at)?;
                }
                (None, found) if is_group(&key) => {
                    let wanted = "a table, such as [server]";
                    return Err(wrong_type(key, source, found, wanted));
                }
                (None, _) => {
                    let groups = options::GROUPS.iter().map(|group| group.name.to_owned());
                    let nearest = nearest(&key, options::all().map(OptionSpec::key).chain(groups));
                    return Err(ConfigError::UnknownKey { key, origin: source, nearest });
                }
            }
        }
        Ok(())
    }

    /// Adds the `CORELANE_` variables of an environment; others are passed over.
    pub fn add_environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string()))
        };
        let mut ours: Vec<_> = variables
            .into_iter()
            .filter_map(text)
            .filter(|(name, _)| name.starts_with("CORELANE_"))
            .collect();
        // The environment has no order; errors should.
        ours.sort();
        for (name, value) in ours {
            if let Some(option) = options::all().find(|option| option.variable() == name) {
                let text =
                    value.map_err(|_| ConfigError::VariableNotText { name: name.clone() })?;
                self.add(option, text, Source::Variable(name))?;
            } else if !OTHER_VARIABLES.contains(&name.as_str()) && !is_service_link(&name) {
                let nearest = nearest(&name, options::all().map(OptionSpec::variable));
                return Err(ConfigError::UnknownVariable { name, nearest });
            }
        }
        Ok(())
    }

    pub fn add_flags(&mut self, flags: &[FlagValue]) -> Result<(), ConfigError> {
        for flag in flags {
            let source = Source::Flag(flag.flag);
            let Some(option) = options::find(flag.key) else {
                let key = flag.key.to_owned();
                return Err(ConfigError::UnknownKey { key, origin: source, nearest: None });
            };
            self.add(option, flag.text.clone(), source)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        option: &OptionSpec,
        text: String,
        source: Source,
    ) -> Result<(), ConfigError> {
        let key = option.key();
        match option.check(&text) {
            Ok(text) => {
                self.given.insert(key, Given { text, source });
                Ok(())
            }
            Err(problem) => Err(ConfigError::Value { key, text, origin: source, problem }),
        }
    }
}

fn is_group(key: &str) -> bool {
    options::GROUPS.iter().any(|group| group.name == key)
}

/// The text form of a TOML value, if its type is one the option takes.
fn toml_text(
    option: &OptionSpec,
    value: &DeValue<'_>,
    source: &Source,
) -> Result<String, ConfigError> {
    use TomlForm::{Boolean, Cores, Integer, IntegerOrString, String};
    match (option.form, value) {
        (Boolean, DeValue::Boolean(value)) => Ok(value.to_string()),
        (String | IntegerOrString | Cores, DeValue::String(text)) => Ok(text.to_string()),
        (Integer | IntegerOrString | Cores, DeValue::Integer(_)) => Ok(integer_text(value)),
        (Cores, DeValue::Array(cpus)) if cpus.iter().all(|cpu| cpu.get_ref().is_integer()) => {
            let cpus: Vec<_> = cpus.iter().map(|cpu| integer_text(cpu.get_ref())).collect();
            Ok(format!("{},", cpus.join(",")))
        }
        (form, found) => Err(wrong_type(option.key(), source.clone(), found, form.wanted())),
    }
}

/// A TOML integer in decimal; as written where it does not fit, for the message.
fn integer_text(value: &DeValue<'_>) -> String {
    let Some(integer) = value.as_integer() else { return String::new() };
    match i128::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) => number.to_string(),
        Err(_) => integer.as_str().to_owned(),
    }
}

fn wrong_type(
    key: String,
    origin: Source,
    found: &DeValue<'_>,
    wanted: &'static str,
) -> ConfigError {
    let found = match found {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    ConfigError::WrongType { key, origin, found, wanted }
}

/// Kubernetes tells every container of services near it, and one named `corelane` or `corelane-x`
/// yields such names: `CORELANE_SERVICE_HOST`, `CORELANE_X_SERVICE_PORT_HTTP`, `CORELANE_PORT`,
/// `CORELANE_PORT_7300_TCP_ADDR`.
fn is_service_link(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("CORELANE") else { return false };
    let of_port = |after: &str| {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let protocol = after[digits..].trim_start_matches('_');
        digits > 0 && ["TCP", "UDP", "SCTP"].iter().any(|known| protocol.starts_with(known))
    };
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest == "_PORT"
        || rest.match_indices("_PORT_").any(|(at, found)| of_port(&rest[at + found.len()..]))
}
