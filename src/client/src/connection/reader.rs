//! Reads frames and hands each to whoever waits for it. Batches stay in the receive buffer: what
//! is handed on is a reference-counted slice of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{Rejection, Reply};
use protocol::{
    DELIVER_HEAD_BYTES, DeliverHead, FETCH_HEAD_BYTES, FetchHead, FrameError, FrameHeader,
    ProduceAck, kind,
};
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, MissedTickBehavior};

use super::inbox::Inbox;
use super::state::{Pending, Shared};
use crate::error::Error;

/// How often it is looked whether the server has said anything. One timer for all that comes: to set
/// one for each read would cost more than the read's own share of a busy connection.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Looks in silence after which the server is asked for a sign of life...
const SILENT_LOOKS_ASK: u32 = 3;
/// ...and after which it counts as dead.
const SILENT_LOOKS_MAX: u32 = 6;

/// Bytes of deliveries after which the reader steps back, for as long as the runtime has other tasks to run: who
/// consumes them mostly finds them in the processor's cache, and is done with the buffer when it is wanted again.
/// The answer to a fetch is one, which is waited for.
const YIELD_BYTES: usize = 64 * 1024;

/// Ends by closing the connection.
pub(super) async fn run(shared: Arc<Shared>, mut half: OwnedReadHalf, mut inbox: Inbox) {
    let error = match read_frames(&shared, &mut half, &mut inbox).await {
        Err(error) => error,
        Ok(()) => Error::lost(shared.address(), "the server closed it"),
    };
    shared.close(error);
}

async fn read_frames(
    shared: &Shared,
    half: &mut OwnedReadHalf,
    inbox: &mut Inbox,
) -> Result<(), Error> {
    let mut looks = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent_looks = 0;
    let bad = |source| Error::Protocol { address: shared.address().to_owned(), source };
    loop {
        let mut delivered_bytes = 0;
        while let Some((header, body)) = inbox.take().map_err(bad)? {
            if header.kind == kind::DELIVER {
                delivered_bytes += body.len();
            }
            dispatch(shared, &header, body).map_err(bad)?;
        }
        shared.close_if_drained();
        if delivered_bytes >= YIELD_BYTES {
            tokio::task::yield_now().await;
        }
        tokio::select! {
            biased;
            read = inbox.receive(half) => match read {
                Ok(0) => return Ok(()),
                Ok(_) => silent_looks = 0,
                Err(error) => return Err(Error::lost(shared.address(), error)),
            },
            _ = looks.tick() => {
                silent_looks += 1;
                inbox.look();
                if silent_looks == SILENT_LOOKS_ASK {
                    shared.ping();
                } else if silent_looks >= SILENT_LOOKS_MAX {
                    return Err(Error::lost(shared.address(), "the server does not answer"));
                }
            }
        }
    }
}

fn dispatch(shared: &Shared, header: &FrameHeader, body: Bytes) -> Result<(), FrameError> {
    let unexpected = FrameError::Kind { kind: header.kind };
    match header.kind {
        kind::DELIVER => {
            let head = DeliverHead::parse(&body)?;
            let in_credit = shared.deliver(head, body.slice(DELIVER_HEAD_BYTES..));
            if in_credit { Ok(()) } else { Err(unexpected) }
        }
        kind::PRODUCE_ACK => {
            let ack = ProduceAck::parse(&body)?;
            let known = shared.acknowledge(header.correlation, &ack);
            if known { Ok(()) } else { Err(unexpected) }
        }
        kind::GO_AWAY => {
            let go_away = protocol::parse_go_away(&body)?;
            tracing::info!(
                address = shared.address(),
                reason = %go_away.reason,
                "the server asks to go elsewhere: {}",
                go_away.message
            );
            shared.drain(&format!("the server asked to go elsewhere: {}", go_away.message));
            Ok(())
        }
        kind::FETCH_REPLY => match shared.take_pending(header.correlation) {
            Some(Pending::Fetch(sender)) => {
                let head = FetchHead::parse(&body)?;
                // A caller whose time ran out has stopped caring.
                let _ = sender.send(Ok((head, body.slice(FETCH_HEAD_BYTES..))));
                Ok(())
            }
            Some(_) => Err(unexpected),
            None => Ok(()),
        },
        _ => {
            let reply = protocol::decode_reply(header, &body)?;
            answer(shared, header.correlation, reply);
            Ok(())
        }
    }
}

/// Hands a reply to whoever waits; one that no one waits for any more is dropped.
fn answer(shared: &Shared, correlation: u64, reply: Reply) {
    let Some(pending) = shared.take_pending(correlation) else {
        match reply {
            // The server speaks of the connection itself and will close it.
            Reply::Rejected(rejection) if correlation == 0 => {
                shared.close(Error::lost(shared.address(), rejection));
            }
            Reply::Rejected(rejection) => shared.subscription_failed(correlation, rejection),
            _ => {}
        }
        return;
    };
    match (pending, reply) {
        (Pending::Reply(sender), reply) => drop(sender.send(Ok(reply))),
        (Pending::Subscribe { subscription }, Reply::Subscribed { offset, .. }) => {
            shared.subscribed(subscription, Ok(offset));
        }
        (Pending::Subscribe { subscription }, Reply::Rejected(rejection)) => {
            shared.subscribed(subscription, Err(rejection));
        }
        (Pending::Subscribe { subscription }, _) => {
            let message = "the server answered a subscription with another reply";
            let rejection = Rejection::new(model::ErrorCode::Malformed, message);
            shared.subscribed(subscription, Err(rejection));
        }
        (pending @ (Pending::Fetch(_) | Pending::Produce(_)), Reply::Rejected(rejection)) => {
            pending.fail(Error::Server(rejection));
        }
        (pending @ (Pending::Fetch(_) | Pending::Produce(_)), _) => {
            pending.fail(Error::lost(shared.address(), "a reply of the wrong kind"));
        }
        (Pending::Nobody, _) => {}
    }
}
