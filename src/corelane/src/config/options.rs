//! Every option, declared once. The typed configuration, the sample file, variables, checks and
//! `config show` all come from this list.

use model::limits;

use super::error::ConfigError;
use super::kind::{
    Address, Bounds, Bytes, Cores, Count, Flag, Format, Io, Kind, Optional, Path, Steering, Text,
    Time, TomlForm, check,
};
use super::layers::Layers;
use super::units::{GIB, KIB, MIB, TIB};

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At the next start.
    Restart,
    /// While the server runs, by a request; the file is read at the start only.
    Live,
}

/// One option as declared.
pub struct OptionSpec {
    pub group: &'static str,
    pub name: &'static str,
    pub doc: &'static [&'static str],
    /// Its kind in words.
    pub kind: &'static str,
    pub form: TomlForm,
    /// The default's text form; empty where there is none.
    pub default: &'static str,
    pub change: Change,
    bounds: Bounds,
    check: fn(&str, &Bounds) -> Result<String, String>,
    show_number: fn(u64) -> String,
}

/// One table of the file.
pub struct GroupSpec {
    pub name: &'static str,
    pub doc: &'static [&'static str],
    pub options: &'static [OptionSpec],
}

impl OptionSpec {
    /// `storage.segment_bytes`
    pub fn key(&self) -> String {
        format!("{}.{}", self.group, self.name)
    }

    /// `CORELANE_STORAGE_SEGMENT_BYTES`
    pub fn variable(&self) -> String {
        format!("CORELANE_{}_{}", self.group, self.name).to_ascii_uppercase()
    }

    /// The numbers allowed, in words; empty where anything goes.
    pub fn allowed(&self) -> String {
        self.bounds.describe(self.show_number)
    }

    /// Reads a value's text; gives the text form it is shown in, or what is wrong.
    pub fn check(&self, text: &str) -> Result<String, String> {
        (self.check)(text, &self.bounds).map_err(|problem| match self.allowed() {
            allowed if allowed.is_empty() => problem,
            allowed => format!("{problem}; allowed is {allowed}"),
        })
    }
}

macro_rules! options {
    ($(
        $(#[doc = $group_doc:literal])*
        $group:ident: $Group:ident {
            $(
                $(#[doc = $doc:literal])*
                $name:ident: $kind:ty = $default:literal, $bounds:expr, $change:ident;
            )*
        }
    )*) => {
        /// The whole configuration, checked.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($(#[doc = $group_doc])* pub $group: $Group,)*
        }

        $(
            $(#[doc = $group_doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Group {
                $($(#[doc = $doc])* pub $name: <$kind as Kind>::Value,)*
            }
        )*

        /// The declared options, in the order of the sample.
        pub static GROUPS: &[GroupSpec] = &[$(
            GroupSpec {
                name: stringify!($group),
                doc: &[$($group_doc),*],
                options: &[$(
                    OptionSpec {
                        group: stringify!($group),
                        name: stringify!($name),
                        doc: &[$($doc),*],
                        kind: <$kind as Kind>::NAME,
                        form: <$kind as Kind>::FORM,
                        default: $default,
                        change: Change::$change,
                        bounds: $bounds,
                        check: check::<$kind>,
                        show_number: <$kind as Kind>::show_number,
                    },
                )*],
            },
        )*];

        impl Config {
            /// The typed form of the effective values.
            pub(super) fn from_layers(layers: &Layers) -> Result<Self, ConfigError> {
                Ok(Self { $(
                    $group: $Group { $(
                        $name: {
                            let key = concat!(stringify!($group), ".", stringify!($name));
                            let text = layers.effective_text(key, $default);
                            <$kind as Kind>::parse(text)
                                .map_err(|problem| layers.refused(key, $default, problem))?
                        },
                    )* },
                )* })
            }
        }
    };
}

/// Room for one frame of the largest size: with less, such a frame would wait for ever.
const FRAME: u64 = limits::FRAME_BYTES_MAX as u64;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

options! {
    /// Where the broker listens, and what it grants its clients.
    server: ServerConfig {
        /// Folder that holds all data. Relative to the working directory of the server.
        data_dir: Path = "./corelane-data", Bounds::ANY, Restart;
        /// Address that clients connect to. Beyond loopback it needs allow_anonymous.
        listen: Address = "127.0.0.1:7300", Bounds::ANY, Restart;
        /// Cores to run: "auto" takes every CPU that the affinity mask and the CPU quota allow;
        /// a number takes so many; a list such as "0-3,8" takes these CPUs (one alone: "3-3");
        /// "per-numa-node" takes as many CPUs of every NUMA node as the smallest has, and binds
        /// each core's memory to its node.
        cores: Cores = "auto", Bounds::ANY, Restart;
        /// Shards of a new data directory; fixed for its life. Not set: as many as cores.
        shards: Optional<Count<u16>> = "", Bounds::within(1, limits::SHARDS_MAX as u64), Restart;
        /// Serve clients beyond this machine although no one proves who they are.
        allow_anonymous: Flag = "false", Bounds::ANY, Restart;
        /// Open a port for each core, so that clients reach the owner of a partition directly.
        direct_ports: Flag = "true", Bounds::ANY, Restart;
        /// Connections that one core serves at once; more are refused.
        connections_per_core_max: Count<u32> = "10000",
            Bounds::within(1, 1_000_000), Restart;
        /// Connections that one client address may have, over all cores; more are refused.
        /// 0: no bound. Clients behind one address translation count as one, and so does an IPv6
        /// network (/64).
        connections_per_address_max: Count<u32> = "5000",
            Bounds::within(0, 1_000_000), Restart;
        /// A connection of an operator (status, drain, log-filter, backup) that asks nothing for
        /// so long is asked to leave: a core has room for 16 of them.
        operator_idle_timeout: Time = "5m", Bounds::within(S, 86_400 * S), Restart;
        /// Bytes of requests that one connection may have unanswered before it is read no further.
        in_flight_bytes_per_connection: Bytes = "32MiB", Bounds::within(FRAME, GIB), Restart;
        /// Bytes of half-received frames that one core holds for all its connections. Those that
        /// wait for room there may hold as much again.
        partial_frame_bytes_per_core: Bytes = "64MiB", Bounds::within(FRAME, 16 * GIB), Restart;
        /// Who decides which core takes a connection to the shared address: "off" is chance, then
        /// the number of connections of each core; "incoming-cpu" is the CPU that the kernel
        /// receives it on, which serves its queue of the network card. Needs pinned cores.
        steering: Steering = "off", Bounds::ANY, Restart;
        /// CPU of the threads that are no core (signals, start and stop, helpers of executors).
        /// Cores keep off it unless they are listed one by one. Not set: any.
        control_cpu: Optional<Count<u32>> = "", Bounds::within(0, 1023), Restart;
        /// Let an idle core look for work, instead of sleeping, while work is near: while a log
        /// write is under way or requests follow one another closely, as judged by the pauses just
        /// past. Never longer than executor.spin, or 200us where that is 0. Saves the wake-up of a
        /// few clients that wait for each reply, for CPU time; only on pinned cores.
        adaptive_spin: Flag = "false", Bounds::ANY, Restart;
        /// Time to finish what is in flight when asked to stop.
        shutdown_timeout: Time = "5s", Bounds::within(100 * MS, 600 * S), Restart;
    }

    /// What clients are told of this server's addresses, where these differ from what it binds
    /// (behind address translation, in containers).
    advertise: AdvertiseConfig {
        /// Host name or address. Not set: the address that the client connected to.
        host: Optional<Text> = "", Bounds::ANY, Restart;
        /// Port of core 0; core n has this + n. Not set: the ports that are bound.
        direct_base_port: Optional<Count<u16>> = "", Bounds::within(1, 65_535), Restart;
    }

    /// The queues between cores.
    mesh: MeshConfig {
        /// Messages that wait at most from one core to another.
        depth: Count<u32> = "4096", Bounds::within(64, 65_536).power_of_two(), Restart;
    }

    /// The log on disk.
    storage: StorageConfig {
        /// Size of a log segment. Changes apply to new segments.
        segment_bytes: Bytes = "256MiB",
            Bounds::within(16 * MIB, 2 * GIB).multiple_of(MIB), Restart;
        /// Written-out segments kept ready beyond the active one, for each shard.
        pool_segments: Count<u32> = "1", Bounds::within(0, 64), Restart;
        /// Segments kept for reuse at most, for each shard; cleaning gives the rest back.
        pool_segments_max: Count<u32> = "8", Bounds::within(1, 1024), Restart;
        /// A group of log entries is written when it has so many bytes, or earlier.
        group_bytes_max: Bytes = "1MiB",
            Bounds::within(64 * KIB, 16 * MIB).multiple_of(4 * KIB), Restart;
        /// Log writes of a shard that are under way at once.
        writes_in_flight: Count<u32> = "4", Bounds::within(1, 64), Restart;
        /// Writes a second that all shards on one device make together; small groups wait and grow
        /// rather than exceed it. Set it a little below what the device or its control group
        /// allows. Not set: no bound.
        device_writes_per_second: Optional<Count<u32>> = "",
            Bounds::within(50, 10_000_000), Restart;
        /// Bytes that wait for the disk before a shard takes no more, for each shard; a quarter of
        /// a segment at most.
        backlog_bytes_max: Bytes = "64MiB", Bounds::within(FRAME, 16 * GIB), Restart;
        /// Memory for recent messages, all cores together. 0: a quarter of the memory limit.
        cache_bytes: Bytes = "0", Bounds::within(0, 64 * TIB), Restart;
        /// How often retention looks for expired segments.
        retention_check: Time = "1s", Bounds::within(10 * MS, 3_600 * S), Restart;
        /// A shard whose oldest log write takes longer than this is marked slow in status and log.
        slow_after: Time = "1s", Bounds::within(10 * MS, 3_600 * S), Restart;
        /// Log space written out before a new data directory is ready, for each shard.
        prepare_bytes_at_start: Bytes = "16MiB",
            Bounds::within(MIB, 4 * GIB).multiple_of(MIB), Restart;
        /// How the log's files are opened: "direct" is O_DIRECT or a refusal to start, "auto" goes
        /// through the page cache (slower, as durable) where the filesystem takes no O_DIRECT.
        io: Io = "auto", Bounds::ANY, Restart;
        /// Serve from a filesystem in memory (tmpfs). Acknowledgements then say memory at most.
        allow_volatile: Flag = "false", Bounds::ANY, Restart;
    }

    /// What the server says of itself, on standard error.
    log: LogConfig {
        /// Lines for people or for machines.
        format: Format = "text", Bounds::ANY, Restart;
        /// What is logged: a level (error, warn, info, debug, trace), or levels by part, such as
        /// "info,corelane_wal=debug".
        filter: Text = "info", Bounds::ANY, Live;
    }

    /// The executor of each core. The defaults suit; measure before changing them.
    executor: ExecutorConfig {
        /// How long an idle core looks for work before it sleeps. Costs CPU, saves wake-ups; only
        /// on pinned cores. With server.adaptive_spin: the longest that it looks.
        spin: Time = "0", Bounds::within(0, S), Restart;
        /// Submission entries of a core's io_uring.
        ring_entries: Count<u32> = "4096", Bounds::within(256, 32_768).power_of_two(), Restart;
        /// Receive buffers of a core.
        receive_buffers: Count<u32> = "128", Bounds::within(16, 32_768).power_of_two(), Restart;
        /// Size of a receive buffer.
        receive_buffer_bytes: Bytes = "64KiB",
            Bounds::within(4 * KIB, 16 * MIB).multiple_of(4 * KIB), Restart;
    }
}

/// All options, in the order of the sample.
pub fn all() -> impl Iterator<Item = &'static OptionSpec> {
    GROUPS.iter().flat_map(|group| group.options)
}

/// The option of this key.
pub fn find(key: &str) -> Option<&'static OptionSpec> {
    let (group, name) = key.split_once('.')?;
    all().find(|option| option.group == group && option.name == name)
}
