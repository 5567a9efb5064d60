//! Straight to the owning core where it can be reached, over the first connection where not.

use corelane_client::{Message, StartPosition};
use model::{CoreId, ShardId};

use crate::fake::Fake;
use crate::{builder, client};

/// Two shards, each partition of a topic of two on its own.
async fn two_shards() -> Fake {
    let fake = Fake::start().await;
    fake.state().shards = 2;
    fake.create("t", 2);
    fake.advertise(CoreId(0), fake.address.port(), vec![ShardId(0)]);
    fake
}

async fn send_to_both(client: &corelane_client::Client) {
    let producer = client.producer().build().unwrap();
    for partition in [0, 1] {
        let message = Message::new("t").value("x").partition(partition);
        producer.send(message).await.unwrap().await.unwrap();
    }
    for partition in [0, 1] {
        let builder = client.consumer("t").partition(partition).start(StartPosition::First);
        let record = builder.build().await.unwrap().next().await.unwrap().unwrap();
        assert_eq!(record.partition(), partition);
    }
}

fn cores_seen(fake: &Fake) -> Vec<u16> {
    fake.state().seen.iter().map(|seen| seen.core.0).collect()
}

#[tokio::test]
async fn partitions_are_reached_at_their_cores() {
    let fake = two_shards().await;
    fake.add_core(CoreId(1), vec![ShardId(1)]).await;
    send_to_both(&client(&fake).await).await;
    assert_eq!(cores_seen(&fake), [0, 1]);
    // One to each core: the first connection serves core 0.
    assert_eq!(fake.state().connections, 2);
}

#[tokio::test]
async fn a_core_out_of_reach_is_reached_through_the_first_connection() {
    let fake = two_shards().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    fake.advertise(CoreId(1), port, vec![ShardId(1)]);
    send_to_both(&client(&fake).await).await;
    assert_eq!(cores_seen(&fake), [0, 0]);
    assert_eq!(fake.state().connections, 1);
}

#[tokio::test]
async fn direct_connections_can_be_left_out() {
    let fake = two_shards().await;
    fake.add_core(CoreId(1), vec![ShardId(1)]).await;
    let client = builder(&fake).direct_connections(false).build().await.unwrap();
    send_to_both(&client).await;
    assert_eq!(cores_seen(&fake), [0, 0]);
}

#[tokio::test]
async fn a_core_without_a_direct_port_is_reached_through_the_first_connection() {
    let fake = two_shards().await;
    fake.advertise(CoreId(1), 0, vec![ShardId(1)]);
    send_to_both(&client(&fake).await).await;
    assert_eq!(cores_seen(&fake), [0, 0]);
}

#[tokio::test]
async fn a_server_that_says_goodbye_first_may_be_asked_again() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 16];
        stream.read_exact(&mut hello).await.unwrap();
        let away = protocol::GoAway {
            reason: model::ErrorCode::ShuttingDown,
            close_in_ms: 100,
            message: "the server is stopping".to_owned(),
        };
        let mut frame = Vec::new();
        protocol::put_go_away(&mut frame, &away);
        stream.write_all(&frame).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let built = corelane_client::Client::builder().server(address).build().await;
    let error = built.err().expect("there is no server to speak of");
    assert_eq!(error.code(), Some(model::ErrorCode::ShuttingDown), "{error}");
    assert!(error.is_retryable(), "{error}");
}
