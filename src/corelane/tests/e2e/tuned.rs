//! Options that fit the server to its machine: where threads run, which core takes a connection,
//! whether idle cores look for work, how many writes a device gets.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::AckLevel;
use tuning::{Host, pin_current_thread};

use crate::harness::{Launch, Server, folder, wait_for};
use crate::wire::{Wire, batch};

/// The CPUs this test may use.
fn allowed_cpus() -> Vec<u32> {
    Host::read().unwrap().allowed.iter().collect()
}

/// One thread of a server.
struct Thread {
    folder: PathBuf,
    name: String,
}

impl Thread {
    /// The value of a line of its `status`.
    fn status(&self, key: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join("status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// CPU time it has used, hundredths of a second.
    fn ticks(&self) -> u64 {
        let text = std::fs::read_to_string(self.folder.join("stat")).unwrap();
        let (_, fields) = text.rsplit_once(')').unwrap();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

fn threads(server: &Server) -> Vec<Thread> {
    let folders = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let thread = |folder: PathBuf| {
        let name = std::fs::read_to_string(folder.join("comm")).ok()?.trim().to_owned();
        Some(Thread { folder, name })
    };
    folders.filter_map(|entry| thread(entry.unwrap().path())).collect()
}

/// The thread of core 0: of those named after it, the one that has worked.
fn core_thread(server: &Server) -> Thread {
    let cores = threads(server).into_iter().filter(|thread| thread.name.starts_with("core-0"));
    let switches = |thread: &Thread| thread.status("voluntary_ctxt_switches").parse().unwrap_or(0);
    cores.max_by_key(|thread| switches(thread) + 100 * thread.ticks()).unwrap()
}

/// Publishes messages one by one, each after the last was acknowledged.
fn publish_in_lockstep(server: &Server, topic: &str, messages: u64) {
    let mut wire = Wire::open(server.address);
    let handle = wire.handle(topic, 0);
    for message in 0..messages {
        let ack = wire.produce(handle, AckLevel::Durable, &batch(&[message.to_string()])).ack();
        assert_eq!((ack.base_offset, ack.level), (message, AckLevel::Durable));
    }
}

#[test]
fn a_core_told_to_look_looks_and_one_that_adapts_sleeps_when_nothing_is_near() {
    let folder = folder();
    let data = folder.path().join("data");
    let cpu = *allowed_cpus().last().unwrap();
    let launch = Launch::new(&data).cores(0).word(&format!("--cores={cpu}-{cpu}"));

    let server = launch.clone().set("CORELANE_EXECUTOR_SPIN", "1s").start();
    server.create("t", 1);
    let core = core_thread(&server);
    let before = core.ticks();
    wait_for("an idle core to use its CPU", || (core.ticks() >= before + 20).then_some(()));
    publish_in_lockstep(&server, "t", 50);
    server.stop();

    let server = launch.set("CORELANE_SERVER_ADAPTIVE_SPIN", "true").start();
    server.create("u", 1);
    publish_in_lockstep(&server, "u", 500);
    let core = core_thread(&server);
    // Calm comes within a window in which it has used next to nothing.
    wait_for("the core to sleep again", || {
        let (began, before) = (Instant::now(), core.ticks());
        while began.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(20));
        }
        (core.ticks() <= before + 5).then_some(())
    });
    assert_eq!(server.values("u").len(), 500);
    server.stop();
}

/// Connections that each core has accepted.
fn accepted(server: &Server) -> Vec<u64> {
    let status = server.run(&["status", "--output", "json"]).json();
    let cores = status["cores"].as_array().unwrap();
    cores.iter().map(|core| core["accepted"].as_u64().unwrap()).collect()
}

#[test]
fn connections_come_to_the_core_on_whose_cpu_they_are_received() {
    const CONNECTIONS: u64 = 40;
    let cpus = allowed_cpus();
    if cpus.len() < 2 {
        return eprintln!("not run: one CPU only, so that every connection comes in on it");
    }
    let list: Vec<String> = cpus[..2].iter().map(u32::to_string).collect();
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data"));
    let server = launch
        .cores(0)
        .word(&format!("--cores={}", list.join(",")))
        .set("CORELANE_SERVER_STEERING", "incoming-cpu")
        .start();
    if server.log().contains("6.2 or newer") {
        return eprintln!("not run: this kernel chooses among listening sockets by chance");
    }
    for (core, cpu) in cpus[..2].iter().copied().enumerate() {
        let (address, before) = (server.address, accepted(&server));
        // Over loopback a connection is received on the CPU that sends it.
        let connect = move || {
            pin_current_thread(cpu).unwrap();
            (0..CONNECTIONS).map(|_| Wire::open(address)).collect::<Vec<_>>()
        };
        let wires = std::thread::spawn(connect).join().unwrap();
        let after = accepted(&server);
        // The connections of `status` itself come from any CPU.
        let (here, there) = (after[core] - before[core], after[1 - core] - before[1 - core]);
        assert!(here >= CONNECTIONS && there <= 2, "CPU {cpu}: {before:?} to {after:?}");
        drop(wires);
    }
    server.stop();
}

#[test]
fn what_is_no_core_runs_on_the_control_cpu() {
    let cpus = allowed_cpus();
    if cpus.len() < 2 {
        return eprintln!("not run: one CPU only, which cores and control threads share");
    }
    let control = *cpus.last().unwrap();
    let folder = folder();
    let server = Launch::new(&folder.path().join("data"))
        .cores(0)
        .word("--cores=auto")
        .set("CORELANE_SERVER_CONTROL_CPU", &control.to_string())
        .start();
    let kept = format!("every CPU allowed but {control}, which the control threads have");
    assert!(
        server.ready_line.contains(&kept) || server.log().contains("another broker"),
        "{}",
        server.ready_line
    );
    publish_to_new_topic(&server);
    let found = threads(&server);
    // The kernel's own workers of a ring are not ours to place.
    let ours = found.iter().filter(|thread| !thread.name.starts_with("iou-"));
    let (mut cores, mut others) = (0, 0);
    for thread in ours {
        let on: u32 = thread.status("Cpus_allowed_list").parse().unwrap_or_else(|_| {
            panic!("{} may run on {}", thread.name, thread.status("Cpus_allowed_list"))
        });
        if on == control { others += 1 } else { cores += 1 }
    }
    assert!(cores >= 1 && others >= 2, "{cores} on the cores' CPUs, {others} on the control CPU");
    for name in ["corelane", "signals"] {
        let thread = found.iter().find(|thread| thread.name == name).unwrap();
        assert_eq!(thread.status("Cpus_allowed_list"), control.to_string(), "{name}");
    }
    server.stop();
}

fn publish_to_new_topic(server: &Server) {
    server.create("t", 2);
    server.publish("t", "one\ntwo\nthree\n");
    assert_eq!(server.values("t").len(), 3);
}

#[test]
fn an_impossible_control_cpu_is_refused() {
    let folder = folder();
    let launch =
        Launch::new(&folder.path().join("data")).set("CORELANE_SERVER_CONTROL_CPU", "1023");
    let sentence = launch.try_start().unwrap_err().failed_after_logs();
    assert!(sentence.contains("server.control_cpu is 1023, which is not online"), "{sentence}");
}

#[test]
fn a_cores_memory_is_bound_to_its_node_or_the_log_says_why_not() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data")).cores(0).word("--cores=per-numa-node");
    let server = launch.start();
    publish_to_new_topic(&server);
    if server.log().contains("set_mempolicy") {
        assert!(server.ready_line.contains("by first touch"), "{}", server.ready_line);
        return eprintln!("not run: this kernel or container forbids set_mempolicy");
    }
    assert!(server.ready_line.contains("on each NUMA node"), "{}", server.ready_line);
    assert!(
        server.ready_line.contains("memory of each core bound to its NUMA node"),
        "{}",
        server.ready_line
    );
    let maps = std::fs::read_to_string(core_thread(&server).folder.join("numa_maps"));
    match maps {
        Ok(maps) => assert!(maps.contains(" prefer:"), "{}", maps.lines().next().unwrap_or("")),
        Err(error) => eprintln!("not looked at: numa_maps cannot be read: {error}"),
    }
    server.stop();
}

#[test]
fn all_is_kept_under_a_budget_of_writes() {
    let folder = folder();
    let launch = Launch::new(&folder.path().join("data")).cores(2).shards(2);
    let launch = launch.set("CORELANE_STORAGE_DEVICE_WRITES_PER_SECOND", "100");
    let server = launch.start();
    server.create("t", 4);
    let lines: Vec<String> = (0..5_000).map(|line| format!("line {line}")).collect();
    server.publish("t", &format!("{}\n", lines.join("\n")));
    let mut values = server.values("t");
    server.kill();
    let server = launch.start();
    let mut after = server.values("t");
    values.sort_unstable();
    after.sort_unstable();
    let mut lines = lines;
    lines.sort_unstable();
    assert!(values == lines && after == lines);
    server.stop();
}
