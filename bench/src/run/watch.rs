//! Looks at the broker's own clocks when measuring begins and ends: on a thread of its own, so
//! that the load does not wait for the answer.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use model::{CoreStages, Stage as BrokerStage, StageHistogram};

use crate::record::LatencyUs;
use crate::report::Stage;
use crate::wire::Control;

/// Waits to be told to look.
#[derive(Debug)]
pub struct Watch {
    look: Sender<()>,
    thread: JoinHandle<Vec<Vec<CoreStages>>>,
}

impl Watch {
    /// `None` when the server does not tell its stages: an older one, or no right to ask.
    pub fn start(address: SocketAddr) -> Option<Self> {
        let mut control = Control::connect(address).ok()?;
        control.stages().ok()?;
        let (look, looks) = mpsc::channel();
        let watch = move || {
            let mut seen = Vec::new();
            // A server that has gone ends the run by itself.
            while looks.recv().is_ok()
                && let Ok(stages) = control.stages()
            {
                seen.push(stages);
            }
            seen
        };
        let thread = std::thread::Builder::new().name("bench-watch".into()).spawn(watch).ok()?;
        Some(Self { look, thread })
    }

    /// What tells it to look.
    pub fn bell(&self) -> Sender<()> {
        self.look.clone()
    }

    /// The times between the first look and the last. All bells must be gone by then.
    pub fn finish(self) -> Vec<Stage> {
        drop(self.look);
        let seen = self.thread.join().unwrap_or_default();
        match seen.as_slice() {
            [first, .., last] => between(first, last),
            _ => Vec::new(),
        }
    }
}

fn between(first: &[CoreStages], last: &[CoreStages]) -> Vec<Stage> {
    let (first, last) = (all_cores(first), all_cores(last));
    let times = last.iter().zip(&first).map(|(last, first)| last.since(first));
    BrokerStage::ALL
        .into_iter()
        .zip(times)
        .filter(|(_, times)| times.count > 0)
        .map(|(stage, times)| of(stage, &times))
        .collect()
}

fn all_cores(cores: &[CoreStages]) -> Vec<StageHistogram> {
    let mut all = vec![StageHistogram::default(); BrokerStage::ALL.len()];
    for core in cores {
        for (sum, stage) in all.iter_mut().zip(&core.stages) {
            sum.add(stage);
        }
    }
    all
}

fn of(stage: BrokerStage, times: &StageHistogram) -> Stage {
    let us = |ns: u64| (ns as f64 / 100.0).round() / 10.0;
    let at = |share: f64| us(times.quantile_ns(share));
    Stage {
        name: stage.name().replace('_', " "),
        count: times.count,
        mean_us: us(times.mean_ns()),
        latency_us: LatencyUs {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: us(times.max_ns),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::CoreId;
    use model::stages::stage_bucket;

    fn core(number: u16, stage: BrokerStage, times_ns: &[u64]) -> CoreStages {
        let mut core = CoreStages { core: CoreId(number), ..CoreStages::default() };
        for ns in times_ns {
            let buckets = vec![(stage_bucket(*ns) as u16, 1)];
            let one = StageHistogram { count: 1, sum_ns: *ns, max_ns: *ns, buckets };
            core.stages[stage as usize].add(&one);
        }
        core
    }

    #[test]
    fn only_what_came_between_the_looks_counts_over_all_cores() {
        let append = BrokerStage::ReceiveToAppend;
        let first = [core(0, append, &[9_000_000]), core(1, append, &[])];
        let last = [core(0, append, &[9_000_000, 10_000]), core(1, append, &[20_000, 20_000])];
        let stages = between(&first, &last);
        assert_eq!(stages.len(), 1, "{stages:?}");
        let Stage { name, count, mean_us, latency_us } = &stages[0];
        assert_eq!((name.as_str(), *count), ("receive to append", 3));
        assert!((mean_us - 16.7).abs() < 0.1 && latency_us.p50 >= 20.0, "{stages:?}");
        assert!(latency_us.max < 21.0, "{stages:?}");
        assert!(between(&last, &last).is_empty());
    }
}
