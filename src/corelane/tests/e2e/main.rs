//! End to end: the real binary on a free port and a directory of its own, driven by its own
//! commands, by the client, and by raw bytes.

#[path = "../../../offline/tests/golden/archive.rs"]
mod archive;
mod backup;
mod backup_cut;
mod bench;
mod commands;
mod consume;
mod cores;
mod crash;
mod descriptors;
mod drain;
mod environment;
mod failing_disk;
mod faults;
mod flips;
mod full_disk;
mod harness;
mod hostile;
mod hostile_bounds;
mod limits;
mod offline;
#[cfg(debug_assertions)]
mod panics;
mod pipelined;
mod random;
mod refusing;
mod reshard;
mod retention;
mod serve;
mod slow_disk;
mod small_disk;
mod stop;
mod tune;
mod tuned;
mod unfinished;
mod verify;
mod wire;
