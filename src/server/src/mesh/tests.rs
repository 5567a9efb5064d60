//! Queues that are full on both sides, wakes, and the race between parking and sending.

use std::time::Duration;

use model::CoreId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::message::{Message, ReplyTo, ShardAnswer};

const ZERO: CoreId = CoreId(0);
const ONE: CoreId = CoreId(1);

fn pair(depth: usize) -> (MeshEnd, MeshEnd) {
    let mesh = Mesh::new(2, depth);
    let end = |core| MeshEnd::new(Arc::clone(&mesh), core, Waker::new().unwrap());
    (end(ZERO), end(ONE))
}

fn request(id: u32) -> Message {
    Message::CoreStatus { reply_to: ReplyTo::Gather { core: ZERO, id } }
}

fn answer(id: u32) -> Message {
    let reply_to = ReplyTo::Gather { core: ZERO, id };
    Message::Answer { reply_to, answer: Box::new(ShardAnswer::Described(Vec::new())) }
}

fn id_of(message: &Message) -> u32 {
    match message {
        Message::CoreStatus { reply_to: ReplyTo::Gather { id, .. } }
        | Message::Answer { reply_to: ReplyTo::Gather { id, .. }, .. } => *id,
        other => panic!("{other:?}"),
    }
}

/// The wakes written to a core since the last look.
fn wakes(end: &MeshEnd, core: CoreId) -> u64 {
    let waker = end.mesh.wakers[usize::from(core.0)].get().unwrap();
    let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut [PollFd::new(waker, PollFlags::IN)], Some(&nothing)).unwrap() == 0 {
        return 0;
    }
    let mut count = [0; 8];
    rustix::io::read(waker, &mut count).unwrap();
    u64::from_ne_bytes(count)
}

/// Waits for a wake as a parked core does. `false`: none came.
fn sleep(end: &MeshEnd, core: CoreId) -> bool {
    let waker = end.mesh.wakers[usize::from(core.0)].get().unwrap();
    let long = Timespec { tv_sec: 20, tv_nsec: 0 };
    let woken = poll(&mut [PollFd::new(waker, PollFlags::IN)], Some(&long)).unwrap() == 1;
    if woken {
        rustix::io::read(waker, &mut [0; 8]).unwrap();
    }
    woken
}

/// A small generator of its own: the same seed, the same run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn seed() -> u64 {
    let given = std::env::var("CORELANE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(0x5EED_1234);
    println!("CORELANE_SEED={seed}");
    seed
}

#[test]
fn messages_come_in_the_order_sent_also_past_a_full_queue() {
    let (mut from, mut to) = pair(1);
    let count = MESH_BATCH_MAX as u32 * 3;
    for id in 0..count {
        from.send(ONE, request(id));
    }
    let mut next = 0;
    while next < count {
        let all_out = from.flush();
        let (core, batch) = to.receive().expect("a batch");
        assert_eq!(core, ZERO);
        assert!(batch.len() <= MESH_BATCH_MAX);
        for message in &batch {
            assert_eq!(id_of(message), next);
            next += 1;
        }
        assert_eq!(all_out, next == count, "what does not fit stays");
    }
    assert!(to.receive().is_none());
}

/// Both cores ask each other for more than their queues hold, in any order of turns: every
/// request is answered, because no core waits for room before it looks at what has come in.
#[test]
fn two_full_queues_do_not_wait_for_each_other() {
    let mut random = Random(seed());
    for _ in 0..20 {
        let (zero, one) = pair(1);
        let mut ends = [zero, one];
        const EACH: u32 = 500;
        let (mut asked, mut answered) = ([0; 2], [0; 2]);
        let mut turns = 0;
        while answered != [EACH; 2] {
            turns += 1;
            assert!(turns < 100_000, "stuck with {asked:?} asked and {answered:?} answered");
            let me = random.below(2) as usize;
            let other = CoreId(1 - me as u16);
            let end = &mut ends[me];
            while let Some((core, batch)) = end.receive() {
                for message in batch {
                    if message.is_request() {
                        end.send(core, answer(id_of(&message)));
                    } else {
                        end.requests_done(core, message.answers());
                        answered[me] += 1;
                    }
                }
            }
            for _ in 0..random.below(50) {
                if asked[me] < EACH && end.has_room(other) {
                    end.send(other, request(asked[me]));
                    asked[me] += 1;
                    if random.below(4) == 0 {
                        end.flush();
                    }
                }
            }
            end.flush();
        }
        assert_eq!(ends.map(|end| end.requests), [vec![0, 0], vec![0, 0]], "every place is free");
    }
}

#[test]
fn places_are_bounded_and_come_back() {
    let (mut end, mut other) = pair(4);
    for id in 0..MESH_REQUESTS_MAX {
        assert!(end.has_room(ONE));
        end.send(ONE, request(id));
    }
    assert!(end.room_for_notice(ONE).is_err(), "nothing has left");
    while !end.flush() {
        while other.receive().is_some() {}
    }
    assert!(end.room_for_notice(ONE).is_ok());
    assert!(!end.has_room(ONE), "none is answered: the connections that feed it wait");
    assert!(end.has_room(ZERO));
    // What needs no answer holds no place.
    end.send(ONE, answer(0));
    end.requests_done(ONE, 1);
    assert!(end.has_room(ONE));
}

#[test]
fn at_most_one_wake_is_outstanding() {
    let (mut from, to) = pair(64);
    from.send(ONE, request(0));
    from.flush();
    assert_eq!(wakes(&from, ONE), 0, "an awake core is not woken");
    assert!(!to.park(), "something has come in: no sleep");

    let (mut from, to) = pair(64);
    assert!(to.park());
    for id in 0..10 {
        from.send(ONE, request(id));
        from.flush();
    }
    assert_eq!(wakes(&from, ONE), 1);
    to.unpark();
    from.send(ONE, request(10));
    from.flush();
    assert_eq!(wakes(&from, ONE), 0);
}

/// A receiver that parks whenever it finds nothing, a sender that sends at any moment: no message
/// is left lying while the receiver sleeps.
#[test]
fn nothing_is_missed_between_the_last_look_and_the_sleep() {
    let seed = seed();
    for round in 0..4 {
        let (mut from, mut to) = pair(8);
        let count = 20_000;
        let sender = std::thread::spawn(move || {
            let mut random = Random(seed.wrapping_add(round) | 1);
            let mut id = 0;
            while id < count {
                for _ in 0..=random.below(3) {
                    from.send(ONE, request(id));
                    id += 1;
                }
                while !from.flush() {
                    std::thread::yield_now();
                }
                match random.below(64) {
                    0 => std::thread::sleep(Duration::from_micros(random.below(50))),
                    pause => (0..pause).for_each(|_| std::hint::spin_loop()),
                }
            }
            id
        });
        let mut next = 0;
        while next < count {
            match to.receive() {
                Some((_, batch)) => {
                    for message in &batch {
                        assert_eq!(id_of(message), next);
                        next += 1;
                    }
                }
                None if to.park() => {
                    assert!(sleep(&to, ONE), "asleep with messages waiting, after {next}");
                    to.unpark();
                }
                None => {}
            }
        }
        assert!(sender.join().unwrap() >= count);
    }
}

#[test]
fn what_has_no_answer_is_bounded_as_well() {
    let (mut end, _other) = pair(1);
    // No one takes them: one batch fits the queue, the rest stays.
    for _ in 0..2 {
        while end.room_for_notice(ONE).is_ok() {
            end.send(ONE, answer(0));
        }
        assert!(!end.flush());
    }
    assert_eq!(end.room_for_notice(ONE), Err(Stall::Mesh(ONE)));
    assert!(!end.has_room(ONE), "requests wait behind it");
    assert!(end.room_for_notice(ZERO).is_ok());
}
