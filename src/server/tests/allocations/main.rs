//! Steady publishing and reading makes no heap allocation per message: what is left is a few for each
//! block, send and fetch, and those have a bound here.
//!
//! The server runs in this process on a real ring and a real disk, under an allocator that counts
//! what all threads do; the clients here allocate nothing while it counts.

mod load;
mod server;

use load::{Publisher, Reader};
use model::AckLevel;
use server::Server;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Messages while it counts, where many are under way.
const MESSAGES: u64 = 10_000;
/// The same where each waits for the one before it: every one is then a block and a send.
const MESSAGES_ALONE: u64 = 500;
/// Of a message among many.
const ALLOCATIONS_PER_MESSAGE_MAX: f64 = 0.1;
/// Of a block written, acknowledged and delivered.
const ALLOCATIONS_PER_BLOCK_MAX: f64 = 4.0;
/// Of a fetch: its request, its reader and its answer.
const ALLOCATIONS_PER_FETCH_MAX: f64 = 15.0;
const MESSAGES_PER_FETCH: f64 = 37.0;

/// Allocations of the whole process while `work` runs.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = dhat::HeapStats::get().total_blocks;
    work();
    dhat::HeapStats::get().total_blocks - before
}

fn check(found: &mut Vec<String>, what: &str, count: u64, messages: u64, max: f64) {
    let each = count as f64 / messages as f64;
    println!("{what}: {count} allocations for {messages} messages, {each:.3} each");
    if each > max {
        found.push(format!("{what}: {each:.3} for each message, more than {max}"));
    }
}

/// How many messages, and what each may cost.
fn terms(in_flight: u64) -> (u64, f64) {
    match in_flight {
        1 => (MESSAGES_ALONE, ALLOCATIONS_PER_BLOCK_MAX),
        _ => (MESSAGES, ALLOCATIONS_PER_MESSAGE_MAX),
    }
}

/// One test, since all threads of the process count.
#[test]
fn no_message_costs_an_allocation_of_its_own() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let server = Server::start();
    let mut found = Vec::new();

    let mut publisher = Publisher::connect(&server, "published");
    for (what, level, in_flight) in [
        ("durable, one in flight", AckLevel::Durable, 1),
        ("durable, 64 in flight", AckLevel::Durable, 64),
        ("memory, one in flight", AckLevel::Memory, 1),
        ("memory, 64 in flight", AckLevel::Memory, 64),
    ] {
        let (messages, max) = terms(in_flight);
        publisher.publish(level, messages, in_flight);
        let count = allocations(|| publisher.publish(level, messages, in_flight));
        check(&mut found, &format!("publish, {what}"), count, messages, max);
    }

    let mut reader = Reader::connect(&server, "published");
    reader.subscribe();
    reader.take(publisher.published());
    for in_flight in [1, 64] {
        let mut follow = |messages: u64| {
            for _ in 0..messages / in_flight {
                publisher.publish(AckLevel::Durable, in_flight, in_flight);
                reader.take(in_flight);
            }
        };
        let (messages, max) = terms(in_flight);
        follow(messages);
        let count = allocations(|| follow(messages));
        check(&mut found, &format!("deliver, {in_flight} at a time"), count, messages, max);
    }

    let mut reader = Reader::connect(&server, "published");
    reader.fetch(MESSAGES);
    let count = allocations(|| reader.fetch(MESSAGES));
    let max = ALLOCATIONS_PER_FETCH_MAX / MESSAGES_PER_FETCH;
    check(&mut found, "fetch, some at a time", count, MESSAGES, max);

    server.stop();
    assert!(found.is_empty(), "{found:#?}");
}
