//! Prints the values of a topic, from the first message on, and waits for more. With a name it goes
//! on where a consumer of that name left off.
//!
//! `cargo run -p corelane-client --example consume -- 127.0.0.1:7300 TOPIC [NAME]`

use std::error::Error;

use corelane_client::{Client, StartPosition};

/// Records between two commits.
const COMMIT_EVERY: u64 = 1000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("usage: consume HOST:PORT TOPIC [NAME]".into());
    };
    let name = arguments.next();
    let client = Client::connect(server).await?;
    let builder = client.consumer(topic);
    let mut consumer = match &name {
        Some(name) => builder.name(name).build().await?,
        None => builder.start(StartPosition::First).build().await?,
    };

    let mut count = 0;
    while let Some(record) = consumer.next().await {
        let record = record?;
        println!("{}", String::from_utf8_lossy(record.value().unwrap_or_default()));
        count += 1;
        if name.is_some() && count % COMMIT_EVERY == 0 {
            consumer.commit().await?;
        }
    }
    Ok(())
}
