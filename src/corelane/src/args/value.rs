//! Parsers of single values on the command line.

use std::net::SocketAddr;
use std::time::Duration;

use model::{AckLevel, ConsumerName, StartPosition, TopicName};
use tuning::CoreRequest;

use super::tune::Broker;
use crate::config::kind::{Address, Cores, Kind};
use crate::config::units;

pub const DEFAULT_SERVER: &str = "127.0.0.1:7300";
const DEFAULT_PORT: u16 = 7300;
/// Bounds of the time that `tune` measures.
const MEASURING_MIN: Duration = Duration::from_millis(100);
const MEASURING_MAX: Duration = Duration::from_secs(600);

/// `host`, `host:port`, `1.2.3.4:port` or `[v6]:port`; gives it with the port.
pub fn server_address(text: &str) -> Result<String, String> {
    let refused = || format!("{text:?} is no address such as {DEFAULT_SERVER} or broker:7300");
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(refused());
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>() {
        return Ok(format!("[{address}]:{DEFAULT_PORT}"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Ok(format!("{text}:{DEFAULT_PORT}"));
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host_is_good = if bracketed {
        host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        !host.is_empty() && !host.contains([':', '[', ']'])
    };
    let port_is_good = port.parse::<u16>().is_ok_and(|port| port != 0);
    if host_is_good && port_is_good { Ok(text.to_owned()) } else { Err(refused()) }
}

/// The address of a peer of a measurement, with its port.
pub fn peer_address(text: &str) -> Result<String, String> {
    let address = server_address(text)?;
    if address == text {
        return Ok(address);
    }
    Err("name the port as well, such as 10.0.0.2:7400".to_owned())
}

/// How long is measured; a bare number is seconds.
pub fn measuring(text: &str) -> Result<Duration, String> {
    match wait(text)? {
        time if (MEASURING_MIN..=MEASURING_MAX).contains(&time) => Ok(time),
        _ => Err("100ms to 10m are allowed".to_owned()),
    }
}

/// An address as above, or a process id.
pub fn broker(text: &str) -> Result<Broker, String> {
    match text.parse() {
        Ok(0) => Err("0 is no process id".to_owned()),
        Ok(pid) => Ok(Broker::Process(pid)),
        Err(_) => server_address(text).map(Broker::At),
    }
}

/// How long a command waits; a bare number is seconds.
pub fn wait(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => units::parse_duration(text),
    }
}

/// How long clients have to leave; a bare number is seconds.
pub fn grace(text: &str) -> Result<Duration, String> {
    let max = Duration::from_secs(3600);
    match wait(text)? {
        grace if grace <= max => Ok(grace),
        _ => Err("at most an hour is allowed".to_owned()),
    }
}

/// The numeric address that `serve` binds; `localhost:` stands for 127.0.0.1.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    Address::parse(text)
}

pub fn cores(text: &str) -> Result<CoreRequest, String> {
    Cores::parse(text)
}

pub fn topic_name(text: &str) -> Result<TopicName, String> {
    TopicName::parse(text).map_err(|error| error.to_string())
}

pub fn consumer_name(text: &str) -> Result<ConsumerName, String> {
    ConsumerName::parse(text).map_err(|error| error.to_string())
}

pub fn ack_level(text: &str) -> Result<AckLevel, String> {
    let known = [AckLevel::None, AckLevel::Memory, AckLevel::Durable];
    let found = known.into_iter().find(|level| level.as_str() == text);
    found.ok_or_else(|| "write durable, memory or none".to_owned())
}

/// The level a topic gives to publishes that name none: `none` would hide every loss.
pub fn topic_ack_level(text: &str) -> Result<AckLevel, String> {
    match ack_level(text) {
        Ok(AckLevel::None) | Err(_) => Err("write durable or memory".to_owned()),
        level => level,
    }
}

/// `first`, `last`, `next`, `offset:N`, `time:RFC3339`.
pub fn start_position(text: &str) -> Result<StartPosition, String> {
    match (text, text.split_once(':')) {
        ("first", _) => Ok(StartPosition::First),
        ("last", _) => Ok(StartPosition::Last),
        ("next", _) => Ok(StartPosition::Next),
        (_, Some(("offset", offset))) => offset
            .parse()
            .map(StartPosition::Offset)
            .map_err(|_| format!("{offset:?} is no offset; write one such as offset:42")),
        (_, Some(("time", time))) => time_ms(time).map(StartPosition::Time),
        _ => Err("write first, last, next, offset:42 or time:2026-01-31T18:00:00Z".to_owned()),
    }
}

/// An RFC 3339 time as Unix milliseconds.
fn time_ms(text: &str) -> Result<i64, String> {
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        format!("{text:?} is no RFC 3339 time with its zone, such as 2026-01-31T18:00:00Z")
    })?;
    // Rounded up: a message of the same millisecond but before the time must not be included.
    let partial = time.as_nanosecond().rem_euclid(1_000_000) != 0;
    Ok((time.as_nanosecond().div_euclid(1_000_000) + i128::from(partial)) as i64)
}

pub fn bytes(text: &str) -> Result<u64, String> {
    units::parse_bytes(text)
}

/// A duration; a bare number is seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => units::parse_duration(text),
    }
}

/// A separator: at least one character; `\t`, `\n` and `\\` stand for themselves.
pub fn separator(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("write at least one character, such as : or \\t".to_owned());
    }
    Ok(text.replace("\\t", "\t").replace("\\n", "\n").replace("\\\\", "\\"))
}
