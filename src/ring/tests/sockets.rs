//! Sockets against the real kernel: echo, starvation, cancel, reset, vectored sends.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use common::*;
use corelane_ring::{Completion, Ring, RingConfig, SendParts};

#[test]
fn echoes_many_connections_and_odd_sizes() {
    let mut random = Random::new();
    let server = EchoThread::start(config(32, 4096), false);
    let streams: Vec<_> = (0..200).map(|_| connect(server.address)).collect();
    let sizes = [1, 2, 63, 64, 65, 4095, 4096, 4097, 65_537, 300_001];
    for stream in &streams {
        let len = sizes[random.below(sizes.len())];
        exchange(stream, &random.bytes(len)).expect("echo");
    }
    for stream in &streams {
        stream.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!((&mut &*stream).read(&mut [0; 8]).expect("read"), 0, "closed after the echo");
    }
}

#[test]
fn queues_far_too_small_lose_nothing() {
    for entries in [1, 2] {
        let config = RingConfig { entries, receive_buffers: 8, receive_buffer_bytes: 256 };
        let server = EchoThread::start(config, true);
        std::thread::scope(|scope| {
            for seed in 0..40u8 {
                let address = server.address;
                scope.spawn(move || {
                    let stream = connect(address);
                    exchange(&stream, &vec![seed; 20_000]).expect("echo");
                });
            }
        });
    }
}

#[test]
fn two_buffers_serve_fifty_connections() {
    for hold_buffers in [false, true] {
        let server = EchoThread::start(config(2, 1024), hold_buffers);
        std::thread::scope(|scope| {
            for seed in 0..50u8 {
                let address = server.address;
                scope.spawn(move || {
                    let stream = connect(address);
                    let data: Vec<u8> = (0..40_000).map(|i| (i as u8).wrapping_mul(seed)).collect();
                    exchange(&stream, &data).expect("echo");
                });
            }
        });
    }
}

#[test]
fn buffers_dropped_on_another_thread_come_back() {
    let mut ring = Ring::new(&config(2, 512)).expect("a ring");
    let (mut near, far) = pair();
    let total = 100_000;
    ring.receive(1, far.as_raw_fd());
    let writer = std::thread::spawn(move || {
        near.write_all(&vec![5; total]).expect("write");
        near
    });
    let (give, take) = std::sync::mpsc::channel::<Bytes>();
    let dropper = std::thread::spawn(move || {
        take.into_iter().map(|data| data.iter().filter(|byte| **byte == 5).count()).sum::<usize>()
    });
    let mut seen = 0;
    while seen < total {
        match next(&mut ring) {
            Completion::Received { token: 1, data } => {
                seen += data.len();
                give.send(data.freeze()).expect("the dropper lives");
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    drop(give);
    assert_eq!(dropper.join().expect("the dropper"), total);
    drop(writer.join().expect("the writer"));
    assert!(matches!(next(&mut ring), Completion::ReceiveEnded { token: 1, error: None }));
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn a_blocked_ring_wakes_when_another_thread_returns_a_buffer() {
    let mut ring = Ring::new(&config(1, 64)).expect("a ring");
    let (mut near, far) = pair();
    near.write_all(&[1; 128]).expect("write");
    ring.receive(1, far.as_raw_fd());
    let Completion::Received { data: held, .. } = next(&mut ring) else { panic!("no data") };
    // Starved now: nothing may be reported while the only buffer is held.
    for _ in 0..20 {
        ring.wait(Some(Duration::from_millis(1))).expect("wait");
        assert!(ring.next().is_none());
    }
    let holder = std::thread::spawn(move || drop(held));
    let Completion::Received { data, .. } = next(&mut ring) else { panic!("no data") };
    assert_eq!(&data[..], &[1; 64]);
    holder.join().expect("the holder");
}

#[test]
fn sends_three_thousand_parts_to_a_slow_reader() {
    let mut ring = ring();
    let (near, mut far) = pair();
    let parts: SendParts =
        (0..3000u32).map(|i| Bytes::from(vec![i as u8; 1 + (i as usize * 7) % 3000])).collect();
    let expected: Vec<u8> = (0..3000u32)
        .flat_map(|i| std::iter::repeat_n(i as u8, 1 + (i as usize * 7) % 3000))
        .collect();
    let total = parts.len_bytes();
    ring.send(9, near.as_raw_fd(), parts);
    ring.submit().expect("submit");
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        let mut piece = [0; 7001];
        loop {
            match far.read(&mut piece).expect("read") {
                0 => return got,
                len => got.extend_from_slice(&piece[..len]),
            }
            std::thread::yield_now();
        }
    });
    match next(&mut ring) {
        Completion::Sent { token: 9, result: Ok(()), bytes } => assert_eq!(bytes, total),
        other => panic!("unexpected {other:?}"),
    }
    drop(near);
    assert!(reader.join().expect("the reader") == expected);
}

#[test]
fn an_empty_send_is_reported() {
    let mut ring = ring();
    let (near, _far) = pair();
    ring.send(3, near.as_raw_fd(), SendParts::new());
    assert!(matches!(next(&mut ring), Completion::Sent { token: 3, result: Ok(()), bytes: 0 }));
}

#[test]
fn cancel_ends_every_operation_of_the_socket_and_no_other() {
    let mut ring = ring();
    let (near, far) = pair();
    let (mut other_near, other_far) = pair();
    let (listener, _) = listener();
    ring.receive(1, near.as_raw_fd());
    ring.send(2, near.as_raw_fd(), Bytes::from(vec![0; 64 << 20]).into());
    ring.accept(3, listener.as_raw_fd());
    ring.receive(4, other_far.as_raw_fd());
    ring.submit().expect("submit");
    assert_eq!(ring.in_flight(), 4);
    ring.cancel_socket(near.as_raw_fd());
    ring.cancel_socket(listener.as_raw_fd());
    let mut ended = [false; 3];
    for _ in 0..3 {
        match next(&mut ring) {
            Completion::ReceiveEnded { token: 1, error: Some(error) } => {
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                ended[0] = true;
            }
            Completion::Sent { token: 2, result: Err(error), bytes } => {
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                assert!(bytes < 64 << 20);
                ended[1] = true;
            }
            Completion::AcceptFailed { token: 3, error } => {
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                ended[2] = true;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!((ended, ring.in_flight()), ([true; 3], 1));
    other_near.write_all(b"still here").expect("write");
    assert!(
        matches!(next(&mut ring), Completion::Received { token: 4, data } if &data[..] == b"still here")
    );
    // The socket itself is as usable as before.
    drop(far);
    ring.receive(5, near.as_raw_fd());
    assert!(matches!(next(&mut ring), Completion::ReceiveEnded { token: 5, .. }));
}

#[test]
fn cancel_ends_a_starved_receive() {
    let mut ring = Ring::new(&config(1, 64)).expect("a ring");
    let (mut near, far) = pair();
    near.write_all(&[1; 128]).expect("write");
    ring.receive(1, far.as_raw_fd());
    let Completion::Received { data: held, .. } = next(&mut ring) else { panic!("no data") };
    ring.wait(Some(Duration::from_millis(1))).expect("wait");
    assert!(ring.next().is_none());
    ring.cancel_socket(far.as_raw_fd());
    match next(&mut ring) {
        Completion::ReceiveEnded { token: 1, error: Some(error) } => {
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        }
        other => panic!("unexpected {other:?}"),
    }
    assert_eq!(ring.in_flight(), 0);
    drop(held);
    ring.receive(2, far.as_raw_fd());
    assert!(matches!(next(&mut ring), Completion::Received { token: 2, .. }));
}

#[test]
fn a_reset_is_an_error_and_a_close_is_none() {
    let mut ring = ring();
    let (near, far) = pair();
    ring.receive(1, far.as_raw_fd());
    ring.submit().expect("submit");
    rustix::net::sockopt::set_socket_linger(&near, Some(Duration::ZERO)).expect("linger");
    drop(near);
    match next(&mut ring) {
        Completion::ReceiveEnded { token: 1, error: Some(error) } => {
            assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        }
        other => panic!("unexpected {other:?}"),
    }
    ring.send(2, far.as_raw_fd(), Bytes::from_static(b"gone").into());
    match next(&mut ring) {
        Completion::Sent { token: 2, result: Err(error), bytes: 0 } => {
            assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        }
        other => panic!("unexpected {other:?}"),
    }
    let (near, far) = pair();
    ring.receive(3, far.as_raw_fd());
    drop(near);
    assert!(matches!(next(&mut ring), Completion::ReceiveEnded { token: 3, error: None }));
}

#[test]
fn a_paused_socket_is_silent_and_loses_nothing() {
    let mut random = Random::new();
    let mut ring = Ring::new(&config(4, 256)).expect("a ring");
    let (mut near, far) = pair();
    let data = random.bytes(200_000);
    let sent = data.clone();
    let writer = std::thread::spawn(move || near.write_all(&sent).map(|()| near));
    let socket = far.as_raw_fd();
    let mut got = Vec::new();
    let (mut token, mut held) = (1, Vec::new());
    ring.receive(token, socket);
    while got.len() < data.len() {
        match next(&mut ring) {
            Completion::Received { token: of, data } => {
                assert!(of <= token);
                got.extend_from_slice(&data);
                held.push(data);
                // Of four buffers at least one is always free.
                held.truncate(random.below(4));
            }
            other => panic!("unexpected {other:?}"),
        }
        // Any mix of pausing and resuming, with and without the kernel in between.
        for _ in 0..random.below(4) {
            ring.pause_receive(socket);
            if random.below(2) == 0 {
                ring.submit().expect("submit");
            }
            token += 1;
            ring.receive(token, socket);
        }
        if random.below(8) == 0 {
            ring.pause_receive(socket);
            held.clear();
            // What was on its way comes, then nothing.
            while ring.in_flight() > 0 {
                ring.wait(Some(Duration::from_millis(10))).expect("wait");
                while let Some(completion) = ring.next() {
                    let Completion::Received { data, .. } = completion else { panic!("ended") };
                    got.extend_from_slice(&data);
                }
            }
            ring.receive(token, socket);
        }
    }
    assert!(got == data);
    drop(writer.join().expect("the writer"));
    held.clear();
    assert!(matches!(next(&mut ring), Completion::ReceiveEnded { error: None, .. }));
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn close_cancels_what_is_in_flight() {
    let mut ring = ring();
    let (near, mut far) = pair();
    let near = OwnedFd::from(near);
    ring.receive(1, near.as_raw_fd());
    ring.submit().expect("submit");
    ring.close(2, near);
    let (mut ended, mut closed) = (false, false);
    while !(ended && closed) {
        match next(&mut ring) {
            Completion::ReceiveEnded { token: 1, error: Some(_) } => ended = true,
            Completion::Done { token: 2, result } => closed = result.is_ok(),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(far.read(&mut [0; 1]).expect("read"), 0);
}

#[test]
fn bad_descriptors_are_errors() {
    let mut ring = ring();
    for fd in [-1, 999_999, i32::MAX] {
        ring.receive(1, fd);
        assert!(matches!(next(&mut ring), Completion::ReceiveEnded { error: Some(_), .. }));
        ring.accept(1, fd);
        assert!(matches!(next(&mut ring), Completion::AcceptFailed { .. }));
        ring.send(1, fd, Bytes::from_static(b"x").into());
        assert!(matches!(next(&mut ring), Completion::Sent { result: Err(_), .. }));
        ring.watch_eventfd(1, fd);
        assert!(matches!(next(&mut ring), Completion::Done { result: Err(_), .. }));
        ring.pause_receive(fd);
        ring.cancel_socket(fd);
    }
    ring.submit().expect("submit");
    assert!(ring.next().is_none());
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn nonblocking_sockets_work_as_well() {
    let mut ring = ring();
    let (listener, address) = listener();
    listener.set_nonblocking(true).expect("nonblocking");
    ring.accept(1, listener.as_raw_fd());
    ring.submit().expect("submit");
    let mut near = connect(address);
    let Completion::Accepted { socket, .. } = next(&mut ring) else { panic!("no connection") };
    let far = std::net::TcpStream::from(socket);
    far.set_nonblocking(true).expect("nonblocking");
    ring.receive(2, far.as_raw_fd());
    ring.submit().expect("submit");
    near.write_all(b"hello").expect("write");
    assert!(matches!(next(&mut ring), Completion::Received { data, .. } if &data[..] == b"hello"));
    let len = 16 << 20;
    ring.send(3, far.as_raw_fd(), Bytes::from(vec![1; len]).into());
    ring.submit().expect("submit");
    let reader = std::thread::spawn(move || near.read_exact(&mut vec![0; len]).map(|()| near));
    assert!(matches!(next(&mut ring), Completion::Sent { token: 3, result: Ok(()), .. }));
    reader.join().expect("the reader").expect("all bytes");
}

#[test]
fn more_operations_than_queue_entries() {
    let mut ring = ring();
    let streams: Vec<_> = (0..100).map(|_| pair()).collect();
    for round in 0..20u8 {
        for (token, (near, far)) in streams.iter().enumerate() {
            ring.send(token as u64, near.as_raw_fd(), Bytes::from(vec![round; 10]).into());
            ring.receive(1000 + token as u64, far.as_raw_fd());
        }
        let (mut sent, mut received) = (0, 0);
        while sent < streams.len() || received < streams.len() * 10 {
            match next(&mut ring) {
                Completion::Sent { result: Ok(()), .. } => sent += 1,
                Completion::Received { data, .. } => received += data.len(),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}
