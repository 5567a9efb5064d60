//! Ctrl-C, SIGTERM and SIGHUP end a run early, so that what it started is ended too.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::BenchError;

/// Catches the signals while it lives.
#[derive(Debug)]
pub struct Signals {
    stop: Arc<AtomicBool>,
    ids: Vec<SigId>,
}

impl Signals {
    pub fn catch() -> Result<Self, BenchError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut ids = Vec::new();
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let id = signal_hook::flag::register(signal, Arc::clone(&stop))
                .map_err(BenchError::io("catching signals"))?;
            ids.push(id);
        }
        Ok(Self { stop, ids })
    }

    /// Set when a signal came; who has dealt with it clears it.
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
