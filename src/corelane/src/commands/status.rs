//! `corelane status`: how a running server is doing; the exit code tells whether it is ready.

mod stages;

use std::fmt::Write;
use std::time::Duration;

use model::reply::{CoreStatus, ServerStatus, ShardHealth, ShardStatus};
use serde_json::{Value, json};

use super::error::CommandError;
use super::output::{human_bytes, table};
use super::{Outcome, connect, output};
use crate::args::Output;
use crate::args::client::StatusArgs;

/// Rates are the difference of two looks at the counters, this far apart.
const RATE_WINDOW: Duration = Duration::from_millis(500);

pub fn run(args: &StatusArgs) -> Result<Outcome, CommandError> {
    let (before, now, cores) = connect::with_operator(&args.server, async |client| {
        let before = client.status().await?;
        tokio::time::sleep(RATE_WINDOW).await;
        let cores = if args.stages { Some(client.stages().await?) } else { None };
        Ok((before, client.status().await?, cores))
    })?;
    let rates = RatesOf::new(&before, &now);
    match args.output.output {
        Output::Text => {
            let more = cores.as_deref().map(stages::text).unwrap_or_default();
            output::print(&(text(&now, &rates) + &more))?;
        }
        Output::Json => {
            let mut json = json_of(&now, &rates);
            if let Some(cores) = &cores {
                json["stages"] = stages::json_of(cores);
            }
            output::print_json(&json)?;
        }
    }
    Ok(if now.ready { Outcome::Done } else { Outcome::Bad })
}

/// Of all cores together, and of each.
struct RatesOf {
    all: Rates,
    cores: Vec<Rates>,
}

impl RatesOf {
    fn new(before: &ServerStatus, now: &ServerStatus) -> Self {
        let seconds = now.uptime_ms.saturating_sub(before.uptime_ms) as f64 / 1000.0;
        let pairs = || before.cores.iter().zip(&now.cores);
        let mut all = Rates::default();
        let cores: Vec<_> = pairs().map(|(old, new)| Rates::between(old, new, seconds)).collect();
        for core in &cores {
            all.add(core);
        }
        Self { all, cores }
    }
}

/// What is taken and given, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rates {
    messages_in: f64,
    bytes_in: f64,
    messages_out: f64,
    bytes_out: f64,
}

impl Rates {
    fn between(before: &CoreStatus, now: &CoreStatus, seconds: f64) -> Self {
        if seconds <= 0.0 {
            return Self::default();
        }
        let rate = |count: fn(&CoreStatus) -> u64| {
            count(now).saturating_sub(count(before)) as f64 / seconds
        };
        Self {
            messages_in: rate(|core| core.messages_in),
            bytes_in: rate(|core| core.bytes_in),
            messages_out: rate(|core| core.messages_out),
            bytes_out: rate(|core| core.bytes_out),
        }
    }

    fn add(&mut self, other: &Self) {
        self.messages_in += other.messages_in;
        self.bytes_in += other.bytes_in;
        self.messages_out += other.messages_out;
        self.bytes_out += other.bytes_out;
    }

    fn json(&self) -> Value {
        json!({
            "messages_in_per_s": self.messages_in,
            "bytes_in_per_s": self.bytes_in,
            "messages_out_per_s": self.messages_out,
            "bytes_out_per_s": self.bytes_out,
        })
    }
}

fn text(status: &ServerStatus, rates: &RatesOf) -> String {
    let mut text = String::new();
    let ready = if status.ready { "ready" } else { "NOT ready" };
    let uptime = Duration::from_secs(status.uptime_ms / 1000);
    let _ = writeln!(
        text,
        "{ready}{}{}, version {}, up {}",
        if status.draining { ", draining" } else { "" },
        if status.volatile { ", VOLATILE (nothing is durable)" } else { "" },
        status.version,
        uptime_text(uptime)
    );
    let _ = writeln!(text, "data directory {}, topics {}", status.data_dir, status.topics);
    let Rates { messages_in, bytes_in, messages_out, bytes_out } = rates.all;
    let _ = writeln!(
        text,
        "in {messages_in:.0} messages/s, {}/s; out {messages_out:.0} messages/s, {}/s",
        human_bytes(bytes_in as u64),
        human_bytes(bytes_out as u64)
    );
    let heads = [
        "CORE",
        "CPU",
        "STATE",
        "CONNECTIONS",
        "ACCEPTED",
        "REFUSED",
        "HANDED OVER",
        "IN/S",
        "BYTES IN/S",
        "OUT/S",
        "BYTES OUT/S",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let core_rows = status.cores.iter().zip(&rates.cores);
    rows.extend(core_rows.map(|(core, rates)| core_row(core, rates)));
    let _ = write!(text, "\n{}", table(&rows));
    let heads = ["SHARD", "CORE", "HEALTH", "PARTITIONS", "DURABLE", "WAITING", "LOG", "REASON"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(status.shards.iter().map(shard_row));
    let _ = write!(text, "\n{}", table(&rows));
    text
}

fn core_row(core: &CoreStatus, rates: &Rates) -> Vec<String> {
    vec![
        core.core.to_string(),
        core.cpu.map_or_else(|| "any".to_owned(), |cpu| cpu.to_string()),
        if core.draining { "draining" } else { "serving" }.to_owned(),
        core.connections.to_string(),
        core.accepted.to_string(),
        core.refused.to_string(),
        core.handed_over.to_string(),
        format!("{:.0}", rates.messages_in),
        human_bytes(rates.bytes_in as u64),
        format!("{:.0}", rates.messages_out),
        human_bytes(rates.bytes_out as u64),
    ]
}

fn shard_row(shard: &ShardStatus) -> Vec<String> {
    let mut state = vec![health(shard.health)];
    state.extend(shard.slow.then_some("slow"));
    state.extend(shard.disk_full.then_some("disk_full"));
    vec![
        shard.shard.to_string(),
        shard.core.to_string(),
        state.join(","),
        shard.partitions.to_string(),
        shard.durable_lsn.to_string(),
        format!("{} ms", shard.oldest_write_ms),
        human_bytes(shard.log_bytes),
        shard.reason.clone(),
    ]
}

fn health(health: ShardHealth) -> &'static str {
    match health {
        ShardHealth::Serving => "serving",
        ShardHealth::ReadOnly => "read_only",
        ShardHealth::Unavailable => "unavailable",
    }
}

/// `3d 4h`, `2h 5m`, `12s`: the two largest units.
fn uptime_text(uptime: Duration) -> String {
    let seconds = uptime.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, _, _) => format!("{d}d {h}h"),
    }
}

fn json_of(status: &ServerStatus, rates: &RatesOf) -> Value {
    let cores = status.cores.iter().zip(&rates.cores).map(|(core, rates)| {
        json!({
            "core": core.core.0,
            "cpu": core.cpu,
            "draining": core.draining,
            "connections": core.connections,
            "accepted": core.accepted,
            "refused": core.refused,
            "handed_over": core.handed_over,
            "rates": rates.json(),
            "messages_in": core.messages_in,
            "bytes_in": core.bytes_in,
            "messages_out": core.messages_out,
            "bytes_out": core.bytes_out,
        })
    });
    let shards = status.shards.iter().map(|shard| {
        json!({
            "shard": shard.shard.0,
            "core": shard.core.0,
            "health": health(shard.health),
            "slow": shard.slow,
            "disk_full": shard.disk_full,
            "oldest_write_ms": shard.oldest_write_ms,
            "reason": shard.reason,
            "partitions": shard.partitions,
            "durable_lsn": shard.durable_lsn,
            "log_bytes": shard.log_bytes,
        })
    });
    json!({
        "ready": status.ready,
        "draining": status.draining,
        "volatile": status.volatile,
        "version": status.version,
        "uptime_ms": status.uptime_ms,
        "data_dir": status.data_dir,
        "topics": status.topics,
        "rates": rates.all.json(),
        "cores": cores.collect::<Vec<_>>(),
        "shards": shards.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_show_two_units() {
        let shown = [5, 65, 3_700, 90_000].map(|s| uptime_text(Duration::from_secs(s)));
        assert_eq!(shown, ["5s", "1m 5s", "1h 1m", "1d 1h"]);
    }
}
