//! The brokers, each behind its own client. All but Corelane's need their feature.

mod corelane;
#[cfg(feature = "redis")]
mod redis;

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::driver::{Broker, DriverError};
use crate::peer::{Level, Peer};

/// How often a broker that may still be starting is asked.
const RETRY: Duration = Duration::from_millis(100);

/// Whether this build has the client for `peer`.
pub fn is_built_in(peer: Peer) -> bool {
    match peer {
        Peer::Corelane => true,
        Peer::Redis => cfg!(feature = "redis"),
        _ => false,
    }
}

/// Why `peer` cannot be driven by a build without its client.
pub fn not_built_in(peer: Peer) -> String {
    match peer {
        Peer::Redis => "this build has no client for it; build with --features redis".to_owned(),
        _ => "the harness has no driver for it in this version".to_owned(),
    }
}

/// Connects to a broker, trying until `deadline`: it may still be starting.
pub async fn connect(
    peer: Peer,
    address: &str,
    level: Level,
    deadline: Instant,
) -> Result<Rc<dyn Broker>, DriverError> {
    loop {
        match try_connect(peer, address, level).await {
            Ok(broker) => return Ok(broker),
            Err(error) if Instant::now() + RETRY > deadline => return Err(error),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn try_connect(
    peer: Peer,
    address: &str,
    level: Level,
) -> Result<Rc<dyn Broker>, DriverError> {
    match peer {
        Peer::Corelane => Ok(Rc::new(corelane::Corelane::connect(address, level).await?)),
        #[cfg(feature = "redis")]
        Peer::Redis => Ok(Rc::new(redis::Redis::connect(address).await?)),
        #[allow(unreachable_patterns, reason = "a build with every client has no other")]
        other => {
            Err(DriverError::Refused { doing: "drive this broker", problem: not_built_in(other) })
        }
    }
}
