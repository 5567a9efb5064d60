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

/// One row of work. Every connection has topics with one partition of its own: mostly one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    pub name: &'static str,
    pub title: &'static str,
    pub kind: Kind,
    pub shape: Shape,
    pub connections: usize,
    /// Topics of each connection, which a producer sends to in turn.
    pub topics_each: usize,
}

const KIB: usize = 1024;

impl Workload {
    pub const ALL: [Self; 12] = [
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
            topics_each: 1,
        },
        Self::topics("topics-1000", "1 KiB, 64 in flight, 4 connections, 1,000 topics", 1_000),
        Self::topics("topics-10000", "1 KiB, 64 in flight, 4 connections, 10,000 topics", 10_000),
    ];

    /// What a workload of many topics is compared with: the same with one for each connection.
    pub const FEW_TOPICS: &str = "window-1k";

    const fn produce(
        name: &'static str,
        title: &'static str,
        size: usize,
        batch: usize,
        in_flight: usize,
        connections: usize,
    ) -> Self {
        let shape = Shape { size, batch, in_flight };
        Self { name, title, kind: Kind::Produce, shape, connections, topics_each: 1 }
    }

    const fn consume(name: &'static str, title: &'static str, batch: usize) -> Self {
        let shape = Shape { size: KIB, batch, in_flight: 4 };
        Self { name, title, kind: Kind::Consume, shape, connections: 4, topics_each: 1 }
    }

    /// That of `FEW_TOPICS` over so many.
    const fn topics(name: &'static str, title: &'static str, topics: usize) -> Self {
        let few = Self::produce(name, title, KIB, 1, 64, 4);
        Self { topics_each: topics / few.connections, ..few }
    }

    /// Whether making its topics is work in itself, which some brokers are not made for.
    pub fn has_many_topics(&self) -> bool {
        self.topics_each > 1
    }

    /// Names of the topics, a list for each connection: `PREFIX-NAME-CONNECTION`, and `.NUMBER`
    /// where it has several.
    pub fn topics_of_connections(&self, prefix: &str) -> Vec<Vec<String>> {
        let of_connection = |at: usize| {
            let name = format!("{prefix}-{}-{at}", self.name);
            match self.topics_each {
                1 => vec![name],
                each => (0..each).map(|number| format!("{name}.{number}")).collect(),
            }
        };
        (0..self.connections).map(of_connection).collect()
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_is_found_by_it() {
        for workload in Workload::ALL {
            assert_eq!(workload.name.parse(), Ok(workload));
        }
        assert!("lockstep".parse::<Workload>().unwrap_err().contains("lockstep-16"));
    }

    #[test]
    fn many_topics_are_shared_out_and_the_rest_is_as_with_few() {
        let many: Workload = "topics-10000".parse().unwrap();
        let few: Workload = Workload::FEW_TOPICS.parse().unwrap();
        assert!(many.has_many_topics() && !few.has_many_topics());
        assert_eq!(few, Workload { topics_each: 1, name: few.name, title: few.title, ..many });
        let topics = many.topics_of_connections("p");
        assert_eq!(topics.iter().flatten().collect::<BTreeSet<_>>().len(), 10_000);
        assert_eq!((topics.len(), topics[3][2_499].as_str()), (4, "p-topics-10000-3.2499"));
        assert_eq!(few.topics_of_connections("p")[1], ["p-window-1k-1"]);
    }

    #[test]
    fn fifty_megabytes_are_488_requests() {
        let paced: Workload = "end-to-end".parse().unwrap();
        assert_eq!(paced.requests_per_s().unwrap().round(), 488.0);
        assert_eq!(Workload::ALL[0].requests_per_s(), None);
    }
}
