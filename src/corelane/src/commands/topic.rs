//! `corelane topic`.

use std::fmt::Write;

use client::{Client, TopicDescription};
use model::reply::PartitionStatus;
use model::{TopicConfig, TopicInfo};
use serde_json::{Value, json};

use super::error::CommandError;
use super::output::{human_bytes, table};
use super::{Outcome, connect, output};
use crate::args::Output;
use crate::args::client::TopicCommand;
use crate::config::units;

pub fn run(command: TopicCommand) -> Result<Outcome, CommandError> {
    match command {
        TopicCommand::Create { name, partitions, settings, server, output } => {
            let topic = connect::with_client(&server, async |client| {
                Ok(create(&client, name.as_str(), partitions, settings.config()).await?)
            })?;
            print_topic("created", &topic, output.output)?;
        }
        TopicCommand::Alter { name, settings, server, output } => {
            let topic = connect::with_client(&server, async |client| {
                Ok(client.alter_topic(name.as_str(), settings.change()).await?)
            })?;
            print_topic("altered", &topic, output.output)?;
        }
        TopicCommand::List { server, output } => {
            let topics =
                connect::with_client(&server, async |client| Ok(client.list_topics().await?))?;
            match output.output {
                Output::Text => output::print(&list_text(topics.iter().map(AsRef::as_ref)))?,
                Output::Json => {
                    let topics = topics.iter().map(|topic| topic_json(topic));
                    output::print_json(&topics.collect())?;
                }
            }
        }
        TopicCommand::Describe { name, server, output } => {
            let description = connect::with_client(&server, async |client| {
                Ok(client.describe_topic(name.as_str()).await?)
            })?;
            match output.output {
                Output::Text => output::print(&description_text(&description))?,
                Output::Json => output::print_json(&description_json(&description))?,
            }
        }
        TopicCommand::Delete { name, server, output } => {
            connect::with_client(&server, async |client| {
                Ok(client.delete_topic(name.as_str()).await?)
            })?;
            match output.output {
                Output::Text => output::print(&format!("deleted {name}\n"))?,
                Output::Json => output::print_json(&json!({ "deleted": name.as_str() }))?,
            }
        }
    }
    Ok(Outcome::Done)
}

async fn create(
    client: &Client,
    name: &str,
    partitions: u32,
    config: TopicConfig,
) -> Result<std::sync::Arc<TopicInfo>, client::Error> {
    let mut topic = client.create_topic(name).partitions(partitions).ack(config.ack);
    if let Some(ms) = config.retention_ms {
        topic = topic.retention(std::time::Duration::from_millis(ms));
    }
    if let Some(bytes) = config.retention_bytes {
        topic = topic.retention_bytes(bytes);
    }
    topic.send().await
}

fn print_topic(done: &str, topic: &TopicInfo, output: Output) -> Result<(), CommandError> {
    match output {
        Output::Text => output::print(&format!("{done} {}\n", topic_text(topic))),
        Output::Json => output::print_json(&topic_json(topic)),
    }
}

/// `orders: 8 partitions, retention 7d, retention-bytes unlimited, ack durable`
fn topic_text(topic: &TopicInfo) -> String {
    let partitions = topic.partitions.len();
    let plural = if partitions == 1 { "" } else { "s" };
    let [retention, bytes, ack] = settings(&topic.config);
    format!(
        "{}: {partitions} partition{plural}, retention {retention}, retention-bytes {bytes}, ack {ack}",
        topic.name
    )
}

/// Retention, retention by bytes, acknowledgement; as the flags are written.
fn settings(config: &TopicConfig) -> [String; 3] {
    let unlimited = || "unlimited".to_owned();
    [
        config.retention_ms.map_or_else(unlimited, |ms| {
            units::show_duration(std::time::Duration::from_millis(ms))
        }),
        config.retention_bytes.map_or_else(unlimited, units::show_bytes),
        config.ack.as_str().to_owned(),
    ]
}

fn list_text<'a>(topics: impl Iterator<Item = &'a TopicInfo>) -> String {
    let heads = ["TOPIC", "PARTITIONS", "RETENTION", "RETENTION-BYTES", "ACK"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(topics.map(|topic| {
        let mut row = vec![topic.name.to_string(), topic.partitions.len().to_string()];
        row.extend(settings(&topic.config));
        row
    }));
    table(&rows)
}

fn description_text(description: &TopicDescription) -> String {
    let mut text = format!("{}\n\n", topic_text(&description.topic));
    let heads = ["PARTITION", "SHARD", "FIRST", "NEXT", "MESSAGES", "BYTES"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(description.partitions.iter().map(|partition| {
        vec![
            partition.index.to_string(),
            partition.shard.to_string(),
            partition.first_offset.to_string(),
            partition.next_offset.to_string(),
            messages(partition).to_string(),
            human_bytes(partition.bytes),
        ]
    }));
    text.push_str(&table(&rows));
    let mut rows = vec![["CONSUMER", "PARTITION", "OFFSET", "BEHIND"].map(str::to_owned).to_vec()];
    for partition in &description.partitions {
        rows.extend(partition.consumers.iter().map(|(name, offset)| {
            let behind = partition.next_offset.saturating_sub(*offset);
            vec![
                name.to_string(),
                partition.index.to_string(),
                offset.to_string(),
                behind.to_string(),
            ]
        }));
    }
    if rows.len() > 1 {
        let _ = write!(text, "\n{}", table(&rows));
    }
    text
}

fn messages(partition: &PartitionStatus) -> u64 {
    partition.next_offset.saturating_sub(partition.first_offset)
}

fn topic_json(topic: &TopicInfo) -> Value {
    json!({
        "name": topic.name.as_str(),
        "id": topic.id.0,
        "partitions": topic.partitions.len(),
        "retention_ms": topic.config.retention_ms,
        "retention_bytes": topic.config.retention_bytes,
        "ack": topic.config.ack.as_str(),
        "config_version": topic.config_version,
    })
}

fn description_json(description: &TopicDescription) -> Value {
    let mut value = topic_json(&description.topic);
    let partitions = description.partitions.iter().map(|partition| {
        let consumers = partition
            .consumers
            .iter()
            .map(|(name, offset)| json!({ "name": name.as_str(), "offset": offset }));
        json!({
            "partition": partition.index.0,
            "shard": partition.shard.0,
            "first_offset": partition.first_offset,
            "next_offset": partition.next_offset,
            "messages": messages(partition),
            "bytes": partition.bytes,
            "consumers": consumers.collect::<Vec<_>>(),
        })
    });
    value["partitions"] = partitions.collect();
    value
}
