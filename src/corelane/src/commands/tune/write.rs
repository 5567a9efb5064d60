//! `corelane tune write`: a configuration for this machine, and the ceilings it predicts.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tuning::advice::{Advice, Grounds, advise, chosen_depth, chosen_group_bytes};
use tuning::block_device::BlockDevice;
use tuning::ceilings::{Ceilings, FORMAT, Measured, predict};
use tuning::cgroup::io_limits;
use tuning::check::{Report, Severity, Subject, check};
use tuning::disk_matrix::disk_matrix;
use tuning::{Host, Machine, MatrixBounds, Roots, choose_cores};

use super::check::subject;
use super::progress::Bar;
use super::{net, stop};
use crate::args::tune::WriteArgs;
use crate::commands::error::CommandError;
use crate::commands::{Outcome, output};
use crate::config::{self, Loaded, Setting};

const DATA_DIR: &str = "server.data_dir";

pub fn run(args: &WriteArgs) -> Result<Outcome, CommandError> {
    let flags = args.serve.overrides();
    let file = args.serve.config.as_deref();
    let loaded = config::load(file, std::env::vars_os(), &flags)?;
    let beside = args.out.as_deref().map(Ceilings::path_beside);
    for path in args.out.iter().chain(&beside).filter(|_| !args.force) {
        if path.exists() {
            return Err(CommandError::Exists { path: path.clone() });
        }
    }
    let stop = stop::on_signals()?;
    let made = make(&loaded, args, &stop)?;
    let toml = made.toml(args.out.as_deref());
    // What is written must load: a mistake of ours is found here and not at the next start.
    config::check_text(&toml)?;
    match (&args.out, &beside) {
        (Some(out), Some(beside)) => {
            write(out, &toml)?;
            write(beside, &made.ceilings.to_json())?;
            output::print(&made.summary(out, beside))?;
        }
        _ => output::print(&toml)?,
    }
    Ok(Outcome::Done)
}

/// All that was found out.
struct Made {
    report: Report,
    settings: Vec<Setting>,
    ceilings: Ceilings,
}

fn make(loaded: &Loaded, args: &WriteArgs, stop: &AtomicBool) -> Result<Made, CommandError> {
    let config = &loaded.config;
    let subject = subject(config, None);
    let report = check(&subject)?;
    let mut host = Host::read()?;
    if let Some(cpu) = config.server.control_cpu {
        host.reserve_control(cpu)?;
    }
    let placement = choose_cores(&config.server.cores, &host)?;
    let folder = existing_folder(&subject.data_dir);
    let bounds = MatrixBounds { bytes: args.bounds.size, time: args.bounds.time };
    let bar = Bar::new();
    let disk = disk_matrix(&folder, &bounds, stop, &mut |step| {
        bar.show(step.done, step.total, &step.next);
    });
    bar.finish();
    let disk = disk?;
    if stop.load(Ordering::Relaxed) {
        return Err(CommandError::Interrupted);
    }
    let measured = Measured::new(&disk, &net::loopback()?);
    let advice = advise(&Grounds {
        subject: &subject,
        report: &report,
        host: &host,
        placement: &placement,
        measured: &measured,
        open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
        writes_per_s_max: writes_per_s_max(&subject),
    });
    let settings = settings(loaded, &subject, advice);
    // What was set by hand stays, and is what the prediction is for.
    let depth = match loaded.is_set("storage.writes_in_flight") {
        true => config.storage.writes_in_flight as usize,
        false => chosen_depth(&measured),
    };
    let group = match loaded.is_set("storage.group_bytes_max") {
        true => config.storage.group_bytes_max,
        false => chosen_group_bytes(&measured),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let ceilings = Ceilings {
        format: FORMAT,
        made_unix_s: now.map_or(0, |now| now.as_secs()),
        machine: Machine::read(),
        folder,
        cores: placement.cores(),
        writes_in_flight: depth,
        group_bytes: group,
        predicted: predict(&measured, placement.cores(), depth, group),
        measured,
    };
    Ok(Made { report, settings, ceilings })
}

/// What was set already stays as it is; what was found out joins it.
fn settings(loaded: &Loaded, subject: &Subject, advice: Vec<Advice>) -> Vec<Setting> {
    let data_dir = Setting {
        key: DATA_DIR.to_owned(),
        value: subject.data_dir.display().to_string(),
        why: "its disk was measured for this file".to_owned(),
    };
    let mut settings = loaded.set();
    settings.retain(|setting| setting.key != DATA_DIR);
    settings.push(data_dir);
    for Advice { key, value, why } in advice {
        if !loaded.is_set(key) {
            settings.push(Setting { key: key.to_owned(), value, why });
        }
    }
    settings
}

/// The folder itself, or the nearest above that exists.
fn existing_folder(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|folder| folder.is_dir());
    found.map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// Log writes that a control group allows on the device of the data. A flush counts as a write.
fn writes_per_s_max(subject: &Subject) -> Option<u64> {
    let mount = subject.place.as_ref()?.mount.as_ref()?;
    let device = &mount.device;
    let roots = Roots::default();
    let flushes = BlockDevice::of_mount(&roots.sys, mount)
        .is_some_and(|device| device.flushes_after_writes());
    let limits = io_limits(&roots.proc);
    let of_device = limits.into_iter().filter(|limit| limit.device == *device);
    of_device
        .filter(|limit| limit.what == "writes/s")
        .map(|limit| limit.amount / (1 + u64::from(flushes)))
        .min()
}

impl Made {
    /// The commented file.
    fn toml(&self, out: Option<&Path>) -> String {
        let mut head = format!(
            "Configuration of `corelane serve`, made by `corelane tune write` for this machine:\n\
             {}\n\
             Every other option has its default; `corelane config sample` explains them all.\n",
            machine_line(&self.ceilings.machine),
        );
        head.push_str("\nWhat this predicts at best (docs/tuning.md gives the formulas):\n");
        for line in prediction_lines(&self.ceilings) {
            head.push_str(&format!("  {line}\n"));
        }
        if let Some(out) = out {
            let beside = Ceilings::path_beside(out);
            head.push_str(&format!("The same for programs: {}\n", beside.display()));
        }
        let bad: Vec<_> =
            self.report.findings.iter().filter(|f| f.severity <= Severity::Costs).collect();
        if !bad.is_empty() {
            head.push_str("\nWhat a file cannot mend (`corelane tune check`):\n");
            for finding in bad {
                let wanted = finding.wanted.as_deref().unwrap_or_default();
                head.push_str(&format!("  {}: {}; wanted: {wanted}\n", finding.id, finding.is));
            }
        }
        config::written(&head, &self.settings)
    }

    fn summary(&self, out: &Path, beside: &Path) -> String {
        let mut text = format!(
            "wrote {} and {}; start with `corelane serve --config {}`\n\n",
            out.display(),
            beside.display(),
            out.display()
        );
        for line in prediction_lines(&self.ceilings) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

fn machine_line(machine: &Machine) -> String {
    format!(
        "{}, {} CPUs, {} NUMA node(s), {} GiB, Linux {}",
        if machine.cpu_model.is_empty() { "unknown CPU" } else { &machine.cpu_model },
        machine.cpus_online,
        machine.numa_nodes,
        machine.memory_bytes >> 30,
        machine.kernel
    )
}

fn prediction_lines(ceilings: &Ceilings) -> Vec<String> {
    let predicted = &ceilings.predicted;
    let mb = |bytes: f64| format!("{:.0} MB/s", bytes / 1e6);
    vec![
        format!(
            "1 KiB, one at a time, durable: p50 {:.0} us, {:.0} messages/s on one connection",
            predicted.publish_1k_lockstep_p50_us, predicted.publish_1k_lockstep_per_s
        ),
        format!(
            "1 KiB, many in flight, durable: {:.0} messages/s; 100 B: {:.0} messages/s",
            predicted.publish_1k_per_s, predicted.publish_100b_per_s
        ),
        format!("1 KiB x 100, durable: {}", mb(predicted.publish_1k_x100_bytes_per_s)),
        format!(
            "log writes: {:.0}/s of 4 KiB, {} at depth {}",
            predicted.durable_writes_per_s,
            mb(predicted.durable_bytes_per_s),
            ceilings.writes_in_flight
        ),
        format!(
            "consume: {} from memory, {} from the disk",
            mb(predicted.consume_hot_bytes_per_s),
            mb(predicted.consume_cold_bytes_per_s)
        ),
    ]
}

/// Whole or not at all: a temporary file beside it, then renamed.
fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    let failed = |source| CommandError::Write { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        failed(error)
    })
}
