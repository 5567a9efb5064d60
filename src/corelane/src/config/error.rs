//! Why a configuration is refused: one sentence each, with the place and the way out.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File { path: PathBuf, line: usize },
    Variable(String),
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{origin}: not TOML: {message}")]
    Syntax { origin: Source, message: String },
    #[error("{key} ({origin}) is no option{}", did_you_mean(nearest))]
    UnknownKey { key: String, origin: Source, nearest: Option<String> },
    #[error("the variable {name} stands for no option{}", did_you_mean(nearest))]
    UnknownVariable { name: String, nearest: Option<String> },
    #[error("the variable {name} is not valid UTF-8; set it to plain text")]
    VariableNotText { name: String },
    #[error("{key} ({origin}) is {found}; write {wanted}")]
    WrongType { key: String, origin: Source, found: &'static str, wanted: &'static str },
    #[error("{key} = {text:?} ({origin}): {problem}")]
    Value { key: String, text: String, origin: Source, problem: String },
    #[error(
        "server.listen = \"{listen}\" ({origin}) is open beyond this machine and clients are not \
         authenticated; give --allow-anonymous (server.allow_anonymous = true) if that is meant, \
         or listen on 127.0.0.1:{port}",
        port = listen.port()
    )]
    OpenToAnyone { listen: SocketAddr, origin: Source },
    #[error("{smaller} ({smaller_origin}) must not be less than {larger} ({larger_origin})")]
    TooSmallFor {
        smaller: &'static str,
        smaller_origin: Source,
        larger: &'static str,
        larger_origin: Source,
    },
    #[error(
        "storage.cache_bytes = {shown:?} ({origin}) is too small; write at least {least}, or 0 for \
         a share of the memory"
    )]
    CacheTooSmall { shown: String, least: String, origin: Source },
    #[error(
        "advertise.direct_base_port ({origin}) is set while server.direct_ports is false; remove \
         one of the two"
    )]
    AdvertisedWithoutPorts { origin: Source },
    #[error(
        "advertise.host = {host:?} ({origin}) must be a bare host name or address: no port, no \
         blank, and not 0.0.0.0 or [::]"
    )]
    AdvertisedHost { host: String, origin: Source },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {nearest}?"),
        None => "; see `corelane config sample` for all of them".to_owned(),
    }
}
