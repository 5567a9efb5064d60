//! Whole command lines.

use std::time::Duration;

use clap::CommandFactory;
use clap::error::ErrorKind;
use model::{AckLevel, StartPosition};
use tuning::CoreRequest;

use ::bench::Sizes;

use super::bench::Space;
use super::client::CompressionArg;
use super::format::FormatPart;
use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("corelane").chain(line.split_whitespace());
    try_parse_from(words).map(|cli| cli.command)
}

fn refused(line: &str) -> String {
    let error = parse(line).map(|_| ()).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

#[test]
fn the_command_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn serve_needs_nothing_and_takes_its_flags() {
    let Ok(Command::Serve(args)) = parse("serve") else { panic!() };
    assert!(args.overrides().is_empty() && args.config.is_none());
    let line = "serve --config c.toml --data-dir d --listen 0.0.0.0:1 --cores 0-2,5 --shards 8 \
                --allow-anonymous";
    let Ok(Command::Serve(args)) = parse(line) else { panic!() };
    assert_eq!(args.cores, Some(CoreRequest::List(vec![0, 1, 2, 5])));
    let flags = args.overrides();
    let texts: Vec<_> = flags.iter().map(|flag| (flag.flag, flag.text.as_str())).collect();
    assert_eq!(
        texts,
        [
            ("--data-dir", "d"),
            ("--listen", "0.0.0.0:1"),
            ("--cores", "0,1,2,5"),
            ("--shards", "8"),
            ("--allow-anonymous", "true"),
        ]
    );
    let config = crate::config::load(None, [], &flags).unwrap().config;
    assert_eq!(config.server.shards, Some(8));
    assert!(config.server.allow_anonymous);
}

#[test]
fn topics() {
    let line = "topic create a.b --partitions 8 --retention 7d --retention-bytes 1GiB --ack memory";
    let Ok(Command::Topic { command: TopicCommand::Create { name, partitions, settings, .. } }) =
        parse(line)
    else {
        panic!()
    };
    assert_eq!((name.as_str(), partitions), ("a.b", 8));
    let config = settings.config();
    assert_eq!(config.retention_ms, Some(7 * 86_400_000));
    assert_eq!((config.retention_bytes, config.ack), (Some(1 << 30), AckLevel::Memory));
    let Ok(Command::Topic { command: TopicCommand::Alter { settings, .. } }) =
        parse("topic alter a --retention unlimited")
    else {
        panic!()
    };
    assert_eq!(settings.change().retention_ms, Some(None));
    assert_eq!((settings.change().retention_bytes, settings.change().ack), (None, None));
    for line in ["topic list --output json", "topic describe a", "topic delete a --server h"] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn produce_and_consume() {
    let Ok(Command::Produce(args)) =
        parse("produce t --file f --key-separator \\t --ack none --compression zstd")
    else {
        panic!()
    };
    assert_eq!(args.key_separator.as_deref(), Some("\t"));
    assert_eq!((args.ack, args.compression), (Some(AckLevel::None), CompressionArg::Zstd));
    assert_eq!(args.server.server, "127.0.0.1:7300");
    let Ok(Command::Produce(args)) = parse("produce t") else { panic!() };
    assert_eq!((args.ack, args.compression), (None, CompressionArg::None));

    let Ok(Command::Consume(args)) = parse("consume t") else { panic!() };
    assert_eq!((args.start(), args.format.parts), (StartPosition::First, vec![FormatPart::Value]));
    let Ok(Command::Consume(args)) = parse("consume t --consumer c --follow --count 3") else {
        panic!()
    };
    assert!(matches!(args.start(), StartPosition::Committed(name) if name.as_str() == "c"));
    assert!(args.follow && args.count == Some(3));
}

#[test]
fn start_positions() {
    let start = |from: &str| match parse(&format!("consume t --from {from}")) {
        Ok(Command::Consume(args)) => args.start(),
        other => panic!("{other:?}"),
    };
    assert_eq!(start("first"), StartPosition::First);
    assert_eq!(start("last"), StartPosition::Last);
    assert_eq!(start("next"), StartPosition::Next);
    assert_eq!(start("offset:42"), StartPosition::Offset(42));
    assert_eq!(start("time:1970-01-01T00:00:01.5Z"), StartPosition::Time(1500));
    assert_eq!(start("time:1970-01-01T01:00:00.0005+01:00"), StartPosition::Time(1));
    for from in ["", "begin", "offset:", "offset:-1", "time:yesterday", "time:2026-01-01"] {
        assert!(refused(&format!("consume t --from={from}")).contains("--from"), "{from}");
    }
}

#[test]
fn bench() {
    let command = |line: &str| match parse(line) {
        Ok(Command::Bench { command }) => *command,
        other => panic!("{other:?}"),
    };
    let BenchCommand::Produce(run) = command("bench produce") else { panic!() };
    let load = &run.load;
    assert_eq!((&load.size, load.batch, load.connections), (&Sizes::Fixed(1024), 1, 1));
    assert_eq!((load.in_flight, load.lockstep), (None, false));
    assert_eq!((load.rate, load.ack, load.space), (None, AckLevel::Durable, Space::Recycled));
    assert_eq!((load.duration, load.warmup), (Duration::from_secs(10), Duration::from_secs(2)));
    let line = "bench e2e --embedded --data-dir d --server-cores 1 --space fresh --size 100 \
                --batch 10 --connections 4 --in-flight 64 --rate 5000 --duration 500ms --warmup 0 \
                --ack memory --topics 3 --partitions 2 --output json";
    let BenchCommand::E2e(run) = command(line) else { panic!() };
    assert!(run.target.embedded && run.target.server_cores == Some(1));
    assert_eq!((run.load.duration, run.load.rate), (Duration::from_millis(500), Some(5000)));
    assert_eq!((run.load.space, run.output.output), (Space::Fresh, Output::Json));
    assert!(parse("bench consume --server 10.0.0.1:7300").is_ok());
    for line in [
        "bench produce --lockstep",
        "bench produce --ramp 10..500 --arrivals poisson --seed 7",
        "bench produce --steps 10,500 --size 100:9,1KiB:1 --lag-max 5ms",
        "bench e2e --rate 100 --bursts 5000:100ms:1s --keys 100 --zipf 1.2 --consumers 2",
        "bench consume --backlog --json out.json",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
    for line in [
        "bench produce --lockstep --rate 5",
        "bench produce --rate 5 --ramp 1..2",
        "bench produce --bursts 5000:100ms:1s",
        "bench produce --zipf 2",
        "bench consume --embedded --cold --backlog",
    ] {
        refused(line);
    }
    assert!(parse("bench raw --data-dir d --connections 4 --output json").is_ok());
}

#[test]
fn wrong_usage_says_what_to_do() {
    for (line, part) in [
        ("", "Usage"),
        ("sevre", "serve"),
        ("serve --cores 0", "at least 1"),
        ("serve --cores all", "neither auto"),
        ("serve --shards 0", "1..=1024"),
        ("serve --listen 7300", "127.0.0.1:7300"),
        ("topic create bad/name", "'/'"),
        ("topic create a --partitions 0", "1..=100000"),
        ("topic create a --ack none", "durable or memory"),
        ("topic create a --retention 5", "7d"),
        ("topic alter a", "nothing to change"),
        ("consume t --format %x", "%x is no field"),
        ("produce t --ack fast", "durable, memory or none"),
        ("bench produce --size 8", "at least 24"),
        ("bench produce --size 1MiB --batch 9", "at most 8388608"),
        ("bench produce --duration 0", "more than 0"),
        ("bench produce --data-dir d", "--embedded"),
        ("bench produce --embedded --server a", "cannot be used with"),
        ("status --server host:0", "broker:7300"),
        ("verify", "<DIR>"),
        ("config check", "<FILE>"),
    ] {
        let error = refused(line);
        assert!(error.contains(part), "{line:?} gives {error:?} without {part:?}");
    }
}

#[test]
fn the_help_of_serve_names_the_declared_defaults() {
    let help = parse("serve --help").map(|_| ()).unwrap_err().to_string();
    let help: String = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for key in ["server.data_dir", "server.listen", "server.cores"] {
        let default = crate::config::options::find(key).unwrap().default;
        assert!(help.contains(&format!("[default: {default}]")), "{key} is not in {help}");
    }
}

#[test]
fn the_deployed_commands_are_good_ones() {
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let unit = std::fs::read_to_string(deploy.join("corelane.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/corelane "));
    assert!(matches!(parse(start.unwrap()), Ok(Command::Serve(_))));
    let dockerfile = std::fs::read_to_string(deploy.join("Dockerfile")).unwrap();
    let command = dockerfile.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap();
    let words: String = command.replace(['[', ']', '"', ','], " ");
    assert!(matches!(parse(&words), Ok(Command::Serve(_))));
}

#[test]
fn help_and_version_are_no_errors() {
    for line in ["--help", "--version", "serve --help", "topic create --help", "bench raw --help"] {
        let error = parse(line).map(|_| ()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion));
        assert_eq!(error.exit_code(), 0);
    }
}

#[test]
fn server_addresses_get_their_port() {
    for (text, address) in [
        ("h", "h:7300"),
        ("h:1", "h:1"),
        ("1.2.3.4", "1.2.3.4:7300"),
        ("::1", "[::1]:7300"),
        ("[::1]", "[::1]:7300"),
        ("[::1]:5", "[::1]:5"),
    ] {
        assert_eq!(value::server_address(text).as_deref(), Ok(address));
    }
    for text in ["", ":1", "h:", "h:x", "h:99999", "a b", "[x]:1", "tcp://h:1"] {
        assert!(value::server_address(text).is_err(), "{text}");
    }
}
