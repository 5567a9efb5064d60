//! What the fuzz targets share: each runs the function of its name.

use corelane_fuzz_targets::TARGETS;

/// Gives `bytes` to the target of this name.
///
/// # Panics
/// When there is none, and whenever the target finds a fault.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target's name");
    (target.run)(bytes);
}
