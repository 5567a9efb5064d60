//! The one interface to every broker.
//!
//! A driver is the thinnest layer over the broker's best client. Its futures stay on the thread
//! that made them; none of it knows schedules, clocks or reports.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

/// What a driver answers with, later. The pairs of lifetimes that a call borrows are joined in it.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DriverError>> + 'a>>;

/// How long a consumer waits for a message before it says that there is none.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// A broker did not do as it was asked. One sentence.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DriverError {
    #[error("cannot {doing}: {problem}")]
    Refused { doing: &'static str, problem: String },
    #[error("the consumer's stream ended")]
    Ended,
}

impl DriverError {
    /// For `map_err`: the client's own words after what was being done.
    pub fn of<E: std::fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Refused { doing, problem: error.to_string() }
    }
}

/// The messages of one request: payloads of one size, one after the other in one buffer.
#[derive(Clone, Debug)]
pub struct Messages {
    bytes: Bytes,
    size: usize,
}

impl Messages {
    /// # Panics
    /// When `bytes` is not a whole number of payloads of `size`.
    pub fn new(bytes: Bytes, size: usize) -> Self {
        assert!(size > 0 && bytes.len().is_multiple_of(size), "payloads of one size");
        Self { bytes, size }
    }

    pub fn count(&self) -> usize {
        self.bytes.len() / self.size
    }

    /// Bytes of all payloads.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Each payload as a slice that holds the buffer; nothing is copied.
    pub fn iter(&self) -> impl Iterator<Item = Bytes> + '_ {
        (0..self.count()).map(|at| self.bytes.slice(at * self.size..(at + 1) * self.size))
    }
}

/// How a connection is going to be used, so that its client can be set to the best for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Payload bytes of a message.
    pub size: usize,
    /// Messages of a request.
    pub batch: usize,
    /// Requests that may be under way on the connection.
    pub in_flight: usize,
}

impl Shape {
    /// Nothing to gather: a request is one message, and the next waits for its answer.
    pub fn is_lockstep(&self) -> bool {
        self.batch == 1 && self.in_flight == 1
    }
}

/// A broker that runs.
pub trait Broker {
    /// Makes the topics (streams, queues) of one connection, each with one ordered log that keeps
    /// all that is sent to it. Adds those that are there to `made`, for whoever stops waiting.
    fn create<'a>(&'a self, topics: &'a [String], made: &'a Cell<usize>) -> Answer<'a, ()>;

    /// Removes the topics of one connection with all their messages.
    fn remove<'a>(&'a self, topics: &'a [String]) -> Answer<'a, ()>;

    /// A producer to the topics of one connection, which is its own.
    fn producer<'a>(&'a self, topics: &'a [String], shape: Shape) -> Answer<'a, Box<dyn Producer>>;

    /// A consumer for each of the topics, from its oldest message on, with one connection for all
    /// of them.
    fn consumers<'a>(
        &'a self,
        topics: &'a [String],
        shape: Shape,
    ) -> Answer<'a, Vec<Box<dyn Consumer>>>;

    /// A consumer with a connection of its own.
    fn consumer<'a>(&'a self, topic: &'a String, shape: Shape) -> Answer<'a, Box<dyn Consumer>> {
        Box::pin(async move {
            let only = self.consumers(std::slice::from_ref(topic), shape).await?.pop();
            only.ok_or(DriverError::Ended)
        })
    }

    /// Whether a second consumer gets again what a first has read. Not so in a queue.
    fn replays(&self) -> bool {
        true
    }
}

/// Sends to the topics it was made for.
pub trait Producer {
    /// Sends the messages to the topic at `topic` among them, in order; resolves when all are
    /// acknowledged. What is polled first is sent first.
    fn send(&self, topic: usize, messages: Messages) -> Answer<'_, ()>;
}

/// Reads one topic.
pub trait Consumer {
    /// Waits for at least one message and hands each that came to `each`, in order. Returns after
    /// [`PATIENCE`] also when none came: it is not dropped before it does.
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_slices_of_their_buffer() {
        let messages = Messages::new(Bytes::from_static(b"aabbcc"), 2);
        assert_eq!(messages.count(), 3);
        let all: Vec<Bytes> = messages.iter().collect();
        assert_eq!(all, [&b"aa"[..], b"bb", b"cc"]);
        assert_eq!(all[1].as_ptr(), messages.bytes[2..].as_ptr());
    }

    #[test]
    fn only_single_messages_one_at_a_time_are_lockstep() {
        let shape = Shape { size: 1024, batch: 1, in_flight: 1 };
        assert!(shape.is_lockstep());
        assert!(!Shape { batch: 2, ..shape }.is_lockstep());
        assert!(!Shape { in_flight: 2, ..shape }.is_lockstep());
    }
}
