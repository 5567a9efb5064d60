//! Ctrl-C and SIGTERM end a comparison early: what it has started is stopped, what it has measured
//! is reported.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Notes the signals from when it is made; they no longer end the process.
#[derive(Debug)]
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Must be called inside a runtime.
    pub fn listen() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// Resolves once a signal came, also when that was before the call.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
