//! Memory that a read can fill, whoever it belongs to.

use std::any::Any;
use std::fmt;
use std::ops::DerefMut;

use stable_deref_trait::StableDeref;

/// A buffer the ring owns while the kernel fills it: its bytes stay where they are however the
/// buffer itself is moved. Direct I/O asks for an alignment that the caller sees to.
pub trait ReadTarget: Send {
    /// The bytes to fill.
    fn bytes(&mut self) -> &mut [u8];

    /// For getting the caller's own type back.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: DerefMut<Target = [u8]> + StableDeref + Send + Any> ReadTarget for T {
    fn bytes(&mut self) -> &mut [u8] {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl fmt::Debug for dyn ReadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadTarget")
    }
}
