//! A made-up broker on a made-up machine of two nodes.

use super::*;
use crate::check::{Finding, Severity, Verdict};
use crate::fixture::Fixture;

const PID: u32 = 4242;

struct Made {
    host: Fixture,
}

impl Made {
    /// Two cores on CPUs 0 and 1 of node 0, and a signal thread.
    fn new() -> Self {
        let made = Self { host: Fixture::two_nodes() };
        made.write("comm", "corelane\n");
        made.thread(PID, "corelane", "0-15", 7, 1);
        made.thread(PID + 1, "core-0-1", "0", 0, 1);
        made.thread(PID + 2, "core-1-2", "1", 1, 1);
        // Helps a core, has its name, and may run anywhere.
        made.thread(PID + 3, "core-0-1", "0-15", 9, 1);
        made.write(
            "numa_maps",
            "7f00 default anon=10 N0=100 kernelpagesize_kB=2048\n\
                                 7f01 default anon=1 N0=5 N1=5 kernelpagesize_kB=4\n",
        );
        made.write(
            "smaps_rollup",
            "0 ---p [rollup]\nRss: 300000 kB\nAnonHugePages: 204800 kB\nSwap: 0 kB\n",
        );
        made
    }

    fn write(&self, file: &str, text: &str) {
        self.host.write(&format!("proc/{PID}/{file}"), text);
    }

    fn thread(&self, id: u32, name: &str, allowed: &str, last: u32, switches: u64) {
        self.write(
            &format!("task/{id}/status"),
            &format!(
                "Name:\t{name}\nCpus_allowed_list:\t{allowed}\n\
                 voluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t{switches}\n"
            ),
        );
        let (zeros, more) = ("0 ".repeat(18), "0 ".repeat(16));
        let stat = format!("{id} (a) b) S {zeros}{id} {more}{last} 0\n");
        self.write(&format!("task/{id}/stat"), &stat);
        self.write(&format!("task/{id}/schedstat"), "1000000 0 5\n");
    }

    fn look(&self) -> Running {
        watch(&self.host.roots(), PID, "corelane", Duration::ZERO).unwrap()
    }

    fn judged(&self) -> (Verdict, Vec<Finding>) {
        judge(&self.look(), &self.host.host().topology)
    }

    #[track_caller]
    fn expect(&self, id: &str, severity: Severity, word: &str) {
        let (_, findings) = self.judged();
        let finding = findings.iter().find(|finding| finding.id == id).unwrap();
        assert_eq!(finding.severity, severity, "{finding:?}");
        assert!(finding.is.contains(word), "{finding:?}");
    }
}

#[test]
fn a_well_placed_broker_is_good() {
    let made = Made::new();
    let running = made.look();
    let names: Vec<&str> = running.threads.iter().map(|thread| thread.name.as_str()).collect();
    assert_eq!(names, ["core-0-1", "core-0-1", "core-1-2", "corelane"]);
    let roles: Vec<Role> = running.threads.iter().map(|thread| thread.role).collect();
    assert_eq!(roles, [Role::Core, Role::Helper, Role::Core, Role::Other]);
    let core = &running.threads[2];
    assert_eq!((core.pinned_to, core.last_on, core.core), (Some(1), 1, Some(1)));
    assert_eq!(running.threads[3].pinned_to, None);
    let small = 5 * 4096;
    let node_0 = 100 * 2048 * 1024 + small;
    assert_eq!(running.memory.by_node, [(0, node_0), (1, small)].into_iter().collect());
    let (verdict, findings) = made.judged();
    assert_eq!(verdict, Verdict::Good, "{findings:#?}");
}

#[test]
fn bad_placement_is_named() {
    let made = Made::new();
    made.thread(PID + 2, "core-1-2", "0-3", 2, 1);
    made.expect("running.pinning", Severity::Costs, "core-1-2");
    made.thread(PID + 2, "core-1-2", "0", 0, 1);
    made.expect("running.shared_cpus", Severity::Costs, "core-0-1 and core-1-2");
    made.thread(PID + 2, "core-1-2", "8", 8, 1);
    made.expect("running.shared_cpus", Severity::Note, "core-0-1 and core-1-2");
    made.write("numa_maps", "7f00 default N1=100 kernelpagesize_kB=4\n");
    made.expect("running.memory_nodes", Severity::Costs, "node 1: 0 MiB, 0 core(s)");
    made.write("smaps_rollup", "Rss: 300000 kB\nAnonHugePages: 0 kB\nSwap: 4096 kB\n");
    made.expect("running.swap", Severity::Costs, "4 MiB");
    made.expect("running.huge_pages", Severity::Costs, "0 MiB of 292 MiB");
    for worker in 0..9 {
        made.thread(PID + 10 + worker, "iou-wrk-4243", "0-15", 9, 1);
    }
    made.expect("running.io_workers", Severity::Costs, "9 kernel");
}

#[test]
fn rates_come_from_the_difference() {
    let thread = Thread { name: "core-0".to_owned(), ..Thread::default() };
    let counters = |n: u64| Counters {
        began_ticks: 1,
        cpu_ns: n * 1_000_000_000,
        voluntary: n * 10,
        involuntary: n * 100,
    };
    let rated = thread.with_rates(counters(1), counters(2), 2.0);
    assert_eq!((rated.cpu_share, rated.waits_per_s, rated.preempted_per_s), (0.5, 5.0, 50.0));
    let made = Made::new();
    let mut running = made.look();
    running.threads[0].preempted_per_s = 50.0;
    running.threads[3].cpu_share = 0.5;
    running.threads[3].last_on = 1;
    let (_, findings) = judge(&running, &made.host.host().topology);
    let of = |id: &str| findings.iter().find(|finding| finding.id == id).unwrap();
    assert_eq!(of("running.preempted").severity, Severity::Costs);
    assert!(of("running.other_threads").is.contains("50% of CPU 1"));
}

#[test]
fn what_is_no_broker_is_refused() {
    let made = Made::new();
    let look = |pid, name| watch(&made.host.roots(), pid, name, Duration::ZERO).unwrap_err();
    assert!(look(1, "corelane").to_string().contains("no process 1"));
    assert!(look(PID, "nginx").to_string().contains("\"corelane\""));
    for id in [PID + 1, PID + 2, PID + 3] {
        std::fs::remove_dir_all(made.host.path(&format!("proc/{PID}/task/{id}"))).unwrap();
    }
    let (verdict, findings) = made.judged();
    assert_eq!((verdict, findings.len()), (Verdict::Unknown, 1));
}

#[test]
fn the_listener_of_a_port_is_found() {
    let host = Fixture::flat(1);
    let head = "  sl  local_address rem_address   st\n";
    let line = |local: &str, state: &str, inode: u32| {
        format!(
            "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n"
        )
    };
    let table = line("0100007F:1C84", "0A", 11)
        + &line("00000000:1C84", "0A", 22)
        + &line("0100007F:1C85", "01", 33);
    host.write("proc/net/tcp", &(head.to_owned() + &table));
    for (pid, inode) in [(7, 22), (8, 11), (9, 33)] {
        let folder = host.path(&format!("proc/{pid}/fd"));
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(format!("socket:[{inode}]"), folder.join("3")).unwrap();
    }
    let find = |address: &str| listening_process(&host.roots(), address.parse().unwrap());
    assert_eq!(find("127.0.0.1:7300"), Ok(8), "the very address goes first");
    assert_eq!(find("10.0.0.1:7300"), Ok(7));
    assert_eq!(
        find("127.0.0.1:7301"),
        Err(FindError::NoListener(7301)),
        "connected, not listening"
    );
    std::fs::remove_dir_all(host.path("proc/8")).unwrap();
    assert_eq!(find("127.0.0.1:7300"), Err(FindError::Hidden(7300)));
}

#[test]
fn a_real_listener_of_this_process_is_found() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let found = listening_process(&Roots::default(), listener.local_addr().unwrap());
    assert_eq!(found, Ok(std::process::id()));
    let listener = std::net::TcpListener::bind("[::1]:0");
    if let Ok(listener) = listener {
        let found = listening_process(&Roots::default(), listener.local_addr().unwrap());
        assert_eq!(found, Ok(std::process::id()));
    }
}
