//! `corelane serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tuning::CoreRequest;

use super::value;
use crate::config::FlagValue;

/// Flags of `serve`. Each overrides the configuration file and the `CORELANE_*` variables.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    /// Configuration file (TOML); `corelane config sample` prints one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for all data, created if missing [default: ./corelane-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Address to listen on; beyond loopback it needs --allow-anonymous [default: 127.0.0.1:7300]
    #[arg(long, value_name = "ADDR", value_parser = value::listen_address)]
    pub listen: Option<SocketAddr>,
    /// Cores to run: auto, a number, or a list of CPUs such as 0-3,8 (one alone: 3-3)
    /// [default: auto]
    #[arg(long, value_name = "auto|N|LIST", value_parser = value::cores)]
    pub cores: Option<CoreRequest>,
    /// Shards of a new data directory, fixed for its life [default: as many as cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub shards: Option<u16>,
    /// Serve other machines although clients are not authenticated
    #[arg(long)]
    pub allow_anonymous: bool,
    /// Serve from a filesystem in memory (tmpfs); acknowledgements then say `memory`
    #[arg(long)]
    pub allow_volatile: bool,
}

impl ServeArgs {
    /// The flags given, as values of the configuration.
    pub fn overrides(&self) -> Vec<FlagValue> {
        let mut flags = Vec::new();
        let mut push = |key, flag, text: Option<String>| {
            flags.extend(text.map(|text| FlagValue { key, flag, text }));
        };
        push("server.data_dir", "--data-dir", self.data_dir.clone());
        push("server.listen", "--listen", self.listen.map(|listen| listen.to_string()));
        push("server.cores", "--cores", self.cores.as_ref().map(CoreRequest::to_string));
        push("server.shards", "--shards", self.shards.map(|shards| shards.to_string()));
        let anonymous = self.allow_anonymous.then(|| "true".to_owned());
        push("server.allow_anonymous", "--allow-anonymous", anonymous);
        let volatile = self.allow_volatile.then(|| "true".to_owned());
        push("storage.allow_volatile", "--allow-volatile", volatile);
        flags
    }
}
