//! The topics of a run: new ones, named so that two runs never meet.

use std::time::{SystemTime, UNIX_EPOCH};

use model::{PartitionHandle, PartitionIndex, TopicConfig, TopicName};

use crate::error::BenchError;
use crate::wire::Control;

/// Topics made for a run, and all their partitions in one list.
#[derive(Clone, Debug)]
pub struct Topics {
    pub names: Vec<TopicName>,
    /// Those of the first topic, then those of the second, and so on.
    pub partitions: Vec<PartitionHandle>,
}

impl Topics {
    /// Creates `count` topics called `bench-RUN-KIND-N`.
    pub fn create(
        control: &mut Control,
        kind: &str,
        count: usize,
        partitions_each: usize,
        config: &TopicConfig,
    ) -> Result<Self, BenchError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = format!("{}-{}", since.as_millis(), std::process::id());
        let name = |at: usize| {
            TopicName::parse(&format!("bench-{run}-{kind}-{at}"))
                .map_err(|error| BenchError::Options(error.to_string()))
        };
        let names = (0..count).map(name).collect::<Result<Vec<_>, _>>()?;
        let infos = control.create_topics(&names, partitions_each as u32, config)?;
        let mut partitions = Vec::with_capacity(count * partitions_each);
        for info in &infos {
            for index in 0..partitions_each as u32 {
                let handle = info.handle(PartitionIndex(index)).ok_or_else(|| {
                    BenchError::Protocol(format!("{} lacks partition {index}", info.name))
                })?;
                partitions.push(handle);
            }
        }
        Ok(Self { names, partitions })
    }

    /// The oldest offset kept of every partition.
    pub fn first_offsets(&self, control: &mut Control) -> Result<Vec<u64>, BenchError> {
        let mut offsets = Vec::with_capacity(self.partitions.len());
        for name in &self.names {
            offsets.extend(control.describe(name)?.iter().map(|p| p.first_offset));
        }
        Ok(offsets)
    }
}
