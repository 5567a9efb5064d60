//! Where a core's memory comes from on a machine with several NUMA nodes.

use std::fmt;
use std::io;

/// How a core's memory comes from its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryPlace {
    /// Not asked for, and nothing to gain.
    Anywhere,
    /// The kernel takes it where the core first touches it.
    FirstTouch,
    /// The core's thread says so to the kernel, whatever policy the process was started with.
    Bound,
}

/// What a core is told of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNode {
    pub node: u32,
    /// To be said to the kernel.
    pub bind: bool,
    /// There are others.
    pub several: bool,
}

impl MemoryNode {
    /// Called first on the core's thread, which is pinned by then.
    pub fn settle(node: Option<Self>) -> MemoryPlace {
        Self::settle_by(node, ring::prefer_memory_node)
    }

    fn settle_by(node: Option<Self>, bind: impl FnOnce(u32) -> io::Result<()>) -> MemoryPlace {
        let Some(Self { node, bind: wanted, several }) = node else {
            return MemoryPlace::Anywhere;
        };
        if wanted {
            match bind(node) {
                Ok(()) => return MemoryPlace::Bound,
                Err(error) => tracing::warn!(
                    node,
                    %error,
                    "the kernel refuses to bind a core's memory to its NUMA node (set_mempolicy); \
                     it comes from there by first touch, unless the server was started under \
                     numactl with another policy"
                ),
            }
        }
        if wanted || several { MemoryPlace::FirstTouch } else { MemoryPlace::Anywhere }
    }
}

impl MemoryPlace {
    /// What holds of all cores when it holds of `self` and `other`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Anywhere, place) | (place, Self::Anywhere) => place,
            (Self::Bound, Self::Bound) => Self::Bound,
            _ => Self::FirstTouch,
        }
    }
}

impl fmt::Display for MemoryPlace {
    /// A clause for the ready line; empty where there is nothing to say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anywhere => "",
            Self::FirstTouch => "memory of each core from its NUMA node by first touch",
            Self::Bound => "memory of each core bound to its NUMA node",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(node: u32, bind: bool, several: bool) -> Option<MemoryNode> {
        Some(MemoryNode { node, bind, several })
    }

    #[test]
    fn memory_is_bound_where_asked_for_and_possible() {
        let good = |node| if node == 3 { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) };
        assert_eq!(MemoryNode::settle_by(on(3, true, true), good), MemoryPlace::Bound);
        let refuse = |_| Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(MemoryNode::settle_by(on(3, true, false), refuse), MemoryPlace::FirstTouch);
    }

    #[test]
    fn without_being_asked_nothing_is_bound() {
        let never = |_| panic!("asked the kernel");
        assert_eq!(MemoryNode::settle_by(None, never), MemoryPlace::Anywhere);
        assert_eq!(MemoryNode::settle_by(on(0, false, false), never), MemoryPlace::Anywhere);
        assert_eq!(MemoryNode::settle_by(on(1, false, true), never), MemoryPlace::FirstTouch);
    }

    #[test]
    fn what_is_said_of_all_holds_of_each() {
        use MemoryPlace::{Anywhere, Bound, FirstTouch};
        assert_eq!(Bound.and(Bound), Bound);
        assert_eq!(Bound.and(FirstTouch), FirstTouch);
        assert_eq!(Anywhere.and(Bound), Bound);
        assert_eq!(Anywhere.to_string(), "");
    }

    /// The real call, on a thread of its own: node 0 is there on every machine.
    #[test]
    fn this_machines_first_node_can_be_bound_to_or_the_kernel_says_why() {
        let bound = std::thread::spawn(|| ring::prefer_memory_node(0)).join().unwrap();
        if let Err(error) = bound {
            eprintln!("not run: this kernel or container forbids set_mempolicy: {error}");
        }
        assert!(ring::prefer_memory_node(1023).is_err());
        assert!(ring::prefer_memory_node(1024).is_err());
    }
}
