//! ActiveMQ over AMQP 1.0.
//!
//! The broker syncs its journal for each message of a connection by itself, and once for a
//! transaction: where every message is synced, a request of several is one transaction.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::transaction::{Controller, Transaction, TransactionDischarge, TransactionPosting};
use fe2o3_amqp::types::definitions::SenderSettleMode;
use fe2o3_amqp::types::messaging::{Data, Header, Message, Outcome, Properties, Target};
use fe2o3_amqp::types::primitives::Binary;
use fe2o3_amqp::{Connection, Receiver as Incoming, Sender as Outgoing, Session};
use futures_util::FutureExt;
use tokio::sync::Mutex;

use crate::driver::{Answer, Broker, Consumer, DriverError, Messages, PATIENCE, Producer, Shape};
use crate::peer::Level;

/// What the broker may send ahead.
const CREDIT: u32 = 2_000;
/// Names of connections and links, which have to differ.
static NAMES: AtomicU64 = AtomicU64::new(0);

pub struct Activemq {
    address: String,
    level: Level,
}

/// A connection with its one session. Dropping it ends both.
struct Link {
    _connection: ConnectionHandle<()>,
    session: SessionHandle<()>,
}

impl Link {
    async fn open(address: &str) -> Result<Self, DriverError> {
        let doing = "connect to ActiveMQ";
        let url = format!("amqp://admin:admin@{address}");
        let connection = Connection::builder().container_id(name()).open(url.as_str()).await;
        let mut connection = connection.map_err(DriverError::of(doing))?;
        let session = Session::begin(&mut connection).await.map_err(DriverError::of(doing))?;
        Ok(Self { _connection: connection, session })
    }
}

fn name() -> String {
    format!("peers-{}", NAMES.fetch_add(1, Ordering::Relaxed))
}

impl Activemq {
    pub async fn connect(address: &str, level: Level) -> Result<Self, DriverError> {
        Link::open(address).await?;
        Ok(Self { address: address.to_owned(), level })
    }
}

impl Broker for Activemq {
    /// A queue begins with the first link to it.
    fn create<'a>(&'a self, topics: &'a [String], made: &'a Cell<usize>) -> Answer<'a, ()> {
        made.set(made.get() + topics.len());
        Box::pin(async { Ok(()) })
    }

    /// The broker removes queues that nobody uses and that are empty; others go with its data.
    fn remove<'a>(&'a self, _: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn producer<'a>(&'a self, topics: &'a [String], shape: Shape) -> Answer<'a, Box<dyn Producer>> {
        Box::pin(async move {
            let doing = "make a producer";
            let mut link = Link::open(&self.address).await?;
            let outgoing = Outgoing::builder().name(name());
            // A link without a target takes messages that name theirs.
            let outgoing = match topics {
                [topic] => outgoing.target(topic.as_str()),
                _ => outgoing.target(Target::default()),
            };
            let outgoing = outgoing.attach(&mut link.session).await;
            let outgoing = Mutex::new(outgoing.map_err(DriverError::of(doing))?);
            let transactions = if shape.batch > 1 && self.level == Level::Durable {
                let controller = Controller::attach(&mut link.session, name()).await;
                Some(controller.map_err(DriverError::of(doing))?)
            } else {
                None
            };
            let named = if topics.len() > 1 { topics.to_vec() } else { Vec::new() };
            let sender = Sender { outgoing, named, transactions, _link: link };
            Ok(Box::new(sender) as Box<dyn Producer>)
        })
    }

    /// Deliveries are settled when sent: the quickest way to empty a queue.
    fn consumers<'a>(
        &'a self,
        topics: &'a [String],
        _: Shape,
    ) -> Answer<'a, Vec<Box<dyn Consumer>>> {
        Box::pin(async move {
            let mut link = Link::open(&self.address).await?;
            let mut all = Vec::with_capacity(topics.len());
            for topic in topics {
                let incoming = Incoming::builder()
                    .name(name())
                    .source(topic.as_str())
                    .sender_settle_mode(SenderSettleMode::Settled)
                    .credit_mode(CreditMode::Manual)
                    .attach(&mut link.session)
                    .await
                    .map_err(DriverError::of("subscribe"))?;
                all.push(incoming);
            }
            let link = Rc::new(link);
            let receiver = |incoming| {
                // No credit yet: the first read asks for messages.
                let receiver = Receiver { _link: link.clone(), incoming, credit: 0 };
                Box::new(receiver) as Box<dyn Consumer>
            };
            Ok(all.into_iter().map(receiver).collect())
        })
    }

    fn replays(&self) -> bool {
        false
    }
}

struct Sender {
    /// Held while a message is handed over, not until it is acknowledged; with transactions until
    /// the transaction is, as messages are in the order of the transactions' ends.
    outgoing: Mutex<Outgoing>,
    /// The queues that messages name; none where the link has its one queue as its target.
    named: Vec<String>,
    /// Whether a request is one transaction.
    transactions: Option<Controller>,
    _link: Link,
}

impl Producer for Sender {
    fn send(&self, topic: usize, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            match &self.transactions {
                Some(controller) => {
                    self.send_in_transaction(self.to(topic), &messages, controller).await
                }
                None => self.send_each(self.to(topic), &messages).await,
            }
        })
    }
}

impl Sender {
    fn to(&self, topic: usize) -> Option<&str> {
        self.named.get(topic).map(String::as_str)
    }

    async fn send_each(&self, to: Option<&str>, messages: &Messages) -> Result<(), DriverError> {
        let mut outcomes = Vec::with_capacity(messages.count());
        let mut outgoing = self.outgoing.lock().await;
        for payload in messages.iter() {
            let sent = outgoing.send_batchable(message(to, &payload)).await;
            outcomes.push(sent.map_err(DriverError::of("publish"))?);
        }
        drop(outgoing);
        for outcome in outcomes {
            accepted(outcome.await.map_err(DriverError::of("publish"))?)?;
        }
        Ok(())
    }

    async fn send_in_transaction(
        &self,
        to: Option<&str>,
        messages: &Messages,
        controller: &Controller,
    ) -> Result<(), DriverError> {
        let doing = "publish in a transaction";
        let mut outcomes = Vec::with_capacity(messages.count());
        let mut outgoing = self.outgoing.lock().await;
        let transaction = Transaction::declare(controller, None).await;
        let transaction = transaction.map_err(DriverError::of(doing))?;
        for payload in messages.iter() {
            let sent = transaction.post_batchable(&mut outgoing, message(to, &payload)).await;
            outcomes.push(sent.map_err(DriverError::of(doing))?);
        }
        for outcome in outcomes {
            accepted(outcome.await.map_err(DriverError::of(doing))?)?;
        }
        transaction.commit().await.map_err(DriverError::of(doing))
    }
}

fn message(to: Option<&str>, payload: &[u8]) -> Message<Data> {
    Message::builder()
        .header(Header { durable: true, ..Header::default() })
        .properties(Properties { to: to.map(Into::into), ..Properties::default() })
        .data(Binary::from(payload.to_vec()))
        .build()
}

fn accepted(outcome: Outcome) -> Result<(), DriverError> {
    match outcome {
        Outcome::Accepted(_) => Ok(()),
        other => Err(DriverError::of("publish")(format!("{other:?}"))),
    }
}

struct Receiver {
    _link: Rc<Link>,
    incoming: Incoming,
    /// What the broker may still send. The client renews it by itself only for deliveries that are
    /// acknowledged, which these are not.
    credit: u32,
}

impl Receiver {
    async fn renew_credit(&mut self) -> Result<(), DriverError> {
        if self.credit <= CREDIT / 2 {
            self.incoming.set_credit(CREDIT).await.map_err(DriverError::of("ask for messages"))?;
            self.credit = CREDIT;
        }
        Ok(())
    }
}

impl Consumer for Receiver {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(async move {
            self.renew_credit().await?;
            let Ok(first) = tokio::time::timeout(PATIENCE, self.incoming.recv::<Data>()).await
            else {
                return Ok(());
            };
            let mut next = Some(first);
            while let Some(delivery) = next {
                let delivery = delivery.map_err(DriverError::of("read"))?;
                each(&delivery.body().0);
                self.credit = self.credit.saturating_sub(1);
                self.renew_credit().await?;
                // The rest of what has arrived, without waiting.
                next = self.incoming.recv::<Data>().now_or_never();
            }
            Ok(())
        })
    }
}
