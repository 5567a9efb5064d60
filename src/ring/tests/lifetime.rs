//! Waking, dropping, and the executor.

mod common;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use corelane_ring::{AlignedBuffer, Completion, Ring, RingConfig, RingError};
use glommio::{LocalExecutorBuilder, Placement};
use rustix::event::{EventfdFlags, eventfd};

#[test]
fn this_machine_has_what_is_needed() {
    corelane_ring::probe().expect("io_uring");
    let bad = RingConfig { receive_buffers: 7, ..RingConfig::default() };
    let error = Ring::new(&bad).err().expect("refused");
    assert!(matches!(&error, RingError::Config { option: "receive_buffers", .. }), "{error}");
}

#[test]
fn a_timeout_ends_a_wait() {
    let mut ring = ring();
    ring.wait(Some(Duration::from_millis(1))).expect("wait");
    assert!(ring.next().is_none());
}

#[test]
fn an_eventfd_wakes_from_another_thread() {
    for flags in [EventfdFlags::CLOEXEC, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK] {
        let fd = Arc::new(eventfd(0, flags).expect("eventfd"));
        let back = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd"));
        let mut ring = ring();
        ring.watch_eventfd(5, fd.as_raw_fd());
        let writer = {
            let (fd, back) = (fd.clone(), back.clone());
            std::thread::spawn(move || {
                for _ in 0..100 {
                    write_eventfd(&fd);
                    write_eventfd(&fd);
                    rustix::io::read(&*back, &mut [0; 8]).expect("read");
                }
            })
        };
        let mut wakes = 0;
        while !writer.is_finished() {
            ring.wait(Some(Duration::from_millis(5))).expect("wait");
            while let Some(completion) = ring.next() {
                assert!(matches!(completion, Completion::Woken { token: 5 }));
                wakes += 1;
                write_eventfd(&back);
            }
        }
        writer.join().expect("the writer");
        assert!((50..=200).contains(&wakes), "{wakes} wakes for 200 writes");
        ring.cancel_socket(fd.as_raw_fd());
        loop {
            match next(&mut ring) {
                Completion::Woken { token: 5 } => {}
                Completion::Done { token: 5, result: Err(_) } => break,
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

#[test]
fn a_ring_drops_with_everything_in_flight() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = std::fs::File::create_new(folder.path().join("f")).expect("create");
    let reader = std::fs::File::open(folder.path().join("f")).expect("open");
    for submitted in [false, true] {
        let mut ring = Ring::new(&config(2, 64)).expect("a ring");
        let pairs: Vec<_> = (0..60).map(|_| pair()).collect();
        let (listener, _) = listener();
        let wake = eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd");
        ring.accept(0, listener.as_raw_fd());
        ring.watch_eventfd(0, wake.as_raw_fd());
        for (near, far) in &pairs {
            (&mut &*near).write_all(&[3; 1000]).expect("write");
            ring.receive(1, far.as_raw_fd());
            ring.send(2, near.as_raw_fd(), Bytes::from(vec![1; 8 << 20]).into());
        }
        ring.write_at(3, file.as_raw_fd(), 0, Bytes::from(vec![1; 4 << 20]));
        ring.fdatasync(3, file.as_raw_fd());
        ring.read_at(4, reader.as_raw_fd(), 0, AlignedBuffer::new(4 << 20));
        let mut held = Vec::new();
        if submitted {
            for _ in 0..5 {
                ring.submit().expect("submit");
                while let Some(completion) = ring.next() {
                    if let Completion::Received { data, .. } = completion {
                        held.push(data);
                    }
                }
            }
            assert!(!held.is_empty());
        }
        drop(ring);
        // Buffers outlive the ring.
        assert!(held.iter().all(|data| data.iter().all(|byte| *byte == 3)));
    }
}

#[test]
fn a_glommio_task_parks_on_the_ring() {
    ping_pong_in_glommio(config(8, 4096));
}

#[test]
fn a_glommio_task_parks_on_a_starved_ring() {
    ping_pong_in_glommio(config(1, 64));
}

#[test]
fn a_parked_task_is_woken_by_another_task() {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 << 10)
        .ring_depth(64)
        .spawn(|| async move {
            let mut ring = ring();
            let parker = Rc::new(ring.parker().expect("a parker"));
            for _ in 0..100 {
                let waker = parker.clone();
                let task = glommio::spawn_local(async move {
                    glommio::executor().yield_task_queue_now().await;
                    waker.wake();
                });
                parker.wait().await.expect("park");
                task.await;
                // Cuts a wait short; the next one loses nothing by it.
                drop(Box::pin(parker.wait()));
            }
        })
        .expect("an executor");
    executor.join().expect("the executor");
}

/// Four clients in lockstep with an echo server that parks.
fn ping_pong_in_glommio(config: RingConfig) {
    const ROUNDS: usize = 500;
    const CLIENTS: usize = 4;
    const TOTAL: usize = CLIENTS * ROUNDS * 64;
    let (listener, address) = listener();
    let server = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 << 10)
        .ring_depth(64)
        .spawn(move || async move {
            let ring = Rc::new(RefCell::new(Ring::new(&config).expect("a ring")));
            let parker = ring.borrow_mut().parker().expect("a parker");
            assert!(ring.borrow_mut().parker().is_err(), "one parker per ring");
            let mut echo = Echo::default();
            let stop = eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd");
            {
                let mut ring = ring.borrow_mut();
                ring.accept(ACCEPT, listener.as_raw_fd());
                ring.watch_eventfd(STOP, stop.as_raw_fd());
            }
            let mut received = 0;
            'serve: loop {
                ring.borrow_mut().submit().expect("submit");
                loop {
                    let mut ring = ring.borrow_mut();
                    let Some(completion) = ring.next() else { break };
                    if let Completion::Received { data, .. } = &completion {
                        received += data.len();
                        if received == TOTAL {
                            // The task wakes itself through the ring, and then ends.
                            write_eventfd(&stop);
                        }
                    }
                    if !echo.handle(&mut ring, completion) {
                        break 'serve;
                    }
                }
                glommio::yield_if_needed().await;
                parker.wait().await.expect("park");
            }
            // Answer what is still queued.
            while ring.borrow().in_flight() > 2 {
                ring.borrow_mut().wait(Some(Duration::from_millis(10))).expect("wait");
                loop {
                    let mut ring = ring.borrow_mut();
                    let Some(completion) = ring.next() else { break };
                    echo.handle(&mut ring, completion);
                }
            }
            received
        })
        .expect("an executor");
    let clients: Vec<_> = (0..CLIENTS as u8)
        .map(|seed| {
            std::thread::spawn(move || {
                let mut stream = connect(address);
                for round in 0..ROUNDS {
                    let ping = [seed.wrapping_add(round as u8); 64];
                    let mut pong = [0; 64];
                    stream.write_all(&ping).expect("write");
                    stream.read_exact(&mut pong).expect("read");
                    assert_eq!(ping, pong);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client");
    }
    assert_eq!(server.join().expect("the server"), TOTAL);
}
