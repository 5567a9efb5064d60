//! Sends each line of standard input as a message.
//!
//! `cargo run -p corelane-client --example produce -- 127.0.0.1:7300 TOPIC < FILE`

use std::error::Error;
use std::io::BufRead;
use std::time::Duration;

use corelane_client::{Client, Compression, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("usage: produce HOST:PORT TOPIC".into());
    };
    let client = Client::connect(server).await?;
    let producer =
        client.producer().linger(Duration::from_millis(5)).compression(Compression::Lz4).build()?;

    let mut count = 0;
    let mut last = None;
    for line in std::io::stdin().lock().lines() {
        // Waits only while the buffer is full; the delivery tells what becomes of the message.
        last = Some(producer.send(Message::new(&topic).value(&line?)).await?);
        count += 1;
    }
    if let Some(delivery) = last {
        let receipt = delivery.await?;
        println!("the last of {count} messages: {receipt:?}");
    }
    producer.close().await?;
    Ok(())
}
