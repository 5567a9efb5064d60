use corelane_bench as bench;
use std::time::Duration;
fn main() {
    let mut o = bench::Options::new(bench::Work::Raw);
    for arg in std::env::args().skip(1) {
        let (k, v) = arg.split_once('=').unwrap_or((&arg, ""));
        match k {
            "work" => {
                o.work = match v {
                    "produce" => bench::Work::Produce,
                    "consume" => bench::Work::Consume,
                    "e2e" => bench::Work::E2e,
                    _ => bench::Work::Raw,
                }
            }
            "c" => o.connections = v.parse().unwrap(),
            "f" => o.in_flight = v.parse().unwrap(),
            "s" => o.size = v.parse().unwrap(),
            "b" => o.batch = v.parse().unwrap(),
            "rate" => o.rate = Some(v.parse().unwrap()),
            "d" => o.duration = Duration::from_secs_f64(v.parse().unwrap()),
            "w" => o.warmup = Duration::from_secs_f64(v.parse().unwrap()),
            "mem" => o.ack = model::AckLevel::Memory,
            "space" => o.space = v.parse().unwrap(),
            "only" => o.only.push(v.parse().unwrap()),
            "topics" => o.topics = v.parse().unwrap(),
            "parts" => o.partitions = v.parse().unwrap(),
            "server" => o.server = Some(v.parse().unwrap()),
            "prog" => o.server_program = Some(v.into()),
            "cores" => o.server_cores = Some(v.parse().unwrap()),
            "q" => o.quiet = true,
            "cold" => o.cold = true,
            "route" => o.route = v.parse().unwrap(),
            "msgs" => o.messages = Some(v.parse().unwrap()),
            "noverify" => o.verify = false,
            _ => panic!("{k}"),
        }
    }
    match bench::run(&o) {
        Ok(r) => {
            print!("{}", if std::env::var("JSON").is_ok() { r.to_json() } else { r.to_text() })
        }
        Err(e) => {
            eprintln!("error: {e}");
            std::process::exit(1)
        }
    }
}
