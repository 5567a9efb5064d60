//! Reading back what a produce run has sent: whether all that was acknowledged is there.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bench::ledger::Verdict;

use super::consume::{Ended, Expected, Reader, Wanted};
use super::produce::{Sent, Tally};
use super::{Run, RunError, messages_of_topics, task};
use crate::driver::Shape;

/// Longest time that it goes on for.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Messages asked for at once, at least.
const BATCH: usize = 100;
/// Topics that are subscribed to at once, on each connection.
const TOPICS_AT_ONCE: usize = 100;

/// The verdict on what came, and how much of what was sent that is, when it is not all.
pub async fn read_back(
    run: &Run<'_>,
    sent: &[Sent],
    tally: &Rc<RefCell<Tally>>,
) -> Result<(Verdict, Option<String>), RunError> {
    let until_ns = run.clock.now_ns() + TIME_MAX.as_nanos() as u64;
    let mut reads = Vec::new();
    for (at, (topics, sent)) in run.topics.iter().zip(sent).enumerate() {
        let shape = Shape { batch: run.workload.shape.batch.max(BATCH), ..run.workload.shape };
        let first = (at * topics.len()) as u32;
        let of_topics: Vec<(u32, String, u64)> = (first..)
            .zip(topics)
            .zip(&sent.messages)
            .map(|((number, topic), messages)| (number, topic.clone(), *messages))
            .collect();
        let (broker, clock, tally) = (run.broker.clone(), run.clock, tally.clone());
        reads.push(task::spawn(async move {
            let (mut verdict, mut whole) = (Verdict::default(), 0);
            for some in of_topics.chunks(TOPICS_AT_ONCE) {
                let names: Vec<String> = some.iter().map(|(_, name, _)| name.clone()).collect();
                let consumers = broker.consumers(&names, shape).await?;
                for (consumer, (number, _, messages)) in consumers.into_iter().zip(some) {
                    let messages = Cell::new(Some(*messages));
                    let expected = Rc::new(Expected { producer: *number, messages });
                    let mut reader = Reader::new(consumer, expected, clock);
                    let ended = reader.read(Wanted::Nothing, until_ns, &tally).await?;
                    verdict.add(&reader.close(ended));
                    match ended {
                        Ended::Read => whole += 1,
                        Ended::Late => return Ok((verdict, whole)),
                    }
                }
            }
            Ok::<_, RunError>((verdict, whole))
        }));
    }
    let (mut verdict, mut whole) = (Verdict::default(), 0);
    for read in reads {
        let (of_connection, whole_of_connection) = read.await??;
        verdict.add(&of_connection);
        whole += whole_of_connection;
    }
    let all: u64 = messages_of_topics(sent).sum();
    let topics: usize = run.topics.iter().map(Vec::len).sum();
    let note = match verdict.checked < all {
        _ if run.workload.has_many_topics() => Some(format!(
            "{} of {all} messages were read back and checked, {whole} of {topics} topics to their end",
            verdict.checked
        )),
        true => Some(format!("{} of {all} messages were read back and checked", verdict.checked)),
        false => None,
    };
    Ok((verdict, note))
}
