//! The configuration from outside: files, variables and flags, and what they are refused for.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tuning::CoreRequest;

use super::kind::{LogFormat, SteeringMode};
use super::options::OptionSpec;
use super::*;

fn from_toml(text: &str) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::default();
    layers.add_toml(Path::new("c.toml"), text)?;
    finish(layers)
}

fn from_variables(variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    load(None, variables.iter().map(|(name, value)| (name.into(), value.into())), &[])
}

fn toml_problem(text: &str) -> String {
    from_toml(text).unwrap_err().to_string()
}

fn flag(key: &'static str, flag: &'static str, text: &str) -> FlagValue {
    FlagValue { key, flag, text: text.to_owned() }
}

#[test]
fn defaults_are_good_and_as_documented() {
    let config = load(None, [], &[]).unwrap().config;
    assert_eq!(config.server.data_dir, Path::new("./corelane-data"));
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:7300");
    assert_eq!(config.server.cores, CoreRequest::Auto);
    assert_eq!(config.server.shards, None);
    assert!(!config.server.allow_anonymous && config.server.direct_ports);
    assert_eq!(config.server.connections_per_core_max, model::limits::CONNECTIONS_PER_CORE_MAX);
    assert_eq!(config.server.in_flight_bytes_per_connection, 32 << 20);
    assert_eq!(config.server.partial_frame_bytes_per_core, 64 << 20);
    assert_eq!(config.server.shutdown_timeout, Duration::from_secs(5));
    assert_eq!((config.server.steering, config.server.control_cpu), (SteeringMode::Off, None));
    assert!(!config.server.adaptive_spin);
    assert_eq!(config.storage.device_writes_per_second, None);
    assert_eq!((config.advertise.host, config.advertise.direct_base_port), (None, None));
    assert_eq!(config.mesh.depth, 4096);
    assert_eq!(config.storage.segment_bytes, 256 << 20);
    assert_eq!((config.storage.pool_segments, config.storage.pool_segments_max), (1, 8));
    assert_eq!(config.storage.group_bytes_max, 1 << 20);
    assert_eq!(config.storage.writes_in_flight, 4);
    assert_eq!(config.storage.backlog_bytes_max, 64 << 20);
    assert_eq!(config.storage.cache_bytes, 0);
    assert_eq!(config.storage.retention_check, Duration::from_secs(1));
    assert_eq!(config.storage.prepare_bytes_at_start, 16 << 20);
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Text, "info"));
    assert_eq!(config.executor.spin, Duration::ZERO);
    assert_eq!(config.executor.ring_entries, 4096);
    assert_eq!(config.executor.receive_buffers, 128);
    assert_eq!(config.executor.receive_buffer_bytes, 64 << 10);
}

#[test]
fn every_default_is_within_its_bounds_and_in_its_own_form() {
    for option in options::all() {
        assert_eq!(option.check(option.default).as_deref(), Ok(option.default), "{}", option.key());
        assert!(!option.doc.is_empty(), "{} says nothing", option.key());
    }
}

#[test]
fn keys_and_variables_are_unique() {
    let keys: HashSet<String> = options::all().map(OptionSpec::key).collect();
    let variables: HashSet<String> = options::all().map(OptionSpec::variable).collect();
    assert_eq!(keys.len(), options::all().count());
    assert_eq!(variables.len(), options::all().count());
}

#[test]
fn the_sample_is_the_defaults_with_and_without_its_comment_marks() {
    let defaults = load(None, [], &[]).unwrap().config;
    assert_eq!(from_toml(&sample()).unwrap().config, defaults);
    let is_option = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    let active: String = sample()
        .lines()
        .map(|line| if is_option(line) { &line[1..] } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    let loaded = from_toml(&active).unwrap();
    assert_eq!(loaded.config, defaults);
    for option in options::all() {
        assert_ne!(loaded.source(&option.key()), Source::Default, "{} is missing", option.key());
    }
    assert!(sample().lines().all(|line| line.len() <= 100));
}

#[test]
fn the_deployed_file_is_the_sample() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/corelane.toml");
    let deployed = std::fs::read_to_string(file).unwrap();
    assert!(
        deployed == sample(),
        "deploy/corelane.toml is stale; write it anew with `corelane config sample`"
    );
}

#[test]
fn flags_override_variables_and_these_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "[storage]\nwrites_in_flight = 2\ncache_bytes = \"1GiB\"\n[mesh]\ndepth = 64\n")
        .unwrap();
    let variables = [
        ("CORELANE_STORAGE_WRITES_IN_FLIGHT".into(), "3".into()),
        ("CORELANE_MESH_DEPTH".into(), "128".into()),
        ("PATH".into(), "/bin".into()),
    ];
    let flags = [flag("mesh.depth", "--mesh-depth", "256")];
    let loaded = load(Some(file.path()), variables, &flags).unwrap();
    assert_eq!(loaded.config.storage.cache_bytes, 1 << 30);
    assert_eq!(loaded.config.storage.writes_in_flight, 3);
    assert_eq!(loaded.config.mesh.depth, 256);
    let shown = loaded.show();
    let path = file.path().display();
    for line in [
        format!("cache_bytes = \"1GiB\" # {path} line 3"),
        "writes_in_flight = 3 # variable CORELANE_STORAGE_WRITES_IN_FLIGHT".to_owned(),
        "depth = 256 # flag --mesh-depth".to_owned(),
        "segment_bytes = \"256MiB\" # default".to_owned(),
        "host = \"\" # default".to_owned(),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line:?} is not in\n{shown}");
    }
    assert_eq!(from_toml(&shown).unwrap().config, loaded.config);
}

#[test]
fn every_kind_reads_its_toml_forms() {
    let config = from_toml(
        "[server]\ncores = [3]\nshards = 0x10\nlisten = 'localhost:0'\n\
         [storage]\nsegment_bytes = 33_554_432\nretention_check = '1m30s'\n\
         [log]\nformat = 'json'\nfilter = 'warn,corelane_wal=debug'\n\
         [advertise]\nhost = '2001:db8::1'\ndirect_base_port = 9000\n",
    )
    .unwrap()
    .config;
    assert_eq!(config.server.cores, CoreRequest::List(vec![3]));
    assert_eq!(config.server.shards, Some(16));
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:0");
    assert_eq!(config.storage.segment_bytes, 32 << 20);
    assert_eq!(config.storage.retention_check, Duration::from_secs(90));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.advertise.direct_base_port, Some(9000));
    for (cores, expected) in [
        ("2", CoreRequest::Count(2)),
        ("'2'", CoreRequest::Count(2)),
        ("'0-2'", CoreRequest::List(vec![0, 1, 2])),
        ("[4, 1]", CoreRequest::List(vec![4, 1])),
    ] {
        let loaded = from_toml(&format!("server.cores = {cores}")).unwrap();
        assert_eq!(loaded.config.server.cores, expected);
        assert_eq!(from_toml(&loaded.show()).unwrap().config, loaded.config);
    }
}

#[test]
fn wrong_values_say_key_value_range_and_place() {
    for (toml, parts) in [
        (
            "\n[storage]\nsegment_bytes = '8MiB'",
            &[
                "storage.segment_bytes = \"8MiB\"",
                "c.toml line 3",
                "16MiB to 2GiB in steps of 1MiB",
            ][..],
        ),
        ("storage.segment_bytes = 16777217", &["16777217", "in steps of 1MiB"]),
        ("storage.writes_in_flight = 65", &["\"65\"", "1 to 64"]),
        ("storage.writes_in_flight = -1", &["\"-1\"", "1 to 64"]),
        ("storage.writes_in_flight = '4'", &["is text", "a whole number, without quotes"]),
        ("server.allow_anonymous = 'yes'", &["is text", "true or false"]),
        (
            "server.shutdown_timeout = 5",
            &["server.shutdown_timeout", "whole number", "text in quotes"],
        ),
        ("server.shutdown_timeout = '5'", &["\"5\"", "20ms", "100ms to 10m"]),
        ("server.listen = '7300'", &["127.0.0.1:7300"]),
        ("server.shards = 1025", &["\"1025\"", "1 to 1024"]),
        ("server.shards = 99999", &["\"99999\"", "1 to 1024"]),
        ("server.cores = 0", &["0 cores"]),
        ("server.cores = [0.5]", &["an array", "a list of CPUs"]),
        ("server.data_dir = ''", &["server.data_dir", "empty"]),
        ("mesh.depth = 1000", &["a power of two"]),
        ("log.format = 'xml'", &["neither text nor json"]),
        ("executor.spin = '2s'", &["0 to 1s"]),
        ("server.cores = 'per-socket'", &["per-numa-node", "auto"]),
        ("server.steering = 'rss'", &["off", "incoming-cpu"]),
        ("server.control_cpu = 4096", &["0 to 1023"]),
        ("server.adaptive_spin = 'yes'", &["true or false"]),
        ("storage.device_writes_per_second = 10", &["50 to 10000000"]),
    ] {
        let problem = toml_problem(toml);
        for part in parts {
            assert!(problem.contains(part), "{toml:?} gives {problem:?} without {part:?}");
        }
        assert!(!problem.contains('\n'), "{problem:?} is more than a line");
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    for (toml, parts) in [
        (
            "[storage]\nsegmet_bytes = 1",
            &["storage.segmet_bytes", "line 2", "mean storage.segment_bytes?"][..],
        ),
        ("segment_bytes = 1", &["mean storage.segment_bytes?"]),
        ("[sever]\nlisten = 'x'", &["sever", "line 1"]),
        ("[server.listen]\nport = 1", &["server.listen", "is a table", "text in quotes"]),
        ("server = 5", &["server", "whole number", "a table"]),
        ("[qwertyuiop]", &["qwertyuiop", "config sample"]),
        ("[server\n", &["c.toml line 1", "not TOML"]),
        ("[mesh]\ndepth = 64\ndepth = 64", &["c.toml line 3"]),
    ] {
        let problem = toml_problem(toml);
        for part in parts {
            assert!(problem.contains(part), "{toml:?} gives {problem:?} without {part:?}");
        }
    }
}

#[test]
fn variables_are_read_and_unknown_ones_refused() {
    let config = from_variables(&[
        ("CORELANE_SERVER_LISTEN", "[::1]:0"),
        ("CORELANE_SERVER_ALLOW_ANONYMOUS", "true"),
        ("CORELANE_ADVERTISE_HOST", "broker.example"),
        ("CORELANE_SEED", "7"),
        ("CORELANE_SERVICE_HOST", "10.0.0.1"),
        ("CORELANE_WEB_SERVICE_PORT_HTTP", "80"),
        ("CORELANE_PORT", "tcp://10.0.0.1:7300"),
        ("CORELANE_PORT_7300_TCP_ADDR", "10.0.0.1"),
    ])
    .unwrap()
    .config;
    assert_eq!(config.server.listen.to_string(), "[::1]:0");
    assert_eq!(config.advertise.host.as_deref(), Some("broker.example"));
    let problem = |name, value| from_variables(&[(name, value)]).unwrap_err().to_string();
    let unknown = problem("CORELANE_SERVER_LISTN", "x");
    assert!(unknown.contains("mean CORELANE_SERVER_LISTEN?"), "{unknown}");
    let unknown = problem("CORELANE_PORT_7300", "x");
    assert!(unknown.contains("CORELANE_PORT_7300 stands for no option"), "{unknown}");
    let wrong = problem("CORELANE_STORAGE_SEGMENT_BYTES", "1");
    assert!(wrong.contains("variable CORELANE_STORAGE_SEGMENT_BYTES"), "{wrong}");
}

#[test]
fn a_wrong_value_is_refused_even_when_overridden() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "mesh.depth = 1").unwrap();
    let flags = [flag("mesh.depth", "--mesh-depth", "256")];
    assert!(load(Some(file.path()), [], &flags).is_err());
}

#[test]
fn combinations_that_cannot_be_are_refused() {
    for (toml, parts) in [
        ("server.listen = '0.0.0.0:7300'", &["--allow-anonymous", "127.0.0.1:7300"][..]),
        ("server.listen = '[::]:9'", &["--allow-anonymous"]),
        ("storage.pool_segments = 9", &["storage.pool_segments_max (default)", "line 1"]),
        (
            "storage.segment_bytes = '16MiB'\nstorage.prepare_bytes_at_start = '32MiB'",
            &["segment_bytes (c.toml line 1) must not be less than"],
        ),
        ("storage.cache_bytes = '1MiB'", &["16MiB"]),
        ("server.direct_ports = false\nadvertise.direct_base_port = 1", &["direct_ports"]),
        ("advertise.host = 'a:7300'", &["bare host name"]),
        ("advertise.host = '0.0.0.0'", &["bare host name"]),
    ] {
        let problem = toml_problem(toml);
        for part in parts {
            assert!(problem.contains(part), "{toml:?} gives {problem:?} without {part:?}");
        }
    }
    let open = "server.listen = '0.0.0.0:7300'\nserver.allow_anonymous = true";
    assert!(from_toml(open).is_ok());
    assert!(from_toml("server.listen = '[::ffff:127.0.0.1]:1'").is_ok());
}

#[test]
fn a_missing_file_is_named() {
    let problem = check_file(Path::new("no/such.toml")).unwrap_err().to_string();
    assert!(problem.contains("no/such.toml"), "{problem}");
}
