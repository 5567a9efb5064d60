//! The brokers, each behind its own client. Only Corelane's so far.

mod corelane;

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::driver::{Broker, DriverError};
use crate::peer::{Level, Peer};

/// How often a broker that may still be starting is asked.
const RETRY: Duration = Duration::from_millis(100);

/// Whether there is a driver for `peer`.
pub fn is_built_in(peer: Peer) -> bool {
    peer == Peer::Corelane
}

/// Why nothing but Corelane can be driven.
pub const NO_DRIVER: &str = "the harness has no driver for it in this version";

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
        _ => Err(DriverError::Refused { doing: "drive this broker", problem: NO_DRIVER.into() }),
    }
}
