//! Both sides in one process, and a listener that meets strangers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::wire::{Request, Work};
use super::*;

/// Runs `client` against a listener of its own; gives what the listener said.
fn with_listener(client: impl FnOnce(SocketAddr)) -> Vec<Event> {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.address().unwrap();
    let stop = AtomicBool::new(false);
    let (told, events) = mpsc::channel();
    std::thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            listener.serve(stop, &mut |event| told.send(event).unwrap()).unwrap();
        });
        client(address);
        stop.store(true, Ordering::Relaxed);
    });
    events.iter().collect()
}

#[test]
fn all_four_phases_give_figures() {
    let bounds = PeerBounds { phase_time: Duration::from_millis(20) };
    let mut phases = Vec::new();
    let events = with_listener(|address| {
        let never = AtomicBool::new(false);
        let figures =
            measure_peer(address, &bounds, &never, &mut |done, _| phases.push(done)).unwrap();
        assert!(figures.round_trip_64b_us.p50 > 0.0 && figures.round_trip_1k_us.p50 > 0.0);
        assert!(figures.stream_out_bytes_per_s > 0.0 && figures.stream_in_bytes_per_s > 0.0);
        assert!(!figures.interrupted);
        let stopped = AtomicBool::new(true);
        let partial = measure_peer(address, &bounds, &stopped, &mut |_, _| {}).unwrap();
        assert!(partial.interrupted && partial.stream_out_bytes_per_s == 0.0);
    });
    assert_eq!(phases, [0, 1, 2, 3, 4]);
    assert_eq!(events.len(), 5, "{events:?}");
    assert!(events.iter().all(|event| matches!(event, Event::Served { .. })), "{events:?}");
}

#[test]
fn strangers_are_refused_and_the_next_is_served() {
    let events = with_listener(|address| {
        let say = |bytes: &[u8]| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(bytes).unwrap();
            let mut answer = Vec::new();
            // Closed, with or without a reset.
            let _ = stream.read_to_end(&mut answer);
            assert_eq!(answer, [0u8; 0]);
        };
        say(b"GET / HTTP/1.1\r\n\r\n");
        let good = Request { work: Work::Echo, message_bytes: 64 }.to_bytes();
        for (at, value) in [(8, 2), (9, 9), (10, 1), (15, 0xFF)] {
            let mut bad = good;
            bad[at] = value;
            say(&bad);
        }
        drop(TcpStream::connect(address).unwrap());
        let bounds = PeerBounds { phase_time: Duration::ZERO };
        measure_peer(address, &bounds, &AtomicBool::new(false), &mut |_, _| {}).unwrap();
    });
    let refused = events.iter().filter(|event| matches!(event, Event::Refused { .. })).count();
    assert_eq!((refused, events.len()), (6, 10), "{events:?}");
}

#[test]
fn requests_round_trip() {
    for work in [Work::Echo, Work::Take, Work::Send] {
        let request = Request { work, message_bytes: 1024 };
        assert_eq!(Request::parse(&request.to_bytes()), Ok(request));
    }
    let empty = Request { work: Work::Echo, message_bytes: 0 }.to_bytes();
    assert!(Request::parse(&empty).is_err());
}

#[test]
fn nobody_and_somebody_else_are_told_apart() {
    let measure = |address| {
        let bounds = PeerBounds { phase_time: Duration::ZERO };
        measure_peer(address, &bounds, &AtomicBool::new(false), &mut |_, _| {}).unwrap_err()
    };
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = socket.accept().unwrap();
        let _ = stream.write_all(b"220 mail ready\r\n");
    });
    assert!(matches!(measure(address), PeerTestError::NotAListener { .. }));
    other.join().unwrap();
    assert!(measure(address).to_string().contains("--listen"));
}
