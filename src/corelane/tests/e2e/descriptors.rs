//! When descriptors run out: the log goes on, clients wait or are turned away, nothing spins, and
//! accepting goes on by itself.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use client::{Client, Message};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::{Launch, Server, folder, wait_for};

/// More than a segment of the tests' brokers.
const MESSAGE_BYTES: usize = 512 * 1024;
const SEGMENT_MESSAGES: usize = 16 * 1024 * 1024 / MESSAGE_BYTES;

#[test]
fn clients_cannot_take_the_descriptors_of_the_log() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).ulimit("-n 180").start();
    assert!(server.log().contains("room for fewer connections"), "{}", server.log());
    server.create("t", 1);
    let publisher = Publisher::connect(&server);
    publisher.publish("t", 1);
    let crowd = connect_many(&server, 400);
    wait_for("a full server", || (open_files(&server) > 80).then_some(()));
    publisher.publish("t", 3 * SEGMENT_MESSAGES);
    // Those over the bound are accepted as descriptors come free, and closed.
    wait_for("spare descriptors", || (open_files(&server) < 170).then_some(()));
    assert_rests(&server);
    drop(crowd);
    wait_for("room for a new client", || {
        (server.run(&["topic", "list"]).code == Some(0)).then_some(())
    });
    drop(publisher);
    server.stop();
}

#[test]
fn the_log_goes_on_with_its_spare_descriptors() {
    let folder = folder();
    let server = Launch::new(&folder.path().join("data")).start();
    server.create("t", 1);
    let publisher = Publisher::connect(&server);
    publisher.publish("t", 1);
    let before = limit_open_files(&server, lowest_free(&server));
    let _crowd = connect_many(&server, 64);
    publisher.publish("t", 3 * SEGMENT_MESSAGES);
    let said = "the log has used its spare descriptors";
    wait_for("the server to say so", || server.log().contains(said).then_some(()));
    assert_rests(&server);
    limit_open_files(&server, before);
    wait_for("accepting again", || (server.run(&["topic", "list"]).code == Some(0)).then_some(()));
    drop(publisher);
    server.stop();
}

/// A client that stays connected.
struct Publisher {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Publisher {
    fn connect(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = server.address.to_string();
        let builder = Client::builder().server(address).direct_connections(false);
        let client = runtime.block_on(builder.build()).unwrap();
        Self { runtime, client }
    }

    fn publish(&self, topic: &str, messages: usize) {
        let value = vec![7u8; MESSAGE_BYTES];
        self.runtime.block_on(async {
            let producer = self.client.producer().build().unwrap();
            for _ in 0..messages {
                drop(producer.send(Message::new(topic).value(&value)).await.unwrap());
            }
            producer.close().await.unwrap();
        });
    }
}

fn connect_many(server: &Server, count: usize) -> Vec<TcpStream> {
    let timeout = Duration::from_secs(5);
    (0..count).filter_map(|_| TcpStream::connect_timeout(&server.address, timeout).ok()).collect()
}

fn files(server: &Server) -> Vec<u64> {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    folder.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect()
}

fn open_files(server: &Server) -> usize {
    files(server).len()
}

/// With this limit it can open nothing more.
fn lowest_free(server: &Server) -> u64 {
    let used = files(server);
    (0..).find(|number| !used.contains(number)).unwrap()
}

/// Returns what it was.
fn limit_open_files(server: &Server, files: u64) -> u64 {
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    let new = Rlimit { current: Some(files), maximum: None };
    let hard = prlimit(Some(pid), Resource::Nofile, Rlimit { maximum: hard_limit(), ..new });
    hard.unwrap().current.unwrap()
}

fn hard_limit() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).maximum
}

/// What it has to refuse costs it less than half a CPU.
fn assert_rests(server: &Server) {
    let began = Instant::now();
    let before = cpu_ticks(server);
    std::thread::sleep(Duration::from_secs(1));
    let used = (cpu_ticks(server) - before) as f64 / 100.0 / began.elapsed().as_secs_f64();
    assert!(used < 0.5, "{used} CPUs are used while nothing is asked for");
}

/// User and system time, hundredths of a second.
fn cpu_ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = rest.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
