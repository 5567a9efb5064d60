//! Why a bench run could not be made.

use std::io;
use std::net::SocketAddr;

use model::Rejection;

/// A run that did not happen or was cut short. Each is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{0}")]
    Options(String),
    #[error("cannot connect to {address}: {source}; is the server running there?")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error("the server sent what the protocol does not allow: {0}")]
    Protocol(String),
    #[error("the server refused to {doing}: {rejection}")]
    Rejected { doing: String, rejection: Rejection },
    #[error("the server closed a connection during the run{0}")]
    Closed(String),
    #[error("the server started by the bench {0}")]
    Server(String),
    #[error("nothing came for {seconds} s with {waiting}: the server is stuck")]
    Stuck { seconds: u64, waiting: String },
    /// Figures of durable publishes would be a lie.
    #[error(
        "the server keeps its data in memory and acknowledges `memory` at most; measure with --ack \
         memory, or a server whose data directory is on a disk"
    )]
    Volatile,
    /// A measurement of the disk or the loopback failed.
    #[error("{0}")]
    SelfTest(String),
    #[error("the client could not {doing}: {source}")]
    Client { doing: &'static str, source: client::Error },
    #[error(transparent)]
    Ring(#[from] ring::RingError),
    #[error("stopped by a signal before the end of the run")]
    Interrupted,
}

impl From<protocol::FrameError> for BenchError {
    fn from(error: protocol::FrameError) -> Self {
        BenchError::Protocol(error.to_string())
    }
}

impl BenchError {
    pub(crate) fn client(doing: &'static str) -> impl FnOnce(client::Error) -> BenchError {
        move |source| BenchError::Client { doing, source }
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
        let doing = doing.into();
        move |source| BenchError::Io { doing, source }
    }
}
