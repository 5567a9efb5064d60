//! Good frames to spoil: one of every request, in several forms, and ways to spoil them.

use model::{
    AckLevel, ConsumerName, PartitionHandle, Request, StartPosition, TopicChange, TopicConfig,
    TopicName,
};
use protocol::{BatchBuilder, FRAME_HEADER_BYTES, ProduceHead, kind};

use super::wire::hello;
use crate::random::Random;

/// Numbers at which arithmetic goes wrong; written in as many bytes as the place has.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x1_0000_0000,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

fn name(text: &str) -> TopicName {
    TopicName::parse(text).unwrap_or_else(|_| unreachable!("a good name"))
}

fn consumer() -> ConsumerName {
    ConsumerName::parse("hostile-reader").unwrap_or_else(|_| unreachable!("a good name"))
}

/// One of every request, as a whole frame.
pub fn requests(partition: PartitionHandle) -> Vec<Vec<u8>> {
    let position = StartPosition::First;
    let config = TopicConfig { retention_bytes: Some(1 << 20), ..TopicConfig::default() };
    let change = TopicChange { retention_ms: Some(Some(1_000)), ..TopicChange::default() };
    let mut frames: Vec<Vec<u8>> = [
        Request::Ping,
        Request::Metadata { topics: vec![name("hostile-a"), name("b")], after: None, limit: 10 },
        Request::Metadata { topics: Vec::new(), after: Some(name("a")), limit: u32::MAX },
        Request::CreateTopic { name: name("hostile-made"), partitions: 3, config },
        Request::AlterTopic { name: name("hostile-made"), change },
        Request::DeleteTopic { name: name("hostile-made") },
        Request::DescribeTopic { name: name("hostile") },
        Request::InitProducer,
        Request::Fetch { partition, offset: 0, min_bytes: 1, max_bytes: 4_096, max_wait_ms: 10 },
        Request::LookupOffset { partition, position: StartPosition::Time(1_700_000_000_000) },
        Request::LookupOffset { partition, position: StartPosition::Committed(consumer()) },
        Request::Subscribe { partition, subscription: 7, position, credit_bytes: 65_536 },
        Request::Credit { subscription: 7, bytes: 4_096 },
        Request::Unsubscribe { subscription: 7 },
        Request::CommitOffset { partition, consumer: consumer(), offset: 0, ack: AckLevel::Memory },
        Request::CommittedOffset { partition, consumer: consumer() },
        Request::Status,
        Request::Stages,
    ]
    .iter()
    .zip(10..)
    .map(|(request, correlation)| {
        let mut bytes = Vec::new();
        // Small requests fit a frame.
        let _ = protocol::put_request(&mut bytes, correlation, request, 1_000);
        bytes
    })
    .collect();
    frames.push(produce(partition, AckLevel::Memory, &batch(&[b"one", b"two"])));
    frames.push(produce(partition, AckLevel::None, &batch(&[&[7; 300]])));
    frames.push(hello());
    frames
}

pub fn batch(values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for value in values {
        // What does not fit is left out.
        let _ = builder.append(1_700_000_000_000, Some(b"key"), Some(value), []);
    }
    builder.finish(None)
}

pub fn produce(handle: PartitionHandle, ack: AckLevel, batch: &[u8]) -> Vec<u8> {
    let head = ProduceHead { handle, ack: Some(ack), deadline_ms: 0, batch_count: 1 };
    let mut bytes = Vec::new();
    protocol::put_produce_head(&mut bytes, 900, &head, batch.len());
    bytes.extend_from_slice(batch);
    bytes
}

/// Spoils a frame. Mostly its length and version stay right, so that what reads bodies is reached;
/// the batch's checksum is put right half of the time, for the same reason.
pub fn spoil(frame: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.between(1, 6) {
        match random.between(0, 9) {
            0 if frame.len() > FRAME_HEADER_BYTES => {
                let keep = random.between(FRAME_HEADER_BYTES as u64, frame.len() as u64);
                frame.truncate(keep as usize);
            }
            1 => frame.extend((0..random.between(1, 64)).map(|_| random.number() as u8)),
            2 => set(frame, 6, 2, 2 * random.between(0, 0x40)),
            3..=5 => {
                let width = 1 << random.between(0, 4);
                let at = random.between(8, frame.len().max(9) as u64) as usize;
                let edge = EDGES[random.between(0, EDGES.len() as u64) as usize];
                set(frame, at, width, edge);
            }
            _ => {
                let at = random.between(8, frame.len().max(9) as u64) as usize;
                set(frame, at, 1, random.number());
            }
        }
    }
    if random.between(0, 2) == 0 {
        correct_checksum(frame);
    }
    let length = frame.len() as u64;
    set(frame, 0, 4, length);
    if random.between(0, 200) == 0 {
        // Now and then the framing itself is lost.
        let at = random.between(0, 8) as usize;
        set(frame, at, 1, random.number());
    }
}

/// Every frame with every edge at every place of its body, one after the other.
#[derive(Debug)]
pub struct Edges {
    frames: Vec<Vec<u8>>,
    frame: usize,
    at: usize,
    edge: usize,
    width: usize,
}

impl Edges {
    pub fn new(frames: Vec<Vec<u8>>) -> Self {
        Self { frames, frame: 0, at: FRAME_HEADER_BYTES, edge: 0, width: 1 }
    }

    /// Begins again at the end.
    pub fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.frames[self.frame].clone();
        set(&mut bytes, self.at, self.width, EDGES[self.edge]);
        correct_checksum(&mut bytes);
        self.edge += 1;
        if self.edge == EDGES.len() {
            self.edge = 0;
            self.width *= 2;
        }
        if self.width > 8 {
            self.width = 1;
            self.at += 1;
        }
        if self.at >= self.frames[self.frame].len().min(FRAME_HEADER_BYTES + 120) {
            self.at = FRAME_HEADER_BYTES;
            self.frame = (self.frame + 1) % self.frames.len();
        }
        bytes
    }
}

/// The low bytes of `value` from `at` on, as far as the frame goes.
fn set(frame: &mut [u8], at: usize, width: usize, value: u64) {
    for (place, byte) in frame.iter_mut().skip(at).zip(&value.to_le_bytes()[..width]) {
        *place = *byte;
    }
}

/// Puts the checksum of a publish's first batch right, where there is one.
fn correct_checksum(frame: &mut [u8]) {
    let start = FRAME_HEADER_BYTES + protocol::PRODUCE_HEAD_BYTES;
    let is_produce = frame.get(6..8) == Some(&kind::PRODUCE.to_le_bytes());
    if is_produce
        && let Some(batch) = frame.get_mut(start..)
        && batch.len() > 21
    {
        let crc = protocol::batch::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_reach_every_place_of_every_request() {
        let frames = requests(PartitionHandle::default());
        let count = frames.len();
        let mut edges = Edges::new(frames);
        let mut seen = 0;
        while edges.frame + 1 < count {
            edges.next();
            seen += 1;
            assert!(seen < 1_000_000);
        }
        assert!(seen > 20_000, "{seen}");
    }

    #[test]
    fn the_same_seed_spoils_the_same_way() {
        let spoiled = |seed| {
            let mut random = Random::new(seed);
            let mut frames = requests(PartitionHandle::default());
            frames.iter_mut().for_each(|frame| spoil(frame, &mut random));
            frames
        };
        assert_eq!(spoiled(5), spoiled(5));
        assert_ne!(spoiled(5), spoiled(6));
    }
}
