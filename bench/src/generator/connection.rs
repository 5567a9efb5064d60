//! One connection of the load: its role, what has arrived in part, and what is being sent.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use bytes::Bytes;
use model::Reply;
use protocol::{ProduceAck, kind};
use ring::{Ring, SendParts};

use crate::error::BenchError;
use crate::generator::consumer::Consumer;
use crate::generator::inbound::Inbound;
use crate::generator::producer::{Acknowledged, Producer};
use crate::generator::tally::{Interval, Tally};
use crate::record::Latencies;
use crate::wire;

/// What a connection does.
#[derive(Debug)]
pub enum Role {
    Producer(Producer),
    Consumer(Consumer),
}

#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    pub role: Role,
    inbound: Inbound,
    /// Small frames (subscriptions, credit) for the next send.
    out: Vec<u8>,
    /// A send is under way; there is one at a time.
    sending: bool,
    /// It is in the list of those to be looked at after this round.
    pub listed: bool,
    last_delivery_ns: Option<u64>,
}

impl Connection {
    pub fn new(socket: TcpStream, role: Role) -> Self {
        let (inbound, out) = (Inbound::default(), Vec::new());
        let (sending, listed, last_delivery_ns) = (false, false, None);
        Self { socket, role, inbound, out, sending, listed, last_delivery_ns }
    }

    /// Starts receiving, and queues a consumer's subscriptions.
    pub fn open(&mut self, token: u64, ring: &mut Ring) -> Result<(), BenchError> {
        ring.receive(token, self.socket.as_raw_fd());
        match &mut self.role {
            Role::Consumer(consumer) => consumer.subscribe_all(&mut self.out),
            Role::Producer(_) => Ok(()),
        }
    }

    /// Sends what may go now. `lag` takes how late requests are.
    pub fn pump(&mut self, token: u64, now_ns: u64, ring: &mut Ring, lag: Option<&mut Latencies>) {
        if self.sending {
            return;
        }
        let mut parts = SendParts::new();
        if !self.out.is_empty() {
            parts.push(Bytes::from(std::mem::take(&mut self.out)));
        }
        if let Role::Producer(producer) = &mut self.role {
            producer.fill(now_ns, &mut parts, lag);
        }
        if !parts.is_empty() {
            self.sending = true;
            ring.send(token, self.socket.as_raw_fd(), parts);
        }
    }

    pub fn sent(&mut self, now_ns: u64) {
        self.sending = false;
        if let Role::Producer(producer) = &mut self.role {
            producer.freed(now_ns);
        }
    }

    /// When its next request is due; `None` when something else must happen first.
    pub fn next_ns(&self) -> Option<u64> {
        match &self.role {
            Role::Producer(producer) if !self.sending => producer.next_ns(),
            _ => None,
        }
    }

    /// Takes received bytes.
    pub fn received(
        &mut self,
        data: &[u8],
        now_ns: u64,
        tally: &mut Tally,
    ) -> Result<(), BenchError> {
        let Self { role, inbound, out, last_delivery_ns, .. } = self;
        match role {
            Role::Producer(producer) => inbound.feed(data, |header, body| {
                if header.kind != kind::PRODUCE_ACK {
                    return Err(unexpected(wire::decode(header, body)?, "take a publish"));
                }
                let ack = ProduceAck::parse(body)
                    .map_err(|error| BenchError::Protocol(error.to_string()))?;
                producer.acknowledge(header.correlation, &ack, now_ns, |run| {
                    let Acknowledged { intended_ns, requests, messages, bytes } = run;
                    tally.acknowledged(intended_ns, now_ns, requests, messages, bytes);
                })
            }),
            Role::Consumer(consumer) => inbound.feed(data, |header, body| {
                if header.kind != kind::DELIVER {
                    return answer(consumer, wire::decode(header, body)?);
                }
                // Those that came in one piece count once.
                if tally.interval == Interval::BetweenDeliveries
                    && let Some(last) = last_delivery_ns.replace(now_ns)
                    && last < now_ns
                {
                    tally.record(last, now_ns, 1);
                }
                consumer.delivered(body, out, |run| {
                    tally.received(run.intended_ns, now_ns, run.messages, run.bytes);
                })
            }),
        }
    }
}

fn answer(consumer: &mut Consumer, reply: Reply) -> Result<(), BenchError> {
    match reply {
        Reply::Subscribed { subscription, offset } => consumer.subscribed(subscription, offset),
        Reply::Unsubscribed { .. } => Ok(()),
        other => Err(unexpected(other, "subscribe")),
    }
}

fn unexpected(reply: Reply, doing: &str) -> BenchError {
    match reply {
        Reply::Rejected(rejection) => BenchError::Rejected { doing: doing.into(), rejection },
        other => BenchError::Protocol(format!("an answer of the wrong kind: {other:?}")),
    }
}
