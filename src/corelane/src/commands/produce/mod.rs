//! `corelane produce`: a message a line, in order for each partition, in bounded memory.

mod lines;
mod progress;

use std::collections::VecDeque;

use client::{Client, Compression, Delivery, Message, Producer};
use futures_util::FutureExt;

use self::lines::Chunk;
use self::progress::Progress;
use super::error::CommandError;
use super::{Outcome, connect};
use crate::args::client::{CompressionArg, ProduceArgs};

/// Bytes of a batch: large, as a file has no one waiting for its first line.
const BATCH_BYTES: u32 = 512 * 1024;

pub fn run(args: ProduceArgs) -> Result<Outcome, CommandError> {
    let mut progress = Progress::new(args.file.as_deref());
    let result = connect::with_client(&args.server, async |client| {
        produce(&client, &args, &mut progress).await
    });
    if progress.sent > 0 || result.is_ok() {
        progress.finish();
    }
    result.map(|()| Outcome::Done)
}

async fn produce(
    client: &Client,
    args: &ProduceArgs,
    progress: &mut Progress,
) -> Result<(), CommandError> {
    // Asked for first, so that an unknown topic is said before anything is typed.
    let topic = client.topic(args.topic.as_str()).await?;
    progress.wanted = args.ack.unwrap_or(topic.config.ack);
    let mut builder = client.producer().batch_bytes(BATCH_BYTES).compression(compression(args));
    if let Some(level) = args.ack {
        builder = builder.ack(level);
    }
    let mut sender = Sender {
        producer: builder.build()?,
        topic: args.topic.as_str(),
        separator: args.key_separator.as_deref().map(str::as_bytes),
        under_way: VecDeque::new(),
        failure: None,
    };
    let mut chunks = lines::read(args.file.as_deref())?;
    let mut result = Ok(());
    while sender.failure.is_none()
        && let Some(chunk) = chunks.recv().await
    {
        result = match chunk {
            Ok(chunk) => sender.send(&chunk, progress).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            break;
        }
        sender.reap(progress);
        progress.show();
    }
    sender.finish(progress).await;
    match sender.failure {
        Some(source) => {
            Err(CommandError::NotStored { failed: progress.failed, sent: progress.sent, source })
        }
        None => result,
    }
}

struct Sender<'a> {
    producer: Producer,
    topic: &'a str,
    separator: Option<&'a [u8]>,
    /// In the order sent. The producer's buffer bounds how many there can be.
    under_way: VecDeque<Delivery>,
    /// The first message that was not stored.
    failure: Option<client::Error>,
}

impl Sender<'_> {
    async fn send(&mut self, chunk: &Chunk, progress: &mut Progress) -> Result<(), CommandError> {
        progress.read_bytes += chunk.bytes() as u64;
        for line in chunk.lines() {
            let (key, value) = split_key(line, self.separator);
            let message = Message { key, ..Message::new(self.topic).value(value) };
            self.under_way.push_back(self.producer.send(message).await?);
            progress.sent += 1;
            progress.sent_bytes += (value.len() + key.map_or(0, <[u8]>::len)) as u64;
        }
        Ok(())
    }

    /// Takes note of the deliveries that are done. It stops at the first that is not: those
    /// behind it in another partition are counted later.
    fn reap(&mut self, progress: &mut Progress) {
        while let Some(delivery) = self.under_way.front_mut() {
            let Some(result) = delivery.now_or_never() else { break };
            self.under_way.pop_front();
            self.note(result.map(|receipt| receipt.level), progress);
        }
    }

    /// Waits for all that is under way.
    async fn finish(&mut self, progress: &mut Progress) {
        // What failed, and what did not, is each delivery's to tell.
        let _ = self.producer.flush().await;
        while let Some(delivery) = self.under_way.pop_front() {
            let result = delivery.await;
            self.note(result.map(|receipt| receipt.level), progress);
        }
    }

    fn note(&mut self, result: Result<model::AckLevel, client::Error>, progress: &mut Progress) {
        match result {
            Ok(level) => progress.reached(level),
            Err(error) => {
                progress.failed += 1;
                self.failure.get_or_insert(error);
            }
        }
    }
}

/// Key and value of a line: parted by the first separator, or a value alone.
fn split_key<'a>(line: &'a [u8], separator: Option<&[u8]>) -> (Option<&'a [u8]>, &'a [u8]) {
    let found = separator.and_then(|separator| {
        let at = line.windows(separator.len()).position(|window| window == separator)?;
        Some((Some(&line[..at]), &line[at + separator.len()..]))
    });
    found.unwrap_or((None, line))
}

fn compression(args: &ProduceArgs) -> Compression {
    match args.compression {
        CompressionArg::None => Compression::None,
        CompressionArg::Lz4 => Compression::Lz4,
        CompressionArg::Zstd => Compression::Zstd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_at_the_first_separator() {
        let split = |line: &'static str, separator: Option<&str>| {
            split_key(line.as_bytes(), separator.map(str::as_bytes))
        };
        assert_eq!(split("a:b:c", Some(":")), (Some(&b"a"[..]), &b"b:c"[..]));
        assert_eq!(split(":b", Some(":")), (Some(&b""[..]), &b"b"[..]));
        assert_eq!(split("a=>b", Some("=>")), (Some(&b"a"[..]), &b"b"[..]));
        assert_eq!(split("ab", Some(":")), (None, &b"ab"[..]));
        assert_eq!(split("a:b", None), (None, &b"a:b"[..]));
    }
}
