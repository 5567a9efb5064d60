//! What was asked for, in the form of a report.

use crate::options::{ClientLoad, Options, Work};
use crate::pace::Pace;
use crate::report::Settings;
use crate::workload::Sizes;

pub fn of(options: &Options, generator_cpu: Option<usize>) -> Settings {
    let server = match (options.work, options.server) {
        (Work::Raw, _) => "none".to_owned(),
        (_, Some(address)) => address.to_string(),
        (_, None) => "embedded".to_owned(),
    };
    let open = options.pace.pattern(options.warmup, options.duration).ok().flatten();
    let from_s = options.warmup.as_secs_f64();
    let to_s = from_s + options.duration.as_secs_f64();
    let fixed = matches!(options.sizes, Sizes::Fixed(_));
    let writes = options.work != Work::Consume;
    Settings {
        size: options.sizes.mean(),
        sizes: (!fixed).then(|| options.sizes.to_string()),
        batch: options.batch,
        connections: options.connections,
        consumers: options.consumers.filter(|_| options.work == Work::E2e),
        in_flight: options.in_flight,
        pace: match options.pace {
            Pace::Closed => "closed loop".to_owned(),
            Pace::Open { .. } => options.pace.to_string(),
        },
        rate: open.map(|pattern| pattern.mean_per_s(from_s, to_s)),
        duration_s: options.duration.as_secs_f64(),
        warmup_s: options.warmup.as_secs_f64(),
        ack: options.ack.as_str().to_owned(),
        topics: options.topics,
        partitions: options.partitions,
        keys: options.keys.map(|keys| keys.to_string()),
        client: options.client.as_ref().map(ClientLoad::to_string),
        space: writes.then(|| options.space.as_str().to_owned()),
        route: (options.work != Work::Raw).then(|| options.route.as_str().to_owned()),
        server,
        server_cores: options.server_cores.filter(|_| options.work != Work::Raw),
        generator_cpu,
        seed: options.seed,
    }
}
