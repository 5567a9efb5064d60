//! Topics, offsets, status.

use std::time::Duration;

use corelane_client::{AckLevel, Client, Error, ErrorCode, Stage, StartPosition, TopicChange};

use crate::client;
use crate::fake::Fake;

#[tokio::test]
async fn topics_from_creation_to_deletion() {
    let fake = Fake::start().await;
    let client = client(&fake).await;
    let created = client
        .create_topic("orders")
        .partitions(3)
        .retention(Duration::from_secs(60))
        .ack(AckLevel::Memory)
        .send()
        .await
        .unwrap();
    assert_eq!(created.partitions.len(), 3);
    assert_eq!(created.config.retention_ms, Some(60_000));
    let again = client.create_topic("orders").send().await.unwrap_err();
    assert_eq!(again.code(), Some(ErrorCode::TopicExists));

    let change = TopicChange { retention_ms: Some(None), ..TopicChange::default() };
    let altered = client.alter_topic("orders", change).await.unwrap();
    assert_eq!((altered.config.retention_ms, altered.config.ack), (None, AckLevel::Memory));
    let described = client.describe_topic("orders").await.unwrap();
    assert_eq!((described.partitions.len(), described.topic.config_version), (3, 2));
    assert_eq!(client.topic("orders").await.unwrap().id, created.id);

    client.delete_topic("orders").await.unwrap();
    let gone = client.delete_topic("orders").await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownTopic));
    let gone = client.topic("orders").await.unwrap_err();
    assert!(gone.to_string().contains("corelane topic create orders"), "{gone}");
    assert!(matches!(client.topic("a b").await, Err(Error::Name(_))));
}

#[tokio::test]
async fn listings_have_pages() {
    let fake = Fake::start().await;
    for number in 0..25 {
        fake.create(&format!("topic-{number:02}"), 1);
    }
    let client = client(&fake).await;
    let mut names = Vec::new();
    let (mut after, mut pages) = (None, 0);
    loop {
        let page = client.list_topics_page(after.as_ref(), 10).await.unwrap();
        pages += 1;
        names.extend(page.topics.iter().map(|info| info.name.to_string()));
        match page.next_after {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let expected: Vec<_> = (0..25).map(|number| format!("topic-{number:02}")).collect();
    assert_eq!((names, pages), (expected, 3));
    assert_eq!(client.list_topics().await.unwrap().len(), 25);
}

#[tokio::test]
async fn offsets_status_and_filter() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    assert_eq!(client.lookup_offset("t", 0, StartPosition::Next).await.unwrap(), 0);
    client.commit_offset("t", 0, "c", 5).await.unwrap();
    assert_eq!(client.committed_offset("t", 0, "c").await.unwrap(), Some(5));
    assert!(client.status().await.unwrap().ready);
    let stages = client.stages().await.unwrap();
    assert_eq!(stages[0].stages[Stage::Deliver as usize].quantile_ns(0.5), 7);
    client.set_log_filter("debug").await.unwrap();
    assert_eq!(fake.state().filter, "debug");
    client.ping().await.unwrap();
}

#[tokio::test]
async fn calls_outlive_their_connection() {
    let fake = Fake::start().await;
    let client = client(&fake).await;
    for _ in 0..5 {
        fake.disconnect_all();
        client.status().await.unwrap();
    }
}

#[tokio::test]
async fn no_server_is_a_sentence() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect(&address).await.err().unwrap();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains(&address), "{error}");

    let fake = Fake::start().await;
    let builder = Client::builder().server(address).server(fake.address.to_string());
    builder.build().await.unwrap().ping().await.unwrap();
}
