//! Topic changes, on the core of shard 0: shard 0 decides and logs, the owning shards follow, and
//! only when each has its part durable is the client answered. What a crash left half done is
//! completed at the next start.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use model::{
    ErrorCode, PartitionIndex, PartitionPlace, Rejection, Reply, Request, ShardId, StreamId,
    TopicId, TopicInfo, TopicName,
};
use shards::TopicRecord;
use slab::Slab;

use crate::bounds::{PARTITIONS_ASKED_AT_ONCE, TOPIC_CHANGES_MAX};
use crate::clock::Clock;
use crate::message::{
    Message, MetadataChange, Origin, PartitionSpec, ReplyTo, ShardAnswer, ShardReport, ShardRequest,
};
use crate::outbox::Outbox;
use crate::placement::ShardMap;
use crate::shard::ShardHost;

/// Topics in one metadata message at start.
const TOPICS_PER_MESSAGE: usize = 1_000;

#[derive(Debug)]
pub struct Coordinator {
    map: ShardMap,
    topics: AHashMap<TopicId, Arc<TopicInfo>>,
    steps: Slab<Step>,
    /// Who is being answered at this moment and is in no step.
    answering: Option<TopicAsk>,
    reports: BTreeMap<ShardId, ShardReport>,
    /// Steps of the start that are not complete; then all topics have been told.
    starting: usize,
    started: bool,
}

/// A change under way.
#[derive(Debug)]
struct Step {
    kind: StepKind,
    /// Who is to be answered, as long as they wait.
    asked: Option<TopicAsk>,
    /// By partition index; shard 0 for those of no shard yet.
    shards: Vec<ShardId>,
    spec: Arc<PartitionSpec>,
    streams: Vec<StreamId>,
    /// Owning shards that have not answered.
    awaited: usize,
    failed: Option<Rejection>,
    /// Owning shards that could not for the moment; asked again at the next tick.
    again: Vec<PartitionIndex>,
    /// Partitions not yet asked for, from the first on: a large topic is made in portions.
    unasked: std::ops::Range<u32>,
    at_start: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepKind {
    Create,
    Alter,
    Delete,
}

/// A client's wish, and until when it waits for the answer.
#[derive(Clone, Copy, Debug)]
pub struct TopicAsk {
    pub origin: Origin,
    /// By the core's clock; `u64::MAX`: no limit.
    pub deadline_ns: u64,
}

/// The version of the settings a topic is created with, as the engine counts them.
const CONFIG_VERSION_FIRST: u32 = 1;

/// Stands for shard 0's own entry in answers to a step.
const OWN_ENTRY: PartitionIndex = PartitionIndex(u32::MAX);

impl Coordinator {
    pub fn new(map: ShardMap) -> Self {
        Self {
            map,
            topics: AHashMap::new(),
            steps: Slab::new(),
            answering: None,
            reports: BTreeMap::new(),
            starting: 0,
            started: false,
        }
    }

    /// A shard has opened. When all have, the topics are put together.
    pub fn on_report(
        &mut self,
        report: ShardReport,
        shard: Option<&mut ShardHost>,
        out: &mut Outbox,
    ) {
        self.reports.insert(report.shard, report);
        if self.reports.len() == usize::from(self.map.shards()) {
            self.start(shard, out);
        }
    }

    fn start(&mut self, shard: Option<&mut ShardHost>, out: &mut Outbox) {
        let reports = std::mem::take(&mut self.reports);
        let mut known: AHashMap<(TopicId, PartitionIndex), (StreamId, u32)> = AHashMap::new();
        for report in reports.values() {
            for partition in &report.partitions {
                let key = (partition.spec.topic, partition.index);
                known.insert(key, (partition.stream, partition.spec.config_version));
            }
        }
        let unavailable =
            |shard: ShardId| reports.get(&shard).is_none_or(|report| report.unavailable.is_some());
        match shard {
            Some(host) => self.complete_topics(host, &known, &unavailable, out),
            None => self.topics_without_shard_0(&reports, out),
        }
        self.started = true;
        self.finish_start(out);
    }

    /// Shard 0 is the truth: what it has and an owning shard lacks is created again, what it has
    /// buried is deleted.
    fn complete_topics(
        &mut self,
        host: &mut ShardHost,
        known: &AHashMap<(TopicId, PartitionIndex), (StreamId, u32)>,
        unavailable: &impl Fn(ShardId) -> bool,
        out: &mut Outbox,
    ) {
        let records: Vec<_> = host.engine().topics().collect();
        for record in records {
            let spec = Arc::new(spec_of(&record));
            let places: Vec<_> = (0..)
                .zip(record.shards.iter())
                .map(|(i, shard)| (*shard, known.get(&(record.id, PartitionIndex(i))).copied()))
                .collect();
            let streams =
                places.iter().map(|(_, known)| known.map_or(StreamId(0), |k| k.0)).collect();
            let lacking: Vec<PartitionIndex> = (0..)
                .zip(&places)
                .filter(|(_, (shard, known))| {
                    !unavailable(*shard)
                        && known.is_none_or(|(_, version)| version != record.config_version)
                })
                .map(|(i, _)| PartitionIndex(i))
                .collect();
            let step = Step {
                kind: StepKind::Create,
                asked: None,
                shards: record.shards.to_vec(),
                spec,
                streams,
                awaited: 0,
                failed: None,
                again: Vec::new(),
                unasked: 0..0,
                at_start: true,
            };
            if lacking.is_empty() {
                self.remember(&step);
                continue;
            }
            self.starting += 1;
            tracing::info!(topic = %step.spec.name, partitions = lacking.len(), "completing a topic change that was cut short");
            self.ask_shards(step, lacking, out);
        }
        for grave in host.engine().tombstones().collect::<Vec<_>>() {
            let all: Vec<_> =
                (0..).zip(grave.shards.iter()).map(|(i, _)| PartitionIndex(i)).collect();
            let step = Step {
                kind: StepKind::Delete,
                asked: None,
                streams: vec![StreamId(0); grave.shards.len()],
                shards: grave.shards.to_vec(),
                spec: Arc::new(spec_of(&grave)),
                awaited: 0,
                failed: None,
                again: Vec::new(),
                unasked: 0..0,
                at_start: false,
            };
            self.ask_shards(step, all, out);
        }
    }

    /// Shard 0 cannot be opened: what the other shards hold is served, nothing is changed.
    fn topics_without_shard_0(
        &mut self,
        reports: &BTreeMap<ShardId, ShardReport>,
        _out: &mut Outbox,
    ) {
        let nowhere = PartitionPlace { shard: ShardId(0), stream: StreamId(0) };
        let mut topics: BTreeMap<TopicId, TopicInfo> = BTreeMap::new();
        for report in reports.values() {
            for partition in &report.partitions {
                let spec = &partition.spec;
                let topic = topics.entry(spec.topic).or_insert_with(|| TopicInfo {
                    id: spec.topic,
                    name: spec.name.clone(),
                    config: spec.config.clone(),
                    config_version: spec.config_version,
                    partitions: smallvec::SmallVec::new(),
                });
                let index = partition.index.0 as usize;
                if topic.partitions.len() <= index {
                    topic.partitions.resize(index + 1, nowhere);
                }
                topic.partitions[index] =
                    PartitionPlace { shard: report.shard, stream: partition.stream };
            }
        }
        self.topics = topics.into_iter().map(|(id, topic)| (id, Arc::new(topic))).collect();
    }

    fn finish_start(&mut self, out: &mut Outbox) {
        if !self.started || self.starting > 0 {
            return;
        }
        let mut topics: Vec<_> = self.topics.values().cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        for page in topics.chunks(TOPICS_PER_MESSAGE) {
            self.broadcast(&MetadataChange::Topics(page.into()), out);
        }
        self.broadcast(&MetadataChange::Complete, out);
    }

    /// A client's request to create, alter or delete a topic.
    pub fn on_request(
        &mut self,
        clock: &Clock,
        asked: TopicAsk,
        request: Request,
        shard: Option<&mut ShardHost>,
        out: &mut Outbox,
    ) {
        let Some(host) = shard else {
            let text = "shard 0, which keeps the topics, is not available; see `corelane status`";
            return out.reject(asked.origin, Rejection::new(ErrorCode::ShardUnavailable, text));
        };
        if self.steps.len() >= TOPIC_CHANGES_MAX {
            let text = "too many topic changes are under way; try again shortly";
            return out.reject(asked.origin, Rejection::new(ErrorCode::Busy, text));
        }
        self.answering = Some(asked);
        let begun = match request {
            Request::CreateTopic { name, partitions, config } => {
                self.begin_create(clock, host, name, partitions, config)
            }
            Request::AlterTopic { name, change } => self.begin_alter(clock, host, &name, &change),
            Request::DeleteTopic { name } => self.begin_delete(clock, host, &name),
            _ => Ok(()),
        };
        if let (Err(rejection), Some(asked)) = (begun, self.answering.take()) {
            out.reject(asked.origin, rejection);
        }
    }

    fn begin_create(
        &mut self,
        clock: &Clock,
        host: &mut ShardHost,
        name: TopicName,
        partitions: u32,
        config: model::TopicConfig,
    ) -> Result<(), Rejection> {
        let shards = self.map.place_partitions(&name, partitions)?;
        let (id, lsn) = host.decide(|engine, journal| {
            engine.create_topic(clock.unix_ms(), &name, &config, &shards, journal)
        })?;
        let spec = PartitionSpec { topic: id, name, config, config_version: CONFIG_VERSION_FIRST };
        self.await_own_entry(host, lsn, StepKind::Create, shards, spec);
        Ok(())
    }

    fn begin_alter(
        &mut self,
        clock: &Clock,
        host: &mut ShardHost,
        name: &TopicName,
        change: &model::TopicChange,
    ) -> Result<(), Rejection> {
        let (record, lsn) = host
            .decide(|engine, journal| engine.alter_topic(clock.unix_ms(), name, change, journal))?;
        let spec = spec_of(&record);
        let shards = record.shards.to_vec();
        self.await_own_entry(host, lsn, StepKind::Alter, shards, spec);
        Ok(())
    }

    fn begin_delete(
        &mut self,
        clock: &Clock,
        host: &mut ShardHost,
        name: &TopicName,
    ) -> Result<(), Rejection> {
        let (record, lsn) =
            host.decide(|engine, journal| engine.delete_topic(clock.unix_ms(), name, journal))?;
        let spec = spec_of(&record);
        let shards = record.shards.to_vec();
        self.await_own_entry(host, lsn, StepKind::Delete, shards, spec);
        Ok(())
    }

    /// The owning shards are asked once shard 0's own entry is durable.
    fn await_own_entry(
        &mut self,
        host: &mut ShardHost,
        lsn: model::Lsn,
        kind: StepKind,
        shards: Vec<ShardId>,
        spec: PartitionSpec,
    ) {
        let streams = match self.topics.get(&spec.topic) {
            Some(topic) => topic.partitions.iter().map(|place| place.stream).collect(),
            None => vec![StreamId(0); shards.len()],
        };
        let step = self.steps.insert(Step {
            kind,
            asked: self.answering.take(),
            awaited: 1,
            shards,
            spec: Arc::new(spec),
            streams,
            failed: None,
            again: Vec::new(),
            unasked: 0..0,
            at_start: false,
        });
        let to = ReplyTo::Coordinator { step: narrow(step), index: OWN_ENTRY };
        host.answer_when_durable(lsn, to, ShardAnswer::Partition(Ok(StreamId(0))));
    }

    /// An owning shard, or shard 0's own log, has answered.
    pub fn on_answer(
        &mut self,
        clock: &Clock,
        step: u32,
        index: PartitionIndex,
        answer: ShardAnswer,
        shard: Option<&mut ShardHost>,
        out: &mut Outbox,
    ) {
        let key = step as usize;
        let Some(step) = self.steps.get_mut(key) else { return };
        step.awaited -= 1;
        match answer {
            ShardAnswer::Partition(Ok(stream)) => {
                if let Some(slot) = step.streams.get_mut(index.0 as usize)
                    && stream != StreamId(0)
                {
                    *slot = stream;
                }
            }
            ShardAnswer::Partition(Err(rejection))
                if index != OWN_ENTRY && rejection.code.is_retryable() =>
            {
                step.again.push(index);
            }
            ShardAnswer::Partition(Err(rejection)) => step.failed = Some(rejection),
            _ => {}
        }
        if index == OWN_ENTRY && step.failed.is_none() {
            let step = self.steps.remove(key);
            let all = 0..u32::try_from(step.shards.len()).unwrap_or(u32::MAX);
            let key = self.steps.insert(Step { awaited: 0, unasked: all, ..step });
            return self.ask(key, out);
        }
        if step.awaited == 0 && !step.unasked.is_empty() {
            return self.ask(key, out);
        }
        if step.awaited == 0 && step.again.is_empty() {
            let step = self.steps.remove(key);
            self.finish(clock, step, shard, out);
        }
    }

    /// Asks again those shards that could not do their part when they were asked: shard 0 has
    /// decided, so the change must come to its end.
    pub fn tick(&mut self, clock: &Clock, out: &mut Outbox) {
        if let Some(name) = crate::test_faults::name_for("tick") {
            let known = self.topics.values().any(|topic| topic.name.as_str() == name);
            assert!(!known, "asked to by a test");
        }
        self.answer_late(clock, out);
        let waiting = self.steps.iter().filter(|(_, step)| step.awaited == 0);
        for key in waiting.map(|(key, _)| key).collect::<Vec<_>>() {
            self.ask(key, out);
        }
    }

    /// Those who wait no longer are told so; the change goes on.
    fn answer_late(&mut self, clock: &Clock, out: &mut Outbox) {
        for (_, step) in &mut self.steps {
            let late = step.asked.take_if(|asked| asked.deadline_ns <= clock.now_ns());
            if let Some(TopicAsk { origin, .. }) = late {
                let text = format!(
                    "the time allowed ran out before every shard had its part of the change to \
                     topic {}; it goes on: look with `corelane topic list`",
                    step.spec.name
                );
                out.reject(origin, Rejection::new(ErrorCode::DeadlineExceeded, text));
            }
        }
    }

    /// Tells everyone who waits that this keeper of the topics has come to its end by a panic. What
    /// has been decided is in the logs, and the next start completes it.
    pub fn fail_clients(&mut self, out: &mut Outbox) {
        let steps = self.steps.iter_mut().filter_map(|(_, step)| step.asked.take());
        let asked: Vec<_> = self.answering.take().into_iter().chain(steps).collect();
        for TopicAsk { origin, .. } in asked {
            let text = "the server had a fault while it changed topics; the change may have \
                        happened, and the next start completes it: restart the server, then look \
                        with `corelane topic list`";
            out.reject(origin, Rejection::new(ErrorCode::OutcomeUnknown, text));
        }
    }

    fn ask_shards(&mut self, step: Step, indexes: Vec<PartitionIndex>, out: &mut Outbox) {
        let key = self.steps.insert(Step { awaited: 0, again: indexes, ..step });
        self.ask(key, out);
    }

    /// Asks the shards of the partitions that are still to be done.
    fn ask(&mut self, key: usize, out: &mut Outbox) {
        let Some(step) = self.steps.get_mut(key) else { return };
        // Those that could not do it are asked again with the last portion, or alone.
        let next = step.unasked.start.saturating_add(PARTITIONS_ASKED_AT_ONCE as u32);
        let portion = step.unasked.start..next.min(step.unasked.end);
        step.unasked.start = portion.end;
        let again =
            if step.unasked.is_empty() { std::mem::take(&mut step.again) } else { Vec::new() };
        for index in portion.map(PartitionIndex).chain(again) {
            step.awaited += 1;
            let at = index.0 as usize;
            let request = step.kind.request(Arc::clone(&step.spec), index, step.streams[at]);
            let shard = step.shards[at];
            let reply_to = ReplyTo::Coordinator { step: narrow(key), index };
            let request = Box::new(request);
            out.send(self.map.core_of(shard), Message::Request { shard, reply_to, request });
        }
    }

    fn finish(
        &mut self,
        clock: &Clock,
        mut step: Step,
        shard: Option<&mut ShardHost>,
        out: &mut Outbox,
    ) {
        if step.at_start {
            self.remember(&step);
            self.starting -= 1;
            return self.finish_start(out);
        }
        self.answering = step.asked.take();
        if let Some(rejection) = step.failed {
            if let Some(TopicAsk { origin, .. }) = self.answering.take() {
                out.reject(origin, rejection);
            }
            return;
        }
        let reply = match step.kind {
            StepKind::Delete => {
                self.topics.remove(&step.spec.topic);
                let (id, name) = (step.spec.topic, step.spec.name.clone());
                self.broadcast(&MetadataChange::Deleted { id, name }, out);
                if let Some(host) = shard {
                    let cleared = host.decide(|engine, journal| {
                        engine.tombstone_cleared(clock.unix_ms(), step.spec.topic, journal)
                    });
                    if let Err(rejection) = cleared {
                        // The next start deletes again and clears it then.
                        tracing::debug!(topic = %step.spec.name, %rejection, "tombstone kept");
                    }
                }
                Reply::TopicDeleted
            }
            StepKind::Create | StepKind::Alter => {
                let topic = self.remember(&step);
                crate::test_faults::maybe_panic("coordinator", topic.name.as_str());
                self.broadcast(&MetadataChange::Topics([Arc::clone(&topic)].into()), out);
                Reply::Topic(topic)
            }
        };
        if let Some(TopicAsk { origin, .. }) = self.answering.take() {
            out.reply(origin, reply);
        }
    }

    fn remember(&mut self, step: &Step) -> Arc<TopicInfo> {
        let spec = &step.spec;
        let partitions = step
            .shards
            .iter()
            .zip(&step.streams)
            .map(|(shard, stream)| PartitionPlace { shard: *shard, stream: *stream })
            .collect();
        let topic = Arc::new(TopicInfo {
            id: spec.topic,
            name: spec.name.clone(),
            config: spec.config.clone(),
            config_version: spec.config_version,
            partitions,
        });
        self.topics.insert(spec.topic, Arc::clone(&topic));
        topic
    }

    fn broadcast(&self, change: &MetadataChange, out: &mut Outbox) {
        for core in self.map.cores() {
            out.send(core, Message::Metadata(change.clone()));
        }
    }
}

impl StepKind {
    /// What the owner of one partition is asked. `stream`: what is known of it, 0 for nothing; a
    /// partition that a start finds with older settings is given the newer ones.
    fn request(
        self,
        spec: Arc<PartitionSpec>,
        index: PartitionIndex,
        stream: StreamId,
    ) -> ShardRequest {
        match self {
            Self::Create if stream == StreamId(0) => ShardRequest::EnsurePartition { spec, index },
            Self::Create | Self::Alter => ShardRequest::AlterPartition { spec, index },
            Self::Delete => ShardRequest::DeletePartition { topic: spec.topic, index },
        }
    }
}

/// A topic as its owning shards are told of it.
fn spec_of(record: &TopicRecord) -> PartitionSpec {
    PartitionSpec {
        topic: record.id,
        name: record.name.clone(),
        config: record.config.clone(),
        config_version: record.config_version,
    }
}

fn narrow(key: usize) -> u32 {
    u32::try_from(key).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
