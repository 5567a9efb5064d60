//! The broker under test: started, ended in any way, started again, and its log audited at the end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::{self, Launch, ProcessError, Server};

/// How long a stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A broker that is started the same each time. Dropping it kills its server.
#[derive(Debug)]
pub struct Broker {
    launch: Launch,
    /// While it runs.
    server: Option<Server>,
}

impl Broker {
    /// Starts it and waits until it takes connections.
    pub async fn start(launch: Launch) -> Result<Self, ProcessError> {
        let mut broker = Self { launch, server: None };
        broker.start_again(None).await?;
        Ok(broker)
    }

    pub fn address(&self) -> SocketAddr {
        self.launch.address
    }

    pub fn data_dir(&self) -> &PathBuf {
        &self.launch.data_dir
    }

    /// The running server.
    ///
    /// # Errors
    /// It does not run: it was ended and not started again.
    pub fn server(&self) -> Result<&Server, ProcessError> {
        self.server.as_ref().ok_or(ProcessError::Down)
    }

    /// An error when the server has ended by itself.
    pub fn check(&mut self) -> Result<(), ProcessError> {
        let Some(server) = &mut self.server else { return Ok(()) };
        match server.ended()? {
            Some(status) => Err(server.failed(&format!("ended by itself with {status}"))),
            None => Ok(()),
        }
    }

    /// Ends the server with -9.
    pub fn kill(&mut self) -> Result<(), ProcessError> {
        self.server.take().map_or(Ok(()), Server::kill)
    }

    /// Asks the server to stop and waits until it has.
    pub async fn stop(&mut self) -> Result<(), ProcessError> {
        match self.server.take() {
            Some(server) => server.stop(STOP_TIMEOUT).await,
            None => Ok(()),
        }
    }

    /// Starts the server, as it was or after words of the shell, and waits until it takes
    /// connections.
    pub async fn start_again(&mut self, prelude: Option<&str>) -> Result<(), ProcessError> {
        let mut server = self.spawn(prelude)?;
        server.ready().await?;
        self.server = Some(server);
        Ok(())
    }

    /// Starts a server that has yet to become this broker's by [`Self::take`].
    pub fn spawn(&self, prelude: Option<&str>) -> Result<Server, ProcessError> {
        match prelude {
            Some(prelude) => Server::spawn_under(&self.launch, prelude),
            None => Server::spawn(&self.launch),
        }
    }

    /// Takes a server that is ready.
    pub fn take(&mut self, server: Server) {
        self.server = Some(server);
    }

    /// Stops the server and audits its log. Returns what the audit says.
    pub async fn finish(mut self) -> Result<String, ProcessError> {
        self.stop().await?;
        process::verify(&self.launch.program, &self.launch.data_dir)
    }
}
