//! What topics exist, as one core knows it: immutable entries, replaced whole by messages from the
//! core of shard 0. A hint for routing; the owning shard decides.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use model::limits::TOPICS_PER_PAGE_MAX;
use model::reply::CoreAddress;
use model::{CoreId, Reply, TopicInfo, TopicName};

use crate::message::MetadataChange;

#[derive(Debug)]
pub struct Metadata {
    topics: BTreeMap<TopicName, Arc<TopicInfo>>,
    cores: Arc<[CoreAddress]>,
    /// As bound at start; `cores` lacks the ports of cores that are being emptied.
    bound: Arc<[CoreAddress]>,
    complete: bool,
    fixed: bool,
}

impl Metadata {
    pub fn new() -> Self {
        Self {
            topics: BTreeMap::new(),
            cores: Arc::from([]),
            bound: Arc::from([]),
            complete: false,
            fixed: false,
        }
    }

    pub fn set_cores(&mut self, cores: Arc<[CoreAddress]>) {
        self.bound = Arc::clone(&cores);
        self.cores = cores;
    }

    /// Whether clients are sent to a core's own port.
    pub fn set_direct(&mut self, core: CoreId, direct: bool) {
        let mut cores = self.cores.to_vec();
        for (address, bound) in cores.iter_mut().zip(self.bound.iter()) {
            if address.core == core {
                address.port = if direct { bound.port } else { 0 };
            }
        }
        self.cores = cores.into();
    }

    pub fn apply(&mut self, change: MetadataChange) {
        match change {
            MetadataChange::Topics(topics) => {
                for topic in topics.iter() {
                    self.topics.insert(topic.name.clone(), Arc::clone(topic));
                }
            }
            MetadataChange::Deleted { id, name } => {
                // A topic of the same name may have been created since.
                if self.topics.get(&name).is_some_and(|topic| topic.id == id) {
                    self.topics.remove(&name);
                }
            }
            MetadataChange::Complete => self.complete = true,
            MetadataChange::Fixed => self.fixed = true,
        }
    }

    /// Whether all topics known at start have been told.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether topics cannot be changed any more, by a fault of the server.
    pub fn is_fixed(&self) -> bool {
        self.fixed
    }

    pub fn len(&self) -> usize {
        self.topics.len()
    }

    pub fn find(&self, name: &TopicName) -> Option<&Arc<TopicInfo>> {
        self.topics.get(name)
    }

    /// Answers a metadata request: the topics named, or a page of all.
    pub fn answer(&self, names: &[TopicName], after: Option<&TopicName>, limit: u32) -> Reply {
        let cores = Arc::clone(&self.cores);
        if !names.is_empty() {
            let mut topics = Vec::new();
            let mut unknown = Vec::new();
            for name in names.iter().collect::<BTreeSet<_>>() {
                match self.find(name) {
                    Some(topic) => topics.push(Arc::clone(topic)),
                    None => unknown.push(name.clone()),
                }
            }
            return Reply::Metadata { cores, topics, unknown, more: false };
        }
        let limit = limit.min(TOPICS_PER_PAGE_MAX) as usize;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest =
            self.topics.range::<TopicName, _>((from, Bound::Unbounded)).map(|(_, topic)| topic);
        let mut topics = Vec::new();
        let mut partitions = 0;
        // A page is bounded in partitions as well, so that it fits into a frame.
        while topics.len() < limit && partitions < PARTITIONS_PER_PAGE {
            let Some(topic) = rest.next() else { break };
            partitions += topic.partitions.len();
            topics.push(Arc::clone(topic));
        }
        let more = limit > 0 && rest.next().is_some();
        Reply::Metadata { cores, topics, unknown: Vec::new(), more }
    }
}

/// Partitions in one page beyond its last topic.
const PARTITIONS_PER_PAGE: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use model::{PartitionPlace, ShardId, StreamId, TopicConfig, TopicId};

    fn topic(name: &str, partitions: usize) -> Arc<TopicInfo> {
        let place = PartitionPlace { shard: ShardId(0), stream: StreamId(1) };
        Arc::new(TopicInfo {
            id: TopicId(1),
            name: TopicName::parse(name).unwrap(),
            config: TopicConfig::default(),
            config_version: 0,
            partitions: std::iter::repeat_n(place, partitions).collect(),
        })
    }

    fn names(reply: &Reply) -> (Vec<String>, bool) {
        let Reply::Metadata { topics, more, .. } = reply else { panic!("{reply:?}") };
        (topics.iter().map(|topic| topic.name.to_string()).collect(), *more)
    }

    #[test]
    fn pages_follow_one_another_in_order() {
        let mut metadata = Metadata::new();
        let topics: Vec<_> = ["c", "a", "b"].map(|name| topic(name, 1)).into();
        metadata.apply(MetadataChange::Topics(topics.into()));
        let first = metadata.answer(&[], None, 2);
        assert_eq!(names(&first), (vec!["a".into(), "b".into()], true));
        let second = metadata.answer(&[], Some(&TopicName::parse("b").unwrap()), 2);
        assert_eq!(names(&second), (vec!["c".into()], false));
    }

    #[test]
    fn named_topics_that_do_not_exist_are_said() {
        let mut metadata = Metadata::new();
        metadata.apply(MetadataChange::Topics([topic("a", 1)].into()));
        let name = TopicName::parse("a").unwrap();
        metadata.apply(MetadataChange::Deleted { id: TopicId(9), name: name.clone() });
        assert!(metadata.find(&name).is_some(), "another topic's deletion");
        metadata.apply(MetadataChange::Deleted { id: TopicId(1), name: name.clone() });
        let Reply::Metadata { unknown, .. } = metadata.answer(std::slice::from_ref(&name), None, 0)
        else {
            panic!("not metadata")
        };
        assert_eq!(unknown, [name]);
    }
}
