//! What a reader is shown, before it is Markdown or HTML: tables of texts, and who wins.

use bench::report::Report;

use super::{Comparison, Row, RowOutcome};
use crate::peer::{Level, Peer};
use crate::workload::{Kind, Workload};

/// Differences below this share are not called a win.
const NOISE: f64 = 0.05;

/// One workload at one level.
#[derive(Debug)]
pub struct Section {
    pub level: Level,
    pub workload: Workload,
    pub lines: Vec<Line>,
    /// Corelane beside the best of the others, in words; empty when there is nothing to compare.
    pub standing: Option<Standing>,
}

/// A broker's line of a section.
#[derive(Debug)]
pub struct Line {
    pub name: String,
    pub cells: Cells,
    /// Length of its bar, 0 to 1, by what the workload is about.
    pub bar: f64,
    pub remarks: Vec<String>,
}

#[derive(Debug)]
pub enum Cells {
    Figures([String; 8]),
    /// Why there are none.
    None(String),
}

/// The columns of [`Cells::Figures`].
pub const COLUMNS: [&str; 8] = [
    "messages/s",
    "MB/s",
    "p50 us",
    "p99 us",
    "p99.9 us",
    "server CPU us/msg",
    "load CPU",
    "checked",
];

/// Corelane beside the best peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub best_peer: Peer,
    /// Above 1: Corelane is ahead by so much, whichever way is better in this workload.
    pub ratio: f64,
}

impl Standing {
    pub fn peer_wins(&self) -> bool {
        self.ratio < 1.0 - NOISE
    }

    /// Within the noise of each other.
    pub fn is_even(&self) -> bool {
        !self.peer_wins() && self.ratio < 1.0 + NOISE
    }

    pub fn in_words(&self) -> String {
        let Self { best_peer, ratio } = self;
        if self.peer_wins() {
            format!("{best_peer} wins: Corelane comes to {ratio:.2} of it")
        } else if self.is_even() {
            format!("Corelane and {best_peer} are even ({ratio:.2})")
        } else {
            format!("Corelane is {ratio:.2} times the best peer, {best_peer}")
        }
    }
}

/// All brokers side by side at one level, a row for each workload; a broker's turns are averaged.
#[derive(Debug)]
pub struct Overview {
    pub level: Level,
    pub brokers: Vec<Peer>,
    pub rows: Vec<OverviewRow>,
}

#[derive(Debug)]
pub struct OverviewRow {
    pub title: String,
    /// One for each broker; empty: not measured.
    pub cells: Vec<String>,
    /// Which of them is the best.
    pub best: Option<usize>,
}

/// One for each level that has rows.
pub fn overviews(comparison: &Comparison) -> Vec<Overview> {
    let of_level = |level| {
        let rows: Vec<&Row> = comparison.rows.iter().filter(|row| row.level == level).collect();
        let has = |peer: &Peer| rows.iter().any(|row| row.peer == *peer);
        let brokers: Vec<Peer> = Peer::ALL.into_iter().filter(has).collect();
        let rows = Workload::ALL.iter().filter_map(|work| overview_row(work, &brokers, &rows));
        let rows: Vec<OverviewRow> = rows.collect();
        (!rows.is_empty()).then_some(Overview { level, brokers, rows })
    };
    Level::ALL.into_iter().filter_map(of_level).collect()
}

fn overview_row(workload: &Workload, brokers: &[Peer], rows: &[&Row]) -> Option<OverviewRow> {
    let rows: Vec<&Row> =
        rows.iter().copied().filter(|row| row.workload == workload.name).collect();
    let paced = workload.requests_per_s().is_some();
    let goods: Vec<Option<f64>> = brokers.iter().map(|peer| mean(workload, *peer, &rows)).collect();
    let cell = |(peer, good): (&Peer, &Option<f64>)| match good {
        Some(good) if paced => thousands(1.0 / good),
        Some(good) => thousands(*good),
        None if rows.iter().any(|row| row.peer == *peer) => "-".to_owned(),
        None => String::new(),
    };
    let cells = brokers.iter().zip(&goods).map(cell).collect();
    let best = (0..goods.len())
        .filter(|at| goods[*at].is_some())
        .max_by(|one, other| goods[*one].unwrap_or(0.0).total_cmp(&goods[*other].unwrap_or(0.0)));
    let unit = if paced { "p99 us" } else { "messages/s" };
    let title = format!("{}: {unit}", workload.title);
    (!rows.is_empty()).then_some(OverviewRow { title, cells, best })
}

/// All sections in the order of levels and workloads.
pub fn sections(comparison: &Comparison) -> Vec<Section> {
    let mut sections = Vec::new();
    for level in Level::ALL {
        for workload in Workload::ALL {
            let of_it = |row: &&Row| row.level == level && row.workload == workload.name;
            let rows: Vec<&Row> = comparison.rows.iter().filter(of_it).collect();
            if !rows.is_empty() {
                let few = |row: &&Row| row.level == level && row.workload == Workload::FEW_TOPICS;
                let few: Vec<&Row> = comparison.rows.iter().filter(few).collect();
                sections.push(section(level, workload, &rows, &few));
            }
        }
    }
    sections
}

/// `few`: the same work over few topics, which a broker's rate over many is compared with.
fn section(level: Level, workload: Workload, rows: &[&Row], few: &[&Row]) -> Section {
    let goods: Vec<Option<f64>> = rows.iter().map(|row| goodness(&workload, row)).collect();
    let best = goods.iter().flatten().copied().fold(0.0, f64::max);
    let lines = rows.iter().zip(&goods).map(|(row, good)| Line {
        name: name(row),
        cells: cells(&workload, row),
        bar: good.filter(|_| best > 0.0).map_or(0.0, |good| good / best),
        remarks: remarks(row).into_iter().chain(share_of_few(&workload, row, few)).collect(),
    });
    let lines = lines.collect();
    Section { level, workload, lines, standing: standing(&workload, rows, rows) }
}

/// Corelane's durable rows beside the peers' memory rows, which it need not be compared with.
pub fn durable_against_memory(comparison: &Comparison) -> Vec<(Workload, Standing)> {
    let rows_of = |workload: &Workload, level| -> Vec<&Row> {
        let of_it = |row: &&Row| row.level == level && row.workload == workload.name;
        comparison.rows.iter().filter(of_it).collect()
    };
    let across = |workload: Workload| {
        let (own, peers) = (rows_of(&workload, Level::Durable), rows_of(&workload, Level::Memory));
        Some((workload, standing(&workload, &own, &peers)?))
    };
    Workload::ALL.into_iter().filter_map(across).collect()
}

/// The mean of Corelane's turns in `own` beside the best mean of a peer in `others`.
fn standing(workload: &Workload, own: &[&Row], others: &[&Row]) -> Option<Standing> {
    let corelane = mean(workload, Peer::Corelane, own)?;
    let peers = Peer::ALL.into_iter().filter(|peer| *peer != Peer::Corelane);
    let (best_peer, best) = peers
        .filter_map(|peer| Some((peer, mean(workload, peer, others)?)))
        .max_by(|one, other| one.1.total_cmp(&other.1))?;
    Some(Standing { best_peer, ratio: corelane / best })
}

fn mean(workload: &Workload, peer: Peer, rows: &[&Row]) -> Option<f64> {
    let of_it = rows.iter().filter(|row| row.peer == peer);
    let goods: Vec<f64> = of_it.filter_map(|row| goodness(workload, row)).collect();
    (!goods.is_empty()).then(|| goods.iter().sum::<f64>() / goods.len() as f64)
}

/// More is better: the rate, or the inverse of the p99 where the rate is given. `None` where the
/// figures do not count.
fn goodness(workload: &Workload, row: &Row) -> Option<f64> {
    let RowOutcome::Measured(report) = &row.outcome else { return None };
    if !report.is_good() {
        return None;
    }
    match workload.kind {
        Kind::Produce | Kind::Consume => Some(report.figures.messages_per_s),
        Kind::EndToEnd { .. } => {
            let kept = report.figures.rate_kept != Some(false);
            Some(1.0 / report.figures.latency_us.p99).filter(|good| kept && good.is_finite())
        }
    }
}

fn name(row: &Row) -> String {
    match row.pass {
        1 => row.peer.title().to_owned(),
        pass => format!("{} (turn {pass})", row.peer.title()),
    }
}

fn cells(workload: &Workload, row: &Row) -> Cells {
    let report = match &row.outcome {
        RowOutcome::Measured(report) => report,
        RowOutcome::Failed(why) => return Cells::None(format!("failed: {why}")),
        RowOutcome::Beyond(why) => return Cells::None(format!("beyond it: {why}")),
    };
    let figures = &report.figures;
    let latency = |us: f64| match workload.latency_of() {
        // None were recorded in the measured time.
        Some(_) if figures.latency_us.p50 == 0.0 => String::new(),
        Some(_) => thousands(us),
        None => String::new(),
    };
    Cells::Figures([
        thousands(figures.messages_per_s),
        format!("{:.1}", figures.bytes_per_s / 1e6),
        latency(figures.latency_us.p50),
        latency(figures.latency_us.p99),
        latency(figures.latency_us.p99_9),
        figures.server_cpu_us_per_message.map_or_else(String::new, |us| format!("{us:.2}")),
        figures
            .generator
            .cpu_share
            .map_or_else(String::new, |share| format!("{:.0}%", share * 100.0)),
        checked(report),
    ])
}

fn checked(report: &Report) -> String {
    let verdict = &report.figures.verdict;
    let checked = thousands(verdict.checked as f64);
    if verdict.is_clean() {
        return format!("{checked}, all good");
    }
    format!(
        "{checked}: lost {}, repeated {}, out of order {}, altered {}",
        verdict.lost, verdict.duplicated, verdict.reordered, verdict.corrupted
    )
}

fn remarks(row: &Row) -> Vec<String> {
    match &row.outcome {
        RowOutcome::Measured(report) => {
            let invalid = report.invalid_because.iter().map(|why| format!("not valid: {why}"));
            invalid.chain(report.notes.iter().cloned()).collect()
        }
        RowOutcome::Failed(_) | RowOutcome::Beyond(_) => Vec::new(),
    }
}

/// What many topics leave of a broker's own rate over few, in words.
fn share_of_few(workload: &Workload, row: &Row, few: &[&Row]) -> Option<String> {
    let many = goodness(workload, row).filter(|_| workload.has_many_topics())?;
    let few = mean(workload, row.peer, few)?;
    Some(format!("{:.0}% of its rate with a topic for each connection", many / few * 100.0))
}

/// A whole number with commas between its thousands.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
