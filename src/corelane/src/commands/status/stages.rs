//! The times of each stage of each core, as a table and as JSON.

use model::{CoreStages, Stage, StageHistogram};
use serde_json::{Value, json};

use crate::commands::output::table;

/// Behind the rest of the status.
pub fn text(cores: &[CoreStages]) -> String {
    let heads = ["CORE", "STAGE", "COUNT", "MEAN", "P50", "P99", "P99.9", "MAX"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for core in cores {
        rows.extend(each(core).map(|(stage, times)| {
            let mut row = vec![core.core.to_string(), stage.name().to_owned()];
            row.push(times.count.to_string());
            row.extend(figures(times).map(micros));
            row
        }));
    }
    format!("\n{}", table(&rows))
}

pub fn json_of(cores: &[CoreStages]) -> Value {
    let of_stage = |(stage, times): (Stage, &StageHistogram)| {
        let [mean_ns, p50_ns, p99_ns, p999_ns, max_ns] = figures(times);
        json!({
            "stage": stage.name(),
            "count": times.count,
            "mean_ns": mean_ns,
            "p50_ns": p50_ns,
            "p99_ns": p99_ns,
            "p999_ns": p999_ns,
            "max_ns": max_ns,
        })
    };
    let of_core = |core: &CoreStages| json!({ "core": core.core.0, "stages": each(core).map(of_stage).collect::<Vec<_>>() });
    cores.iter().map(of_core).collect()
}

fn each(core: &CoreStages) -> impl Iterator<Item = (Stage, &StageHistogram)> {
    Stage::ALL.into_iter().zip(&core.stages)
}

/// Mean, p50, p99, p99.9 and the longest, nanoseconds.
fn figures(times: &StageHistogram) -> [u64; 5] {
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| times.quantile_ns(share));
    [times.mean_ns(), p50, p99, p999, times.max_ns]
}

fn micros(ns: u64) -> String {
    format!("{:.1} us", ns as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::CoreId;
    use model::stages::stage_bucket;

    #[test]
    fn every_stage_of_every_core_has_its_row() {
        let mut core = CoreStages { core: CoreId(3), ..CoreStages::default() };
        let buckets = vec![(stage_bucket(1_000) as u16, 99), (stage_bucket(90_000) as u16, 1)];
        let times = StageHistogram { count: 100, sum_ns: 189_000, max_ns: 90_000, buckets };
        core.stages[Stage::Deliver as usize] = times;
        let text = text(&[core.clone(), CoreStages::default()]);
        assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), 1 + 2 * Stage::ALL.len());
        let deliver = text.lines().find(|line| line.contains("deliver")).unwrap();
        let words: Vec<_> = deliver.split_whitespace().filter(|word| *word != "us").collect();
        assert_eq!(words, ["3", "deliver", "100", "1.9", "1.0", "1.0", "90.0", "90.0"]);
        let json = json_of(&[core]);
        assert_eq!(json[0]["stages"][3]["p99_ns"], 1_007);
        assert_eq!(json[0]["stages"][0]["count"], 0);
    }
}
