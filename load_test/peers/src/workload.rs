//! The work that every broker is given, the same for all.

use std::str::FromStr;

use crate::driver::Shape;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// As many requests under way as the shape allows; latency from send to acknowledgement.
    Produce,
    /// Reading what was published just before.
    Consume,
    /// Publishing at a fixed rate and reading at once; latency from the intended moment of
    /// sending to the receipt.
    EndToEnd { bytes_per_s: f64 },
}

/// One row of work. Every connection has a topic with one partition of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    pub name: &'static str,
    pub title: &'static str,
    pub kind: Kind,
    pub shape: Shape,
    pub connections: usize,
}

const KIB: usize = 1024;

impl Workload {
    pub const ALL: [Self; 10] = [
        Self::produce("lockstep-1", "1 KiB, lockstep, 1 connection", KIB, 1, 1, 1),
        Self::produce("lockstep-4", "1 KiB, lockstep, 4 connections", KIB, 1, 1, 4),
        Self::produce("lockstep-16", "1 KiB, lockstep, 16 connections", KIB, 1, 1, 16),
        Self::produce("window-1k", "1 KiB, 64 in flight, 4 connections", KIB, 1, 64, 4),
        Self::produce("window-100", "100 B, 64 in flight, 4 connections", 100, 1, 64, 4),
        Self::produce("batch-100", "1 KiB x 100, 4 in flight, 4 producers", KIB, 100, 4, 4),
        Self::produce("batch-1000", "1 KiB x 1,000, 4 in flight, 4 producers", KIB, 1_000, 4, 4),
        Self::consume("consume-100", "hot consume, 1 KiB x 100, 4 consumers", 100),
        Self::consume("consume-1000", "hot consume, 1 KiB x 1,000, 4 consumers", 1_000),
        Self {
            name: "end-to-end",
            title: "50 MB/s of 1 KiB x 100, publish to receipt",
            kind: Kind::EndToEnd { bytes_per_s: 50e6 },
            shape: Shape { size: KIB, batch: 100, in_flight: 64 },
            connections: 1,
        },
    ];

    const fn produce(
        name: &'static str,
        title: &'static str,
        size: usize,
        batch: usize,
        in_flight: usize,
        connections: usize,
    ) -> Self {
        let shape = Shape { size, batch, in_flight };
        Self { name, title, kind: Kind::Produce, shape, connections }
    }

    const fn consume(name: &'static str, title: &'static str, batch: usize) -> Self {
        let shape = Shape { size: KIB, batch, in_flight: 4 };
        Self { name, title, kind: Kind::Consume, shape, connections: 4 }
    }

    /// Requests a second over all connections; `None` is the closed loop.
    pub fn requests_per_s(&self) -> Option<f64> {
        match self.kind {
            Kind::EndToEnd { bytes_per_s } => {
                Some(bytes_per_s / (self.shape.size * self.shape.batch) as f64)
            }
            Kind::Produce | Kind::Consume => None,
        }
    }

    /// Of what its latency is; `None`: it has none.
    pub fn latency_of(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Produce => Some("publish to acknowledgement"),
            Kind::EndToEnd { .. } => Some("publish to receipt"),
            Kind::Consume => None,
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|workload| workload.name == text);
        found.ok_or_else(|| {
            format!(
                "{text:?} is no workload: {}",
                Self::ALL.map(|workload| workload.name).join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_is_found_by_it() {
        for workload in Workload::ALL {
            assert_eq!(workload.name.parse(), Ok(workload));
        }
        assert!("lockstep".parse::<Workload>().unwrap_err().contains("lockstep-16"));
    }

    #[test]
    fn fifty_megabytes_are_488_requests() {
        let paced: Workload = "end-to-end".parse().unwrap();
        assert_eq!(paced.requests_per_s().unwrap().round(), 488.0);
        assert_eq!(Workload::ALL[0].requests_per_s(), None);
    }
}
