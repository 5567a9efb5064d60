//! Reads frames and hands each to whoever waits for it. Batches stay in the receive buffer: what
//! is handed on is a reference-counted slice of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::{Rejection, Reply};
use protocol::{
    DELIVER_HEAD_BYTES, DeliverHead, FETCH_HEAD_BYTES, FetchHead, FrameError, FrameHeader,
    ProduceAck, kind,
};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::timeout;

use super::state::{Pending, Shared};
use super::take_frame;
use crate::error::Error;

/// Silence after which the server is asked for a sign of life; the same again without one, and it
/// counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Ends by closing the connection.
pub(super) async fn run(shared: Arc<Shared>, mut half: OwnedReadHalf, mut buffer: BytesMut) {
    let error = match read_frames(&shared, &mut half, &mut buffer).await {
        Err(error) => error,
        Ok(()) => Error::lost(shared.address(), "the server closed it"),
    };
    shared.close(error);
}

async fn read_frames(
    shared: &Shared,
    half: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
) -> Result<(), Error> {
    let mut asked = false;
    loop {
        while let Some((header, body)) = take_frame(buffer, shared.address())? {
            dispatch(shared, &header, body).map_err(|source| Error::Protocol {
                address: shared.address().to_owned(),
                source,
            })?;
        }
        shared.close_if_drained();
        match timeout(SILENCE_MAX, half.read_buf(buffer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(_)) => asked = false,
            Ok(Err(error)) => return Err(Error::lost(shared.address(), error)),
            Err(_) if asked => {
                return Err(Error::lost(shared.address(), "the server does not answer"));
            }
            Err(_) => {
                asked = true;
                shared.ping();
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
