//! Who is let in: bounds on connections, how they are told, and that operators come in all the
//! same.

use model::{ErrorCode, Reply, Request, TopicConfig, TopicName};
use serde_json::Value;

use crate::harness::{Launch, Server, folder, wait_for};
use crate::wire::{Wire, hello, hello_as, operator_hello};

fn status(server: &Server) -> Value {
    server.run(&["status", "--output", "json"]).json()
}

fn sum(status: &Value, field: &str) -> u64 {
    status["cores"].as_array().unwrap().iter().map(|core| core[field].as_u64().unwrap()).sum()
}

/// Says Hello and gives the error that must come.
fn refused(server: &Server) -> model::Rejection {
    let mut wire = Wire::silent(server.address);
    wire.send(&hello());
    let rejection = wire.frame().rejection();
    assert!(wire.until_closed().is_empty());
    rejection
}

#[test]
fn an_address_may_have_so_many_connections_over_all_cores() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data")).cores(2);
    let server = launch.set("CORELANE_SERVER_CONNECTIONS_PER_ADDRESS_MAX", "10").start();
    let mut open: Vec<_> = (0..10).map(|_| Wire::open(server.address)).collect();
    for _ in 0..3 {
        let rejection = refused(&server);
        assert_eq!(rejection.code, ErrorCode::TooManyConnections);
        assert!(rejection.message.contains("server.connections_per_address_max"), "{rejection}");
    }
    for wire in &mut open {
        wire.check_alive();
    }
    // An operator is let in, and counted apart.
    let seen = status(&server);
    assert_eq!((sum(&seen, "connections"), sum(&seen, "refused")), (10, 3));
    let log = server.log();
    assert!(log.contains("connection refused") && log.contains("127.0.0.1:"), "{log}");
    // Room that comes back is given out again.
    open.pop();
    wait_for("the place of a closed connection", || {
        (sum(&status(&server), "connections") == 9).then_some(())
    });
    Wire::open(server.address).check_alive();
    server.stop();
}

#[test]
fn a_core_may_have_so_many_connections() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data"));
    let server = launch.set("CORELANE_SERVER_CONNECTIONS_PER_CORE_MAX", "5").start();
    let _open: Vec<_> = (0..5).map(|_| Wire::open(server.address)).collect();
    let rejection = refused(&server);
    assert_eq!(rejection.code, ErrorCode::TooManyConnections);
    assert!(rejection.message.contains("server.connections_per_core_max"), "{rejection}");
    assert_eq!(sum(&status(&server), "refused"), 1);
}

/// Past the few that may wait to say Hello, the oldest of a flood are told, and an operator comes in.
#[test]
fn a_flood_of_silent_connections_leaves_the_others_alone() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data"));
    let server = launch.set("CORELANE_SERVER_CONNECTIONS_PER_ADDRESS_MAX", "2").start();
    let mut good = Wire::open(server.address);
    let _second = Wire::open(server.address);
    let mut flood: Vec<_> = (0..200).map(|_| Wire::silent(server.address)).collect();
    wait_for("the flood's end", || {
        good.check_alive();
        let refused = flood.iter_mut().take(100).all(|wire| {
            wire.next().is_some_and(|f| f.rejection().code == ErrorCode::TooManyConnections)
        });
        refused.then_some(())
    });
    // The others hold every place that there is.
    assert_eq!(server.run(&["status"]).code, Some(0));
    good.check_alive();
    server.stop();
}

#[test]
fn no_bound_is_a_bound_too() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data"));
    let server = launch.set("CORELANE_SERVER_CONNECTIONS_PER_ADDRESS_MAX", "0").start();
    let open: Vec<_> = (0..100).map(|_| Wire::open(server.address)).collect();
    assert_eq!(sum(&status(&server), "connections"), open.len() as u64);
}

#[test]
fn an_operator_is_served_its_own_and_nothing_else() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    server.create("t", 1);
    let mut operator = Wire::silent(server.address);
    operator.send(&operator_hello());
    operator.frame();
    operator.check_alive();
    let handle = operator.handle("t", 0);
    assert!(matches!(operator.request(&Request::Status).reply(), Reply::Status(_)));
    let batch = crate::wire::batch(&["x"]);
    let frame = operator.produce(handle, model::AckLevel::Durable, &batch);
    assert_eq!(frame.rejection().code, ErrorCode::InvalidArgument);
    let frame = operator.request(&Request::InitProducer);
    assert_eq!(frame.rejection().code, ErrorCode::InvalidArgument);
    // Features no one has defined are no reason to refuse.
    let mut strange = Wire::silent(server.address);
    strange.send(&hello_as(1 << 40));
    strange.frame();
    strange.produce(handle, model::AckLevel::Durable, &batch).ack();
}

/// Saying Hello as an operator is no way around the bounds.
#[test]
fn operators_have_a_bound_of_their_own() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data"));
    let server = launch.set("CORELANE_SERVER_CONNECTIONS_PER_ADDRESS_MAX", "1").start();
    let mut client = Wire::open(server.address);
    let mut operators = Vec::new();
    let refused = loop {
        let mut operator = Wire::silent(server.address);
        operator.send(&operator_hello());
        let frame = operator.frame();
        if frame.header.kind != protocol::kind::HELLO_REPLY {
            assert!(operator.until_closed().is_empty());
            break frame.rejection();
        }
        operators.push(operator);
        assert!(operators.len() <= 16);
    };
    assert_eq!((operators.len(), refused.code), (16, ErrorCode::TooManyConnections));
    assert!(refused.message.contains("operators"), "{refused}");
    client.check_alive();
    drop(operators);
    wait_for("an operator's place", || (server.run(&["status"]).code == Some(0)).then_some(()));
}

#[test]
fn the_log_filter_is_changed_while_the_server_runs() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    server.create("before", 1);
    assert!(!server.log().contains("connected"), "{}", server.log());
    let run = server.run(&["log-filter", "info,corelane_server=debug"]).ok();
    assert!(run.text().contains("info,corelane_server=debug"), "{run:?}");
    server.create("after", 1);
    assert!(server.log().contains("log filter changed"), "{}", server.log());
    assert!(server.log().contains(" connected"), "{}", server.log());
    let refused = server.run(&["log-filter", "a=b=c"]).failed();
    assert!(refused.contains("is not understood"), "{refused}");
}

/// A change of topics that takes longer than its client waits: the client is told in time, and the
/// change comes to its end.
#[test]
fn a_topic_change_honours_its_deadline() {
    const PARTITIONS: u32 = 30_000;
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).shards(2).start();
    let name = TopicName::parse("t").unwrap();
    let mut wire = Wire::open(server.address);
    let create = Request::CreateTopic {
        name: name.clone(),
        partitions: PARTITIONS,
        config: TopicConfig::default(),
    };
    let mut bytes = Vec::new();
    protocol::put_request(&mut bytes, 7, &create, 1).unwrap();
    wire.send(&bytes);
    let frame = wire.frame();
    assert_eq!(
        (frame.header.correlation, frame.rejection().code),
        (7, ErrorCode::DeadlineExceeded)
    );
    let ask = Request::Metadata { topics: vec![name], after: None, limit: 1 };
    wait_for("the topic", || match wire.request(&ask).reply() {
        Reply::Metadata { topics, .. } => topics.first().map(|topic| topic.partitions.len()),
        other => panic!("{other:?}"),
    });
    server.run(&["topic", "delete", "t"]).ok();
}

/// One process opens 64 connections to the shared port: the kernel spreads them by chance, the
/// cores even them out to a quarter and a little.
#[test]
fn connections_are_balanced_over_the_cores() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).cores(2).start();
    for round in 0..3 {
        let mut open: Vec<_> = (0..64).map(|_| Wire::open(server.address)).collect();
        let seen = status(&server);
        let counts: Vec<_> = seen["cores"]
            .as_array()
            .unwrap()
            .iter()
            .map(|core| core["connections"].as_u64().unwrap())
            .collect();
        assert_eq!(counts.iter().sum::<u64>(), 64);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*most * 4 <= *least * 5 + 8, "round {round}: {counts:?}");
        for wire in &mut open {
            wire.check_alive();
        }
        drop(open);
        wait_for("all gone", || (sum(&status(&server), "connections") == 0).then_some(()));
    }
    // A core's own port is for those who want that core.
    let direct = server.direct_addresses()[1];
    let open: Vec<_> = (0..40).map(|_| Wire::open(direct)).collect();
    let seen = status(&server);
    assert_eq!(seen["cores"][1]["connections"], open.len());
    server.stop();
}
