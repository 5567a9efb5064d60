//! `corelane serve`: configuration in, a running server out.

use std::fmt::Write as _;
use std::io::Write as _;

use server::logging::{self, LogFormat};
use server::{ExecutorConfig, IoMode, Ready, ServerConfig, SpinConfig, Steering, StorageConfig};
use tuning::{CacheFit, Host, LockDir, Placement};

use super::Outcome;
use super::error::CommandError;
use crate::args::serve::ServeArgs;
use crate::config::{self, Config, kind};

/// Serves until a signal ends it.
pub fn run(args: &ServeArgs) -> Result<Outcome, CommandError> {
    let file = args.config.as_deref();
    let config = config::load(file, std::env::vars_os(), &args.overrides())?.config;
    let format = match config.log.format {
        kind::LogFormat::Text => LogFormat::Text,
        kind::LogFormat::Json => LogFormat::Json,
    };
    logging::start(format, &config.log.filter).map_err(CommandError::Logging)?;
    raise_open_files();
    tuning::raise_locked_memory(server::LOCKED_MEMORY_BYTES)?;
    let mut host = Host::read()?;
    if let Some(cpu) = config.server.control_cpu {
        host.reserve_control(cpu)?;
    }
    // The locks tell other brokers which CPUs are taken for as long as this one runs.
    let (placement, locks) = tuning::place(&config.server.cores, &mut host, LockDir::of_host())?;
    for warning in &placement.warnings {
        tracing::warn!("{warning}");
    }
    let cache_bytes = cache_bytes(&config, &host, placement.cores())?;
    let result = server::run(server_config(&config, placement, cache_bytes), announce);
    drop(locks);
    result?;
    Ok(Outcome::Done)
}

/// How many connections fit is the server's to say, which knows its files.
fn raise_open_files() {
    if let Err(error) = tuning::raise_open_files() {
        tracing::warn!("cannot raise the limit of open files to its hard one: {error}");
    }
}

/// The cache asked for, or the default's share of the limit; said or refused where it does not fit.
fn cache_bytes(config: &Config, host: &Host, cores: usize) -> Result<u64, CommandError> {
    let cache_bytes = match config.storage.cache_bytes {
        0 => host.memory.cache_budget_bytes(cores),
        bytes => bytes,
    };
    let partial = server::half_frame_bytes_max(config.server.partial_frame_bytes_per_core)
        .saturating_mul(cores as u64);
    let configured = config.storage.cache_bytes != 0;
    match host.memory.fit_cache(cache_bytes, partial, cores, configured) {
        CacheFit::Fits => {}
        CacheFit::Tight(sentence) => tracing::warn!("{sentence}"),
        CacheFit::Impossible(sentence) => return Err(CommandError::Memory(sentence)),
    }
    Ok(cache_bytes)
}

fn server_config(config: &Config, placement: Placement, cache_bytes: u64) -> ServerConfig {
    let Config { server, advertise, mesh, storage, executor, .. } = config;
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    ServerConfig {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_dir: server.data_dir.clone(),
        listen: server.listen,
        placement,
        shards: server.shards,
        direct_ports: server.direct_ports,
        steering: match server.steering {
            kind::SteeringMode::Off => Steering::Off,
            kind::SteeringMode::IncomingCpu => Steering::IncomingCpu,
        },
        control_cpu: server.control_cpu,
        advertise_host: advertise.host.clone(),
        advertise_direct_base_port: advertise.direct_base_port,
        connections_per_core_max: server.connections_per_core_max,
        connections_per_address_max: server.connections_per_address_max,
        operator_idle_ms: ms(server.operator_idle_timeout),
        in_flight_bytes_per_connection: saturated(server.in_flight_bytes_per_connection),
        partial_frame_bytes_per_core: saturated(server.partial_frame_bytes_per_core),
        mesh_depth: saturated(mesh.depth),
        shutdown_timeout_ms: ms(server.shutdown_timeout),
        storage: StorageConfig {
            segment_bytes: storage.segment_bytes,
            pool_segments: storage.pool_segments,
            pool_segments_max: storage.pool_segments_max,
            group_bytes: saturated(storage.group_bytes_max),
            writes_in_flight: storage.writes_in_flight,
            device_writes_per_second: storage.device_writes_per_second,
            backlog_bytes: storage.backlog_bytes_max,
            cache_bytes,
            prepare_bytes: storage.prepare_bytes_at_start,
            retention_check_ms: ms(storage.retention_check),
            slow_after_ms: ms(storage.slow_after),
            io: match storage.io {
                kind::IoMode::Auto => IoMode::Auto,
                kind::IoMode::Direct => IoMode::Direct,
            },
            allow_volatile: storage.allow_volatile,
        },
        executor: ExecutorConfig {
            spin: SpinConfig {
                spin_ns: u64::try_from(executor.spin.as_nanos()).unwrap_or(u64::MAX),
                adaptive: server.adaptive_spin,
            },
            ring_entries: executor.ring_entries,
            receive_buffers: saturated(executor.receive_buffers),
            receive_buffer_bytes: saturated(executor.receive_buffer_bytes),
        },
    }
}

/// The options' bounds keep every value within its type; should one slip, the most it can hold.
fn saturated<From, To>(value: From) -> To
where
    To: TryFrom<From> + Max,
{
    To::try_from(value).unwrap_or(To::MAX)
}

/// The largest value of a type.
trait Max {
    const MAX: Self;
}

impl Max for u16 {
    const MAX: Self = u16::MAX;
}

impl Max for u32 {
    const MAX: Self = u32::MAX;
}

impl Max for usize {
    const MAX: Self = usize::MAX;
}

/// Prints the one ready line. A closed stdout is no reason to stop serving.
fn announce(ready: &Ready) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{}", ready_line(ready)).and_then(|()| stdout.flush());
}

/// `corelane ready on 127.0.0.1:7300 (direct ports 7301, 7302); 2 cores pinned to CPUs 0,1: every
/// CPU of the machine; 2 shards; data directory /var/lib/corelane opened with 3 topics`
fn ready_line(ready: &Ready) -> String {
    let mut line = format!("corelane ready on {}", ready.listen);
    if !ready.direct_ports.is_empty() {
        let ports: Vec<_> = ready.direct_ports.iter().map(u16::to_string).collect();
        let _ = write!(line, " (direct {} {})", plural(ports.len(), "port"), ports.join(", "));
    }
    let _ = write!(line, "; {}", ready.placement);
    let _ = write!(line, "; {} {}", ready.shards, plural(usize::from(ready.shards), "shard"));
    let _ = write!(line, "; data directory {} ", ready.data_dir.display());
    if ready.created {
        line.push_str("created");
    } else {
        let _ = write!(line, "opened with {} {}", ready.topics, plural(ready.topics, "topic"));
    }
    if ready.volatile {
        line.push_str("; volatile: nothing survives the machine's stop");
    }
    if !ready.unavailable.is_empty() {
        let shards: Vec<_> = ready.unavailable.iter().map(|(shard, _)| shard.to_string()).collect();
        let _ = write!(
            line,
            "; NOT served: {} {} (see `corelane status`)",
            plural(shards.len(), "shard"),
            shards.join(", ")
        );
    }
    line
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

#[cfg(test)]
mod tests {
    use model::ShardId;

    use super::*;

    #[test]
    fn the_ready_line_says_it_all() {
        let mut ready = Ready {
            listen: "127.0.0.1:7300".parse().unwrap(),
            direct_ports: vec![7301, 7302],
            cores: 2,
            shards: 2,
            placement: "2 cores pinned to CPUs 0,1: every CPU of the machine".to_owned(),
            data_dir: "/data".into(),
            created: true,
            volatile: false,
            topics: 0,
            unavailable: Vec::new(),
        };
        assert_eq!(
            ready_line(&ready),
            "corelane ready on 127.0.0.1:7300 (direct ports 7301, 7302); 2 cores pinned to CPUs \
             0,1: every CPU of the machine; 2 shards; data directory /data created"
        );
        ready.created = false;
        ready.topics = 1;
        ready.direct_ports.clear();
        ready.volatile = true;
        ready.unavailable = vec![(ShardId(1), "damaged".to_owned())];
        assert_eq!(
            ready_line(&ready),
            "corelane ready on 127.0.0.1:7300; 2 cores pinned to CPUs 0,1: every CPU of the \
             machine; 2 shards; data directory /data opened with 1 topic; volatile: nothing \
             survives the machine's stop; NOT served: shard 1 (see `corelane status`)"
        );
    }
}
