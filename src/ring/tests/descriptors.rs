//! What happens without descriptors. The only test of its process, because the limit is shared.

mod common;

use std::os::fd::AsRawFd;

use common::*;
use corelane_ring::Completion;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn accept_reports_that_descriptors_are_out_and_goes_on_when_asked() {
    let mut ring = ring();
    let (listener, address) = listener();
    let (near, spare) = pair();
    let limit = getrlimit(Resource::Nofile);
    // The client of the next connection takes the last descriptor.
    let client = std::net::TcpListener::bind("127.0.0.1:0").expect("a probe");
    let next_fd = client.as_raw_fd() as u64;
    drop(client);
    let low = Rlimit { current: Some(next_fd + 1), ..limit };
    setrlimit(Resource::Nofile, low).expect("lower the limit");
    // The kernel notes the limit when it takes the accept.
    ring.accept(1, listener.as_raw_fd());
    ring.submit().expect("submit");
    let client = connect(address);
    match next(&mut ring) {
        Completion::AcceptFailed { token: 1, error } => {
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        }
        other => panic!("unexpected {other:?}"),
    }
    assert_eq!(ring.in_flight(), 0, "not tried again unasked");
    drop((near, spare));
    setrlimit(Resource::Nofile, limit).expect("raise the limit");
    ring.accept(2, listener.as_raw_fd());
    assert!(matches!(next(&mut ring), Completion::Accepted { token: 2, .. }));
    drop(client);
}
