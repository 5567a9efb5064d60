//! What was measured beside what `corelane tune write` predicted for this machine.

use model::AckLevel;
use tuning::ceilings::Predicted;

use crate::options::{Options, Source, Work};
use crate::pace::Pace;
use crate::report::{Ceiling, Figures};
use crate::workload::Sizes;

/// Those of the predictions that are of the work of this run; none when none is.
pub fn against(predicted: &Predicted, options: &Options, figures: &Figures) -> Vec<Ceiling> {
    let rate =
        |name: &str, predicted| ceiling(name, predicted, figures.messages_per_s, "messages/s");
    let bytes = |name: &str, predicted| ceiling(name, predicted, figures.bytes_per_s / 1e6, "MB/s");
    let Sizes::Fixed(size) = options.sizes else { return Vec::new() };
    if options.work == Work::Consume {
        return vec![match options.source {
            Source::Cold => {
                bytes("consume from the disk", predicted.consume_cold_bytes_per_s / 1e6)
            }
            Source::Hot | Source::Backlog => {
                bytes("consume from memory", predicted.consume_hot_bytes_per_s / 1e6)
            }
        }];
    }
    if options.ack != AckLevel::Durable || options.keys.is_some() {
        return Vec::new();
    }
    let lockstep = options.pace == Pace::Closed && options.in_flight == 1;
    match (size, options.batch) {
        (1024, 1) if lockstep && options.connections == 1 => {
            vec![rate("publish 1 KiB, one at a time", predicted.publish_1k_lockstep_per_s)]
        }
        (1024, 1) => vec![rate("publish 1 KiB", predicted.publish_1k_per_s)],
        (100, 1) => vec![rate("publish 100 B", predicted.publish_100b_per_s)],
        (1024, 100..) => {
            vec![bytes("publish 1 KiB in batches", predicted.publish_1k_x100_bytes_per_s / 1e6)]
        }
        _ => vec![bytes("log writes", predicted.durable_bytes_per_s / 1e6)],
    }
}

fn ceiling(name: &str, predicted: f64, measured: f64, unit: &str) -> Ceiling {
    Ceiling { name: name.to_owned(), predicted, measured, unit: unit.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_held_against_the_prediction_of_its_work() {
        let predicted = Predicted {
            publish_1k_lockstep_per_s: 1_000.0,
            publish_1k_per_s: 2_000.0,
            publish_1k_x100_bytes_per_s: 3e9,
            consume_cold_bytes_per_s: 4e9,
            ..Predicted::default()
        };
        let figures = Figures { messages_per_s: 500.0, bytes_per_s: 1e9, ..Figures::default() };
        let of = |change: fn(&mut Options)| {
            let mut options = Options::new(Work::Produce);
            change(&mut options);
            let found = against(&predicted, &options, &figures);
            found.first().map(|ceiling| (ceiling.predicted, ceiling.measured))
        };
        assert_eq!(of(|o| (o.pace, o.in_flight) = (Pace::Closed, 1)), Some((1_000.0, 500.0)));
        assert_eq!(of(|_| {}), Some((2_000.0, 500.0)));
        assert_eq!(of(|o| o.batch = 100), Some((3_000.0, 1_000.0)));
        assert_eq!(
            of(|o| (o.work, o.source) = (Work::Consume, Source::Cold)),
            Some((4_000.0, 1_000.0))
        );
        assert_eq!(of(|o| o.ack = AckLevel::Memory), None);
        assert_eq!(of(|o| o.sizes = Sizes::Uniform { min: 24, max: 99 }), None);
    }
}
