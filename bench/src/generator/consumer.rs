//! One reading connection: its subscriptions, their credit, and the check of what arrives.

use model::{PartitionHandle, Request, StartPosition};
use protocol::batch::{BATCH_HEADER_BYTES, CRC_FROM, crc32c};
use protocol::{BatchHeader, DELIVER_HEAD_BYTES, DeliverHead, RecordIter, put_request};

use crate::error::BenchError;
use crate::ledger::{Ledger, Verdict};
use crate::payload;

/// What to read of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Where the partition stands in the run's list.
    pub partition: u32,
    pub handle: PartitionHandle,
    /// The first offset to read; `None`: what comes after all that is there now.
    pub from: Option<u64>,
    /// One past the last offset to read; `None`: no end.
    pub end: Option<u64>,
}

/// What a reader does when it has come to the end of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// It is done.
    Stop,
    /// Reads the share again from its first offset.
    Again,
}

/// How many messages each producer published, by partition: `published[partition][producer]`.
pub type Published = std::sync::Arc<Vec<Vec<u64>>>;

/// Messages received together that were meant to be sent together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    pub intended_ns: u64,
    pub messages: u64,
    /// Their payload bytes.
    pub bytes: u64,
}

/// Offsets of a partition that a reader did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where the partition stands in the run's list.
    pub partition: u32,
    pub from: u64,
    /// One past the last.
    pub to: u64,
}

#[derive(Debug)]
struct Subscription {
    share: Share,
    /// Its number on the wire; a new one each time it is read again.
    number: u32,
    /// The server has answered the subscription of this number.
    answered: bool,
    /// Where it stands; `None` until the server has said so.
    next_offset: Option<u64>,
    /// Batch bytes received since credit was last given.
    used_bytes: u64,
    ledger: Ledger,
    done: bool,
}

/// The state of one reading connection.
#[derive(Debug)]
pub struct Consumer {
    subscriptions: Vec<Subscription>,
    credit_bytes: u64,
    at_end: AtEnd,
    producers: u32,
    published: Published,
    unanswered: usize,
    unfinished: usize,
    gaps: Vec<Gap>,
    verdict: Verdict,
    correlation: u64,
}

impl Consumer {
    /// `producers`: how many there are; `published`: what each had published when the reading
    /// began, which must be there at the end of a share (empty: nothing is known).
    pub fn new(
        shares: &[Share],
        credit_bytes: u64,
        at_end: AtEnd,
        producers: u32,
        published: Published,
    ) -> Self {
        let subscription = |(at, share): (usize, &Share)| Subscription {
            share: *share,
            number: at as u32,
            answered: false,
            next_offset: None,
            used_bytes: 0,
            ledger: Ledger::new(producers, share.from == Some(0)),
            done: false,
        };
        Self {
            subscriptions: shares.iter().enumerate().map(subscription).collect(),
            credit_bytes,
            at_end,
            producers,
            published,
            unanswered: shares.len(),
            unfinished: shares.len(),
            gaps: Vec::new(),
            verdict: Verdict::default(),
            correlation: 0,
        }
    }

    /// Writes the subscribe requests of all shares.
    pub fn subscribe_all(&mut self, out: &mut Vec<u8>) -> Result<(), BenchError> {
        (0..self.subscriptions.len()).try_for_each(|at| self.subscribe(at, out))
    }

    /// First subscriptions that the server has not answered yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether every share was read to its end.
    pub fn is_done(&self) -> bool {
        self.unfinished == 0
    }

    /// What is still to come, with an example; `None` when nothing is.
    pub fn waiting(&self) -> Option<String> {
        let mut open = self.subscriptions.iter().filter(|s| !s.done);
        let Subscription { share, next_offset, number, .. } = open.next()?;
        let (at, more) = (next_offset.unwrap_or(0), open.count());
        let end = share.end.map_or_else(String::new, |end| format!(" of {end}"));
        let handle = share.handle;
        Some(format!(
            "subscription {number} at offset {at}{end} of topic {}, stream {} of shard {}, and \
             {more} other subscriptions open",
            handle.topic, handle.stream, handle.shard
        ))
    }

    /// Offsets that were passed over: removed by retention before they were read, or lost.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Closes the accounts of shares read only in part: what has arrived was checked, what has not
    /// is not missed. `published` is what must have arrived where it is known.
    pub fn close(self, published: Option<&Published>) -> Verdict {
        let mut verdict = self.verdict;
        for subscription in self.subscriptions.into_iter().filter(|s| !s.done) {
            let known = published.and_then(|p| p.get(subscription.share.partition as usize));
            verdict.add(&subscription.ledger.close(|producer| {
                known.and_then(|p| p.get(producer as usize)).copied().unwrap_or(0)
            }));
        }
        verdict
    }

    /// The server's answer to one of the requests.
    pub fn subscribed(&mut self, number: u32, offset: u64) -> Result<(), BenchError> {
        let (at, count) = (self.position(number), self.subscriptions.len());
        let Some(subscription) = at.and_then(|at| self.subscriptions.get_mut(at)) else {
            return Err(BenchError::Protocol(format!("an answer for subscription {number}")));
        };
        if subscription.number != number || subscription.answered {
            return Ok(());
        }
        subscription.answered = true;
        if (number as usize) < count {
            self.unanswered -= 1;
        }
        // A delivery may have come before this.
        if subscription.next_offset.is_some() {
            return Ok(());
        }
        subscription.next_offset = Some(offset);
        if subscription.share.from == Some(0) && offset > 0 {
            let partition = subscription.share.partition;
            self.gaps.push(Gap { partition, from: 0, to: offset });
            subscription.ledger = Ledger::new(self.producers, false);
        }
        Ok(())
    }

    /// Takes a `Deliver` body. Reports messages in runs, and writes credit when it is due.
    pub fn delivered(
        &mut self,
        body: &[u8],
        out: &mut Vec<u8>,
        mut each: impl FnMut(Arrived),
    ) -> Result<(), BenchError> {
        let head = DeliverHead::parse(body).map_err(|e| BenchError::Protocol(e.to_string()))?;
        let Some(at) = self.position(head.subscription) else {
            return Err(BenchError::Protocol(format!(
                "a delivery for subscription {}, which nobody has",
                head.subscription
            )));
        };
        let subscription = &mut self.subscriptions[at];
        if subscription.number != head.subscription || subscription.done {
            return Ok(());
        }
        let batches = &body[DELIVER_HEAD_BYTES..];
        let position = subscription.next_offset.unwrap_or(head.first_offset);
        subscription.take(batches, position, &mut self.gaps, &mut each)?;
        subscription.next_offset = Some(head.next_offset);
        subscription.used_bytes += batches.len() as u64;
        if subscription.share.end.is_some_and(|end| head.next_offset >= end) {
            return self.ended(at, out);
        }
        if subscription.used_bytes * 2 >= self.credit_bytes {
            let bytes = std::mem::take(&mut subscription.used_bytes);
            let request = Request::Credit { subscription: subscription.number, bytes };
            self.put(&request, out)?;
        }
        Ok(())
    }

    fn ended(&mut self, at: usize, out: &mut Vec<u8>) -> Result<(), BenchError> {
        let subscription = &mut self.subscriptions[at];
        let (share, number) = (subscription.share, subscription.number);
        let fresh = Ledger::new(self.producers, share.from == Some(0));
        let ledger = std::mem::replace(&mut subscription.ledger, fresh);
        let published = self.published.get(share.partition as usize);
        self.verdict.add(&ledger.close(|producer| {
            published.and_then(|p| p.get(producer as usize)).copied().unwrap_or(0)
        }));
        self.put(&Request::Unsubscribe { subscription: number }, out)?;
        if self.at_end == AtEnd::Stop {
            self.subscriptions[at].done = true;
            self.unfinished -= 1;
            return Ok(());
        }
        let step = self.subscriptions.len() as u32;
        self.subscriptions[at].number = number.wrapping_add(step);
        self.subscribe(at, out)
    }

    fn subscribe(&mut self, at: usize, out: &mut Vec<u8>) -> Result<(), BenchError> {
        let subscription = &mut self.subscriptions[at];
        (subscription.next_offset, subscription.answered) = (None, false);
        subscription.used_bytes = 0;
        let request = Request::Subscribe {
            partition: subscription.share.handle,
            subscription: subscription.number,
            position: match subscription.share.from {
                None => StartPosition::Next,
                Some(0) => StartPosition::First,
                Some(offset) => StartPosition::Offset(offset),
            },
            credit_bytes: self.credit_bytes,
        };
        self.put(&request, out)
    }

    fn put(&mut self, request: &Request, out: &mut Vec<u8>) -> Result<(), BenchError> {
        self.correlation += 1;
        put_request(out, self.correlation, request, 0)
            .map_err(|error| BenchError::Protocol(error.to_string()))
    }

    /// Numbers go up by the count of subscriptions, so that the rest is the place.
    fn position(&self, number: u32) -> Option<usize> {
        (number as usize).checked_rem(self.subscriptions.len())
    }
}

impl Subscription {
    /// Checks the batches of one delivery.
    fn take(
        &mut self,
        mut batches: &[u8],
        mut position: u64,
        gaps: &mut Vec<Gap>,
        each: &mut impl FnMut(Arrived),
    ) -> Result<(), BenchError> {
        while !batches.is_empty() {
            let (header, batch) = split_batch(batches)?;
            batches = &batches[batch.len()..];
            if header.base_offset > position {
                let (partition, to) = (self.share.partition, header.base_offset);
                gaps.push(Gap { partition, from: position, to });
                self.ledger.skip();
            }
            self.take_batch(&header, batch, position, each)?;
            position = position.max(header.next_offset());
        }
        Ok(())
    }

    /// A batch whose checksum is right is as its producer made it: of its payloads only the first is
    /// gone through once more, which shows that the checksum was made of what was meant.
    fn take_batch(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        position: u64,
        each: &mut impl FnMut(Arrived),
    ) -> Result<(), BenchError> {
        let is_whole = crc32c(&batch[CRC_FROM..]) == header.crc;
        let (mut run, mut accounted_for) = (Arrived::default(), is_whole);
        for record in RecordIter::new(header, &batch[BATCH_HEADER_BYTES..]) {
            let record = record.map_err(|e| BenchError::Protocol(e.to_string()))?;
            let offset = header.base_offset + u64::from(record.offset_delta);
            if offset < position || self.share.end.is_some_and(|end| offset >= end) {
                continue;
            }
            let payload_bytes = record.value.map_or(0, <[u8]>::len) as u64;
            let trusted = is_whole && record.offset_delta > 0;
            let read = if trusted { payload::stamp } else { payload::open };
            let Some(stamp) = record.value.and_then(read) else {
                accounted_for = true;
                self.ledger.altered();
                continue;
            };
            self.ledger.seen(stamp.producer, stamp.sequence);
            if stamp.intended_ns != run.intended_ns && run.messages > 0 {
                each(run);
                run = Arrived::default();
            }
            run.intended_ns = stamp.intended_ns;
            run.messages += 1;
            run.bytes += payload_bytes;
        }
        if run.messages > 0 {
            each(run);
        }
        if !accounted_for {
            // Something between the payloads.
            self.ledger.altered();
        }
        Ok(())
    }
}

/// The first batch in `bytes`, not checked.
fn split_batch(bytes: &[u8]) -> Result<(BatchHeader, &[u8]), BenchError> {
    let short = || BenchError::Protocol("a delivery that ends inside a batch".into());
    let head = bytes.first_chunk::<BATCH_HEADER_BYTES>().ok_or_else(short)?;
    let header = BatchHeader::parse(head).map_err(|e| BenchError::Protocol(e.to_string()))?;
    let batch = bytes.get(..header.batch_length as usize).ok_or_else(short)?;
    Ok((header, batch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::mill::{Mill, Patch};
    use crate::payload::Stamp;
    use protocol::{FRAME_HEADER_BYTES, PRODUCE_HEAD_BYTES, decode_request, next_frame};
    use std::sync::Arc;

    const HEAD: usize = FRAME_HEADER_BYTES + PRODUCE_HEAD_BYTES;

    /// A `Deliver` body with one batch of two messages for each first sequence.
    fn deliver(subscription: u32, first_offset: u64, sequences: &[u64]) -> Vec<u8> {
        let mill = Mill::sample(&[PartitionHandle::default()], 40, 2, false);
        let (mut frame, mut batches) = (Vec::new(), Vec::new());
        for (at, sequence) in sequences.iter().enumerate() {
            let mut chunk = mill.chunk();
            let stamp = Stamp { producer: 0, sequence: *sequence, intended_ns: *sequence };
            mill.put(&mut chunk, &Patch { correlation: 0, partition: 0, key: 0, stamp });
            let mut batch = mill.finish(chunk)[HEAD..].to_vec();
            batch[..8].copy_from_slice(&(first_offset + at as u64 * 2).to_be_bytes());
            batches.extend(batch);
        }
        let next_offset = first_offset + sequences.len() as u64 * 2;
        let batch_count = sequences.len() as u32;
        let high_watermark = next_offset;
        let head =
            DeliverHead { subscription, batch_count, first_offset, next_offset, high_watermark };
        protocol::put_deliver_head(&mut frame, &head, batches.len());
        frame.extend(batches);
        frame.split_off(FRAME_HEADER_BYTES)
    }

    fn consumer(end: Option<u64>, at_end: AtEnd) -> Consumer {
        let handle = PartitionHandle::default();
        let share = Share { partition: 0, handle, from: Some(0), end };
        let published = Arc::new(vec![vec![end.unwrap_or(0)]]);
        Consumer::new(&[share], 1000, at_end, 1, published)
    }

    fn requests(out: &[u8]) -> Vec<Request> {
        let (mut at, mut all) = (0, Vec::new());
        while let Some((header, length)) = next_frame(&out[at..]).unwrap() {
            all.push(decode_request(&header, &out[at + 16..at + length]).unwrap().0);
            at += length;
        }
        all
    }

    #[test]
    fn credit_comes_back_as_it_is_used_up() {
        let mut consumer = consumer(None, AtEnd::Stop);
        let mut out = Vec::new();
        consumer.subscribe_all(&mut out).unwrap();
        consumer.subscribed(0, 0).unwrap();
        let (mut given, mut messages) = (0, 0);
        for k in 0..20 {
            let body = deliver(0, k * 2, &[k * 2]);
            consumer.delivered(&body, &mut out, |a| messages += a.messages).unwrap();
        }
        for request in requests(&out) {
            if let Request::Credit { bytes, .. } = request {
                given += bytes;
            }
        }
        let batch_bytes = deliver(0, 0, &[0]).len() as u64 - 32;
        assert!(given <= 20 * batch_bytes && given + 500 > 20 * batch_bytes, "{given}");
        assert_eq!(messages, 40);
        assert!(consumer.close(None).is_clean());
    }

    #[test]
    fn a_share_is_read_again_or_is_done_and_its_account_is_closed() {
        for at_end in [AtEnd::Again, AtEnd::Stop] {
            let mut consumer = consumer(Some(4), at_end);
            let mut out = Vec::new();
            consumer.subscribe_all(&mut out).unwrap();
            consumer.subscribed(0, 0).unwrap();
            out.clear();
            consumer.delivered(&deliver(0, 0, &[0, 2]), &mut out, |_| {}).unwrap();
            let asked = requests(&out);
            assert_eq!(asked[0], Request::Unsubscribe { subscription: 0 });
            assert_eq!(consumer.is_done(), at_end == AtEnd::Stop);
            assert_eq!(asked.len(), if at_end == AtEnd::Stop { 1 } else { 2 });
            // What still comes for the old number is not looked at.
            consumer.delivered(&deliver(0, 0, &[0]), &mut out, |_| panic!()).unwrap();
            let verdict = consumer.close(None);
            assert!(verdict.is_clean() && verdict.checked == 4, "{verdict:?}");
        }
    }

    #[test]
    fn lost_repeated_reordered_and_altered_messages_are_seen() {
        let verdict = |bodies: &[Vec<u8>], end| {
            let mut consumer = consumer(Some(end), AtEnd::Stop);
            consumer.subscribe_all(&mut Vec::new()).unwrap();
            consumer.subscribed(0, 0).unwrap();
            for body in bodies {
                consumer.delivered(body, &mut Vec::new(), |_| {}).unwrap();
            }
            consumer.close(None)
        };
        // Offsets without a gap, messages with one: the broker dropped a batch before numbering.
        let lost = verdict(&[deliver(0, 0, &[0, 4])], 4);
        assert_eq!(lost.lost, 2);
        let repeated = verdict(&[deliver(0, 0, &[0, 0, 2])], 6);
        assert_eq!((repeated.duplicated, repeated.lost), (2, 2));
        let reordered = verdict(&[deliver(0, 0, &[2, 0])], 4);
        assert_eq!((reordered.reordered, reordered.lost), (2, 0));
        let body = deliver(0, 0, &[0, 2]);
        let altered = |at: usize| {
            let mut body = body.clone();
            body[at] ^= 1;
            verdict(&[body], 4)
        };
        assert_eq!(altered(body.len() - 10).corrupted, 1, "the last payload's");
        // The second batch's header: not its records.
        let second = DELIVER_HEAD_BYTES + (body.len() - DELIVER_HEAD_BYTES) / 2;
        let timestamps = altered(second + BATCH_HEADER_BYTES - 30);
        assert_eq!((timestamps.corrupted, timestamps.lost), (1, 0), "{timestamps:?}");
    }

    #[test]
    fn what_retention_removed_is_not_called_lost() {
        let mut consumer = consumer(Some(10), AtEnd::Stop);
        consumer.subscribe_all(&mut Vec::new()).unwrap();
        consumer.subscribed(0, 2).unwrap();
        consumer.delivered(&deliver(0, 2, &[2]), &mut Vec::new(), |_| {}).unwrap();
        consumer.delivered(&deliver(0, 8, &[8]), &mut Vec::new(), |_| {}).unwrap();
        let gap = |from, to| Gap { partition: 0, from, to };
        assert_eq!(consumer.gaps(), [gap(0, 2), gap(4, 8)]);
        assert!(consumer.is_done() && consumer.close(None).is_clean());
    }
}
