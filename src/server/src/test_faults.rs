//! Panics on demand, for the tests of what a panic ends. A release build has none of it.

/// Panics when the process runs with `TEST_PANIC_CORELANE=<place>:<name>` and is asked here by
/// that place and name.
#[cfg(debug_assertions)]
pub fn maybe_panic(place: &str, name: &str) {
    assert!(name_for(place) != Some(name), "asked to by a test");
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn maybe_panic(_place: &str, _name: &str) {}

/// The name that is to panic at this place, if any is.
#[cfg(debug_assertions)]
pub fn name_for(place: &str) -> Option<&'static str> {
    use std::sync::OnceLock;
    static ORDER: OnceLock<Option<String>> = OnceLock::new();
    let order = ORDER.get_or_init(|| std::env::var("TEST_PANIC_CORELANE").ok());
    let (at, name) = order.as_deref()?.split_once(':')?;
    (at == place).then_some(name)
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn name_for(_place: &str) -> Option<&'static str> {
    None
}
