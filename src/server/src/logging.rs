//! Logs on stderr, as text or JSON. The filter can be changed while the server runs; an event that
//! repeats without end is written a few times a second and then counted.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Lines of one place in the code that are written per second.
const LINES_PER_SECOND: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging; once per process.
///
/// # Errors
/// A sentence when the filter cannot be understood.
pub fn start(format: LogFormat, filter: &str) -> Result<(), String> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => {
            let events = Limited::new(fmt::format().with_target(false), false);
            registry
                .with(
                    fmt::layer().with_ansi(false).with_writer(std::io::stderr).event_format(events),
                )
                .try_init()
        }
        LogFormat::Json => {
            let events = Limited::new(fmt::format().json().flatten_event(true), true);
            registry
                .with(fmt::layer().json().with_writer(std::io::stderr).event_format(events))
                .try_init()
        }
    };
    started.map_err(|error| error.to_string())?;
    let _ = FILTER.set(handle);
    Ok(())
}

/// Makes a panic one line of the log, without a stack trace. Called before the cores start.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        let text = text.replace('\n', " ");
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        tracing::error!(
            thread,
            at,
            text,
            "panicked; this is a fault of the server, please report this line"
        );
    }));
}

/// Changes what is logged from now on.
///
/// # Errors
/// A sentence when the filter cannot be understood or logging was not started.
pub fn set_filter(filter: &str) -> Result<(), String> {
    let parsed = parse(filter)?;
    let handle = FILTER.get().ok_or("logging was not started by this server")?;
    handle.reload(parsed).map_err(|error| error.to_string())?;
    tracing::info!(filter, "log filter changed");
    Ok(())
}

/// Longest filter, bytes.
const FILTER_BYTES_MAX: usize = 1_024;

fn parse(filter: &str) -> Result<EnvFilter, String> {
    if filter.len() > FILTER_BYTES_MAX {
        return Err(format!(
            "the log filter has {} bytes; at most {FILTER_BYTES_MAX} are allowed",
            filter.len()
        ));
    }
    // Spans and their fields can be matched by expressions that cost seconds to prepare.
    if filter.contains(['[', ']', '{', '}']) {
        return Err(
            "the log filter names a span or a field, which is not possible here; use levels \
                    and parts, such as info,corelane_server=debug"
                .to_owned(),
        );
    }
    EnvFilter::try_new(filter).map_err(|error| {
        format!(
            "the log filter {filter:?} is not understood ({error}); use a level such as info, or \
             info,corelane_server=debug"
        )
    })
}

/// Formats events, leaving out those that repeat too fast.
struct Limited<F> {
    inner: F,
    json: bool,
    windows: Mutex<HashMap<Identifier, Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    written: u32,
    left_out: u64,
}

impl<F> Limited<F> {
    fn new(inner: F, json: bool) -> Self {
        Self { inner, json, windows: Mutex::new(HashMap::new()) }
    }

    /// Whether to write this one, and how many were left out before it.
    fn admit(&self, callsite: Identifier, now: Instant) -> Option<u64> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window =
            windows.entry(callsite).or_insert(Window { began: now, written: 0, left_out: 0 });
        window.admit(now)
    }
}

impl Window {
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let mut left_out = 0;
        if now.duration_since(self.began) >= Duration::from_secs(1) {
            left_out = self.left_out;
            *self = Self { began: now, written: 0, left_out: 0 };
        }
        if self.written < LINES_PER_SECOND {
            self.written += 1;
            Some(left_out)
        } else {
            self.left_out += 1;
            None
        }
    }
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let Some(left_out) = self.admit(event.metadata().callsite(), Instant::now()) else {
            return Ok(());
        };
        if left_out > 0 {
            let message = "lines like the next were left out";
            match self.json {
                true => writeln!(writer, "{{\"message\":\"{message}\",\"count\":{left_out}}}")?,
                false => writeln!(writer, "{left_out} {message}")?,
            }
        }
        self.inner.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeating_line_is_counted_and_said_later() {
        let start = Instant::now();
        let mut window = Window { began: start, written: 0, left_out: 0 };
        let written = (0..100).filter(|_| window.admit(start).is_some()).count();
        assert_eq!(written, LINES_PER_SECOND as usize);
        assert_eq!(window.admit(start + Duration::from_secs(1)), Some(90));
        assert_eq!(window.admit(start + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn a_bad_filter_is_refused_with_a_sentence() {
        assert!(parse("info,corelane_server=debug").is_ok());
        assert!(parse("a=b=c").unwrap_err().contains("is not understood"));
        assert!(parse(&"a=info,".repeat(1_000)).unwrap_err().contains("at most 1024"));
        assert!(
            parse("info,[x{f=((a{9}){9}){9}}]=info").unwrap_err().contains("a span or a field")
        );
    }
}
