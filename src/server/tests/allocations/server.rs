//! A server in this process: one core, one shard, a temporary directory.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;

use corelane_server::{ExecutorConfig, IoMode, ServerConfig, SpinConfig, Steering, StorageConfig};
use tuning::Placement;

const MIB: u64 = 1024 * 1024;

pub struct Server {
    pub address: SocketAddr,
    thread: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path().join("data"));
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let ready = |ready: &corelane_server::Ready| tell.send(ready.listen).unwrap();
            corelane_server::run(config, ready).unwrap();
        });
        let address = told.recv().expect("the server starts");
        Self { address, thread, _folder: folder }
    }

    /// As an operator stops it.
    pub fn stop(self) {
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
        self.thread.join().unwrap();
    }
}

fn config(data_dir: std::path::PathBuf) -> ServerConfig {
    ServerConfig {
        version: "test".to_owned(),
        data_dir,
        listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
        placement: Placement {
            cpus: vec![None],
            numa_nodes: vec![None],
            why: "a test".to_owned(),
            warnings: Vec::new(),
            bind_memory: false,
            several_nodes: false,
        },
        shards: Some(1),
        direct_ports: false,
        steering: Steering::Off,
        control_cpu: None,
        advertise_host: None,
        advertise_direct_base_port: None,
        connections_per_core_max: 100,
        connections_per_address_max: 0,
        operator_idle_ms: 300_000,
        in_flight_bytes_per_connection: 32 * MIB as usize,
        partial_frame_bytes_per_core: 64 * MIB as usize,
        mesh_depth: 64,
        shutdown_timeout_ms: 10_000,
        storage: StorageConfig {
            // No segment ends while it is counted: that is work of its own.
            segment_bytes: 512 * MIB,
            pool_segments: 1,
            pool_segments_max: 2,
            group_bytes: MIB as u32,
            writes_in_flight: 4,
            device_writes_per_second: None,
            backlog_bytes: 64 * MIB,
            cache_bytes: 64 * MIB,
            prepare_bytes: 16 * MIB,
            retention_check_ms: 60_000,
            slow_after_ms: 1_000,
            io: IoMode::Auto,
            allow_volatile: true,
        },
        executor: ExecutorConfig {
            spin: SpinConfig::default(),
            ring_entries: 1_024,
            receive_buffers: 256,
            receive_buffer_bytes: 64 * 1024,
        },
    }
}
