//! Every parser of bytes from outside, as a function of bytes that must come back: no panic, no
//! endless loop, no memory beyond its bound, and what is read is written back the same.
//!
//! A stable test gives each the committed corpus and seeded mutations of it; libFuzzer drives the
//! same functions from `load_test/fuzz`. Checksums are put right where that leads deeper.

mod batches;
// The binary's, which is no library: the same source, compiled here.
#[allow(dead_code)]
#[path = "../../../src/corelane/src/config/mod.rs"]
mod config;
mod corpus;
mod engine;
mod frames;
mod log;
mod mutate;
mod settings;

pub use corpus::seeds;
pub use mutate::Mutator;

/// One parser, or a family of them.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target { name: "requests", run: frames::requests },
    Target { name: "replies", run: frames::replies },
    Target { name: "publish", run: batches::publish },
    Target { name: "records", run: batches::records },
    Target { name: "log_blocks", run: log::blocks },
    Target { name: "log_files", run: log::files },
    Target { name: "footer", run: log::footer },
    Target { name: "engine", run: engine::entries },
    Target { name: "checkpoint", run: engine::checkpoint },
    Target { name: "settings", run: settings::settings },
];
