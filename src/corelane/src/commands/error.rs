//! Why a command failed: one sentence with the next step.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Logging(String),
    #[error(transparent)]
    Host(#[from] tuning::HostError),
    #[error(transparent)]
    Placement(#[from] tuning::PlacementError),
    #[error(transparent)]
    ControlCpu(#[from] tuning::ControlCpuError),
    #[error(transparent)]
    LockedMemory(#[from] tuning::LockedMemoryError),
    #[error(transparent)]
    DiskTest(#[from] tuning::disk_matrix::MatrixError),
    #[error(transparent)]
    LoopbackTest(#[from] tuning::loopback_test::LoopbackTestError),
    #[error(transparent)]
    PeerTest(#[from] tuning::peer_test::PeerTestError),
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    #[error("cannot catch Ctrl-C: {0}")]
    Signals(io::Error),
    #[error("interrupted; nothing was written")]
    Interrupted,
    #[error("{} is there already; give --force to write over it, or another --out", path.display())]
    Exists { path: PathBuf },
    #[error(transparent)]
    Running(#[from] tuning::running::RunningError),
    #[error(transparent)]
    Find(#[from] tuning::running::FindError),
    /// What keeps `tune check` from judging; an exit code of its own tells it from a bad verdict.
    #[error(transparent)]
    Unseen(Box<CommandError>),
    #[error("{0}")]
    Memory(String),
    #[error(transparent)]
    Start(#[from] server::StartError),
    #[error("{}", client_sentence(.0))]
    Client(#[from] client::Error),
    #[error(transparent)]
    Backup(#[from] offline::backup::BackupError),
    #[error(transparent)]
    Restore(#[from] Box<offline::restore::RestoreError>),
    #[error(transparent)]
    Reshard(#[from] Box<offline::reshard::ReshardError>),
    #[error("the copying ended by itself: {0}")]
    Copying(String),
    #[error("the system gave no random bytes: {0}")]
    Random(io::Error),
    #[error(transparent)]
    Directory(#[from] wal::directory::DirectoryError),
    #[error(transparent)]
    Read(#[from] offline::read::ReadError),
    #[error(transparent)]
    Repair(#[from] offline::repair::RepairError),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}", bench_sentence(.0))]
    Bench(#[from] bench::BenchError),
    #[error("{} is not a report to compare: {source}", path.display())]
    Report { path: PathBuf, source: bench::report::ReportError },
    #[error(transparent)]
    Ceilings(#[from] tuning::CeilingsError),
    #[error(transparent)]
    Compare(#[from] bench::compare::CompareError),
    #[error("cannot find {name}: {source}; give an address such as 127.0.0.1:7300")]
    Resolve { name: String, source: io::Error },
    #[error("cannot read {}: {source}", path.display())]
    Input { path: PathBuf, source: io::Error },
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    #[error("cannot start the client's runtime: {0}")]
    Runtime(io::Error),
    #[error(
        "line {line} has more than {max} bytes; a message must fit a batch: split the line or send \
         less"
    )]
    LineTooLong { line: u64, max: usize },
    #[error(
        "{failed} of the {sent} messages sent were not stored or it is not known: {}",
        client_sentence(source)
    )]
    NotStored { failed: u64, sent: u64, source: client::Error },
}

impl CommandError {
    /// Whether the command line itself asks for what cannot be.
    pub fn is_wrong_usage(&self) -> bool {
        matches!(self, Self::Bench(bench::BenchError::Options(_)))
    }
}

/// What the client says, without its codes and with the next step of someone at a prompt.
fn client_sentence(error: &client::Error) -> String {
    match error {
        client::Error::Connect { address, source } => no_server(address, source),
        client::Error::Server(rejection) => rejection.message.clone(),
        error => error.to_string(),
    }
}

fn bench_sentence(error: &bench::BenchError) -> String {
    match error {
        bench::BenchError::Connect { address, source } => no_server(address, source),
        error => error.to_string(),
    }
}

fn no_server(address: impl fmt::Display, source: &io::Error) -> String {
    format!(
        "cannot connect to {address} ({source}); start a server with `corelane serve`, or name its \
         address with --server"
    )
}
