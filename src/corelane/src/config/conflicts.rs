//! Values that are each allowed and cannot hold together.

use std::net::IpAddr;

use super::error::ConfigError;
use super::layers::Layers;
use super::options::Config;
use super::units::{self, MIB};

/// A configured cache may not be smaller than this, bytes.
const CACHE_BYTES_MIN: u64 = 16 * MIB;

pub fn check(config: &Config, layers: &Layers) -> Result<(), ConfigError> {
    check_addresses(config, layers)?;
    check_storage(config, layers)
}

fn check_addresses(config: &Config, layers: &Layers) -> Result<(), ConfigError> {
    let listen = config.server.listen;
    if !listen.ip().to_canonical().is_loopback() && !config.server.allow_anonymous {
        return Err(ConfigError::OpenToAnyone { listen, origin: layers.source("server.listen") });
    }
    if config.advertise.direct_base_port.is_some() && !config.server.direct_ports {
        let origin = layers.source("advertise.direct_base_port");
        return Err(ConfigError::AdvertisedWithoutPorts { origin });
    }
    match &config.advertise.host {
        Some(host) if !is_bare_host(host) => Err(ConfigError::AdvertisedHost {
            host: host.clone(),
            origin: layers.source("advertise.host"),
        }),
        _ => Ok(()),
    }
}

/// A name or an address that a client can be sent to.
fn is_bare_host(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => !address.is_unspecified(),
        Err(_) => {
            host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    }
}

fn check_storage(config: &Config, layers: &Layers) -> Result<(), ConfigError> {
    let storage = &config.storage;
    let pairs = [
        (
            ("storage.pool_segments_max", u64::from(storage.pool_segments_max)),
            ("storage.pool_segments", u64::from(storage.pool_segments)),
        ),
        (
            ("storage.segment_bytes", storage.segment_bytes),
            ("storage.prepare_bytes_at_start", storage.prepare_bytes_at_start),
        ),
    ];
    for ((smaller, least), (larger, most)) in pairs {
        if least < most {
            return Err(ConfigError::TooSmallFor {
                smaller,
                smaller_origin: layers.source(smaller),
                larger,
                larger_origin: layers.source(larger),
            });
        }
    }
    if (1..CACHE_BYTES_MIN).contains(&storage.cache_bytes) {
        return Err(ConfigError::CacheTooSmall {
            shown: units::show_bytes(storage.cache_bytes),
            least: units::show_bytes(CACHE_BYTES_MIN),
            origin: layers.source("storage.cache_bytes"),
        });
    }
    Ok(())
}
