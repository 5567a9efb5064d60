//! Redis Streams: `XADD` and `XREAD`, one multiplexed connection for each producer.

use std::cell::Cell;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, Value, cmd, pipe};

use crate::driver::{Answer, Broker, Consumer, DriverError, Messages, PATIENCE, Producer, Shape};

/// The client's own limit, half a second, is less than a slow sync may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// The field of an entry that holds the payload; short, as it is stored and sent with each.
const FIELD: &str = "p";

pub struct Redis {
    client: Client,
    control: MultiplexedConnection,
}

impl Redis {
    pub async fn connect(address: &str) -> Result<Self, DriverError> {
        let doing = "connect to Redis";
        let info = format!("redis://{address}/").into_connection_info();
        let info = info.map_err(DriverError::of(doing))?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let client = Client::open(info.set_tcp_settings(tcp)).map_err(DriverError::of(doing))?;
        let control = open(&client).await?;
        Ok(Self { client, control })
    }
}

async fn open(client: &Client) -> Result<MultiplexedConnection, DriverError> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    connection.map_err(DriverError::of("connect to Redis"))
}

impl Broker for Redis {
    /// A stream begins with its first entry.
    fn create<'a>(&'a self, topics: &'a [String], made: &'a Cell<usize>) -> Answer<'a, ()> {
        made.set(made.get() + topics.len());
        Box::pin(async { Ok(()) })
    }

    fn remove<'a>(&'a self, topics: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut control = self.control.clone();
            let removed = cmd("UNLINK").arg(topics).query_async::<()>(&mut control).await;
            removed.map_err(DriverError::of("remove a stream"))
        })
    }

    fn producer<'a>(&'a self, topics: &'a [String], _: Shape) -> Answer<'a, Box<dyn Producer>> {
        Box::pin(async move {
            let connection = open(&self.client).await?;
            Ok(Box::new(Sender { connection, topics: topics.to_vec() }) as Box<dyn Producer>)
        })
    }

    fn consumers<'a>(
        &'a self,
        topics: &'a [String],
        shape: Shape,
    ) -> Answer<'a, Vec<Box<dyn Consumer>>> {
        Box::pin(async move {
            let connection = open(&self.client).await?;
            let consumer = |topic: &String| {
                let (connection, topic, count) = (connection.clone(), topic.clone(), shape.batch);
                let last_id = b"0-0".to_vec();
                Box::new(Receiver { connection, topic, count, last_id }) as Box<dyn Consumer>
            };
            Ok(topics.iter().map(consumer).collect())
        })
    }
}

struct Sender {
    connection: MultiplexedConnection,
    topics: Vec<String>,
}

fn add(topic: &str, payload: &[u8]) -> Cmd {
    let mut add = Cmd::with_capacity(5, 64 + payload.len());
    add.arg("XADD").arg(topic).arg("*").arg(FIELD).arg(payload);
    add
}

impl Producer for Sender {
    fn send(&self, topic: usize, messages: Messages) -> Answer<'_, ()> {
        Box::pin(async move {
            let (mut connection, topic) = (self.connection.clone(), &self.topics[topic]);
            let mut payloads = messages.iter();
            let sent = match (payloads.next(), messages.count()) {
                (Some(only), 1) => add(topic, &only).query_async::<()>(&mut connection).await,
                (first, _) => {
                    let mut pipe = pipe();
                    for payload in first.into_iter().chain(payloads) {
                        pipe.add_command(add(topic, &payload)).ignore();
                    }
                    pipe.query_async::<()>(&mut connection).await
                }
            };
            sent.map_err(DriverError::of("add to a stream"))
        })
    }
}

struct Receiver {
    connection: MultiplexedConnection,
    topic: String,
    count: usize,
    last_id: Vec<u8>,
}

impl Consumer for Receiver {
    fn receive<'a>(&'a mut self, each: &'a mut dyn FnMut(&[u8])) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut read = cmd("XREAD");
            read.arg("COUNT").arg(self.count).arg("BLOCK").arg(PATIENCE.as_millis() as u64);
            read.arg("STREAMS").arg(&self.topic).arg(&self.last_id);
            let reply = read.query_async::<Value>(&mut self.connection).await;
            let reply = reply.map_err(DriverError::of("read a stream"))?;
            if reply == Value::Nil {
                return Ok(());
            }
            let unexpected = || DriverError::Refused {
                doing: "read a stream",
                problem: "the reply has not the form of XREAD's".into(),
            };
            let entries = entries(reply).ok_or_else(unexpected)?;
            for entry in entries {
                let (id, payload) = id_and_payload(entry).ok_or_else(unexpected)?;
                each(&payload);
                self.last_id = id;
            }
            Ok(())
        })
    }
}

/// The entries of the one stream that was asked for: `[[name, [entry, ...]]]`.
fn entries(reply: Value) -> Option<Vec<Value>> {
    let stream = array(reply)?.pop()?;
    array(array(stream)?.pop()?)
}

/// `[id, [field, payload]]`.
fn id_and_payload(entry: Value) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut entry = array(entry)?.into_iter();
    let (Value::BulkString(id), fields) = (entry.next()?, entry.next()?) else { return None };
    match array(fields)?.pop()? {
        Value::BulkString(payload) => Some((id, payload)),
        _ => None,
    }
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_reply_of_xread_is_taken_apart() {
        let entry = Value::Array(vec![bulk("1-0"), Value::Array(vec![bulk("p"), bulk("payload")])]);
        let reply = Value::Array(vec![Value::Array(vec![bulk("name"), Value::Array(vec![entry])])]);
        let mut entries = entries(reply).unwrap();
        let (id, payload) = id_and_payload(entries.pop().unwrap()).unwrap();
        assert_eq!((&id[..], &payload[..]), (&b"1-0"[..], &b"payload"[..]));
        assert!(entries.is_empty());
    }

    #[test]
    fn another_reply_is_none_of_it() {
        assert!(entries(Value::Okay).is_none());
        assert!(entries(Value::Array(vec![])).is_none());
        assert!(id_and_payload(Value::Array(vec![bulk("1-0")])).is_none());
    }
}
