//! `corelane tune net`: what the loopback, or the network to another machine, can do.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};
use tuning::peer_test::{Event, Listener, PeerBounds, PeerFigures, measure_peer};
use tuning::{Host, LoopbackBounds, LoopbackFigures, Machine, Percentiles, loopback_self_test};

use super::progress::Bar;
use super::stop;
use crate::args::Output;
use crate::args::tune::NetArgs;
use crate::commands::error::CommandError;
use crate::commands::output::table;
use crate::commands::{Outcome, bench, output};

/// Of the JSON document.
const SCHEMA: u32 = 1;
const PHASES: usize = 4;

pub fn run(args: &NetArgs) -> Result<Outcome, CommandError> {
    let stop = stop::on_signals()?;
    if let Some(address) = args.listen {
        return listen(address, &stop);
    }
    let Some(peer) = &args.peer else {
        let figures = loopback()?;
        match args.output.output {
            Output::Text => output::print(&loopback_text(&figures))?,
            Output::Json => output::print_json(&document(json!({ "loopback": figures })))?,
        }
        return Ok(Outcome::Done);
    };
    let address = bench::resolve(peer)?;
    let bar = Bar::new();
    let bounds = PeerBounds { phase_time: args.time / PHASES as u32 };
    let figures = measure_peer(address, &bounds, &stop, &mut |done, next| {
        bar.show(done, PHASES, next);
    });
    bar.finish();
    let figures = figures?;
    match args.output.output {
        Output::Text => output::print(&peer_text(address, &figures))?,
        Output::Json => {
            let peer = json!({ "address": address.to_string(), "figures": figures });
            output::print_json(&document(json!({ "peer": peer })))?;
        }
    }
    Ok(if figures.interrupted { Outcome::Bad } else { Outcome::Done })
}

fn document(mut figures: Value) -> Value {
    figures["schema"] = SCHEMA.into();
    figures["machine"] = json!(Machine::read());
    figures
}

/// On the first two CPUs that the process may use.
pub fn loopback() -> Result<LoopbackFigures, CommandError> {
    let cpus: Vec<u32> = Host::read()?.allowed.iter().collect();
    Ok(loopback_self_test(&LoopbackBounds::on(&cpus))?)
}

fn listen(address: SocketAddr, stop: &AtomicBool) -> Result<Outcome, CommandError> {
    let failed = |source| CommandError::Listen { address, source };
    let listener = Listener::bind(address).map_err(failed)?;
    let bound = listener.address().map_err(failed)?;
    output::print(&format!(
        "listening on {bound}; run `corelane tune net --peer {bound}` on the other machine (Ctrl-C \
         ends this)\n"
    ))?;
    let mut say = |event| {
        // Where stderr is closed there is no one to tell.
        let _ = match event {
            Event::Served { peer } => writeln!(std::io::stderr(), "{peer}: one test served"),
            Event::Refused { peer, why } => writeln!(std::io::stderr(), "{peer}: refused: {why}"),
        };
    };
    listener.serve(stop, &mut say).map_err(failed)?;
    Ok(Outcome::Done)
}

fn percentile_row(name: &str, percentiles: &Percentiles) -> Vec<String> {
    let Percentiles { p50, p90, p99, p99_9, max, .. } = percentiles;
    let shown = [p50, p90, p99, p99_9, max].map(|us| format!("{us:.1}"));
    std::iter::once(name.to_owned()).chain(shown).collect()
}

fn percentile_table(rows: &[(&str, &Percentiles)]) -> String {
    let heads = ["ROUND TRIP, US", "P50", "P90", "P99", "P99.9", "MAX"];
    let mut all = vec![heads.map(str::to_owned).to_vec()];
    all.extend(rows.iter().map(|(name, percentiles)| percentile_row(name, percentiles)));
    table(&all)
}

fn loopback_text(figures: &LoopbackFigures) -> String {
    let mut text = "the loopback, two threads\n\n".to_owned();
    text.push_str(&percentile_table(&[
        ("64 bytes over TCP", &figures.round_trip_64b_us),
        ("a wake-up by eventfd", &figures.eventfd_round_trip_us),
    ]));
    let _ = writeln!(text, "\nstream: {:.0} MB/s", figures.stream_64k_bytes_per_s / 1e6);
    text
}

fn peer_text(address: SocketAddr, figures: &PeerFigures) -> String {
    let mut text = format!("the network to {address}, one connection\n\n");
    text.push_str(&percentile_table(&[
        ("64 bytes", &figures.round_trip_64b_us),
        ("1 KiB", &figures.round_trip_1k_us),
    ]));
    let _ = writeln!(
        text,
        "\nstream: {:.0} MB/s there, {:.0} MB/s back{}",
        figures.stream_out_bytes_per_s / 1e6,
        figures.stream_in_bytes_per_s / 1e6,
        if figures.interrupted { "; INTERRUPTED, what is 0 is missing" } else { "" },
    );
    text
}
