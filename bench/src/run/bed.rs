//! What a run stands on: the server (a running one or one started here), a connection to set
//! things up with, and the CPUs of both sides.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use model::AckLevel;
use model::reply::CoreAddress;

use crate::cpu::{Layout, Meter};
use crate::embedded::{self, Embedded, Launch};
use crate::error::BenchError;
use crate::options::Options;
use crate::place::Scratch;
use crate::wire::Control;

/// Segment size given to a server started here, so that the log goes round soon, bytes.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// What a running server is taken to have.
const SEGMENT_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
const SEGMENT_BYTES_VARIABLE: &str = "CORELANE_STORAGE_SEGMENT_BYTES";
/// Used segments that a server started here keeps for the next use: all that a run on used space
/// needs.
const POOL_SEGMENTS: u32 = 32;
const POOL_SEGMENTS_VARIABLE: &str = "CORELANE_STORAGE_POOL_SEGMENTS_MAX";

/// So many connections a server takes from one address as it is.
const CONNECTIONS_PLENTY: usize = 4_000;
/// Connections that are not the load's.
const CONNECTIONS_BESIDE: usize = 64;
const PER_ADDRESS_VARIABLE: &str = "CORELANE_SERVER_CONNECTIONS_PER_ADDRESS_MAX";
const PER_CORE_VARIABLE: &str = "CORELANE_SERVER_CONNECTIONS_PER_CORE_MAX";

/// The server of a run and the ways to it.
#[derive(Debug)]
pub struct Bed {
    pub control: Control,
    pub address: SocketAddr,
    pub cores: Vec<CoreAddress>,
    pub cpus: Layout,
    pub meter: Meter,
    pub segment_bytes: u64,
    pub data_dir: Option<PathBuf>,
    pub notes: Vec<String>,
    launch: Option<Launch>,
    embedded: Option<Embedded>,
    // Dropped last: the server is gone by then.
    _scratch: Option<Scratch>,
}

impl Bed {
    /// Connects to the server named in the options, or starts one.
    ///
    /// # Errors
    /// `Volatile` when durable acknowledgements are asked of a server that gives none.
    pub fn make(options: &Options) -> Result<Self, BenchError> {
        enough_descriptors(options)?;
        let mut bed = Self::find_or_start(options)?;
        let volatile = bed.control.status().is_ok_and(|status| status.volatile);
        if volatile && options.ack == AckLevel::Durable {
            return Err(BenchError::Volatile);
        }
        Ok(bed)
    }

    fn find_or_start(options: &Options) -> Result<Self, BenchError> {
        if let Some(address) = options.server {
            let cpus = Layout { server: Vec::new(), ..Layout::choose(0, options.cpu) };
            let mut bed = Self::connect(address, cpus)?;
            bed.data_dir = bed.control.status().ok().map(|s| PathBuf::from(s.data_dir));
            return Ok(bed);
        }
        let cores = server_cores(options);
        let cpus = Layout::choose(cores, options.cpu);
        let scratch = Scratch::make(options.data_dir.as_deref())?;
        let program = options.server_program.clone().map_or_else(embedded::this_program, Ok)?;
        let mut env = vec![
            (SEGMENT_BYTES_VARIABLE.to_owned(), SEGMENT_BYTES.to_string()),
            (POOL_SEGMENTS_VARIABLE.to_owned(), POOL_SEGMENTS.to_string()),
        ];
        env.extend(room_for(options));
        // Whoever has set a variable for the server means it.
        env.retain(|(name, _)| std::env::var_os(name).is_none());
        env.extend(std::env::vars().filter(|(name, _)| name.starts_with("CORELANE_")));
        env.extend(options.server_env.iter().cloned());
        let launch = Launch {
            program,
            data_dir: scratch.path().join("data"),
            log_file: embedded::log_file(scratch.path()),
            cpus: cpus.server.clone(),
            env,
        };
        let server = Embedded::start(&launch)?;
        let mut bed = Self::connect(server.address, cpus)?;
        bed.segment_bytes = segment_bytes(&launch.env);
        bed.meter = Meter::Process(server.process());
        bed.data_dir = Some(launch.data_dir.clone());
        (bed.launch, bed.embedded, bed._scratch) = (Some(launch), Some(server), Some(scratch));
        Ok(bed)
    }

    fn connect(address: SocketAddr, cpus: Layout) -> Result<Self, BenchError> {
        let mut control = Control::connect(address)?;
        let cores = control.cores()?;
        Ok(Self {
            control,
            address,
            cores,
            cpus,
            meter: Meter::None,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            data_dir: None,
            notes: Vec::new(),
            launch: None,
            embedded: None,
            _scratch: None,
        })
    }

    /// What the server was started with, where that was done here.
    pub fn settings(&self) -> BTreeMap<String, String> {
        // By the names of the configuration file.
        let option = |(name, value): &(String, String)| {
            (name.trim_start_matches("CORELANE_").to_lowercase(), value.clone())
        };
        self.launch.iter().flat_map(|launch| launch.env.iter().map(option)).collect()
    }

    /// Stops the server and starts it again on the same data: its memory is empty then.
    pub fn restart(&mut self) -> Result<(), BenchError> {
        let (Some(launch), Some(server)) = (&self.launch, self.embedded.take()) else {
            return Err(BenchError::Options("only a server started here can be restarted".into()));
        };
        server.stop()?;
        let server = Embedded::start(launch)?;
        self.address = server.address;
        self.meter = Meter::Process(server.process());
        self.control = Control::connect(server.address)?;
        self.cores = self.control.cores()?;
        self.embedded = Some(server);
        Ok(())
    }

    /// Ends the server, if it was started here.
    pub fn close(mut self) -> Result<(), BenchError> {
        self.embedded.take().map_or(Ok(()), Embedded::stop)
    }
}

/// Raises the limit on open files as far as it goes, and refuses more connections than that.
fn enough_descriptors(options: &Options) -> Result<(), BenchError> {
    let limit = tuning::raise_open_files().ok().and_then(|files| files.now);
    let consumers = options.consumers.unwrap_or(options.connections);
    let both = options.work == crate::Work::E2e;
    let needed = options.connections + if both { consumers } else { 0 } + CONNECTIONS_BESIDE;
    match limit {
        Some(limit) if limit < needed as u64 => Err(BenchError::Options(format!(
            "{needed} open files are needed and the limit is {limit}: raise it with `ulimit -n \
             {needed}`, or give fewer --connections"
        ))),
        _ => Ok(()),
    }
}

/// A server started here takes all the connections of its run, which come from one address.
fn room_for(options: &Options) -> Vec<(String, String)> {
    let wanted = options.connections + options.consumers.unwrap_or(options.connections);
    if wanted <= CONNECTIONS_PLENTY {
        return Vec::new();
    }
    let per_core = (wanted + CONNECTIONS_BESIDE).to_string();
    vec![
        (PER_ADDRESS_VARIABLE.to_owned(), "0".to_owned()),
        (PER_CORE_VARIABLE.to_owned(), per_core),
    ]
}

fn server_cores(options: &Options) -> usize {
    let cpus = crate::cpu::allowed().len();
    let default = if cpus <= 2 { 1 } else { cpus - 1 };
    options.server_cores.map_or(default, usize::from)
}

fn segment_bytes(env: &[(String, String)]) -> u64 {
    let last = env.iter().rev().find(|(name, _)| name == SEGMENT_BYTES_VARIABLE);
    last.map_or(SEGMENT_BYTES, |(_, value)| value.parse().unwrap_or(SEGMENT_BYTES_DEFAULT))
}
