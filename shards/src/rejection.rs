//! The sentences of the engine's refusals, each with what to do next.

use model::{ErrorCode, Offset, PartitionHandle, Rejection, TopicName};

use crate::producer::SequenceFault;

pub(crate) fn unknown_partition(handle: PartitionHandle) -> Rejection {
    let PartitionHandle { topic, stream, shard } = handle;
    let message = format!(
        "shard {shard} has no partition {stream} of topic {topic} (any more); fetch the metadata \
         again"
    );
    Rejection::new(ErrorCode::UnknownPartition, message)
}

pub(crate) fn unknown_topic(name: &TopicName) -> Rejection {
    let message =
        format!("there is no topic {name}; create it with `corelane topic create {name}`");
    Rejection::new(ErrorCode::UnknownTopic, message)
}

pub(crate) fn topic_exists(name: &TopicName) -> Rejection {
    let message = format!(
        "the topic {name} exists already; see it with `corelane topic describe {name}` or choose \
         another name"
    );
    Rejection::new(ErrorCode::TopicExists, message)
}

pub(crate) fn invalid(message: &str) -> Rejection {
    Rejection::new(ErrorCode::InvalidArgument, message)
}

pub(crate) fn limit(message: String) -> Rejection {
    Rejection::new(ErrorCode::LimitReached, message)
}

pub(crate) fn offset_out_of_range(offset: Offset, first: Offset, next: Offset) -> Rejection {
    let message = format!(
        "offset {offset} is out of range: the partition holds offsets from {first} and ends \
         before {next}; read from the first or the next"
    );
    Rejection::new(ErrorCode::OffsetOutOfRange, message)
}

pub(crate) fn sequence(producer: i64, sequence: i32, fault: SequenceFault) -> Rejection {
    let (code, message) = match fault {
        SequenceFault::UnknownProducer => (
            ErrorCode::UnknownProducer,
            format!(
                "producer {producer} is not known in this partition, so its first sequence must \
                 be 0 and not {sequence}; ask for a new producer id"
            ),
        ),
        SequenceFault::Fenced { newest } => (
            ErrorCode::ProducerFenced,
            format!("producer {producer} has been replaced by its epoch {newest}; stop this one"),
        ),
        SequenceFault::OutOfOrder { expected } => (
            ErrorCode::OutOfOrderSequence,
            format!(
                "producer {producer} sent sequence {sequence} where {expected} follows; send what \
                 is missing first"
            ),
        ),
        SequenceFault::Forgotten => (
            ErrorCode::DuplicateSequence,
            format!(
                "producer {producer} sent sequence {sequence} before: it was stored, its offset \
                 is no longer remembered"
            ),
        ),
    };
    Rejection::new(code, message)
}
