//! The client against a small server inside the test.

mod admin;
mod consumer;
mod fake;
mod hostile;
mod producer;
mod routes;

use std::time::Duration;

use corelane_client::{Client, ClientBuilder};

use self::fake::Fake;

/// A client that loses no time between tries.
pub fn builder(fake: &Fake) -> ClientBuilder {
    let (first, max) = (Duration::from_millis(1), Duration::from_millis(20));
    Client::builder().server(fake.address.to_string()).backoff(first, max)
}

pub async fn client(fake: &Fake) -> Client {
    builder(fake).build().await.unwrap()
}
